"""Reports and questions in the browser: from the desk, on the rater's page, and in the admins' inbox."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, Response

from app.projects.deps import Admin, Rater
from app.prompts.models import Comparison, Prompt
from app.prompts.service import responses_of
from app.rating import questions, reports
from app.rating.routes import go_on_after
from app.web import SessionDep, is_htmx, redirect, render

router = APIRouter(prefix="/projects/{slug}", tags=["rating"])
Text = Annotated[str, Form()]


@router.post("/rate/{assignment_id}/report", response_class=HTMLResponse)
def report(
    member: Rater, assignment_id: int, request: Request, session: SessionDep, reason: Text = "", words: Text = ""
) -> Response:
    """Report the comparison in hand, and go on with the next."""
    reports.file_report(session, member.project, assignment_id, rater_id=member.person.id, reason=reason, words=words)
    return go_on_after(request, session, member, notice="Reported. An admin looks at it; you will not see it again.")


@router.post("/rate/{assignment_id}/ask", response_class=HTMLResponse)
def ask(member: Rater, assignment_id: int, request: Request, session: SessionDep, text: Text = "") -> Response:
    """Ask about a comparison; it stays in hand."""
    questions.ask(session, member.project, assignment_id, rater_id=member.person.id, text=text)
    if is_htmx(request):
        return render(request, "rating/_asked.html", project=member.project)
    return redirect(f"/projects/{member.project.slug}/my-questions")


@router.get("/my-questions", response_class=HTMLResponse)
def mine(member: Rater, request: Request, session: SessionDep) -> HTMLResponse:
    """One's questions with their answers, and what became of one's reports."""
    return render(
        request,
        "rating/questions.html",
        project=member.project,
        threads=questions.threads_of(session, member.project, rater_id=member.person.id),
        reports=reports.my_reports(session, member.project, rater_id=member.person.id),
        reasons=reports.REASONS,
    )


@router.post("/my-questions/seen")
def seen(member: Rater, session: SessionDep) -> Response:
    """All answers are read."""
    questions.mark_read(session, member.project, rater_id=member.person.id)
    return redirect(f"/projects/{member.project.slug}/my-questions")


@router.post("/my-questions/{thread_id}")
def more(member: Rater, thread_id: int, session: SessionDep, text: Text = "") -> Response:
    """Say more."""
    questions.go_on(session, member.project, thread_id, rater_id=member.person.id, text=text)
    return redirect(f"/projects/{member.project.slug}/my-questions")


@router.get("/inbox", response_class=HTMLResponse)
def inbox(member: Admin, request: Request, session: SessionDep) -> HTMLResponse:
    """Reports that wait for a decision, questions that wait for an answer, and those that are done."""
    waiting = reports.reports_of(session, member.project, is_open=True)
    comparisons = {report.comparison_id for report in waiting}
    return render(
        request,
        "rating/inbox.html",
        project=member.project,
        reports=waiting,
        decided=reports.reports_of(session, member.project, is_open=False),
        reasons=reports.REASONS,
        prompts={c: session.get_one(Prompt, session.get_one(Comparison, c).prompt_id) for c in comparisons},
        responses=responses_of(session, list(comparisons)),
        threads=questions.threads_of(session, member.project),
    )


@router.post("/inbox/reports/{report_id}")
def decide(member: Admin, report_id: int, session: SessionDep, decision: Text = "", note: Text = "") -> Response:
    """Keep the comparison, or withdraw it."""
    reports.decide(session, member.project, report_id, person_id=member.person.id, decision=decision, note=note)
    return redirect(f"/projects/{member.project.slug}/inbox")


@router.post("/inbox/questions/{thread_id}")
def answer(member: Admin, thread_id: int, session: SessionDep, text: Text = "") -> Response:
    """Answer a question."""
    questions.answer(session, member.project, thread_id, person_id=member.person.id, text=text)
    return redirect(f"/projects/{member.project.slug}/inbox")
