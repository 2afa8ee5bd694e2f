"""Commands with bad arguments, settings and files: one sentence on standard error, status 1 or 2, no traceback."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select

from app import cli
from app.accounts.models import Person
from app.config import get_settings
from app.db import transaction
from app.projects.models import Project

Attune = Callable[..., tuple[int, str, str]]


@pytest.fixture
def attune(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Attune]:
    """`attune("project", "list", ATTUNE_POOL_SIZE="x")`: status, standard output, standard error."""
    monkeypatch.setenv("ATTUNE_DATA_DIR", str(tmp_path / "data"))

    def called(*words: object, **environment: str) -> tuple[int, str, str]:
        get_settings.cache_clear()
        with monkeypatch.context() as changed:
            changed.setattr(sys, "argv", ["attune", *map(str, words)])
            for name, value in {"DATABASE_URL": database_url, **environment}.items():
                changed.setenv(name, value)
            capsys.readouterr()
            with pytest.raises(SystemExit) as end:
                cli.main()
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    yield called
    get_settings.cache_clear()


@pytest.fixture
def project(make_project: Callable[..., Project]) -> Project:
    return make_project(slug="here")


@pytest.fixture
def ada(make_person: Callable[..., Person]) -> Person:
    return make_person("Ada")


HALF = os.fsdecode(b"\xff")
REFUSED: dict[str, tuple[list[str], str]] = {
    "no such project to import into": (["import", "{good}", "--project", "nowhere"], "There is no project 'nowhere'"),
    "no such file": (["import", "nothing.jsonl", "--project", "here"], "There is no file nothing.jsonl"),
    "a folder for a file": (["import", "{folder}", "--project", "here"], "There is no file"),
    "no such format": (["import", "{good}", "--project", "here", "--format", "xml"], "There is no format 'xml'"),
    "a file with a bad line": (["import", "{bad}", "--project", "here"], "1 of 2 lines are bad"),
    "an empty file": (["import", "{empty}", "--project", "here"], "The file is empty"),
    "no such project to export": (["export", "--project", "nowhere", "{folder}/x.csv"], "There is no project"),
    "an ending nobody knows": (["export", "--project", "here", "{folder}/x.xls"], "There is no format 'xls'"),
    "no ending": (["export", "--project", "here", "{folder}/x"], "There is no format ''"),
    "nothing of that name": (["export", "--project", "here", "{folder}/x.csv", "--what", "all"], "no export 'all'"),
    "a folder that is not there": (["export", "--project", "here", "{folder}/no/x.csv"], "No such file or directory"),
    "an address that is none": (["user", "add", "nobody", "Name"], "That is not an email address"),
    "a name with control characters": (["user", "add", "a@b.example", "a\x1b[2J"], "1 to 100 printable characters"),
    "half a character in a name": (["user", "add", "a@b.example", HALF], "1 to 100 printable characters"),
    "half a character in an address": (["user", "add", f"a{HALF}@b.example", "A"], "spaces or control characters"),
    "half a character to look for": (["user", "link", f"a{HALF}@b.example"], "is not UTF-8 text"),
    "a project that cannot be": (["train", "--project", HALF], "is not UTF-8 text"),
    "somebody known": (["user", "add", "{ada}", "Ada"], "already has an account"),
    "nobody to make a link for": (["user", "link", "no@b.example"], "Nobody has the address"),
    "nobody to make a token for": (["token", "create", "no@b.example", "x", "--scope", "rater"], "Nobody has"),
    "a scope that is none": (["token", "create", "{ada}", "x", "--scope", "root"], "There is no scope 'root'"),
    "a slug that is none": (["project", "create", "A B", "Name", "{ada}"], "lower-case letters, digits and hyphens"),
    "a slug that is taken": (["project", "create", "here", "Name", "{ada}"], "There is a project at the address"),
    "a slug that is an address of ours": (["project", "create", "new", "Name", "{ada}"], "is taken by a page"),
    "a template that is none": (["project", "create", "x", "N", "{ada}", "--template", "y"], "no template 'y'"),
    "an admin that is nobody": (["project", "create", "x", "N", "no@b.example"], "Nobody has the address"),
    "a kind of run that is none": (["train", "--project", "here", "--kind", "all"], "There is no kind of run 'all'"),
    "an oracle that is none": (["simulate", "--oracle", "delphi"], "There is no oracle 'delphi'"),
    "too many raters": (["simulate", "--raters", "100000"], "1 to 200 raters"),
    "noise that is no share": (["simulate", "--noise", "nan"], "a noise from 0 to 1"),
    "time that runs back": (["simulate", "--project", "here", "--think-seconds", "-1"], "0 or more"),
    "fewer than no rankings": (["simulate", "--project", "here", "--rankings", "-1"], "0 or more"),
    "an address that is no website": (["simulate", "--project", "here", "--url", "x"], "http"),
    "a website that is away": (["simulate", "--project", "here", "--url", "http://127.0.0.1:1"], "does not answer"),
    "a queue that is none": (["worker", "--queue", "evil"], "There is no queue 'evil'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_argument_is_a_sentence(
    attune: Attune, project: Project, ada: Person, tmp_path: Path, db: Engine, name: str
) -> None:
    good = b'{"prompt": "Why?"}\n'
    for file, content in (("good", good), ("bad", good + b"{\n"), ("empty", b"")):
        (tmp_path / file).write_bytes(content)
    words, sentence = REFUSED[name]
    places = {file: str(tmp_path / file) for file in ("good", "bad", "empty")}
    status, _, said = attune(*(w.format(**places, folder=tmp_path, ada=ada.email) for w in words))
    assert status == 1
    assert said.startswith("attune: ")
    assert sentence in said
    assert "Traceback" not in said
    assert len(said.strip().splitlines()) == 1
    with transaction(db) as session:
        assert session.scalar(select(func.count()).select_from(Person).where(~Person.is_simulated)) == 1


SETTINGS = {
    "a pool that is no number": ({"ATTUNE_POOL_SIZE": "abc"}, "ATTUNE_POOL_SIZE: it should be a valid integer"),
    "a pool of none": ({"ATTUNE_POOL_SIZE": "0"}, "ATTUNE_POOL_SIZE: it should be greater than or equal to 1"),
    "production over plain HTTP": ({"ATTUNE_ENVIRONMENT": "production"}, "ATTUNE_PUBLIC_URL must begin with https://"),
    "another database": ({"DATABASE_URL": "mysql://a:hunter2@b/c"}, "DATABASE_URL: expected the address of a Postgres"),
    "no address": ({"DATABASE_URL": "hunter2"}, "DATABASE_URL: expected the address of a Postgres"),
    "an address that does not parse": ({"DATABASE_URL": "postgresql://b:hunter2/c"}, "DATABASE_URL"),
    "a database that is away": ({"DATABASE_URL": "postgresql://a:hunter2@127.0.0.1:1/c"}, "does not answer"),
    "another broker": ({"REDIS_URL": "amqp://a:hunter2@b"}, "REDIS_URL: expected the address of Redis"),
    "no such database": ({"DATABASE_URL": "{server}"}, "does not answer"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_bad_setting_is_a_sentence_that_tells_no_secret(attune: Attune, database_url: str, name: str) -> None:
    environment, sentence = SETTINGS[name]
    server = database_url.replace("/test_", "/no_such_")
    status, _, said = attune("project", "list", **{k: v.replace("{server}", server) for k, v in environment.items()})
    assert status == 1
    assert said.startswith("attune: ")
    assert sentence in said
    assert "hunter2" not in said
    assert len(said.strip().splitlines()) == 1


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_a_database_may_be_named_as_other_tools_name_it(
    attune: Attune, database_url: str, project: Project, scheme: str
) -> None:
    status, out, _ = attune("project", "list", DATABASE_URL=database_url.replace("postgresql+psycopg", scheme))
    assert (status, out.split()[0]) == (0, "here")


def test_a_database_without_tables_says_what_to_run(attune: Attune, db: Engine) -> None:
    with db.begin() as link:
        link.exec_driver_sql("ALTER TABLE project RENAME TO elsewhere")
    status, _, said = attune("project", "list")
    assert (status, said) == (1, "attune: The database lacks tables of this version. Run `attune migrate` first.\n")


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["up", "--port", "0"],
        ["up", "--port", "65536"],
        ["up", "--port", "-1"],
        ["up", "--port", "x"],
        ["serve", "--port", "99999"],
        ["serve", "--workers", "0"],
        ["import"],
        ["export", "--project", "here"],
        ["simulate", "--raters", "many"],
        ["token", "create", "a@b.example", "x"],
    ],
)
def test_what_does_not_parse_is_told_by_the_parser(attune: Attune, words: list[str]) -> None:
    status, _, said = attune(*words)
    assert status == 2
    assert "Traceback" not in said
    assert any(word in said for word in ("Invalid value", "No such command", "Missing"))


def test_the_website_needs_a_database(attune: Attune) -> None:
    status, _, said = attune("serve", DATABASE_URL="")
    assert (status, said) == (1, "attune: Set DATABASE_URL to the address of a Postgres server.\n")
