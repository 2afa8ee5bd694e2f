"""Handing out prompts that lack demonstrations, and keeping what raters write to them."""

import datetime as dt
import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased

from app.accounts.models import Person
from app.errors import Conflict, Invalid, NotFound
from app.guidelines.models import Guideline
from app.projects.models import Project
from app.prompts.models import Prompt, Response
from app.prompts.service import add_response, check_text
from app.prompts.wishes import is_welcome_to
from app.writing.models import Demonstration, WritingTask

SKIP_REASONS = {
    "unclear": "The prompt is unclear",
    "expertise": "Outside my expertise",
    "disturbing": "Disturbing content",
    "broken": "Something is broken",
    "other": "Another reason",
}
LEASE = dt.timedelta(hours=2)
MAX_TEXT = 50_000


@dataclass(frozen=True)
class Written:
    """A rater's demonstration as it stands."""

    id: int
    task_id: int
    writer: str
    prompt: str
    text: str
    revision: int
    created_at: dt.datetime


def next_task(session: Session, project: Project, *, writer_id: int) -> WritingTask | None:
    """The prompt in this rater's hands, its lease renewed, or the next that lacks demonstrations; None when none does.

    One request of a project at a time looks for a prompt, so that no place is given away twice.
    """
    if not project.demonstrations_per_prompt:
        raise Conflict("This project does not ask for demonstrations. An admin can change that under Settings.")
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"writing:{project.id}", 0))))
    held = held_task(session, project, writer_id=writer_id)
    if held is not None:
        held.lease_until = func.now() + LEASE  # type: ignore[assignment]
        session.flush()
        session.refresh(held)
        return held
    late = update(WritingTask).where(WritingTask.project_id == project.id, WritingTask.state == "leased")
    late = late.where(WritingTask.lease_until < func.now()).values(state="expired")
    session.execute(late.execution_options(synchronize_session=False))
    prompt_id = _free_prompt(session, project, writer_id)
    return None if prompt_id is None else _leased(session, project, prompt_id, writer_id)


def held_task(session: Session, project: Project, *, writer_id: int) -> WritingTask | None:
    """What this rater has in hand."""
    mine = (WritingTask.project_id == project.id, WritingTask.writer_id == writer_id, WritingTask.state == "leased")
    return session.scalar(select(WritingTask).where(*mine))


def prompt_of(session: Session, task: WritingTask) -> Prompt:
    """What is to be answered."""
    return session.get_one(Prompt, task.prompt_id)


def save_draft(session: Session, project: Project, task_id: int, *, writer_id: int, text: str) -> None:
    """Keep what is written so far, and hold the prompt longer.

    Raises:
        NotFound: no such task. Conflict: it is no longer in hand. Invalid: the text cannot be kept.
    """
    if len(check_text(text, where="text")) > MAX_TEXT:
        raise Invalid(f"At most {MAX_TEXT:,} characters are kept. Shorten it.", field="text")
    task = _locked(session, project, task_id, writer_id)
    if task.state not in {"leased", "expired"}:
        raise Conflict("You have dealt with this prompt already, in another window perhaps. Nothing was changed.")
    task.draft, task.lease_until = text, func.now() + LEASE  # type: ignore[assignment]
    session.flush()


def submit(
    session: Session, project: Project, writer: Person, *, task_id: int, text: str, idempotency_key: uuid.UUID
) -> Demonstration:
    """Keep a demonstration. Sending a form twice keeps the first; a late one is kept too.

    Raises:
        NotFound: no such task. Invalid: there is no text. Conflict: the prompt was dealt with already.
    """
    cleaned = _checked(text)
    task = _locked(session, project, task_id, writer.id)
    if task.state not in {"leased", "expired"}:
        return _replayed(session, idempotency_key, writer)
    task.state, task.draft = "written", ""
    return _keep(session, task, writer, text=cleaned, key=idempotency_key, before=None)


def correct(
    session: Session, project: Project, writer: Person, *, task_id: int, text: str, idempotency_key: uuid.UUID
) -> Demonstration:
    """A new revision of what this rater wrote; it supersedes the last, which stays.

    Raises:
        NotFound: this rater wrote nothing there. Invalid: there is no text.
    """
    cleaned = _checked(text)
    task = _locked(session, project, task_id, writer.id)
    newest = select(Demonstration).where(Demonstration.task_id == task.id).order_by(Demonstration.revision.desc())
    before = session.scalar(newest.limit(1))
    if before is None:
        raise NotFound("You have written nothing to this prompt yet.")
    known = select(Demonstration).where(Demonstration.idempotency_key == idempotency_key)
    if session.scalar(known) is not None:
        return _replayed(session, idempotency_key, writer)
    return _keep(session, task, writer, text=cleaned, key=idempotency_key, before=before)


def skip(session: Session, project: Project, task_id: int, *, writer_id: int, reason: str, note: str = "") -> None:
    """Give a prompt back, with a reason; it goes to somebody else and never comes back. Twice is harmless.

    Raises:
        Invalid: an unknown reason. NotFound: no such task. Conflict: it is no longer in hand.
    """
    if reason not in SKIP_REASONS:
        raise Invalid(f"Choose one of the reasons: {', '.join(SKIP_REASONS)}.", field="reason")
    if len(check_text(note, where="note")) > 500:
        raise Invalid("The note may have 500 characters.", field="note")
    task = _locked(session, project, task_id, writer_id)
    if task.state == "written":
        raise Conflict("You have answered this prompt already, so it cannot be skipped.")
    task.state, task.skip_reason, task.skip_note, task.draft = "skipped", reason, note, ""
    session.flush()


def written_by(session: Session, project: Project, *, writer_id: int, limit: int = 200) -> list[Written]:
    """What this rater wrote, newest first, each as it stands."""
    query = _as_it_stands(project).where(Demonstration.writer_id == writer_id).limit(limit)
    return [_written(*row) for row in session.execute(query)]


def written_in(session: Session, project: Project, *, before: int | None, limit: int) -> list[Written]:
    """What all raters of the project wrote, newest first, each as it stands; `before` is the last id of the page before."""
    query = _as_it_stands(project).limit(limit)
    if before is not None:
        query = query.where(Demonstration.id < before)
    return [_written(*row) for row in session.execute(query)]


def _as_it_stands(project: Project) -> "Select[tuple[Demonstration, str, list[dict[str, Any]], str]]":
    newer = aliased(Demonstration)
    return (
        select(Demonstration, Person.pseudonym, Prompt.messages, Response.text)
        .join(Person, Person.id == Demonstration.writer_id)
        .join(Response, Response.id == Demonstration.response_id)
        .join(Prompt, Prompt.id == Response.prompt_id)
        .where(Demonstration.project_id == project.id)
        .where(~select(newer.id).where(newer.supersedes_id == Demonstration.id).exists())
        .order_by(Demonstration.id.desc())
    )


def _written(row: Demonstration, writer: str, messages: list[dict[str, Any]], text: str) -> Written:
    return Written(row.id, row.task_id, writer, messages[-1]["content"], text, row.revision, row.created_at)


def written_to(session: Session, project: Project, task_id: int, *, writer_id: int) -> tuple[Prompt, str]:
    """The prompt of a task, and what this rater wrote to it, as it stands.

    Raises:
        NotFound: this rater wrote nothing there.
    """
    query = (
        select(Prompt, Response.text)
        .join(Response, Response.prompt_id == Prompt.id)
        .join(Demonstration, Demonstration.response_id == Response.id)
        .where(Demonstration.task_id == task_id, Demonstration.writer_id == writer_id)
        .where(Demonstration.project_id == project.id)
        .order_by(Demonstration.revision.desc())
        .limit(1)
    )
    row = session.execute(query).first()
    if row is None:
        raise NotFound("You have written nothing to this prompt.")
    return row[0], row[1]


def _free_prompt(session: Session, project: Project, writer_id: int) -> int | None:
    """The first prompt with fewer demonstrations, written or being written, than the project wants."""
    mine = select(WritingTask.id).where(WritingTask.prompt_id == Prompt.id, WritingTask.writer_id == writer_id)
    taken = select(func.count()).where(WritingTask.prompt_id == Prompt.id, WritingTask.state.in_(["leased", "written"]))
    told = select(Demonstration.id).where(Demonstration.response_id == Response.id)
    others = select(func.count()).where(Response.prompt_id == Prompt.id, Response.origin == "written", ~told.exists())
    wanted = taken.scalar_subquery() + others.scalar_subquery() < project.demonstrations_per_prompt
    query = select(Prompt.id).where(Prompt.project_id == project.id, wanted, is_welcome_to(writer_id))
    query = query.where(~mine.where(WritingTask.state != "expired").exists())
    return session.scalar(query.order_by(Prompt.id).limit(1))


def _leased(session: Session, project: Project, prompt_id: int, writer_id: int) -> WritingTask:
    """A task on this prompt; one of this rater's that ran out comes back with its draft."""
    edition = select(Guideline.id).where(Guideline.project_id == project.id, Guideline.published_at.is_not(None))
    newest = session.scalar(edition.order_by(Guideline.edition.desc()).limit(1))
    fresh = {"state": "leased", "guideline_id": newest, "lease_until": func.now() + LEASE}
    made = insert(WritingTask).values(project_id=project.id, prompt_id=prompt_id, writer_id=writer_id, **fresh)
    again = made.on_conflict_do_update(index_elements=["prompt_id", "writer_id"], set_=fresh)
    task = session.scalars(again.returning(WritingTask), execution_options={"populate_existing": True}).one()
    return task


def _locked(session: Session, project: Project, task_id: int, writer_id: int) -> WritingTask:
    mine = (WritingTask.id == task_id, WritingTask.writer_id == writer_id, WritingTask.project_id == project.id)
    query = select(WritingTask).where(*mine).with_for_update().execution_options(populate_existing=True)
    task = session.scalar(query)
    if task is None:
        raise NotFound("This prompt was not given to you.")
    return task


def _keep(
    session: Session, task: WritingTask, writer: Person, *, text: str, key: uuid.UUID, before: Demonstration | None
) -> Demonstration:
    """The response, and the demonstration that it is. The writer's pseudonym keeps two writers' equal texts apart."""
    response_id, _ = add_response(
        session, task.prompt_id, text, origin="written", source=writer.pseudonym, written_by_id=writer.id
    )
    kept = Demonstration(
        project_id=task.project_id,
        task_id=task.id,
        response_id=response_id,
        writer_id=writer.id,
        guideline_id=task.guideline_id,
        idempotency_key=key,
        revision=before.revision + 1 if before else 1,
        supersedes_id=before.id if before else None,
    )
    session.add(kept)
    session.flush()
    return kept


def _replayed(session: Session, idempotency_key: uuid.UUID, writer: Person) -> Demonstration:
    mine = (Demonstration.idempotency_key == idempotency_key, Demonstration.writer_id == writer.id)
    before = session.scalar(select(Demonstration).where(*mine))
    if before is None:
        raise Conflict("You have dealt with this prompt already, in another window perhaps. Nothing was changed.")
    return before


def _checked(text: str) -> str:
    cleaned = check_text(text, where="text").replace("\r\n", "\n").strip()
    if not cleaned or len(cleaned) > MAX_TEXT:
        raise Invalid(f"Write a response, in 1 to {MAX_TEXT:,} characters.", field="text")
    return cleaned
