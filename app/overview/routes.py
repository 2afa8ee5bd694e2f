"""`/projects/{slug}`: the loop for staff, the way to the desk for raters."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from app.overview import picture, service
from app.projects.deps import AnyMember, Staff
from app.web import SessionDep, render

router = APIRouter(tags=["overview"])


@router.get("/projects/{slug}", response_class=HTMLResponse)
def show(member: AnyMember, request: Request, session: SessionDep) -> HTMLResponse:
    """The project's first page."""
    if not member.roles & {"admin", "operator", "overseer"}:
        return render(request, "overview/rater.html", project=member.project)
    return render(request, "overview/page.html", steps=service.setup_steps(session, member.project),
                  **_loop(member, session))  # fmt: skip


@router.get("/projects/{slug}/loop", response_class=HTMLResponse)
def loop(member: Staff, request: Request, session: SessionDep) -> HTMLResponse:
    """The loop alone, for the page to refresh itself."""
    return render(request, "overview/_loop.html", **_loop(member, session))


def _loop(member: Staff, session: SessionDep) -> dict[str, Any]:
    loop = service.loop_of(session, member.project)
    return {"project": member.project, "loop": loop, "stages": picture.stages(loop), "arrows": picture.arrows()}
