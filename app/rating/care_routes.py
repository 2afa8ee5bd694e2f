"""A rater's own figures, and what they would rather not see."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from app.projects.deps import Rater
from app.rating import care, statistics, warnings
from app.web import FormFields, SessionDep, redirect, render

router = APIRouter(prefix="/projects/{slug}", tags=["rating"])


@router.get("/my-statistics", response_class=HTMLResponse)
def mine(member: Rater, request: Request, session: SessionDep) -> HTMLResponse:
    """Counts, active time by day, agreement with others."""
    found = statistics.statistics_of(session, member.project, rater_id=member.person.id)
    return render(
        request,
        "rating/statistics.html",
        project=member.project,
        statistics=found,
        bars=statistics.bars(found.days),
        min_shared=statistics.MIN_SHARED,
        in_hours=care.in_hours,
    )


@router.get("/my-care", response_class=HTMLResponse)
def preferences(member: Rater, request: Request, session: SessionDep) -> HTMLResponse:
    """Which categories of content one is never given."""
    chosen = warnings.opted_out(session, member.project, rater_id=member.person.id)
    return render(request, "rating/care.html", project=member.project, chosen=chosen)


@router.post("/my-care")
def change_preferences(member: Rater, session: SessionDep, fields: FormFields) -> Response:
    """Choose them."""
    warnings.opt_out(session, member.project, fields.get("categories", []), rater_id=member.person.id)
    return redirect(f"/projects/{member.project.slug}/my-care?saved=1")
