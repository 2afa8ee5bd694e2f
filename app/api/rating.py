"""The rater's work for programs: next, ranking, skip, undo. Blind, like the page."""

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import Field, field_validator

from app.api.shapes import Answer as Shape
from app.api.shapes import Body
from app.errors import Conflict
from app.projects.deps import Rater
from app.rating import desk, leases, service
from app.rating.answers import Answer
from app.rating.models import Assignment
from app.web import SessionDep

router = APIRouter(prefix="/projects/{slug}", tags=["rating"])
Rank = Annotated[int, Field(ge=1, le=9)] | None


class ShownResponse(Shape):
    """One response in shown order."""

    letter: str
    text: str
    was_cut: bool


class AssignmentShape(Shape):
    """A comparison in the rater's hands. Send `idempotency_key` back with the ranking."""

    id: int
    idempotency_key: uuid.UUID
    messages: list[dict[str, Any]]
    responses: list[ShownResponse]
    guideline_id: int | None
    lease_until: str
    is_correction: bool


class RankingBody(Body):
    """`ranks` in shown order: 1 is best, equal ranks are ties, null is unranked."""

    idempotency_key: str
    ranks: Annotated[list[Rank], Field(min_length=2, max_length=9)]
    all_bad: bool = False
    strength: Annotated[int, Field(ge=1, le=4)] | None = None
    attributes: dict[str, list[Rank]] = Field(default_factory=dict, max_length=12)
    flags: dict[str, list[str]] = Field(default_factory=dict, max_length=9)
    note: str = ""
    seconds: Annotated[float, Field(ge=0, le=1e7)] | None = None

    @field_validator("idempotency_key")
    @classmethod
    def is_uuid(cls, value: str) -> str:
        """A UUID, as it came with the assignment."""
        return str(uuid.UUID(value))


class RankingShape(Shape):
    """What became of a ranking: `counted`, or `surplus` when others were first."""

    id: int
    standing: str
    revision: int
    is_replay: bool


class SkipBody(Body):
    """Why a comparison is given back."""

    reason: str
    note: str = ""


class DraftBody(Body):
    """Whatever the program wants to find again."""

    draft: dict[str, Any]


@router.post("/next", response_model=AssignmentShape)
def take_next(member: Rater, session: SessionDep) -> Any:
    """The comparison in hand, or the next one; 204 when nothing is left."""
    if (unread := desk.unread_guideline(session, member.project, rater_id=member.person.id)) is not None:
        raise Conflict(f"Edition {unread.edition} of the guidelines is new: read it and acknowledge it first.")
    assignment = leases.next_assignment(session, member.project, rater_id=member.person.id)
    return Response(status_code=204) if assignment is None else _shape(session, assignment)


@router.post("/assignments/{assignment_id}/ranking", response_model=RankingShape)
def rank(member: Rater, assignment_id: int, body: RankingBody, session: SessionDep) -> RankingShape:
    """Store a ranking. Sending it twice with the same key stores it once and answers the same."""
    answer = Answer(
        ranks=list(body.ranks),
        all_bad=body.all_bad,
        strength=body.strength,
        attributes={name: list(values) for name, values in body.attributes.items()},
        flags=body.flags,
        note=body.note,
        seconds=body.seconds,
    )
    recorded = service.record_ranking(
        session,
        member.project,
        member.person,
        assignment_id=assignment_id,
        idempotency_key=uuid.UUID(body.idempotency_key),
        answer=answer,
    )
    ranking = recorded.ranking
    return RankingShape(
        id=ranking.id, standing=ranking.standing, revision=ranking.revision, is_replay=recorded.is_replay
    )


@router.post("/assignments/{assignment_id}/skip", status_code=204)
def skip(member: Rater, assignment_id: int, body: SkipBody, session: SessionDep) -> None:
    """Give a comparison back."""
    leases.skip(session, member.project, assignment_id, rater_id=member.person.id, reason=body.reason, note=body.note)


@router.put("/assignments/{assignment_id}/draft", status_code=204)
def draft(member: Rater, assignment_id: int, body: DraftBody, session: SessionDep) -> None:
    """Keep a draft."""
    service.save_draft(session, member.project, assignment_id, rater_id=member.person.id, draft=body.draft)


@router.post("/undo", response_model=AssignmentShape)
def undo(member: Rater, session: SessionDep) -> AssignmentShape:
    """Reopen the last ranking; it stands until a correction replaces it."""
    return _shape(session, service.undo_last(session, member.project, rater_id=member.person.id))


def _shape(session: SessionDep, assignment: Assignment) -> AssignmentShape:
    shown = desk.desk_of(session, assignment)
    return AssignmentShape(
        id=assignment.id,
        idempotency_key=assignment.idempotency_key,
        messages=shown.messages,
        responses=[ShownResponse(letter=card.letter, text=card.text, was_cut=card.was_cut) for card in shown.cards],
        guideline_id=assignment.guideline_id,
        lease_until=assignment.lease_until.isoformat(),
        is_correction=shown.is_correction,
    )
