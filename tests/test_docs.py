"""The documentation, held against what it describes: settings, links, commands, formats, screens and folders."""

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from typer.main import get_command

from app.api.projects import Changes
from app.cli import cli
from app.config import Settings
from app.exchange.files import read_lines
from app.exchange.rows import FORMATS, read_as, recognise
from app.help.routes import PAGES
from app.projects.service import NUMBERS, SWITCHES
from app.projects.settings import Sampling, Training
from app.projects.templates import TEMPLATES

ROOT = Path(__file__).resolve().parent.parent
PAGES_OF_DOCS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
MANUAL = sorted((ROOT / "templates" / "help").glob("*.html"))
LINK = re.compile(r"(?<!\\)\[[^\]]*\]\(([^)\s]+)\)|(?:src|href)=\"([^\"{]+)\"")
LIMITS = {"ge": "from {}", "gt": "above {}", "le": "up to {}", "lt": "below {}"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def without_code(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def slugs(page: Path) -> set[str]:
    """The anchors of a page's headings, made as forges make them."""
    headings = re.findall(r"^#+ (.+)$", without_code(page.read_text()), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES_OF_DOCS, ids=name_of)
def test_each_link_points_at_something(page: Path) -> None:
    for target in (first or second for first, second in LINK.findall(without_code(page.read_text()))):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{target} does not exist"
        if anchor:
            assert anchor in slugs(file), f"{target}: no such heading"


@pytest.mark.parametrize("page", MANUAL, ids=name_of)
def test_each_link_of_the_manual_points_at_something(page: Path) -> None:
    text = page.read_text()
    for path, anchor in re.findall(r'href="(/help/\w+)?#?([\w-]+)?"', text):
        file = page.parent / f"{path.removeprefix('/help/')}.html" if path else page
        assert file in MANUAL
        if anchor:
            assert f'id="{anchor}"' in file.read_text(), anchor


def test_the_manual_has_a_page_for_each_role() -> None:
    assert {page.stem for page in MANUAL} == {*PAGES, "index", "page", "_picture"}


@pytest.mark.parametrize("page", [*PAGES_OF_DOCS, *MANUAL], ids=name_of)
def test_each_command_of_attune_exists(page: Path) -> None:
    commands: Any = get_command(cli)
    text = page.read_text()
    named = re.findall(
        r"(?:^|[`>] ?|bin/|migrate )attune ([a-z-]+)(?: ([a-z]+))?((?: [^`\n]*)?)", text, flags=re.MULTILINE
    )
    for first, second, rest in named:
        assert first in commands.commands, f"attune {first}"
        command = commands.commands[first]
        if hasattr(command, "commands"):
            assert second in command.commands, f"attune {first} {second}"
            command = command.commands[second]
        known = {option for parameter in command.params for option in parameter.opts + parameter.secondary_opts}
        given = set(re.findall(r" (--[a-z-]+)", rest.split("#")[0]))
        assert given <= known, f"attune {first} {second}: {given - known}"


def test_each_command_of_attune_is_documented() -> None:
    text, commands = (ROOT / "docs" / "cli.md").read_text(), get_command(cli).commands  # type: ignore[attr-defined]
    for name, command in commands.items():
        for full in [f"{name} {inner}" for inner in getattr(command, "commands", {})] or [name]:
            assert f"`attune {full}" in text, full


@pytest.mark.parametrize("page", PAGES_OF_DOCS, ids=name_of)
def test_each_target_of_make_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(), flags=re.MULTILINE))
    assert named <= targets, named - targets


def test_the_readme_names_each_target_that_a_newcomer_needs() -> None:
    text = (ROOT / "README.md").read_text()
    for target in ("run", "test", "test-slow", "check", "bench", "demo-loop", "chaos"):
        assert f"make {target}" in text


def test_the_tree_of_the_readme_is_true() -> None:
    tree = re.search(r"## Where things are\n+```\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert tree
    told = {line.split("/")[0] for line in tree[1].splitlines() if line[0] != " "}
    for line in tree[1].splitlines():
        folder, phrase = line.split(None, 1)
        assert len(phrase) > 10, line
        assert (ROOT / folder).is_dir() or (ROOT / "worker" / folder).is_dir(), folder
    ignored = {line.strip("/\n") for line in (ROOT / ".gitignore").read_text().splitlines()}
    there = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    assert told == (there - ignored - {"shared"}) | {".ci"}  # `shared` is data beside some checkouts, not of ours.


def shown(value: object) -> str:
    """A default as the tables show it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"`{json.dumps(value) if isinstance(value, list) else value}`" if value != "" else "empty"


def row(name: str, default: object, limits: str, words: str | None) -> str:
    assert words, f"{name} has no description where it is declared"
    assert len(words) > 10, f"{name} is hardly described"
    return f"| `{name}` | {shown(default)} | {limits} | {words} |"


def limits_of(metadata: list[Any]) -> str:
    found = {type(item).__name__.lower(): item for item in metadata}
    return ", ".join(words.format(f"{getattr(found[key], key):,}") for key, words in LIMITS.items() if key in found)


def environment_rows() -> list[str]:
    """A row for each setting of the environment."""
    rows = []
    for name, field in Settings.model_fields.items():
        alias: Any = field.validation_alias
        shown_name = alias.choices[0] if alias else f"ATTUNE_{name.upper()}"
        rows.append(
            row(
                shown_name,
                str(field.default) if isinstance(field.default, Path) else field.default,
                limits_of(field.metadata),
                field.description,
            )
        )
    return rows


def project_rows() -> list[str]:
    """A row for each number and switch of a project, with the default of its column."""
    from app.projects.models import Project

    columns = Project.__table__.columns
    rows = [
        row(name, columns[name].default.arg, f"from {number.low:,}, up to {number.high:,}", number.help)
        for name, number in NUMBERS.items()
    ]
    return rows + [row(name, columns[name].default.arg, "", words) for name, words in SWITCHES.items()]


def number_rows(shape: type[BaseModel], prefix: str) -> list[str]:
    """A row for each number of sampling or training, groups included."""
    rows = []
    for name, field in shape.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            rows += number_rows(inner, f"{prefix}.{name}")
        else:
            limits = ", ".join(f"`{choice}`" for choice in get_args(inner)) or limits_of(field.metadata)
            rows.append(row(f"{prefix}.{name}", field.default, limits, field.description))
    return rows


ROWS = [*environment_rows(), *project_rows(), *number_rows(Sampling, "sampling"), *number_rows(Training, "training")]


@pytest.mark.parametrize("expected", ROWS, ids=lambda line: line.split("`")[1])
def test_each_setting_is_documented_as_it_is_declared(expected: str) -> None:
    lines = (ROOT / "docs" / "settings.md").read_text().splitlines()
    assert expected in lines, f"docs/settings.md needs this line:\n{expected}"


def test_no_setting_is_documented_that_is_not_there() -> None:
    text = (ROOT / "docs" / "settings.md").read_text()
    known = {line.split("`")[1] for line in ROWS} | set(Changes.model_fields)
    told = set(re.findall(r"^\| `([\w.]+)` \|", text, flags=re.MULTILINE))
    assert told - known <= {"ATTUNE_POSTGRES_BINDIR", "ATTUNE_VALKEY_BIN", "ATTUNE_VENV", "TORCH_BACKEND", "CHROME_BIN"}
    assert set(Changes.model_fields) <= told | {"sampling", "training"}


def test_each_setting_that_a_page_names_exists() -> None:
    known = {line.split("`")[1] for line in ROWS}
    foreign = {"ATTUNE_BIND", "ATTUNE_PORT", "ATTUNE_POSTGRES_BINDIR", "ATTUNE_VALKEY_BIN", "ATTUNE_VENV"}
    for page in PAGES_OF_DOCS:
        named = set(re.findall(r"\bATTUNE_[A-Z_]+[A-Z]\b", page.read_text()))
        assert named <= known | foreign, page
        assert set(re.findall(r"`((?:training|sampling)\.[a-z_.]+)`", page.read_text())) <= known, page


def test_each_template_is_explained_to_admins() -> None:
    text = (ROOT / "templates" / "help" / "admins.html").read_text()
    assert all(f"<em>{title}</em>" in text for title, _, _ in TEMPLATES.values())
    assert all(f"`{name}`" in (ROOT / "docs" / "cli.md").read_text() for name in TEMPLATES)


@pytest.mark.parametrize("name", FORMATS)
def test_the_example_of_each_format_is_read_as_that_format(name: str) -> None:
    text = (ROOT / "docs" / "data.md").read_text()
    block = re.search(rf"### `{name}`\n.*?```json\n(.*?)```", text, flags=re.DOTALL)
    assert block, f"docs/data.md has no example of {name}"
    assert f"<code>{name}</code>" in (ROOT / "templates" / "help" / "admins.html").read_text()
    for line in block[1].splitlines():
        value = json.loads(line)
        first = next(kind for kind, (fits, _) in FORMATS.items() if fits(value))
        assert first == name
        assert recognise(value) == read_as(name, value) != []


def test_the_example_of_csv_is_read(tmp_path: Path) -> None:
    block = re.search(r"### CSV\n.*?```csv\n(.*?)```", (ROOT / "docs" / "data.md").read_text(), flags=re.DOTALL)
    assert block
    (tmp_path / "example.csv").write_text(block[1])
    rows = [row for line in read_lines(tmp_path / "example.csv") for row in recognise(line.value)]
    assert [row.ranks for row in rows] == [[1, 2], [1, 2]]
    assert rows[1].messages[0]["content"] == "Is there a gym, and is it open?"


def test_pictures_are_small_and_described() -> None:
    for picture in (ROOT / "docs" / "screens").glob("*"):
        assert picture.stat().st_size < 200_000, picture
    for words, target in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", (ROOT / "README.md").read_text()):
        assert len(words) > 15, target


def test_the_manual_for_raters_shows_at_least_twelve_states_in_words_too() -> None:
    shown = re.findall(r'picture\("([\w-]+)", "([^"]+)"', (ROOT / "templates" / "help" / "raters.html").read_text())
    assert len({name for name, _ in shown}) >= 12
    for name, words in shown:
        assert (ROOT / "docs" / "screens" / f"{name}.png").exists(), name
        assert len(words) > 40, name
    there = {path.stem for path in (ROOT / "docs" / "screens").glob("*.png")}
    readme = (ROOT / "README.md").read_text()
    assert [name for name in sorted(there) if name not in dict(shown) and f"screens/{name}.png" not in readme] == []
