"""Runs and model versions in the browser."""

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy import select

from app.errors import Invalid
from app.projects.deps import AdminOrOperator, Operator, Staff
from app.training import runs, service
from app.training.estimate import memory_of_runs
from app.training.explained import METRICS, PHASES, TRIGGERS
from app.training.models import Kind, ModelVersion, Run
from app.web import SessionDep, is_htmx, redirect, render

router = APIRouter(prefix="/projects/{slug}", tags=["training"])


@router.get("/runs", response_class=HTMLResponse)
def list_runs(member: Staff, request: Request, session: SessionDep) -> HTMLResponse:
    """All runs, and a way to start one."""
    found = session.scalars(select(Run).where(Run.project_id == member.project.id).order_by(Run.id.desc()).limit(100))
    return render(
        request, "training/runs.html", project=member.project, runs=found.all(), kinds=runs.KINDS, triggers=TRIGGERS
    )


@router.get("/memory", response_class=HTMLResponse)
def memory(member: Staff, request: Request, session: SessionDep) -> HTMLResponse:
    """What each kind of run will need, under the settings that are being edited or else those that are stored."""
    edited = {name: text for name, text in request.query_params.items() if text.strip()}
    template = "training/_memory.html" if is_htmx(request) else "training/memory.html"
    return render(request, template, project=member.project, **memory_of_runs(session, member.project, edited=edited))


@router.post("/runs")
def start(member: AdminOrOperator, session: SessionDep, kind: Annotated[str, Form()] = "") -> Response:
    """Start a run by hand."""
    if kind not in set(Kind):
        raise Invalid(f"Choose a kind of run: {', '.join(Kind)}.", field="kind")
    run = service.request_run(session, member.project, kind, trigger="manual", started_by_id=member.person.id)
    return redirect(f"/projects/{member.project.slug}/runs/{run.id}")


@router.get("/runs/{run_id}", response_class=HTMLResponse)
def show(member: Staff, run_id: int, request: Request, session: SessionDep) -> HTMLResponse:
    """One run: curves, phase, log."""
    return render(request, "training/run.html", **_run(session, member, run_id), metrics=METRICS, phases=PHASES)


@router.get("/runs/{run_id}/status", response_class=HTMLResponse)
def status(member: Staff, run_id: int, request: Request, session: SessionDep) -> HTMLResponse:
    """The part of the page that changes; it asks for itself again while the run is active."""
    return render(request, "training/_status.html", **_run(session, member, run_id))


@router.get("/runs/{run_id}/metrics")
def metrics(member: Staff, run_id: int, session: SessionDep) -> dict[str, Any]:
    """For the curves: per phase the steps, and each metric's values at them."""
    run = service.get_run(session, member.project, run_id)
    phases: dict[str, dict[str, Any]] = {}
    for row in runs.metrics_of(session, run.id):
        phase = phases.setdefault(row.phase, {"steps": [], "values": []})
        phase["steps"].append(row.step)
        phase["values"].append(row.values)
    return {
        "state": run.state,
        "phases": {
            name: {"steps": phase["steps"], "curves": _columns(phase["values"])} for name, phase in phases.items()
        },
    }


@router.post("/runs/{run_id}/cancel")
def cancel(member: Operator, run_id: int, session: SessionDep) -> Response:
    """Cancel."""
    service.cancel_run(session, member.project, run_id, person_id=member.person.id)
    return redirect(f"/projects/{member.project.slug}/runs/{run_id}")


@router.post("/runs/{run_id}/retry")
def retry(member: Operator, run_id: int, session: SessionDep) -> Response:
    """Go on from the last checkpoint."""
    service.retry_run(session, member.project, run_id, person_id=member.person.id)
    return redirect(f"/projects/{member.project.slug}/runs/{run_id}")


@router.get("/versions", response_class=HTMLResponse)
def versions(member: Staff, request: Request, session: SessionDep) -> HTMLResponse:
    """All model versions."""
    return render(
        request,
        "training/versions.html",
        project=member.project,
        versions=service.list_versions(session, member.project),
    )


def _run(session: SessionDep, member: Any, run_id: int) -> dict[str, Any]:
    run = service.get_run(session, member.project, run_id)
    made = session.scalars(select(ModelVersion).where(ModelVersion.run_id == run.id).order_by(ModelVersion.id)).all()
    return {
        "project": member.project,
        "run": run,
        "log": runs.log_of(session, run.id),
        "versions": made,
        "triggers": TRIGGERS,
        "eta": runs.eta_seconds(session, run),
    }


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[float | None]]:
    names = sorted({name for row in rows for name, value in row.items() if isinstance(value, int | float)})
    return {name: [row.get(name) for row in rows] for name in names}
