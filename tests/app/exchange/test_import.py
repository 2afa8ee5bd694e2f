"""Files come in whole or not at all, once, and whatever is in them shows as text."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine, func, select

from app.accounts.models import Person
from app.db import transaction
from app.exchange import export
from app.exchange.models import ImportJob, ImportProblem
from app.exchange.service import run_import
from app.projects.models import Project
from app.prompts.models import Comparison, Prompt, Response
from app.rating.models import Ranking

Bring = Callable[..., ImportJob]


@pytest.fixture
def project(make_project: Callable[..., Project]) -> Project:
    return make_project(training={"heldout_share": 0.2})


@pytest.fixture
def bring(db: Engine, project: Project, tmp_path: Path) -> Bring:
    """Import bytes or a file into the project; the finished job."""

    def brought(content: bytes | Path, *, into: Project = project, **options: Any) -> ImportJob:
        data = content.read_bytes() if isinstance(content, Path) else content
        (tmp_path / "stored").write_bytes(data)
        with transaction(db) as session:
            job = ImportJob(project_id=into.id, file_name="x", stored_name="stored", bytes_total=len(data), **options)
            session.add(job)
        return run_import(db, job.id, folder=tmp_path)

    return brought


def lines(*rows: object) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def count(db: Engine, table: Any) -> int:
    with db.connect() as link:
        return link.scalar(select(func.count()).select_from(table)) or 0


def problems(db: Engine, job: ImportJob) -> list[tuple[int, str]]:
    with transaction(db) as session:
        found = session.scalars(
            select(ImportProblem).where(ImportProblem.import_id == job.id).order_by(ImportProblem.line)
        )
        return [(problem.line, problem.reason) for problem in found]


def test_prompts_with_responses_become_comparisons(bring: Bring, db: Engine) -> None:
    job = bring(
        lines({"prompt": "Why?", "responses": ["Because.", {"text": "Who knows.", "model": "m"}]}, {"prompt": "When?"})
    )
    assert (job.state, job.num_new_prompts, job.num_new_responses, job.num_new_comparisons) == ("done", 2, 2, 1)


def test_the_same_file_twice_changes_nothing(bring: Bring, db: Engine) -> None:
    content = lines({"prompt": "Why?", "responses": ["a", "b", "b"], "ranks": [1, 2, 2], "rater": "r1"})
    assert bring(content).num_new_rankings == 1
    before = [count(db, table) for table in (Prompt, Response, Comparison, Ranking, Person)]
    again = bring(content)
    assert (again.state, again.num_known) == ("done", 1)
    assert [count(db, table) for table in (Prompt, Response, Comparison, Ranking, Person)] == before


def test_a_file_with_a_bad_line_is_refused_whole_with_the_line_and_the_reason(bring: Bring, db: Engine) -> None:
    content = lines({"prompt": "Fine"}) + b"{broken\n" + lines({"nothing": "known"})
    job = bring(content)
    assert (job.state, job.num_bad_lines) == ("refused", 2)
    assert [line for line, _ in problems(db, job)] == [2, 3]
    assert count(db, Prompt) == 0


def test_its_good_lines_come_in_when_that_is_asked_for(bring: Bring, db: Engine) -> None:
    job = bring(lines({"prompt": "Fine"}) + b"{broken\n", keep_good_lines=True)
    assert (job.state, job.num_new_prompts, job.num_bad_lines) == ("done", 1, 1)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "p", "chosen": "a", "rejected": "b"}, {"a": 1, "b": 2}),
        (
            {
                "prompt": [{"role": "user", "content": "p"}],
                "chosen": [{"role": "assistant", "content": "a"}],
                "rejected": [{"role": "assistant", "content": "b"}],
            },
            {"a": 1, "b": 2},
        ),
        ({"chosen": "\n\nHuman: p\n\nAssistant: a", "rejected": "\n\nHuman: p\n\nAssistant: b"}, {"a": 1, "b": 2}),
        ({"prompt": "p", "responses": ["b", "a", "c"], "ranks": [7, 3, None]}, {"a": 1, "b": 2, "c": None}),
    ],
)
def test_preferences_of_all_shapes_keep_their_order(
    bring: Bring, db: Engine, row: dict[str, Any], expected: dict[str, int | None]
) -> None:
    assert bring(lines(row)).state == "done"
    with transaction(db) as session:
        ranking = session.scalars(select(Ranking)).one()
        texts = {row.id: row.text for row in session.execute(select(Response.id, Response.text))}
        prompt = session.scalars(select(Prompt)).one()
    assert {texts[int(key)]: rank for key, rank in ranking.ranks.items()} == expected
    assert prompt.messages == [{"role": "user", "content": "p"}]


HOSTILE = {
    "a NUL": lines({"prompt": "a\x00b"}),
    "half a character": b'{"prompt": "\\ud800"}\n',
    "not UTF-8": b'{"prompt": "\xff\xfe"}\n',
    "broken JSON": b'{"prompt": "a"\n',
    "not a number": b'{"prompt": "a", "responses": ["x", "y"], "ranks": [NaN, 1]}\n',
    "a key twice": b'{"prompt": "a", "prompt": "b"}\n',
    "deep nesting": b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
    "an endless number": b'{"prompt": "a", "x": ' + b"9" * 5000 + b"}\n",
    "a list where a text should be": lines({"prompt": "a", "responses": [["x"], ["y"]]}),
    "ten responses": lines({"prompt": "a", "responses": [str(i) for i in range(10)]}),
    "a rank that is a truth value": lines({"prompt": "a", "responses": ["x", "y"], "ranks": [True, 1]}),
    "too long a text": lines({"prompt": "a" * 300_000}),
    "a scalar": b"{}\n",
    "an empty prompt": lines({"prompt": "   "}),
    "assistant last": lines({"prompt": [{"role": "assistant", "content": "x"}]}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_bad_line_gets_its_number_and_a_sentence(bring: Bring, db: Engine, name: str) -> None:
    job = bring(lines({"prompt": "good"}) + HOSTILE[name])
    assert job.state == "refused"
    found = problems(db, job)
    assert [line for line, _ in found] == [2]
    assert len(found[0][1]) > 10
    assert count(db, Prompt) == 0


def test_a_line_of_a_megabyte_is_a_bad_line_and_no_more(bring: Bring, db: Engine) -> None:
    job = bring(b'{"prompt": "' + b"x" * 5_000_000 + b'"}\n' + lines({"prompt": "good"}), keep_good_lines=True)
    assert (job.state, job.num_bad_lines, job.num_new_prompts) == ("done", 1, 1)


@pytest.mark.parametrize(
    "content",
    [
        b"<html><body>hello</body></html>",
        b"PK\x03\x04 a zip",
        b"PAR1 truncated",
        b"\xff\xfe{\x00}\x00",
        gzip.compress(lines({"prompt": "a"}) * 100, mtime=0)[:-20],
        b"[1, 2",
        b"name,other\n1,2\n",
        b"   \n  ",
    ],
)
def test_a_file_that_is_something_else_fails_with_a_sentence(bring: Bring, db: Engine, content: bytes) -> None:
    job = bring(content)
    assert job.state in {"failed", "refused"}
    assert job.error is not None
    assert "Something broke" not in job.error
    assert count(db, Prompt) == 0


def test_csv_and_parquet_say_the_same_as_json_lines(bring: Bring, make_project: Callable[..., Project]) -> None:
    rows = [
        {"prompt": f"Question {i}?", "chosen": f"good, {i}\nwith a second line", "rejected": "=1+1"} for i in range(5)
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    table = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), table)
    jobs = [
        bring(content, into=make_project())
        for content in (
            lines(*rows),
            text.getvalue().encode(),
            table.getvalue().to_pybytes(),
            gzip.compress(lines(*rows), mtime=0),
        )
    ]
    assert [(job.state, job.num_new_prompts, job.num_new_rankings) for job in jobs] == [("done", 5, 5)] * 4


def test_no_prompt_is_in_both_parts_and_a_fixed_share_is_held_out(bring: Bring, db: Engine) -> None:
    bring(lines(*({"prompt": f"Question {i}"} for i in range(600))))
    with db.connect() as link:
        heldout = link.scalar(select(func.count()).select_from(Prompt).where(Prompt.split == "heldout")) or 0
    assert 80 <= heldout <= 160  # 20 % of 600; beyond five deviations either way.


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_an_export_comes_back_in_as_it_went_out(
    bring: Bring, db: Engine, project: Project, make_project: Callable[..., Project], kind: str
) -> None:
    bring(
        lines(
            {"prompt": "p", "responses": ["=a", "b", "b"], "ranks": [1, 2, 2], "rater": "r1", "note": "-fine"},
            {"prompt": "p", "responses": ["=a", "b", "b"], "ranks": [3, 1, None], "rater": "r2"},
        )
    )
    other = make_project()
    content = b"".join(export.stream(db, project, what="rankings", format=kind))
    job = bring(content, into=other)
    assert (job.state, job.num_new_prompts, job.num_new_comparisons, job.num_new_rankings) == ("done", 1, 1, 2)
    first, second = (ranks_by_text(db, which) for which in (project, other))
    assert first == second


def ranks_by_text(db: Engine, project: Project) -> list[list[tuple[str, int | None]]]:
    with transaction(db) as session:
        texts = {row.id: row.text for row in session.execute(select(Response.id, Response.text))}
        found = session.scalars(select(Ranking).where(Ranking.project_id == project.id).order_by(Ranking.id))
        return [sorted(((texts[int(k)], v) for k, v in r.ranks.items()), key=str) for r in found]


def test_preferences_are_the_strictly_ordered_pairs(bring: Bring, db: Engine, project: Project) -> None:
    bring(lines({"prompt": "p", "responses": ["a", "b", "c", "d"], "ranks": [1, 2, 2, None]}))
    content = b"".join(export.stream(db, project, what="preferences", format="jsonl"))
    rows = [json.loads(line) for line in content.splitlines()]
    assert {(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows} == {("a", "b"), ("a", "c")}


def test_exports_name_nobody(bring: Bring, db: Engine, project: Project) -> None:
    bring(lines({"prompt": "p", "responses": ["a", "b"], "ranks": [1, 2], "rater": "Maria Musterfrau"}))
    assert b"Maria" not in b"".join(export.stream(db, project, what="rankings", format="jsonl"))


def test_csv_cells_are_no_formulas(bring: Bring, db: Engine, project: Project) -> None:
    bring(lines({"prompt": "p", "responses": ["a", "b"], "ranks": [1, 2], "note": '=HYPERLINK("x")'}))
    rows = list(
        csv.DictReader(io.StringIO(b"".join(export.stream(db, project, what="rankings", format="csv")).decode()))
    )
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row.values())


REAL = [
    ("hh_rlhf/harmless_base_dev.jsonl.gz", True, (1495, 1495)),
    ("oasst_trees/trees_dev.jsonl.gz", False, (137, 137)),
    ("tulu_human_eval/annotations_dev.jsonl.gz", False, (597, 691)),
    ("responses/user_oriented_8way_dev.jsonl.gz", False, (150, 0)),
]


@pytest.mark.parametrize(("name", "keep_good_lines", "expected"), REAL)
def test_real_data_comes_in(
    bring: Bring, shared_data: Path, name: str, keep_good_lines: bool, expected: tuple[int, int]
) -> None:
    job = bring(shared_data / name, keep_good_lines=keep_good_lines)
    assert (job.state, (job.num_new_comparisons, job.num_new_rankings)) == ("done", expected)


def test_shuffled_sides_are_turned_to_the_same_model(bring: Bring, db: Engine, shared_data: Path) -> None:
    """Counted from the file itself: how often each model's response was preferred."""
    path = shared_data / "tulu_human_eval/annotations_dev.jsonl.gz"
    bring(path)
    latest: dict[tuple[str, str], dict[str, Any]] = {}
    for line in gzip.decompress(path.read_bytes()).splitlines():
        row = json.loads(line)
        pair = "|".join(sorted([row["response_a"]["model"], row["response_b"]["model"]]))
        key = (
            row["rater"],
            row["prompt"] + pair + "".join(sorted([row["response_a"]["text"], row["response_b"]["text"]])),
        )
        if key not in latest or row["submitted_at"] >= latest[key]["submitted_at"]:
            latest[key] = row
    wins: dict[str, int] = {}
    for row in latest.values():
        if row["preference"] != "tie":
            side = "response_a" if row["preference"].startswith("a-") else "response_b"
            wins[row[side]["model"]] = wins.get(row[side]["model"], 0) + 1
    stored: dict[str, int] = {}
    with transaction(db) as session:
        sources = {row.id: row.source for row in session.execute(select(Response.id, Response.source))}
        for ranking in session.scalars(select(Ranking)):
            if len(set(ranking.ranks.values())) == 2:
                best = min(ranking.ranks, key=lambda key: ranking.ranks[key])
                stored[sources[int(best)]] = stored.get(sources[int(best)], 0) + 1
    assert stored == wins


def test_where_a_line_is_broken_is_told_by_its_column(db: Engine, bring: Bring) -> None:
    broken = b'{"prompt": "a"}\n{"prompt": \r\n{"prompt": "b",}\n{"a": 1, "a": 2}\n'
    found = problems(db, bring(broken))
    assert [line for line, _ in found] == [2, 3, 4]
    assert all("line 1" not in reason and "line 2" not in reason for _, reason in found)
    assert found[0][1] == "it is not JSON: Expecting value at column 12."
    assert "at column 15" in found[1][1] or "at column 16" in found[1][1]
    assert "a key stands there twice" in found[2][1]
