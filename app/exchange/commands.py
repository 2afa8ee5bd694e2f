"""Import and export from a terminal, in this process, with a progress bar."""

import shutil
import threading
import uuid
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from app.config import get_settings
from app.db import transaction
from app.errors import AppError, NotFound
from app.exchange.export import write_file
from app.exchange.models import ImportJob, ImportProblem
from app.exchange.rows import FORMATS
from app.exchange.service import run_import, shown_name
from app.projects.models import Project

SHOWN_PROBLEMS = 20


def import_from_terminal(
    engine: Engine,
    file: Path,
    *,
    slug: str,
    format: str,  # noqa: A002
    keep_good_lines: bool,
    console: Console,
) -> ImportJob:
    """`attune import`.

    Raises:
        AppError: no such file, project or format; or the import was refused or failed.
    """
    if not file.is_file():
        raise AppError(f"There is no file {file}.")
    if format != "auto" and format not in FORMATS:
        raise AppError(f"There is no format {format!r}: choose from auto, {', '.join(FORMATS)}.")
    job = _make_job(engine, file, slug=slug, format=format, keep_good_lines=keep_good_lines)
    _with_progress(engine, job.id, console)
    with transaction(engine) as session:
        done = session.get_one(ImportJob, job.id)
        problems = session.scalars(
            select(ImportProblem)
            .where(ImportProblem.import_id == job.id)
            .order_by(ImportProblem.line)
            .limit(SHOWN_PROBLEMS)
        ).all()
    for problem in problems:
        console.print(f"line {problem.line}: {problem.reason}", markup=False)
    if done.num_bad_lines > len(problems):
        console.print(f"... and {done.num_bad_lines - len(problems):,} more.")
    if done.state != "done":
        raise AppError(done.error or "The import did not end.")
    console.print(
        f"Read {done.num_lines:,} lines: {done.num_new_prompts:,} new prompts, {done.num_new_responses:,} responses, "
        f"{done.num_new_comparisons:,} comparisons, {done.num_new_rankings:,} rankings."
    )
    return done


def export_to_file(engine: Engine, *, slug: str, out: Path, what: str) -> int:
    """`attune export`; bytes written."""
    with Session(engine) as session:
        return write_file(engine, _project(session, slug), out, what=what)


def _make_job(engine: Engine, file: Path, *, slug: str, format: str, keep_good_lines: bool) -> ImportJob:  # noqa: A002
    stored = f"{uuid.uuid4().hex}.upload"
    folder = get_settings().upload_dir
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, folder / stored)
    with transaction(engine) as session:
        job = ImportJob(
            project_id=_project(session, slug).id,
            file_name=shown_name(file.name),
            stored_name=stored,
            format=format,
            keep_good_lines=keep_good_lines,
            bytes_total=file.stat().st_size,
        )
        session.add(job)
    return job


def _with_progress(engine: Engine, import_id: int, console: Console) -> None:
    worker = threading.Thread(target=run_import, args=(engine, import_id))
    worker.start()
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("importing", total=1.0)
        while worker.is_alive():
            worker.join(0.3)
            with transaction(engine) as session:
                job = session.get_one(ImportJob, import_id)
                bar.update(task, completed=job.bytes_done / max(job.bytes_total, 1))


def _project(session: Session, slug: str) -> Project:
    project = session.scalar(select(Project).where(Project.slug == slug))
    if project is None:
        raise NotFound(f"There is no project {slug!r}; `attune project list` names them.")
    return project
