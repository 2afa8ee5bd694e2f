"""Guideline pages: read, compare editions, write with a live preview, publish, acknowledge."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, Response

from app.guidelines import service
from app.guidelines.reading import reading_of
from app.projects.deps import Admin, AnyMember, Rater
from app.web import SessionDep, redirect, render

router = APIRouter(prefix="/projects/{slug}/guidelines", tags=["guidelines"])
Text = Annotated[str, Form()]


@router.get("", response_class=HTMLResponse)
def show(member: AnyMember, request: Request, session: SessionDep) -> HTMLResponse:
    """The edition in force, and all others."""
    editions = service.editions(session, member.project)
    read_by = service.num_acknowledged(session, editions[0]) if editions else 0
    draft = service.draft_of(session, member.project) if member.has("admin") else None
    return render(
        request, "guidelines/page.html", project=member.project, editions=editions, draft=draft, read_by=read_by
    )


@router.get("/drawer", response_class=HTMLResponse)
def drawer(member: AnyMember, request: Request, session: SessionDep) -> HTMLResponse:
    """What the drawer at the rater's desk shows: the newest edition, and what is new in it for this person."""
    reading = reading_of(session, member.project, person_id=member.person.id)
    return render(request, "guidelines/_drawer.html", project=member.project, reading=reading)


@router.get("/edit", response_class=HTMLResponse)
def edit(member: Admin, request: Request, session: SessionDep) -> HTMLResponse:
    """The draft, or the edition in force as its beginning."""
    draft = service.draft_of(session, member.project)
    editions = service.editions(session, member.project)
    body = draft.body if draft else editions[0].body if editions else ""
    return render(request, "guidelines/edit.html", project=member.project, draft=draft, body=body)


@router.post("/edit")
def save(
    member: Admin,
    session: SessionDep,
    body: Text = "",
    summary: Text = "",
    revision: Annotated[int | None, Form()] = None,
    publish: Text = "",
) -> Response:
    """Save the draft, and publish it where that button was pressed."""
    service.save_draft(
        session, member.project, body=body, summary=summary, person_id=member.person.id, revision=revision
    )
    if publish:
        service.publish(session, member.project, person_id=member.person.id)
    return redirect(f"/projects/{member.project.slug}/guidelines{'' if publish else '/edit'}")


@router.post("/preview", response_class=HTMLResponse)
def preview(member: Admin, request: Request, body: Text = "") -> HTMLResponse:
    """The Markdown as raters will see it."""
    return render(request, "guidelines/_preview.html", body=body, project=member.project)


@router.get("/{edition}", response_class=HTMLResponse)
def show_edition(
    member: AnyMember, edition: int, request: Request, session: SessionDep, against: int | None = None
) -> HTMLResponse:
    """One edition, or what it changed `against` another."""
    guideline = service.get_edition(session, member.project, edition)
    other = service.get_edition(session, member.project, against) if against is not None else None
    lines = service.diff(other.body, guideline.body) if other else []
    return render(
        request, "guidelines/edition.html", project=member.project, guideline=guideline, other=other, lines=lines
    )


@router.post("/{edition}/acknowledge")
def acknowledge(member: Rater, edition: int, session: SessionDep, back: Text = "rate") -> Response:
    """A rater has read this edition, and goes on where they came from."""
    service.acknowledge(session, member.project, edition, person_id=member.person.id)
    return redirect(f"/projects/{member.project.slug}/{'write' if back == 'write' else 'rate'}")
