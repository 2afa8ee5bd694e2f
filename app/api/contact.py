"""Reports and questions for programs."""

import datetime as dt
from typing import Any

from fastapi import APIRouter

from app.api.shapes import Answer, Body
from app.projects.deps import Admin, Rater
from app.rating import questions, reports
from app.rating.contact_models import Report
from app.web import SessionDep

router = APIRouter(prefix="/projects/{slug}", tags=["rating"])


class ReportBody(Body):
    """Why nobody should be shown this: `unsafe`, `personal`, `illegal` or `other`, and words if you like."""

    reason: str
    words: str = ""


class ReportAnswer(Answer):
    """A report. `state`: `open`, `kept` or `withdrawn`; `note` is the admin's."""

    id: int
    comparison_id: int
    reason: str
    words: str
    state: str
    note: str
    created_at: dt.datetime
    decided_at: dt.datetime | None


class DecisionBody(Body):
    """`keep` the comparison, or `withdraw` it."""

    decision: str
    note: str = ""


class TextBody(Body):
    """What is asked or answered."""

    text: str


class MessageAnswer(Answer):
    """Something said in a thread."""

    is_answer: bool
    text: str
    created_at: dt.datetime


class ThreadAnswer(Answer):
    """A question with all that was said. `waits_for`: `admin`, `rater` or `nobody`."""

    id: int
    comparison_id: int
    waits_for: str
    messages: list[MessageAnswer]


@router.post("/assignments/{assignment_id}/report", response_model=ReportAnswer)
def report(member: Rater, assignment_id: int, body: ReportBody, session: SessionDep) -> Any:
    """Report the comparison in hand; it goes back."""
    return reports.file_report(
        session, member.project, assignment_id, rater_id=member.person.id, reason=body.reason, words=body.words
    )


@router.post("/assignments/{assignment_id}/question", status_code=204)
def ask(member: Rater, assignment_id: int, body: TextBody, session: SessionDep) -> None:
    """Ask about a comparison; it stays in hand."""
    questions.ask(session, member.project, assignment_id, rater_id=member.person.id, text=body.text)


@router.get("/me/questions")
def mine(member: Rater, session: SessionDep) -> list[ThreadAnswer]:
    """One's questions and their answers, the newest first."""
    return [_thread(shown) for shown in questions.threads_of(session, member.project, rater_id=member.person.id)]


@router.get("/questions")
def threads(member: Admin, session: SessionDep) -> list[ThreadAnswer]:
    """All questions, those that wait for an answer first."""
    return [_thread(shown) for shown in questions.threads_of(session, member.project)]


@router.post("/questions/{thread_id}/answer", status_code=204)
def answer(member: Admin, thread_id: int, body: TextBody, session: SessionDep) -> None:
    """Answer a question."""
    questions.answer(session, member.project, thread_id, person_id=member.person.id, text=body.text)


@router.get("/reports", response_model=list[ReportAnswer])
def open_reports(member: Admin, session: SessionDep) -> list[Report]:
    """Reports that wait for a decision, the oldest first."""
    return list(reports.reports_of(session, member.project, is_open=True))


@router.post("/reports/{report_id}/decision", status_code=204)
def decide(member: Admin, report_id: int, body: DecisionBody, session: SessionDep) -> None:
    """Keep the comparison, or withdraw it; decides all open reports of it."""
    reports.decide(
        session, member.project, report_id, person_id=member.person.id, decision=body.decision, note=body.note
    )


def _thread(shown: questions.Shown) -> ThreadAnswer:
    messages = [MessageAnswer.model_validate(message) for message in shown.messages]
    thread = shown.thread
    return ThreadAnswer(id=thread.id, comparison_id=thread.comparison_id, waits_for=thread.waits_for, messages=messages)
