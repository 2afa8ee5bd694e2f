"""Decisions for programs."""

from typing import Any

from fastapi import APIRouter

from app.api.shapes import Body
from app.api.training import VersionShape
from app.oversight import service
from app.projects.deps import Overseer
from app.web import SessionDep

router = APIRouter(prefix="/projects/{slug}", tags=["oversight"])


class DecisionBody(Body):
    """`approve` or `refuse`, and why."""

    decision: str
    reason: str


@router.post("/versions/{version_id}/decision", response_model=VersionShape)
def decide(member: Overseer, version_id: int, body: DecisionBody, session: SessionDep) -> Any:
    """Decide on a candidate."""
    return service.decide(
        session,
        member.project,
        version_id,
        person_id=member.person.id,
        decision=body.decision,
        reason=body.reason,
    )


@router.post("/versions/{version_id}/rollback", response_model=VersionShape)
def roll_back(member: Overseer, version_id: int, session: SessionDep) -> Any:
    """Let a retired policy serve again."""
    return service.roll_back(session, member.project, version_id, person_id=member.person.id)
