"""Importing: a file is read twice, first to find what is wrong with it, then to store it in one transaction."""

import datetime as dt
import logging
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import Engine, func, select, text, update
from sqlalchemy.orm import Session

from app import audit
from app.config import get_settings
from app.db import transaction
from app.errors import AppError, Invalid, NotFound, TooLarge
from app.exchange.files import Line, read_lines
from app.exchange.models import ImportJob, ImportProblem
from app.exchange.rows import FORMATS, Row, read_as, recognise
from app.exchange.store import Totals, store_rows
from app.projects.models import Project
from app.queue import enqueue
from app.texts import number

log = logging.getLogger(__name__)
BATCH = 1000
BATCH_CHARACTERS = 10_000_000
MAX_PROBLEMS = 1000
MAX_LINES = 20_000_000
MANY_LINES = 1000  # After as many, Postgres plans by stale counts until it looks again by itself: it is asked to look.
CHUNK = 1 << 20


@dataclass
class Report:
    """What the first reading found."""

    num_lines: int = 0
    num_bad: int = 0
    problems: list[tuple[int, str]] = field(default_factory=list)


def receive_file(source: BinaryIO, folder: Path, *, limit: int) -> tuple[str, int]:
    """Store an upload under a generated name; (name, bytes).

    Raises:
        TooLarge: more than `limit` bytes came. Invalid: none came.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name, size = f"{uuid.uuid4().hex}.upload", 0
    with (folder / name).open("wb") as target:
        while chunk := source.read(CHUNK):
            size += len(chunk)
            if size > limit:
                (folder / name).unlink()
                raise TooLarge(f"The file has more than {limit:,} bytes. Split it.")
            target.write(chunk)
    if size == 0:
        (folder / name).unlink()
        raise Invalid("The file is empty, or none was chosen.", field="file")
    return name, size


def start_import(
    session: Session,
    project: Project,
    *,
    stored_name: str,
    file_name: str,
    size: int,
    format: str = "auto",  # noqa: A002
    keep_good_lines: bool = False,
    person_id: int | None = None,
) -> ImportJob:
    """Ask for an import; a worker does it.

    Raises:
        Invalid: there is no such format.
    """
    if format != "auto" and format not in FORMATS:
        raise Invalid(f"There is no format {format!r}: choose from auto, {', '.join(FORMATS)}.", field="format")
    job = ImportJob(
        project_id=project.id,
        started_by_id=person_id,
        file_name=shown_name(file_name),
        stored_name=stored_name,
        format=format,
        keep_good_lines=keep_good_lines,
        bytes_total=size,
    )
    session.add(job)
    session.flush()
    enqueue(session, "import_file", subject_id=job.id)
    audit.record(session, "import.started", subject=f"import:{job.id}", actor_id=person_id, project_id=project.id)
    return job


def shown_name(file_name: str) -> str:
    """A file's name as it is shown: without folders and without what does not print."""
    name = file_name.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(c if c.isprintable() else "?" for c in name)[:200] or "file"


def again_with_good_lines(session: Session, project: Project, import_id: int, *, person_id: int) -> ImportJob:
    """Import a refused file after all, without its bad lines.

    Raises:
        Invalid: it was not refused, or its file is gone.
    """
    old = get_import(session, project, import_id)
    if old.state != "refused" or not (get_settings().upload_dir / old.stored_name).exists():
        raise Invalid("Only a file that was refused for its bad lines can be taken without them. Upload it again.")
    return start_import(
        session,
        project,
        stored_name=old.stored_name,
        file_name=old.file_name,
        size=old.bytes_total,
        format=old.format,
        keep_good_lines=True,
        person_id=person_id,
    )


def get_import(session: Session, project: Project, import_id: int) -> ImportJob:
    """An import of this project.

    Raises:
        NotFound: it has no such import.
    """
    job = session.scalar(select(ImportJob).where(ImportJob.id == import_id, ImportJob.project_id == project.id))
    if job is None:
        raise NotFound("This project has no such import.")
    return job


def run_import(engine: Engine, import_id: int, *, folder: Path | None = None) -> ImportJob:
    """Do an import that waits. A second delivery of its message finds it taken."""
    with transaction(engine) as session:
        stale = ImportJob.heartbeat_at < func.now() - dt.timedelta(minutes=2)
        waiting = (ImportJob.state == "waiting") | ((ImportJob.state == "running") & stale)
        taken = update(ImportJob).where(ImportJob.id == import_id, waiting)
        values = {"state": "running", "heartbeat_at": func.now(), "bytes_done": 0}
        job = session.scalar(taken.values(values).returning(ImportJob))
        if job is None:
            return session.get_one(ImportJob, import_id)
        project = session.get_one(Project, job.project_id)
    path = (folder or get_settings().upload_dir) / job.stored_name
    try:
        _import(engine, job, project, path)
    except AppError as error:
        _end(engine, import_id, state="failed", error=error.message)
    except Exception as error:
        log.exception("Import %s failed.", import_id)
        _end(
            engine,
            import_id,
            state="failed",
            error=f"Something broke while importing ({type(error).__name__}). Nothing was stored.",
        )
    with transaction(engine) as session:
        done = session.get_one(ImportJob, import_id)
    if done.state in {"done", "failed"}:
        path.unlink(missing_ok=True)
    return done


def _import(engine: Engine, job: ImportJob, project: Project, path: Path) -> None:
    if not path.exists():
        raise Invalid("The uploaded file is gone. Upload it again.")
    progress = _Progress(engine, job.id, total=max(job.bytes_total, 1))
    report = _check(path, job.format, progress)
    with transaction(engine) as session:
        session.add_all(ImportProblem(import_id=job.id, line=line, reason=reason) for line, reason in report.problems)
    counts = {"num_lines": report.num_lines, "num_bad_lines": report.num_bad}
    if report.num_lines == report.num_bad:
        sentence = "No line of the file can be imported." if report.num_lines else "The file holds no rows."
        _end(engine, job.id, state="refused", error=sentence, **counts)
    elif report.num_bad and not job.keep_good_lines:
        sentence = f"{number(report.num_bad)} of {number(report.num_lines)} lines are bad, so nothing was imported. Mend them, or import the good lines only."
        _end(engine, job.id, state="refused", error=sentence, **counts)
    else:
        progress.base = 0.5
        with transaction(engine) as session:
            totals = _store(session, job, project, path, progress)
            if report.num_lines >= MANY_LINES:
                session.execute(text("ANALYZE prompt, response, comparison, comparison_response, ranking"))
        _end(engine, job.id, state="done", **counts, **totals.columns())


def _check(path: Path, format: str, progress: "_Progress") -> Report:  # noqa: A002
    """Read everything once without storing anything."""
    report = Report()
    for line in read_lines(path, on_bytes=progress.note):
        report.num_lines += 1
        if report.num_lines > MAX_LINES:
            raise Invalid(f"The file has more than {MAX_LINES:,} lines. Split it.")
        _, problem = _rows_of(line, format)
        if problem:
            report.num_bad += 1
            if len(report.problems) < MAX_PROBLEMS:
                report.problems.append((line.number, problem))
    return report


def _store(session: Session, job: ImportJob, project: Project, path: Path, progress: "_Progress") -> Totals:
    totals = Totals()
    for batch in _batches(_good_rows(path, job.format, progress)):
        store_rows(session, project, batch, totals, import_id=job.id)
    return totals


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Rows to be stored together: many when they are short, few when they are long, because each batch is one parameter."""
    batch: list[Row] = []
    num_characters = 0
    for row in rows:
        batch.append(row)
        num_characters += row.num_characters()
        if len(batch) >= BATCH or num_characters >= BATCH_CHARACTERS:
            yield batch
            batch, num_characters = [], 0
    yield batch


def _good_rows(path: Path, format: str, progress: "_Progress") -> Iterator[Row]:  # noqa: A002
    for line in read_lines(path, on_bytes=progress.note):
        rows, _ = _rows_of(line, format)
        yield from rows


def _rows_of(line: Line, format: str) -> tuple[list[Row], str]:  # noqa: A002
    """(rows, "") or ([], what is wrong)."""
    if line.problem:
        return [], line.problem
    try:
        return (recognise(line.value) if format == "auto" else read_as(format, line.value)), ""
    except AppError as error:
        return [], error.message
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        return [], f"it does not have the fields of its format ({type(error).__name__}: {str(error)[:80]})."


def _end(engine: Engine, import_id: int, *, state: str, **values: Any) -> None:
    with transaction(engine) as session:
        ended = update(ImportJob).where(ImportJob.id == import_id)
        session.execute(ended.values(state=state, finished_at=func.now(), bytes_done=ImportJob.bytes_total, **values))


class _Progress:
    """Writes how far the file is read, at most twice a second, outside the import's own transaction."""

    def __init__(self, engine: Engine, import_id: int, *, total: int) -> None:
        self.engine, self.import_id, self.total = engine, import_id, total
        self.base, self.written = 0.0, 0.0

    def note(self, position: int) -> None:
        """`position` bytes of the file are behind us, in this reading."""
        import time

        if time.monotonic() - self.written < 0.5:
            return
        self.written = time.monotonic()
        done = int(self.total * (self.base + 0.5 * min(position / self.total, 1)))
        with transaction(self.engine) as session:
            session.execute(
                update(ImportJob).where(ImportJob.id == self.import_id).values(bytes_done=done, heartbeat_at=func.now())
            )
