"""Runs and model versions for programs."""

import datetime as dt
from typing import Annotated, Any

from fastapi import APIRouter, Query
from sqlalchemy import select

from app.api.shapes import Answer, Body
from app.errors import Invalid
from app.projects.deps import AdminOrOperator, Operator, Staff
from app.training import runs, service
from app.training.models import Kind, Run
from app.web import SessionDep

router = APIRouter(prefix="/projects/{slug}", tags=["training"])


class RunShape(Answer):
    """A run as it stands."""

    id: int
    kind: str
    state: str
    trigger: str
    phase: str
    step: int
    total_steps: int
    progress: float
    attempt: int
    snapshot_id: int | None
    error_class: str | None
    error: str | None
    result: dict[str, Any]
    created_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None


class VersionShape(Answer):
    """A model version."""

    id: int
    kind: str
    number: int
    state: str
    run_id: int | None
    parent_id: int | None
    reward_model_id: int | None
    snapshot_id: int | None
    num_parameters: int
    manifest_hash: str
    metrics: dict[str, Any]
    created_at: dt.datetime


class StartBody(Body):
    """Which kind of run to start."""

    kind: str


@router.get("/runs", response_model=list[RunShape])
def list_runs(
    member: Staff,
    session: SessionDep,
    before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> list[Run]:
    """Newest first; `before` is the last id of the page before."""
    query = select(Run).where(Run.project_id == member.project.id)
    if before is not None:
        query = query.where(Run.id < before)
    return list(session.scalars(query.order_by(Run.id.desc()).limit(limit)))


@router.post("/runs", response_model=RunShape, status_code=201)
def start(member: AdminOrOperator, body: StartBody, session: SessionDep) -> Run:
    """Start a run; 409 when one of its kind is active."""
    if body.kind not in set(Kind):
        raise Invalid(f"kind: choose one of {', '.join(Kind)}.", field="kind")
    return service.request_run(session, member.project, body.kind, trigger="api", started_by_id=member.person.id)


@router.get("/runs/{run_id}", response_model=RunShape)
def show(member: Staff, run_id: int, session: SessionDep) -> Run:
    """One run."""
    return service.get_run(session, member.project, run_id)


@router.get("/runs/{run_id}/metrics")
def metrics(member: Staff, run_id: int, session: SessionDep) -> list[dict[str, Any]]:
    """All that its steps measured."""
    run = service.get_run(session, member.project, run_id)
    return [{"phase": row.phase, "step": row.step, **row.values} for row in runs.metrics_of(session, run.id)]


@router.get("/runs/{run_id}/log")
def log(member: Staff, run_id: int, session: SessionDep) -> list[dict[str, str]]:
    """Its last lines."""
    run = service.get_run(session, member.project, run_id)
    lines = runs.log_of(session, run.id, limit=200)
    return [{"at": line.created_at.isoformat(), "level": line.level, "line": line.line} for line in lines]


@router.post("/runs/{run_id}/cancel", response_model=RunShape)
def cancel(member: Operator, run_id: int, session: SessionDep) -> Run:
    """Cancel; twice is harmless."""
    return service.cancel_run(session, member.project, run_id, person_id=member.person.id)


@router.post("/runs/{run_id}/retry", response_model=RunShape)
def retry(member: Operator, run_id: int, session: SessionDep) -> Run:
    """Go on from the last checkpoint."""
    return service.retry_run(session, member.project, run_id, person_id=member.person.id)


@router.get("/versions", response_model=list[VersionShape])
def versions(member: Staff, session: SessionDep) -> Any:
    """All model versions, newest first."""
    return service.list_versions(session, member.project)


@router.get("/versions/{version_id}", response_model=VersionShape)
def version(member: Staff, version_id: int, session: SessionDep) -> Any:
    """One model version."""
    return service.get_version(session, member.project, version_id)
