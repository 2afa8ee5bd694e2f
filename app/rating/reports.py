"""Reports to a moderator: a rater files one, the comparison leaves their hands, an admin decides."""

from collections.abc import Sequence

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app import audit
from app.errors import Conflict, Invalid, NotFound
from app.projects.models import Project
from app.prompts.models import Comparison
from app.prompts.service import check_text
from app.rating import leases
from app.rating.contact_models import Report

REASONS = {
    "unsafe": "Unsafe content",
    "personal": "Personal data",
    "illegal": "Against the law",
    "other": "Another reason",
}
DECISIONS = {"keep": "kept", "withdraw": "withdrawn"}
MAX_WORDS = 2000


def file_report(
    session: Session, project: Project, assignment_id: int, *, rater_id: int, reason: str, words: str = ""
) -> Report:
    """Report a comparison; if it is in hand it goes back, and never comes to this rater again. Twice is harmless.

    One whose time ran out, or that was ranked already, can be reported too: what was found there is as bad.

    Raises:
        Invalid: an unknown reason, or too many words. NotFound: not this rater's.
    """
    if reason not in REASONS:
        raise Invalid(f"Choose one of the reasons: {', '.join(REASONS)}.", field="reason")
    said = _checked(words, "What you add")
    leases.take_turn(session, project, rater_id)
    assignment = leases.get_assignment(session, project, assignment_id, rater_id=rater_id)
    if assignment.state == "leased":
        leases.skip(session, project, assignment_id, rater_id=rater_id, reason="disturbing", note="Reported.")
    values = {"project_id": project.id, "comparison_id": assignment.comparison_id, "rater_id": rater_id}
    made = insert(Report).values(**values, reason=reason, words=said).on_conflict_do_nothing().returning(Report.id)
    if session.scalar(made) is not None:
        subject = f"comparison:{assignment.comparison_id}"
        audit.record(
            session,
            "comparison.reported",
            subject=subject,
            actor_id=rater_id,
            project_id=project.id,
            details={"reason": reason},
        )
    mine = select(Report).where(Report.comparison_id == assignment.comparison_id, Report.rater_id == rater_id)
    return session.scalars(mine).one()


def decide(session: Session, project: Project, report_id: int, *, person_id: int, decision: str, note: str = "") -> int:
    """Keep the comparison, or withdraw it: nobody is given it from now on. Decides all open reports of it; how many.

    Raises:
        Invalid: no such decision. NotFound: no such report. Conflict: somebody has decided otherwise meanwhile.
    """
    if decision not in DECISIONS:
        raise Invalid("Choose to keep the comparison, or to withdraw it.", field="decision")
    said = _checked(note, "The note")
    report = session.get(Report, report_id)
    if report is None or report.project_id != project.id:
        raise NotFound("This project has no such report.")
    waiting = update(Report).where(Report.comparison_id == report.comparison_id, Report.state == "open")
    values = {"state": DECISIONS[decision], "note": said, "decided_by_id": person_id, "decided_at": func.now()}
    num: int = session.execute(waiting.values(values)).rowcount  # type: ignore[attr-defined]
    if num == 0:
        session.refresh(report)
        if report.state != DECISIONS[decision]:
            raise Conflict(f"Somebody has decided on this report meanwhile: the comparison was {report.state}.")
        return 0
    if decision == "withdraw":
        gone = update(Comparison).where(Comparison.id == report.comparison_id, Comparison.state == "open")
        session.execute(gone.values(state="withdrawn", withdrawn_at=func.now()))
    audit.record(
        session,
        f"comparison.{DECISIONS[decision]}",
        subject=f"comparison:{report.comparison_id}",
        actor_id=person_id,
        project_id=project.id,
    )
    return num


def reports_of(session: Session, project: Project, *, is_open: bool, limit: int = 50) -> Sequence[Report]:
    """Those that wait, the oldest first; or those that were decided, the newest first."""
    mine = select(Report).where(Report.project_id == project.id)
    if is_open:
        return session.scalars(mine.where(Report.state == "open").order_by(Report.id).limit(limit)).all()
    return session.scalars(mine.where(Report.state != "open").order_by(Report.decided_at.desc()).limit(limit)).all()


def my_reports(session: Session, project: Project, *, rater_id: int) -> Sequence[Report]:
    """One's own, the newest first."""
    mine = select(Report).where(Report.project_id == project.id, Report.rater_id == rater_id)
    return session.scalars(mine.order_by(Report.id.desc()).limit(50)).all()


def num_open(session: Session, project: Project) -> int:
    """How many wait for a decision."""
    waiting = select(func.count()).where(Report.project_id == project.id, Report.state == "open")
    return session.scalar(waiting) or 0


def _checked(words: str, where: str) -> str:
    said = check_text(words, where=where).replace("\r\n", "\n").strip()
    if len(said) > MAX_WORDS:
        raise Invalid(f"{where}: at most {MAX_WORDS:,} characters; it has {len(said):,}.")
    return said
