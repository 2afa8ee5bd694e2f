"""`/projects/{slug}`: the loop for staff, the way to the desk for raters."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from app.overview import picture, service
from app.projects.deps import AnyMember, Staff
from app.rating import questions, reports
from app.web import SessionDep, render

router = APIRouter(tags=["overview"])


@router.get("/projects/{slug}", response_class=HTMLResponse)
def show(member: AnyMember, request: Request, session: SessionDep) -> HTMLResponse:
    """The project's first page."""
    if not member.roles & {"admin", "operator", "overseer"}:
        return render(request, "overview/rater.html", project=member.project)
    waiting = _num_waiting(member, session) if member.has("admin") else 0
    steps = service.setup_steps(session, member.project)
    return render(request, "overview/page.html", steps=steps, num_waiting=waiting, **_loop(member, session))


def _num_waiting(member: AnyMember, session: SessionDep) -> int:
    return reports.num_open(session, member.project) + questions.num_waiting(session, member.project)


@router.get("/projects/{slug}/loop", response_class=HTMLResponse)
def loop(member: Staff, request: Request, session: SessionDep) -> HTMLResponse:
    """The loop alone, for the page to refresh itself."""
    return render(request, "overview/_loop.html", **_loop(member, session))


def _loop(member: Staff, session: SessionDep) -> dict[str, Any]:
    loop = service.loop_of(session, member.project)
    return {"project": member.project, "loop": loop, "stages": picture.stages(loop), "arrows": picture.arrows()}
