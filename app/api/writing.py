"""Writing demonstrations, as JSON."""

import datetime as dt
import uuid
from typing import Any

from fastapi import APIRouter, Response
from pydantic import Field

from app.api.shapes import Answer, Body
from app.errors import Conflict
from app.projects.deps import Rater
from app.rating import desk
from app.web import SessionDep
from app.writing import service

router = APIRouter(prefix="/projects/{slug}", tags=["writing"])


class TaskAnswer(Answer):
    """A prompt in one's hands; `warnings` are categories of what it may contain. Send the key with what you write: sending it twice stores it once."""

    id: int
    idempotency_key: uuid.UUID
    lease_until: dt.datetime
    warnings: list[str]
    messages: list[dict[str, Any]]
    draft: str


class DraftBody(Body):
    """What is written so far."""

    text: str


class WrittenBody(Body):
    """What was written. The key is the task's, or for a correction any UUID of yours."""

    text: str
    idempotency_key: uuid.UUID = Field(strict=False)


class SkipBody(Body):
    """Why a prompt is given back."""

    reason: str
    note: str = ""


class DemonstrationAnswer(Answer):
    """A demonstration as it was stored."""

    id: int
    task_id: int
    revision: int


class WrittenAnswer(Answer):
    """One's demonstration as it stands; `prompt` is the user's last turn."""

    task_id: int
    prompt: str
    text: str
    revision: int
    created_at: dt.datetime


@router.post(
    "/writing/next", responses={204: {"description": "No prompt lacks demonstrations."}}, response_model=TaskAnswer
)
def take_next(member: Rater, session: SessionDep) -> Any:
    """The prompt in hand, or the next one that lacks demonstrations."""
    unread = desk.unread_guideline(session, member.project, rater_id=member.person.id)
    if unread is not None:
        raise Conflict(f"Edition {unread.edition} of the guidelines is new. Read and acknowledge it first.")
    task = service.next_task(session, member.project, writer_id=member.person.id)
    if task is None:
        return Response(status_code=204)
    prompt = service.prompt_of(session, task)
    return TaskAnswer(
        id=task.id,
        idempotency_key=task.idempotency_key,
        lease_until=task.lease_until,
        warnings=prompt.warnings,
        messages=[{"role": message["role"], "content": message["content"]} for message in prompt.messages],
        draft=task.draft,
    )


@router.post("/writing/{task_id}/draft", status_code=204)
def save_draft(member: Rater, task_id: int, body: DraftBody, session: SessionDep) -> None:
    """Keep what is written so far, and hold the prompt longer."""
    service.save_draft(session, member.project, task_id, writer_id=member.person.id, text=body.text)


@router.post("/writing/{task_id}", status_code=201)
def submit(member: Rater, task_id: int, body: WrittenBody, session: SessionDep) -> DemonstrationAnswer:
    """Store a demonstration."""
    kept = service.submit(session, member.project, member.person, task_id=task_id, **body.model_dump())
    return DemonstrationAnswer.model_validate(kept)


@router.post("/writing/{task_id}/skip", status_code=204)
def skip(member: Rater, task_id: int, body: SkipBody, session: SessionDep) -> None:
    """Give a prompt back, with a reason."""
    service.skip(session, member.project, task_id, writer_id=member.person.id, **body.model_dump())


@router.get("/demonstrations")
def mine(member: Rater, session: SessionDep) -> list[WrittenAnswer]:
    """What the caller wrote, newest first."""
    rows = service.written_by(session, member.project, writer_id=member.person.id)
    return [WrittenAnswer.model_validate(row) for row in rows]


@router.post("/demonstrations/{task_id}", status_code=201)
def correct(member: Rater, task_id: int, body: WrittenBody, session: SessionDep) -> DemonstrationAnswer:
    """A new revision that supersedes the last."""
    kept = service.correct(session, member.project, member.person, task_id=task_id, **body.model_dump())
    return DemonstrationAnswer.model_validate(kept)
