"""Rating for programs: take a comparison, keep a draft, send a ranking, skip, undo. Blind, as the page is."""

import datetime as dt
import uuid
from typing import Any

from fastapi import APIRouter, Response
from pydantic import Field
from sqlalchemy.orm import Session

from app.api.shapes import Answer as Shape
from app.api.shapes import Body
from app.errors import Conflict, Invalid
from app.projects.deps import Rater
from app.projects.models import Project
from app.rating import care, desk, leases, service
from app.rating.answers import Answer
from app.rating.models import Assignment, Ranking
from app.teaching.gate import standing_of
from app.web import SessionDep

router = APIRouter(prefix="/projects/{slug}", tags=["rating"])
Place = dict[str, list[str]]


class AnswerBody(Body):
    """What a rater says. Lists have one entry per response, in the order shown."""

    ranks: list[int | None] = Field(max_length=9, description="1 is best, equal numbers tie, null is unranked.")
    all_bad: bool = False
    strength: int | None = Field(None, description="Pairs only: 1 (barely better) to 4 (much better).")
    attributes: dict[str, list[int | None]] = Field(default_factory=dict)
    flags: Place = Field(default_factory=dict, description="From the place of a response, 0 first, to flag keys.")
    note: str = ""
    edit: str = Field("", description="The best response as it should be, where the project allows it.")
    reasons: list[str] = Field(default_factory=list, max_length=12, description="Keys of the project's reasons.")
    likert: list[int | None] = Field(default_factory=list, max_length=9, description="1 to 7 for each response.")


class RankingBody(AnswerBody):
    """A ranking, with the key that came with the assignment: sending it twice stores it once."""

    idempotency_key: str = Field(description="As it came with the assignment.")
    seconds: float | None = Field(default=None, description="Active time, as you measured it.")
    shown_seconds: float | None = Field(
        default=None, description="Since you showed it, by the clock; else since it was taken."
    )


class SkipBody(Body):
    """Why a comparison is given back."""

    reason: str
    note: str = ""


class UndoBody(Body):
    """Which ranking to reopen; the newest without it."""

    assignment_id: int | None = None


class ShownResponse(Shape):
    """A response as a rater sees it: a letter and a text, never where it came from."""

    letter: str
    text: str
    was_cut: bool


class Rules(Shape):
    """What this project asks."""

    allow_ties: bool
    allow_all_bad: bool
    allow_partial: bool
    ask_strength: bool
    attributes: list[dict[str, Any]]
    flags: list[dict[str, Any]]
    reasons: list[dict[str, Any]]
    require_reason: bool
    ask_likert: bool
    allow_edit: bool


class AssignmentAnswer(Shape):
    """A comparison in one's hands."""

    id: int
    idempotency_key: uuid.UUID
    lease_until: dt.datetime
    guideline_edition: int | None
    is_correction: bool
    messages: list[dict[str, Any]]
    warnings: list[str]
    responses: list[ShownResponse]
    draft: dict[str, Any]
    rules: Rules


class RankingAnswer(Shape):
    """What became of a ranking. `surplus`: kept, but others were first. `is_too_fast`: sooner than the texts can be read."""

    id: int
    revision: int
    standing: str
    is_late: bool
    is_too_fast: bool
    is_replay: bool


class LeaseAnswer(Shape):
    """How long a comparison is held."""

    lease_until: dt.datetime


@router.post(
    "/next", responses={204: {"description": "Nothing is left to rank just now."}}, response_model=AssignmentAnswer
)
def take_next(member: Rater, session: SessionDep) -> Any:
    """The comparison in hand, its lease renewed, or the next one."""
    unread = desk.unread_guideline(session, member.project, rater_id=member.person.id)
    if unread is not None:
        raise Conflict(
            f"Edition {unread.edition} of the guidelines is new. GET /guidelines/{unread.edition} of this project, "
            f"read it, and POST to /guidelines/{unread.edition}/acknowledge before you go on."
        )
    assignment = leases.next_assignment(session, member.project, rater_id=member.person.id, may_wait=True)
    if assignment is None and (rest := care.why_rest(session, member.project, rater_id=member.person.id)):
        raise Conflict(f"{rest} Come back tomorrow, after midnight UTC.")
    standing = standing_of(session, member.project, rater_id=member.person.id)
    if assignment is None and standing.step:
        raise Conflict(standing.sentence(member.project))
    return Response(status_code=204) if assignment is None else _shown(session, member.project, assignment)


@router.post("/assignments/{assignment_id}/ranking", response_model=RankingAnswer)
def send_ranking(member: Rater, assignment_id: int, body: RankingBody, session: SessionDep) -> Any:
    """Store a ranking. The answer comes after it is safe."""
    recorded = service.record_ranking(
        session,
        member.project,
        member.person,
        assignment_id=assignment_id,
        idempotency_key=_key(body.idempotency_key),
        answer=Answer(**body.model_dump(exclude={"idempotency_key"})),
    )
    return ranking_answer(recorded.ranking, is_replay=recorded.is_replay)


@router.post("/assignments/{assignment_id}/draft", status_code=204)
def save_draft(member: Rater, assignment_id: int, body: AnswerBody, session: SessionDep) -> Response:
    """Keep what has been chosen so far."""
    service.save_draft(
        session, member.project, assignment_id, rater_id=member.person.id, draft=body.model_dump(mode="json")
    )
    return Response(status_code=204)


@router.post("/assignments/{assignment_id}/skip", status_code=204)
def skip(member: Rater, assignment_id: int, body: SkipBody, session: SessionDep) -> Response:
    """Give a comparison back, with a reason."""
    leases.skip(session, member.project, assignment_id, rater_id=member.person.id, reason=body.reason, note=body.note)
    return Response(status_code=204)


@router.post("/assignments/{assignment_id}/extend", response_model=LeaseAnswer)
def extend(member: Rater, assignment_id: int, session: SessionDep) -> Any:
    """Hold a comparison for another full lease."""
    return leases.extend_lease(session, member.project, assignment_id, rater_id=member.person.id)


@router.post("/assignments/{assignment_id}/leave", status_code=204)
def leave(member: Rater, assignment_id: int, session: SessionDep) -> Response:
    """End a correction without one: the ranking stays as it was."""
    service.leave_as_it_was(session, member.project, assignment_id, rater_id=member.person.id)
    return Response(status_code=204)


@router.post("/undo", response_model=AssignmentAnswer)
def undo(member: Rater, body: UndoBody, session: SessionDep) -> Any:
    """Reopen the newest ranking, or a chosen one. It stands until a correction is sent with the new key."""
    opened = service.undo_last(session, member.project, rater_id=member.person.id, assignment_id=body.assignment_id)
    return _shown(session, member.project, opened)


def _shown(session: Session, project: Project, assignment: Assignment) -> AssignmentAnswer:
    shown = desk.desk_of(session, assignment)
    guideline = desk.guideline_of(session, assignment)
    return AssignmentAnswer(
        id=assignment.id,
        idempotency_key=assignment.idempotency_key,
        lease_until=assignment.lease_until,
        guideline_edition=guideline.edition if guideline else None,
        is_correction=shown.is_correction,
        warnings=shown.warnings,
        messages=[{"role": message["role"], "content": message["content"]} for message in shown.messages],
        responses=[ShownResponse.model_validate(card) for card in shown.cards],
        draft=shown.draft,
        rules=Rules.model_validate(project),
    )


def ranking_answer(ranking: Ranking, *, is_replay: bool) -> RankingAnswer:
    """What became of a ranking, in the API's shape."""
    return RankingAnswer(
        id=ranking.id,
        revision=ranking.revision,
        standing=ranking.standing,
        is_late=ranking.is_late,
        is_too_fast=ranking.is_too_fast,
        is_replay=is_replay,
    )


def _key(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise Invalid("Send the idempotency_key that came with the assignment.", field="idempotency_key") from None
