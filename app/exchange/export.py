"""Exports: rankings with all that is known about them, and preferences as TRL rows; streamed from the database."""

import csv
import datetime as dt
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session, aliased

from app.accounts.models import Person
from app.db import Base
from app.errors import Invalid
from app.guidelines.models import Guideline
from app.projects.models import Project
from app.prompts.models import Comparison, ComparisonResponse, Prompt, Response
from app.prompts.service import is_demonstration

FORMULA = ("=", "+", "-", "@", "\t", "\r")
BATCH = 1000
CHUNK_BYTES = 64 * 1024  # Sent at once: each piece costs the server a change of threads.
WHAT = ("rankings", "preferences", "demonstrations")
FORMATS = {
    "jsonl": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}


def rows_of(session: Session, project: Project, what: str) -> Iterator[dict[str, Any]]:
    """Current rankings, the preferences that follow from them, or the demonstrations as they stand.

    Raises:
        Invalid: there is no such export.
    """
    if what not in WHAT:
        raise Invalid(f"There is no export {what!r}: choose from {', '.join(WHAT)}.")
    if what == "demonstrations":
        return _demonstrations(session, project)
    rankings = _rankings(session, project)
    return rankings if what == "rankings" else (pair for row in rankings for pair in preferences_of(row))


def preferences_of(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """TRL's conversational `prompt`, `chosen`, `rejected` for each strictly ordered pair of one ranking."""
    ranked = [(rank, text) for rank, text in zip(row["ranks"], row["texts"], strict=True) if rank is not None]
    if row["edited"]:
        ranked.append((0, row["edited"]))
    for rank_a, better in ranked:
        for rank_b, worse in ranked:
            if rank_a < rank_b:
                yield {
                    "prompt": row["prompt"],
                    "chosen": [{"role": "assistant", "content": better}],
                    "rejected": [{"role": "assistant", "content": worse}],
                    "rater": row["rater"],
                    "comparison_id": row["comparison_id"],
                    "ranking_id": row["ranking_id"],
                }


def _rankings(session: Session, project: Project) -> Iterator[dict[str, Any]]:
    """Keyset batches in the order of ids; people appear under their pseudonyms only."""
    ranking = Base.metadata.tables["ranking"]
    newer, edited = ranking.alias("newer"), aliased(Response)
    query = (
        select(
            ranking,
            edited.text.label("edited"),
            Prompt.messages,
            Prompt.topic,
            Prompt.warnings,
            Prompt.split,
            Person.pseudonym,
            Guideline.edition,
        )
        .join(Comparison, Comparison.id == ranking.c.comparison_id)
        .join(Prompt, Prompt.id == Comparison.prompt_id)
        .join(Person, Person.id == ranking.c.rater_id)
        .outerjoin(Guideline, Guideline.id == ranking.c.guideline_id)
        .outerjoin(edited, edited.id == ranking.c.edited_id)
        .where(ranking.c.project_id == project.id)
        .where(~select(newer.c.id).where(newer.c.supersedes_id == ranking.c.id).exists())
        .order_by(ranking.c.id)
        .limit(BATCH)
    )
    last = 0
    while rows := session.execute(query.where(ranking.c.id > last)).all():
        members = _members(session, {row.comparison_id for row in rows})
        for row in rows:
            yield _ranking(row, members[row.comparison_id])
        last = rows[-1].id


def _demonstrations(session: Session, project: Project) -> Iterator[dict[str, Any]]:
    """Keyset batches; writers appear under their pseudonyms only, and what was superseded does not appear."""
    query = (
        select(Response, Prompt.messages, Prompt.topic, Prompt.split, Person.pseudonym)
        .join(Prompt, Prompt.id == Response.prompt_id)
        .outerjoin(Person, Person.id == Response.written_by_id)
        .where(Prompt.project_id == project.id, *is_demonstration())
        .order_by(Response.id)
        .limit(BATCH)
    )
    last = 0
    while rows := session.execute(query.where(Response.id > last)).all():
        for response, messages, topic, split, pseudonym in rows:
            yield {
                "prompt": messages,
                "response": response.text,
                "response_id": response.id,
                "rater": pseudonym or "",
                "topic": topic or "",
                "split": split,
                "created_at": response.created_at.astimezone(dt.UTC).isoformat(),
            }
        last = rows[-1][0].id


def _members(session: Session, comparison_ids: set[int]) -> dict[int, list[sa.Row[Any]]]:
    part = (
        select(
            ComparisonResponse.comparison_id,
            Response.id,
            Response.text,
            Response.origin,
            Response.source,
            Response.model_version_id,
        )
        .join(Response, Response.id == ComparisonResponse.response_id)
        .where(ComparisonResponse.comparison_id.in_(comparison_ids))
        .order_by(ComparisonResponse.comparison_id, ComparisonResponse.position)
    )
    found: dict[int, list[Any]] = {}
    for row in session.execute(part):
        found.setdefault(row.comparison_id, []).append(row)
    return found


def _ranking(row: Any, members: list[Any]) -> dict[str, Any]:
    return {
        "ranking_id": row.id,
        "comparison_id": row.comparison_id,
        "prompt": row.messages,
        "responses": [{"text": m.text, "model": m.source, "origin": m.origin, "response_id": m.id} for m in members],
        "texts": [m.text for m in members],
        "ranks": [row.ranks.get(str(m.id)) for m in members],
        "all_bad": row.all_bad,
        "strength": row.strength,
        "attributes": {name: [values.get(str(m.id)) for m in members] for name, values in row.attributes.items()},
        "flags": [row.flags.get(str(m.id), []) for m in members],
        "note": row.note,
        "edited": row.edited,
        "reasons": row.reasons,
        "likert": [row.likert.get(str(m.id)) for m in members] if row.likert else None,
        "rater": row.pseudonym,
        "standing": row.standing,
        "revision": row.revision,
        "is_simulated": row.is_simulated,
        "is_imported": row.is_imported,
        "is_late": row.is_late,
        "is_too_fast": row.is_too_fast,
        "shown_order": row.shown_order,
        "seconds": round(row.seconds, 2),
        "guideline_edition": row.edition,
        "topic": row.topic,
        "warnings": row.warnings,
        "split": row.split,
        "created_at": row.created_at.astimezone(dt.UTC).isoformat(),
    }


def stream(engine: Engine, project: Project, *, what: str, format: str) -> Iterator[bytes]:  # noqa: A002
    """The export's bytes as they are made, in a read-only transaction of their own.

    Raises:
        Invalid: there is no such format or export.
    """
    if format not in FORMATS:
        raise Invalid(f"There is no format {format!r}: choose from {', '.join(FORMATS)}.")
    if what not in WHAT:
        raise Invalid(f"There is no export {what!r}: choose from {', '.join(WHAT)}.")
    writers = {"jsonl": _jsonl, "csv": _csv, "parquet": _parquet}

    def made() -> Iterator[bytes]:
        with Session(engine) as session:
            rows = ({k: v for k, v in row.items() if k != "texts"} for row in rows_of(session, project, what))
            yield from _gathered(writers[format](rows))

    return made()


def _gathered(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of at least `CHUNK_BYTES`, but for the last."""
    waiting = bytearray()
    for piece in pieces:
        waiting += piece
        if len(waiting) >= CHUNK_BYTES:
            yield bytes(waiting)
            waiting.clear()
    if waiting:
        yield bytes(waiting)


def write_file(engine: Engine, project: Project, out: Path, *, what: str) -> int:
    """Export into a file whose name says the format; bytes written.

    Raises:
        Invalid: the name ends in something else.
    """
    chosen = out.suffix.removeprefix(".").lower()
    content = stream(engine, project, what=what, format=chosen)
    aside, size = out.with_name(out.name + ".part"), 0
    with aside.open("wb") as file:
        for chunk in content:
            size += file.write(chunk)
    aside.rename(out)
    return size


def _jsonl(rows: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    for row in rows:
        yield json.dumps(row, ensure_ascii=False).encode() + b"\n"


def _csv(rows: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    buffer, writer = io.StringIO(), None
    for row in rows:
        if writer is None:
            writer = csv.DictWriter(buffer, fieldnames=list(row))
            writer.writeheader()
        writer.writerow({name: _cell(value) for name, value in row.items()})
        yield buffer.getvalue().encode()
        buffer.seek(0)
        buffer.truncate()


def _cell(value: Any) -> Any:
    """Lists and objects as JSON; text that a spreadsheet would run as a formula gets an apostrophe before it."""
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    return "'" + value if isinstance(value, str) and value.startswith(FORMULA) else value


def _parquet(rows: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """Lists and objects as JSON text, so that every project has the same columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    writer: Any = None
    batch: list[dict[str, Any]] = []

    def flush() -> None:
        nonlocal writer, batch
        if batch:
            table = pa.Table.from_pylist(batch, schema=writer.schema if writer else None)
            table = table if writer else _without_nulls(table)
            writer = writer or pq.ParquetWriter(buffer, table.schema)
            writer.write_table(table)
            batch = []

    for row in rows:
        batch.append(
            {k: json.dumps(v, ensure_ascii=False) if isinstance(v, list | dict) else v for k, v in row.items()}
        )
        if len(batch) >= BATCH:
            flush()
    flush()
    if writer is not None:
        writer.close()
    yield buffer.getvalue()


def _without_nulls(table: Any) -> Any:
    """A column that is empty so far is text or a number, not the type of nothing."""
    import pyarrow as pa

    numbers = {"strength", "guideline_edition"}
    fields = [
        pa.field(f.name, (pa.int64() if f.name in numbers else pa.string()) if pa.types.is_null(f.type) else f.type)
        for f in table.schema
    ]
    return table.cast(pa.schema(fields))
