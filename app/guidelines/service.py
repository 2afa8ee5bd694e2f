"""Writing, publishing and acknowledging guideline editions."""

import difflib
from dataclasses import dataclass

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app import audit
from app.errors import Conflict, Invalid, NotFound
from app.guidelines.models import Acknowledgement, Guideline
from app.projects.models import Project

MAX_BYTES = 200_000


@dataclass(frozen=True)
class DiffLine:
    """One line of a comparison of editions; `kind` is `same`, `added` or `removed`."""

    kind: str
    text: str


def editions(session: Session, project: Project) -> list[Guideline]:
    """Published editions, newest first."""
    published = select(Guideline).where(Guideline.project_id == project.id, Guideline.published_at.is_not(None))
    return list(session.scalars(published.order_by(Guideline.edition.desc())))


def get_edition(session: Session, project: Project, edition: int) -> Guideline:
    """A published edition.

    Raises:
        NotFound: there is none of that number.
    """
    found = session.scalar(select(Guideline).where(Guideline.project_id == project.id, Guideline.edition == edition))
    if found is None:
        raise NotFound(f"There is no edition {edition} of these guidelines.")
    return found


def draft_of(session: Session, project: Project, *, lock: bool = False) -> Guideline | None:
    """What is being written, if anything; with `lock`, nobody publishes it before this transaction has ended."""
    draft = select(Guideline).where(Guideline.project_id == project.id, Guideline.published_at.is_(None))
    return session.scalar(draft.with_for_update() if lock else draft)


def save_draft(
    session: Session, project: Project, *, body: str, summary: str = "", person_id: int, revision: int | None = None
) -> Guideline:
    """Write the draft. `revision` is the one that was edited: a stale one is refused, so nobody's text is lost.

    Raises:
        Invalid: empty or too long. Conflict: somebody else saved in the meantime.
    """
    text = body.replace("\r\n", "\n")
    if not text.strip():
        raise Invalid("The guidelines are empty. Write what raters should look for.", field="body")
    if len(text.encode()) > MAX_BYTES or "\x00" in text + summary or len(summary) > 500:
        raise Invalid(f"Guidelines have at most {MAX_BYTES:,} bytes, a summary 500, and no NUL.", field="body")
    draft = draft_of(session, project, lock=True)
    if draft is None and revision is not None:
        raise Conflict("The draft that you opened has been published meanwhile. Copy your text, and open a new draft.")
    if draft is None:
        made = insert(Guideline).values(
            project_id=project.id, body=text, summary=summary, written_by_id=person_id, revision=1
        )
        new: Guideline | None = session.scalar(made.on_conflict_do_nothing().returning(Guideline))
        if new is None:
            raise Conflict("Somebody else has just begun a draft. Open it, and add your text to theirs.")
        return new
    if revision is not None and revision != draft.revision:
        raise Conflict(
            "Somebody else has saved this draft since you opened it. Copy your text, reload, and join the two."
        )
    draft.body, draft.summary, draft.written_by_id, draft.revision = text, summary, person_id, draft.revision + 1
    session.flush()
    return draft


def publish(session: Session, project: Project, *, person_id: int) -> Guideline:
    """Give the draft its number. It never changes afterwards, and raters acknowledge it before they go on.

    Raises:
        Conflict: there is no draft (any more): of two who publish at once, one wins.
    """
    next_edition = select(func.coalesce(func.max(Guideline.edition), 0) + 1).where(Guideline.project_id == project.id)
    session.execute(select(Project.id).where(Project.id == project.id).with_for_update())
    numbered = (
        update(Guideline)
        .where(Guideline.project_id == project.id, Guideline.published_at.is_(None))
        .values(edition=next_edition.scalar_subquery(), published_at=func.now(), published_by_id=person_id)
        .returning(Guideline)
    )
    published = session.scalar(numbered.execution_options(synchronize_session=False, populate_existing=True))
    if published is None:
        raise Conflict("There is no draft to publish; somebody may just have published it.")
    audit.record(
        session,
        "guideline.published",
        subject=f"guideline:{published.id}",
        actor_id=person_id,
        project_id=project.id,
        details={"edition": published.edition},
    )
    return published


def acknowledge(session: Session, project: Project, edition: int, *, person_id: int) -> None:
    """This person has read this edition; twice is harmless."""
    guideline = get_edition(session, project, edition)
    session.execute(
        insert(Acknowledgement).values(guideline_id=guideline.id, person_id=person_id).on_conflict_do_nothing()
    )


def num_acknowledged(session: Session, guideline: Guideline) -> int:
    """How many people have read this edition."""
    query = select(func.count()).select_from(Acknowledgement).where(Acknowledgement.guideline_id == guideline.id)
    return session.scalar(query) or 0


def diff(before: str, after: str) -> list[DiffLine]:
    """Line by line what was removed and added."""
    kinds = {" ": "same", "+": "added", "-": "removed"}
    lines = difflib.ndiff(before.splitlines(), after.splitlines())
    return [DiffLine(kinds[line[0]], line[2:]) for line in lines if line[0] in kinds]
