"""Guideline editions as JSON."""

import datetime as dt

from fastapi import APIRouter
from pydantic import Field

from app.api.shapes import Answer, Body
from app.errors import NotFound
from app.guidelines import service
from app.guidelines.models import Guideline
from app.guidelines.reading import reading_of
from app.projects.deps import Admin, AnyMember, Rater
from app.web import SessionDep

router = APIRouter(prefix="/projects/{slug}/guidelines", tags=["guidelines"])


class EditionAnswer(Answer):
    """A published edition; it never changes."""

    edition: int
    summary: str
    published_at: dt.datetime


class EditionText(EditionAnswer):
    """An edition with its Markdown."""

    body: str


class ChangeAnswer(Answer):
    """A line that both editions have (`same`), or only one of them (`added`, `removed`)."""

    kind: str
    text: str


class ReadingAnswer(EditionText):
    """The newest edition, whether the caller has acknowledged it, and how it differs from the one they read last."""

    is_read: bool
    last_read_edition: int | None
    changes: list[ChangeAnswer]


class Draft(Body):
    """What is being written. `revision` is the one that was edited, so that nobody's text is overwritten."""

    body: str
    summary: str = Field("", max_length=500)
    revision: int | None = None


class DraftAnswer(Answer):
    """The draft as stored."""

    body: str
    summary: str
    revision: int


@router.get("")
def editions(member: AnyMember, session: SessionDep) -> list[EditionAnswer]:
    """All published editions, newest first."""
    return [EditionAnswer.model_validate(row) for row in service.editions(session, member.project)]


@router.put("/draft")
def save_draft(member: Admin, body: Draft, session: SessionDep) -> DraftAnswer:
    """Write the one draft of the project."""
    draft = service.save_draft(
        session,
        member.project,
        body=body.body,
        summary=body.summary,
        person_id=member.person.id,
        revision=body.revision,
    )
    return DraftAnswer.model_validate(draft)


@router.post("/publish", status_code=201)
def publish(member: Admin, session: SessionDep) -> EditionText:
    """Publish the draft; raters acknowledge it before they go on."""
    return _text(service.publish(session, member.project, person_id=member.person.id))


@router.get("/reading")
def reading(member: AnyMember, session: SessionDep) -> ReadingAnswer:
    """The newest edition as the caller reads it, with what is new since the edition that they acknowledged last."""
    found = reading_of(session, member.project, person_id=member.person.id)
    if found is None:
        raise NotFound("This project has no published guidelines yet.")
    return ReadingAnswer(
        **_text(found.guideline).model_dump(),
        is_read=found.is_read,
        last_read_edition=found.last_read.edition if found.last_read else None,
        changes=[ChangeAnswer.model_validate(line) for line in found.changes],
    )


@router.get("/{edition}")
def show(member: AnyMember, edition: int, session: SessionDep) -> EditionText:
    """One edition."""
    return _text(service.get_edition(session, member.project, edition))


@router.post("/{edition}/acknowledge", status_code=204)
def acknowledge(member: Rater, edition: int, session: SessionDep) -> None:
    """The caller has read this edition and goes by it."""
    service.acknowledge(session, member.project, edition, person_id=member.person.id)


def _text(guideline: Guideline) -> EditionText:
    return EditionText.model_validate(guideline)
