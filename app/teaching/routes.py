"""Teaching pages: admins write practice comparisons and the quiz and see how raters stand; raters take the quiz."""

import re
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, Response

from app.errors import Invalid
from app.projects.deps import Admin, Member, Rater
from app.prompts.models import Prompt
from app.teaching import lessons, quiz, rulings
from app.teaching.gate import standing_of
from app.teaching.models import Lesson
from app.web import FormFields, SessionDep, redirect, render

router = APIRouter(prefix="/projects/{slug}", tags=["teaching"])
Text = Annotated[str, Form()]


@router.get("/teaching", response_class=HTMLResponse)
def show_lessons(member: Admin, request: Request, session: SessionDep) -> HTMLResponse:
    """The practice comparisons, with how raters do on them."""
    rows = lessons.lesson_rows(session, member.project)
    return render(request, "teaching/lessons.html", project=member.project, rows=rows)


@router.get("/teaching/lessons/new", response_class=HTMLResponse)
def new_lesson(member: Admin, request: Request, session: SessionDep, comparison: int) -> HTMLResponse:
    """The form that makes a lesson of a comparison."""
    return _lesson_form(request, session, member, comparison_id=comparison)


@router.post("/teaching/lessons")
def add_lesson(
    member: Admin,
    session: SessionDep,
    fields: FormFields,
    comparison_id: Annotated[int, Form()],
    explanation: Text = "",
) -> Response:
    """Store it."""
    lessons.write_lesson(
        session,
        member.project,
        comparison_id=comparison_id,
        ranks=_ranks(fields),
        explanation=explanation,
        person_id=member.person.id,
    )
    return redirect(f"/projects/{member.project.slug}/teaching")


@router.get("/teaching/lessons/{lesson_id}", response_class=HTMLResponse)
def edit_lesson(member: Admin, lesson_id: int, request: Request, session: SessionDep) -> HTMLResponse:
    """The same form, filled in."""
    lesson = lessons.get_lesson(session, member.project, lesson_id)
    return _lesson_form(request, session, member, comparison_id=lesson.comparison_id, lesson=lesson)


@router.post("/teaching/lessons/{lesson_id}")
def replace_lesson(
    member: Admin, lesson_id: int, session: SessionDep, fields: FormFields, explanation: Text = ""
) -> Response:
    """A new edition of a lesson."""
    lessons.write_lesson(
        session,
        member.project,
        lesson_id=lesson_id,
        ranks=_ranks(fields),
        explanation=explanation,
        person_id=member.person.id,
    )
    return redirect(f"/projects/{member.project.slug}/teaching")


@router.post("/teaching/lessons/{lesson_id}/remove")
def remove_lesson(member: Admin, lesson_id: int, session: SessionDep) -> Response:
    """Take it out of practice."""
    lessons.remove_lesson(session, member.project, lesson_id, person_id=member.person.id)
    return redirect(f"/projects/{member.project.slug}/teaching")


@router.post("/teaching/preview", response_class=HTMLResponse)
def preview(member: Admin, request: Request, explanation: Text = "") -> HTMLResponse:
    """An explanation as raters will see it."""
    return render(request, "guidelines/_preview.html", body=explanation, project=member.project)


@router.get("/teaching/quiz", response_class=HTMLResponse)
def show_questions(member: Admin, request: Request, session: SessionDep) -> HTMLResponse:
    """The questions of the quiz."""
    questions = quiz.questions_of(session, member.project)
    return render(request, "teaching/questions.html", project=member.project, questions=questions, kinds=quiz.KINDS)


@router.get("/teaching/quiz/new", response_class=HTMLResponse)
def new_question(member: Admin, request: Request, kind: str = "choice") -> HTMLResponse:
    """The form for a question of this kind."""
    chosen = kind if kind in quiz.KINDS else "choice"
    return render(request, "teaching/question_form.html", project=member.project, question=None, kind=chosen)


@router.post("/teaching/quiz")
def add_question(member: Admin, session: SessionDep, fields: FormFields) -> Response:
    """Store it."""
    quiz.write_question(session, member.project, **_question(fields), person_id=member.person.id)
    return redirect(f"/projects/{member.project.slug}/teaching/quiz")


@router.get("/teaching/quiz/{question_id}", response_class=HTMLResponse)
def edit_question(member: Admin, question_id: int, request: Request, session: SessionDep) -> HTMLResponse:
    """The same form, filled in."""
    question = quiz.get_question(session, member.project, question_id)
    context: dict[str, Any] = {"question": question, "kind": question.kind}
    return render(request, "teaching/question_form.html", project=member.project, **context)


@router.post("/teaching/quiz/{question_id}")
def replace_question(member: Admin, question_id: int, session: SessionDep, fields: FormFields) -> Response:
    """A new edition of a question."""
    changed = _question(fields)
    quiz.write_question(session, member.project, **changed, question_id=question_id, person_id=member.person.id)
    return redirect(f"/projects/{member.project.slug}/teaching/quiz")


@router.post("/teaching/quiz/{question_id}/remove")
def remove_question(member: Admin, question_id: int, session: SessionDep) -> Response:
    """Ask it no more."""
    quiz.remove_question(session, member.project, question_id, person_id=member.person.id)
    return redirect(f"/projects/{member.project.slug}/teaching/quiz")


@router.get("/teaching/raters", response_class=HTMLResponse)
def show_raters(member: Admin, request: Request, session: SessionDep) -> HTMLResponse:
    """How each rater stands."""
    rows = rulings.raters_of(session, member.project)
    return render(request, "teaching/raters.html", project=member.project, rows=rows)


@router.post("/teaching/raters/{person_id}")
def rule(member: Admin, person_id: int, session: SessionDep, kind: Text = "", reason: Text = "") -> Response:
    """Let a rater through, or have them begin anew."""
    rulings.rule(session, member.project, person_id, kind=kind, reason=reason, person_id=member.person.id)
    return redirect(f"/projects/{member.project.slug}/teaching/raters")


@router.get("/quiz", response_class=HTMLResponse)
def show_quiz(member: Rater, request: Request, session: SessionDep) -> HTMLResponse:
    """The quiz, or why it is not open, and the tries so far."""
    return render(
        request,
        "teaching/quiz.html",
        project=member.project,
        standing=standing_of(session, member.project, rater_id=member.person.id),
        questions=quiz.questions_of(session, member.project),
        attempts=quiz.attempts_of(session, member.project, rater_id=member.person.id),
        key=uuid.uuid4(),
    )


@router.post("/quiz")
def take_quiz(member: Rater, session: SessionDep, fields: FormFields) -> Response:
    """Mark a try, and show what came of it."""
    named = {name: values[-1] for name, values in fields.items() if re.fullmatch(r"question-[0-9]{1,18}", name)}
    answers = {int(name[9:]): int(value) for name, value in named.items() if re.fullmatch(r"[0-7]", value)}
    made = quiz.attempt(
        session,
        member.project,
        rater_id=member.person.id,
        answers=answers,
        idempotency_key=form_key(fields),
    )
    return redirect(f"/projects/{member.project.slug}/quiz/{made.id}")


@router.get("/quiz/{attempt_id}", response_class=HTMLResponse)
def show_attempt(member: Rater, attempt_id: int, request: Request, session: SessionDep) -> HTMLResponse:
    """What came of a try."""
    found, rows = quiz.marked(session, member.project, attempt_id, rater_id=member.person.id)
    standing = standing_of(session, member.project, rater_id=member.person.id)
    context: dict[str, Any] = {"attempt": found, "rows": rows, "standing": standing}
    return render(request, "teaching/attempt.html", project=member.project, **context)


def form_key(fields: dict[str, list[str]]) -> uuid.UUID:
    """The key that the form was given when it was shown.

    Raises:
        Invalid: it is missing.
    """
    try:
        return uuid.UUID(fields.get("idempotency_key", [""])[-1])
    except ValueError:
        raise Invalid("This form is incomplete. Reload the page.", field="idempotency_key") from None


def _lesson_form(
    request: Request, session: SessionDep, member: Member, *, comparison_id: int, lesson: Lesson | None = None
) -> HTMLResponse:
    found, responses = lessons.comparison_for_lesson(session, member.project, comparison_id)
    return render(
        request,
        "teaching/lesson_form.html",
        project=member.project,
        comparison=found,
        prompt=session.get_one(Prompt, found.prompt_id),
        responses=responses,
        lesson=lesson,
    )


def _ranks(fields: dict[str, list[str]]) -> list[int | None]:
    """`rank-0`, ... as far as they go; what is no digit is missing."""
    named = [int(name[5:]) for name in fields if re.fullmatch(r"rank-[0-8]", name)]
    values = [fields.get(f"rank-{place}", [""])[-1] for place in range(max(named, default=-1) + 1)]
    return [int(value) if re.fullmatch(r"[1-9]", value) else None for value in values]


def _question(fields: dict[str, list[str]]) -> dict[str, Any]:
    """The form of a question; `correct` is the place of the right option among `options`."""

    def one(name: str) -> str:
        return fields.get(name, [""])[-1]

    correct = one("correct")
    return {
        "kind": one("kind"),
        "body": one("body"),
        "options": fields.get("options", [])[: quiz.MAX_OPTIONS],
        "correct": int(correct) if re.fullmatch(r"[0-7]", correct) else None,
        "explanation": one("explanation"),
    }
