"""Hostile files through each of the three doors, and by the thousand: a report or a sentence, and nothing half stored."""

import csv
import gzip
import io
import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, func, select

from app import cli
from app.accounts.models import Person
from app.config import Settings, get_settings
from app.db import transaction
from app.errors import Invalid
from app.exchange import files, service
from app.exchange.files import Line, read_lines
from app.exchange.models import ImportJob, ImportProblem
from app.exchange.rows import Row
from app.exchange.service import _rows_of, run_import
from app.projects.models import Project
from app.prompts.models import Prompt, Response

GOOD: dict[str, Any] = {"prompt": "Why?", "responses": ["a", "b"], "ranks": [1, 2], "rater": "r1", "note": "n"}


def lines(*rows: object) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def parquet(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


REFUSED: dict[str, tuple[bytes, str]] = {
    "one bad line": (lines(GOOD) + b"{\n", "1 of 2 lines are bad"),
    "HTML": (b"<!doctype html><script>alert(1)</script>", "looks like HTML"),
    "latin-1": ('{"prompt": "é"}\n'.encode("latin-1"), "No line of the file can be imported"),
    "CSV in latin-1": ("prompt\né\n".encode("latin-1"), "not UTF-8 text after line 1"),
    "semicolons": (b"prompt;response\na;b\n", "with commas between them"),
    "an open quotation mark": (b'prompt\n"open\nx\n', "opened and never closed"),
    "old line ends": (b"prompt\ra\rb\r", "lone carriage return"),
    "too many columns": (b"prompt," + b",".join(b"c%d" % i for i in range(5000)) + b"\n", "different column names"),
    "a truncated gzip": (gzip.compress(lines(GOOD) * 50, mtime=0)[:-20], "compressed file is damaged"),
    "a gzip with something after it": (gzip.compress(lines(GOOD), mtime=0) + b"x", "compressed file is damaged"),
    "gzip twice": (gzip.compress(gzip.compress(lines(GOOD), mtime=0)), "not UTF-8"),
    "an open array": (b'[{"prompt": "a"}', "The file is not JSON"),
    "a deep array": (b"[" * 200_000, "nested too deeply"),
    "an empty array": (b"[]", "holds no rows"),
    "a table without rows": (parquet(pa.table({"prompt": pa.array([], pa.string())})), "holds no rows"),
    "a torn table": (parquet(pa.table({"prompt": ["a"]}))[:-9], "Parquet file cannot be read"),
    "the same column twice": (
        parquet(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["prompt", "prompt"])),
        "have the same name",
    ),
    "bytes where text should be": (parquet(pa.table({"prompt": pa.array([b"\xff"], pa.binary())})), "No line"),
}


class Doors:
    """The three ways in; each gives the import as it ended and what the person saw of it."""

    def __init__(self, project: Project, admin: Any, db: Engine, folder: Path, capsys: Any, monkeypatch: Any) -> None:
        self.project, self.admin, self.db, self.folder = project, admin, db, folder
        self.capsys, self.monkeypatch = capsys, monkeypatch

    def form(self, content: bytes, name: str) -> tuple[ImportJob, str]:
        answer = self.admin.post(f"/projects/{self.project.slug}/imports", files={"file": (name, content)})
        assert answer.status_code == 303, answer.text
        job = run_import(self.db, int(answer.headers["Location"].rsplit("/", 1)[1]), folder=self.folder)
        return job, self.admin.get(answer.headers["Location"]).text

    def api(self, content: bytes, name: str) -> tuple[ImportJob, str]:
        at = f"/api/v1/projects/{self.project.slug}/imports"
        answer = self.admin.post(at, files={"file": (name, content)})
        assert answer.status_code == 201, answer.text
        job = run_import(self.db, answer.json()["id"], folder=self.folder)
        problems = self.admin.get(f"{at}/{job.id}/problems").json()
        assert all(problem["line"] >= 1 and problem["reason"] for problem in problems)
        return job, self.admin.get(f"{at}/{job.id}").json()["error"] or ""

    def command(self, content: bytes, name: str) -> tuple[ImportJob, str]:
        file = self.folder.parent / name
        file.write_bytes(content)
        self.monkeypatch.setattr(sys, "argv", ["attune", "import", str(file), "--project", self.project.slug])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code in {0, 1}
        said = self.capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        with transaction(self.db) as session:
            return session.scalars(select(ImportJob).order_by(ImportJob.id.desc())).first(), said.err  # type: ignore[return-value]


@pytest.fixture
def doors(
    app: Any, db: Engine, settings: Settings, database_url: str, make_project: Callable[..., Project],
    make_person: Callable[..., Person], join: Callable[..., Person], sign_in: Callable[..., Any], capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Doors]:  # fmt: skip
    monkeypatch.setenv("ATTUNE_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("DATABASE_URL", database_url)
    get_settings.cache_clear()
    project = make_project()
    admin = sign_in(join(make_person(), project, "admin"))
    settings.upload_dir.mkdir(parents=True)
    yield Doors(project, admin, db, settings.upload_dir, capsys, monkeypatch)
    get_settings.cache_clear()


@pytest.mark.parametrize("door", ["form", "api", "command"])
def test_no_door_lets_a_bad_file_in(doors: Doors, db: Engine, door: str) -> None:
    for name, (content, sentence) in REFUSED.items():
        job, seen = getattr(doors, door)(content, "rows.jsonl")
        assert job.state in {"refused", "failed"}, name
        assert sentence in (job.error or ""), f"{name}: {job.error}"
        assert sentence in seen, f"{name}: {seen[-500:]}"
    with db.connect() as link:
        assert link.scalar(select(func.count()).select_from(Prompt)) == 0


@pytest.mark.parametrize("door", ["form", "api", "command"])
def test_what_a_file_is_called_changes_nothing(doors: Doors, door: str) -> None:
    """Content decides; names are shown without their folders and without characters that do not print."""
    content = gzip.compress(lines({"prompt": "a\u2028b"}), mtime=0)
    for name in ("rows.parquet", "rows.html", "ro\u202ews", "x" * 200 + ".exe"):
        job, _ = getattr(doors, door)(content, name)
        assert job.state == "done"
        assert job.file_name.isprintable()


@pytest.mark.parametrize("door", ["form", "api"])
@pytest.mark.parametrize(
    "name", ["../../evil.jsonl", "C:\\evil.jsonl", "/etc/passwd", "a\r\nX: y", "<b>x</b>", "x" * 4000]
)
def test_a_name_from_outside_names_no_place(doors: Doors, door: str, name: str) -> None:
    job, _ = getattr(doors, door)(lines({"prompt": "a"}), name)
    assert job.state == "done"
    assert not set("/\\\r\n") & set(job.file_name)
    assert len(job.file_name) <= 200
    assert [path.name for path in doors.folder.iterdir()] == [], "an imported file is removed"


@pytest.mark.parametrize("door", ["form", "api"])
def test_an_empty_upload_is_told_at_once(doors: Doors, door: str) -> None:
    at = f"/projects/{doors.project.slug}/imports"
    answer = doors.admin.post(f"/api/v1{at}" if door == "api" else at, files={"file": ("x", b"")})
    assert answer.status_code == 422
    assert "The file is empty, or none was chosen." in answer.text


@pytest.mark.parametrize("door", ["form", "api"])
def test_a_file_that_is_too_large_is_told_and_removed(
    doors: Doors, settings: Settings, monkeypatch: pytest.MonkeyPatch, door: str
) -> None:
    monkeypatch.setattr(settings, "max_import_bytes", 2000)
    at = f"/projects/{doors.project.slug}/imports"
    answer = doors.admin.post(f"/api/v1{at}" if door == "api" else at, files={"file": ("x", b"x" * 3000)})
    assert answer.status_code == 413
    assert "more than 2,000 bytes" in answer.text
    assert list(doors.folder.iterdir()) == []


def test_a_file_that_unpacks_without_end_is_refused(doors: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_UNPACKED_BYTES", 200_000)
    for content in (b'{"prompt": "' + b"x" * 300_000, b"prompt\n" + b"x\n" * 150_000, lines({"prompt": "a"}) * 20_000):
        job, _ = doors.form(gzip.compress(content, mtime=0), "bomb.gz")
        assert (job.state, job.error) == ("failed", "The file unpacks to more than 200,000 bytes. Split it.")


def test_a_file_of_too_many_lines_is_refused(doors: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MAX_LINES", 100)
    for content in (b"\n{}" * 101 + b"\n", parquet(pa.table({"prompt": ["a"] * 101}))):
        job, _ = doors.form(content, "rows")
        assert (job.state, job.error) == ("failed", "The file has more than 100 lines. Split it.")


LABELS = [
    {**GOOD, "rater": "\x00"},
    {**GOOD, "rater": "\ud800"},
    {**GOOD, "rater": ["r1"]},
    {**GOOD, "responses": [{"text": "a", "model": "\x00"}, "b"]},
    {**GOOD, "responses": [{"text": "a", "model": "\ud800"}, "b"]},
    {"prompt": "p", "response_a": {"text": "a", "model": {}}, "response_b": {"text": "b"}, "preference": "tie"},
    {"prompt": "p", "response_a": {"text": "a"}, "response_b": {"text": "b"}, "preference": ["tie"]},
    {"prompt": "p", "response_a": {"text": "a"}, "response_b": {"text": "b"}, "preference": "tie", "rater": "\x00"},
    {"instruction": {"a": 1}, "response1": "a", "response2": "b", "annotator1": 1},
    {"instruction": "i", "response1": "a", "response2": "b", "annotator1": [1]},
    {
        "message_tree_id": "t",
        "prompt": {
            "text": "p",
            "role": "prompter",
            "replies": [{"role": "assistant", "text": "a", "rank": i, "message_id": "\x00"} for i in range(2)],
        },
    },
]


@pytest.mark.parametrize("row", LABELS, ids=str)
def test_names_beside_the_texts_are_checked_as_the_texts_are(row: object) -> None:
    """They are stored as well: what Postgres cannot hold must be a bad line, not a broken import."""
    rows, problem = _rows_of(Line(1, row), "auto")
    assert rows == []
    assert len(problem) > 10


def told(path: Path) -> None:
    """Read a file as an import does: whatever it holds, there is a row, a problem, or one sentence."""
    try:
        for line in read_lines(path):
            rows, problem = _rows_of(line, "auto")
            assert problem.endswith((".", "")) or rows
            storable(rows)
    except Invalid as refusal:
        sentence = refusal.message
    else:
        return
    assert len(sentence) > 10


def storable(rows: list[Row]) -> None:
    """All that is accepted is text that Postgres and JSON can hold."""
    for row in rows:
        text = json.dumps([row.messages, [[r.text, r.source] for r in row.responses], row.rater, row.note, row.topic,
            row.external_id, row.demonstration, row.order], ensure_ascii=False)  # fmt: skip
        text.encode()
        assert "\\u0000" not in text


@pytest.mark.parametrize("kind", ["jsonl", "array", "csv", "gzip", "parquet"])
def test_a_file_with_any_bytes_changed_never_breaks_the_reader(tmp_path: Path, kind: str) -> None:
    rows = [{**GOOD, "prompt": f"Why {i}?"} for i in range(20)]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(GOOD))
    writer.writeheader()
    writer.writerows({k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()} for row in rows)
    whole = {
        "jsonl": lines(*rows),
        "array": json.dumps(rows).encode(),
        "csv": text.getvalue().encode(),
        "gzip": gzip.compress(lines(*rows), mtime=0),
        "parquet": parquet(pa.Table.from_pylist(rows)),
    }[kind]
    chance = random.Random(kind)
    for _ in range(150):
        spoiled = bytearray(whole)
        for _ in range(chance.choice([1, 3, 30])):
            at = chance.randrange(len(spoiled))
            spoiled[at : at + chance.choice([0, 1, 1, 9])] = chance.choice(
                [b"\x00", b"\xff", b'"', b"\n", b"[" * 9, b""]
            )
        (tmp_path / "spoiled").write_bytes(bytes(spoiled))
        told(tmp_path / "spoiled")


NAMES = [
    "prompt", "chosen", "rejected", "responses", "ranks", "rater", "note", "strength", "topic", "id", "instruction", "input",
    "turns", "response_a", "response_b", "preference", "response1", "response2", "annotator1", "message_tree_id", "text",
    "model", "role", "content", "replies", "rank", "message_id", "submitted_at", "prompt_id", "all_bad", "completion",
]  # fmt: skip
TEXTS = st.text(max_size=6) | st.sampled_from(
    ["user", "assistant", "tie", "a-is-better", "\n\nHuman: a\n\nAssistant: b"]
)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=8))
def test_any_row_is_accepted_and_storable_or_refused_with_a_reason(value: dict[str, Any]) -> None:
    rows, problem = _rows_of(Line(1, value), "auto")
    assert bool(problem) or isinstance(rows, list)
    storable(rows)


def test_a_bad_line_among_many_keeps_all_out(doors: Doors, db: Engine) -> None:
    content = lines({"prompt": "a"}) * 20_000 + b"{\n" + lines({"prompt": "b"})
    job, seen = doors.form(content, "rows.jsonl")
    assert (job.state, job.num_bad_lines, job.num_lines) == ("refused", 1, 20_002)
    assert "20001" in seen.replace("\u202f", "").replace(",", "")
    with db.connect() as link:
        assert link.scalar(select(func.count()).select_from(Prompt)) == 0
        assert link.scalar(select(ImportProblem.line)) == 20_001


def test_the_same_external_id_twice_is_two_prompts_and_the_same_row_twice_is_one(doors: Doors, db: Engine) -> None:
    row = {"prompt": "a", "id": "7", "responses": ["x", "y"]}
    job, _ = doors.api(lines(row, row, {**row, "prompt": "b"}), "rows.jsonl")
    assert (job.state, job.num_new_prompts, job.num_new_responses) == ("done", 2, 4)
    with db.connect() as link:
        assert link.scalar(select(func.count()).select_from(Response)) == 4
