"""One model version with what led to it, the decision on it, and the audit trail."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy import select

from app.accounts.models import Person
from app.audit import AuditEvent
from app.oversight import service
from app.oversight import trail as trail_in_words
from app.projects.deps import Overseer, Staff
from app.training.models import ModelVersion, Snapshot
from app.training.service import get_version
from app.web import SessionDep, redirect, render

router = APIRouter(prefix="/projects/{slug}", tags=["oversight"])
Text = Annotated[str, Form()]
PAGE = 100


@router.get("/versions/{version_id}", response_class=HTMLResponse)
def show(member: Staff, version_id: int, request: Request, session: SessionDep) -> HTMLResponse:
    """What it is, how it did, where it came from, and who decided."""
    version = get_version(session, member.project, version_id)
    decisions = service.decisions_on(session, version)
    names = select(Person.id, Person.name).where(Person.id.in_([decision.person_id for decision in decisions]))
    return render(
        request,
        "oversight/version.html",
        project=member.project,
        version=version,
        parent=session.get(ModelVersion, version.parent_id) if version.parent_id else None,
        reward_model=session.get(ModelVersion, version.reward_model_id) if version.reward_model_id else None,
        snapshot=session.get(Snapshot, version.snapshot_id) if version.snapshot_id else None,
        decisions=decisions,
        names={row.id: row.name for row in session.execute(names)},
        why_not=service.why_not_decide(
            version, person_id=member.person.id, requester_id=service.requester_of(session, version)
        ),
    )


@router.post("/versions/{version_id}/decision")
def decide(member: Overseer, version_id: int, session: SessionDep, decision: Text = "", reason: Text = "") -> Response:
    """Approve or refuse."""
    service.decide(session, member.project, version_id, person_id=member.person.id, decision=decision, reason=reason)
    return redirect(f"/projects/{member.project.slug}/versions/{version_id}")


@router.post("/versions/{version_id}/rollback")
def roll_back(member: Overseer, version_id: int, session: SessionDep) -> Response:
    """Let a retired policy serve again."""
    service.roll_back(session, member.project, version_id, person_id=member.person.id)
    return redirect(f"/projects/{member.project.slug}/versions/{version_id}")


@router.get("/audit", response_class=HTMLResponse)
def trail(member: Overseer, request: Request, session: SessionDep, before: int | None = None) -> HTMLResponse:
    """Who did what in this project, newest first."""
    query = select(AuditEvent).where(AuditEvent.project_id == member.project.id)
    if before is not None:
        query = query.where(AuditEvent.seq < before)
    events = session.scalars(query.order_by(AuditEvent.seq.desc()).limit(PAGE + 1)).all()
    told = trail_in_words.entries(session, member, events[:PAGE])
    has_older = len(events) > PAGE
    return render(request, "oversight/audit.html", project=member.project, entries=told, has_older=has_older)
