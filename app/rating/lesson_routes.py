"""Practice in the browser: the lessons, one lesson, and what the expert said of it."""

import uuid

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from app.guidelines.reading import reading_of
from app.projects.deps import Rater
from app.rating import lessons
from app.rating.routes import answer_of
from app.rating.warnings import labels_of
from app.teaching.routes import form_key
from app.web import FormFields, SessionDep, redirect, render

router = APIRouter(prefix="/projects/{slug}/practice", tags=["teaching"])


@router.get("", response_class=HTMLResponse)
def show(member: Rater, request: Request, session: SessionDep) -> HTMLResponse:
    """How far one's practice has come, and the way to the next lesson."""
    practice = lessons.practice_of(session, member.project, rater_id=member.person.id)
    return render(request, "rating/practice.html", project=member.project, practice=practice)


@router.get("/{lesson_id}", response_class=HTMLResponse)
def show_lesson(member: Rater, lesson_id: int, request: Request, session: SessionDep) -> HTMLResponse:
    """One lesson, to be ordered."""
    shown = lessons.shown_lesson(session, member.project, lesson_id, rater_id=member.person.id)
    return render(
        request,
        "rating/lesson.html",
        project=member.project,
        shown=shown,
        warnings=labels_of(member.project, shown.warnings),
        practice=lessons.practice_of(session, member.project, rater_id=member.person.id),
        reading=reading_of(session, member.project, person_id=member.person.id),
        key=uuid.uuid4(),
    )


@router.post("/{lesson_id}")
def answer(member: Rater, lesson_id: int, session: SessionDep, fields: FormFields) -> Response:
    """Keep the order, and show what the expert said."""
    kept = lessons.answer_lesson(
        session,
        member.project,
        lesson_id,
        rater_id=member.person.id,
        ranks=answer_of(fields, member.project).ranks,
        idempotency_key=form_key(fields),
    )
    return redirect(f"/projects/{member.project.slug}/practice/answers/{kept.id}")


@router.get("/answers/{answer_id}", response_class=HTMLResponse)
def feedback(member: Rater, answer_id: int, request: Request, session: SessionDep) -> HTMLResponse:
    """What the expert said, whether one's order agrees, and why."""
    told = lessons.feedback_on(session, member.project, answer_id, rater_id=member.person.id)
    practice = lessons.practice_of(session, member.project, rater_id=member.person.id)
    return render(request, "rating/feedback.html", project=member.project, told=told, practice=practice)
