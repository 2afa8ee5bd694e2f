"""Writing demonstrations in the browser: take a prompt, write with a preview, send, skip, correct."""

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, Response

from app.guidelines.reading import reading_of
from app.projects.deps import Admin, Rater
from app.rating import desk
from app.rating.warnings import labels_of
from app.teaching.routes import form_key
from app.web import FormFields, SessionDep, is_htmx, redirect, render
from app.writing import service

router = APIRouter(prefix="/projects/{slug}", tags=["writing"])
Text = Annotated[str, Form()]
PAGE = 50


@router.get("/write", response_class=HTMLResponse)
def show(member: Rater, request: Request, session: SessionDep) -> HTMLResponse:
    """The prompt in hand with its draft, or a button for the next one. Takes nothing by itself."""
    project, writer_id = member.project, member.person.id
    reading = reading_of(session, project, person_id=writer_id)
    task = service.held_task(session, project, writer_id=writer_id)
    prompt = service.prompt_of(session, task) if task else None
    return render(
        request,
        "writing/page.html",
        project=project,
        task=task,
        prompt=prompt,
        warnings=labels_of(project, prompt.warnings) if prompt else [],
        reading=reading,
        unread=reading.guideline if reading and not reading.is_read else None,
        skip_reasons=service.SKIP_REASONS,
        num_written=len(service.written_by(session, project, writer_id=writer_id)),
    )


@router.post("/write/next")
def take_next(member: Rater, session: SessionDep) -> Response:
    """Take a prompt that lacks demonstrations."""
    base = f"/projects/{member.project.slug}/write"
    if desk.unread_guideline(session, member.project, rater_id=member.person.id) is not None:
        return redirect(base)
    task = service.next_task(session, member.project, writer_id=member.person.id)
    return redirect(base if task else f"{base}?none=left")


@router.post("/write/preview", response_class=HTMLResponse)
def preview(member: Rater, request: Request, text: Text = "") -> HTMLResponse:
    """The Markdown as it will be read."""
    return render(request, "writing/_preview.html", project=member.project, text=text, is_saved=False)


@router.post("/write/{task_id}")
def submit(member: Rater, task_id: int, session: SessionDep, fields: FormFields, text: Text = "") -> Response:
    """Keep the demonstration, and take the next prompt."""
    key = form_key(fields)
    service.submit(session, member.project, member.person, task_id=task_id, text=text, idempotency_key=key)
    return redirect(f"/projects/{member.project.slug}/write?saved=yes")


@router.post("/write/{task_id}/draft", response_class=HTMLResponse)
def draft(member: Rater, task_id: int, request: Request, session: SessionDep, text: Text = "") -> Response:
    """Keep what is written so far; htmx gets the preview of it."""
    service.save_draft(session, member.project, task_id, writer_id=member.person.id, text=text)
    if not is_htmx(request):
        return redirect(f"/projects/{member.project.slug}/write")
    return render(request, "writing/_preview.html", project=member.project, text=text, is_saved=True)


@router.post("/write/{task_id}/skip")
def skip(member: Rater, task_id: int, session: SessionDep, reason: Text = "", note: Text = "") -> Response:
    """Give a prompt back, with a reason."""
    service.skip(session, member.project, task_id, writer_id=member.person.id, reason=reason, note=note)
    return redirect(f"/projects/{member.project.slug}/write")


@router.get("/demonstrations", response_class=HTMLResponse)
def written(member: Admin, request: Request, session: SessionDep, before: int | None = None) -> HTMLResponse:
    """What raters wrote, under made-up names, a page at a time."""
    rows = service.written_in(session, member.project, before=before, limit=PAGE + 1)
    return render(request, "writing/all.html", project=member.project, rows=rows[:PAGE], has_older=len(rows) > PAGE)


@router.get("/my-demonstrations", response_class=HTMLResponse)
def mine(member: Rater, request: Request, session: SessionDep) -> HTMLResponse:
    """What one wrote, each with a way to correct it."""
    rows = service.written_by(session, member.project, writer_id=member.person.id)
    num_words = sum(len(row.text.split()) for row in rows)
    return render(request, "writing/mine.html", project=member.project, rows=rows, num_words=num_words)


@router.get("/my-demonstrations/{task_id}", response_class=HTMLResponse)
def show_written(member: Rater, task_id: int, request: Request, session: SessionDep) -> HTMLResponse:
    """One's demonstration, to be corrected."""
    prompt, text = service.written_to(session, member.project, task_id, writer_id=member.person.id)
    context: dict[str, Any] = {"prompt": prompt, "text": text, "task_id": task_id, "key": uuid.uuid4()}
    return render(request, "writing/correct.html", project=member.project, **context)


@router.post("/my-demonstrations/{task_id}")
def correct(member: Rater, task_id: int, session: SessionDep, fields: FormFields, text: Text = "") -> Response:
    """A new revision; the last one stays, superseded."""
    key = form_key(fields)
    service.correct(session, member.project, member.person, task_id=task_id, text=text, idempotency_key=key)
    return redirect(f"/projects/{member.project.slug}/my-demonstrations")
