"""Care for raters: how long they have been at it today, and when it is enough.

Days begin at midnight UTC, by the database's clock. Active time is what the browser measured while somebody was there, summed over
all that was sent, corrections included.
"""

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.projects.models import Project
from app.rating.models import Assignment, Ranking

HELD = ("leased", "reopened")


@dataclass(frozen=True)
class Day:
    """What a rater has done in a project since midnight UTC."""

    num_ranked: int
    active_seconds: float


def today(session: Session, project: Project, *, rater_id: int) -> Day:
    """One statement: comparisons ranked, each once however often it was corrected, and active time."""
    midnight = func.date_trunc("day", func.now())
    num_ranked = func.count().filter(Ranking.supersedes_id.is_(None))
    active = func.coalesce(func.sum(Ranking.seconds), 0.0)
    done = select(num_ranked, active).where(
        Ranking.rater_id == rater_id,
        Ranking.project_id == project.id,
        Ranking.created_at >= midnight,
        Ranking.is_imported.is_(False),
    )
    row = session.execute(done).one()
    return Day(row[0], float(row[1]))


def why_rest(session: Session, project: Project, *, rater_id: int) -> str:
    """Why this rater gets no further comparison today, or "". What is in hand is always theirs to finish, and counts."""
    if not project.max_rankings_per_day and not project.max_hours_per_day:
        return ""
    day = today(session, project, rater_id=rater_id)
    held = select(func.count()).where(
        Assignment.rater_id == rater_id, Assignment.project_id == project.id, Assignment.state.in_(HELD)
    )
    if project.max_rankings_per_day and day.num_ranked + (session.scalar(held) or 0) >= project.max_rankings_per_day:
        counted = "one comparison" if day.num_ranked == 1 else f"{day.num_ranked:,} comparisons"
        return f"You have ranked {counted} today, which is all that this project asks of one person a day."
    if project.max_hours_per_day and day.active_seconds >= project.max_hours_per_day * 3600:
        return f"You have been at it for {in_hours(day.active_seconds)} today, which is all that this project asks of one person a day."
    return ""


def in_hours(seconds: float) -> str:
    """`2 h 05 min`, or `12 min`."""
    hours, minutes = divmod(int(seconds) // 60, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
