"""What a rater has done in a project, for themselves: counts, active time by day, and agreement with others."""

import datetime as dt
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from app.projects.models import Project
from app.rating.contact_models import Report
from app.rating.models import Assignment, Ranking

NUM_DAYS = 28
MIN_SHARED = 20  # Comparisons that others ranked too, before an agreement is told: fewer say nothing.
MAX_SHARED = 1000  # The newest; more would only take longer.


@dataclass(frozen=True)
class ActiveDay:
    """One day, UTC."""

    day: dt.date
    seconds: float
    num_ranked: int


@dataclass(frozen=True)
class Agreement:
    """How often this rater and others order a pair of responses alike; each comparison weighs the same.

    `low`, `high`: 95 % Wilson interval over comparisons. Pairs that one of the two calls equal are left out.
    """

    share: float
    low: float
    high: float
    num_comparisons: int


@dataclass(frozen=True)
class Statistics:
    """All that the page shows. `agreement` is None until there are `MIN_SHARED` comparisons that others ranked too."""

    num_today: int
    num_ranked: int
    num_too_fast: int
    num_corrected: int
    num_skipped: int
    num_reported: int
    active_seconds: float
    days: list[ActiveDay]
    num_shared: int
    agreement: Agreement | None


def statistics_of(session: Session, project: Project, *, rater_id: int) -> Statistics:
    """A handful of statements over this rater's own rows."""
    days = _days(session, project, rater_id)
    today = session.scalars(select(func.current_date())).one()
    mine = (Ranking.rater_id == rater_id, Ranking.project_id == project.id)
    totals = select(
        func.count().filter(Ranking.supersedes_id.is_(None)),
        func.count().filter(Ranking.is_too_fast, Ranking.supersedes_id.is_(None)),
        func.count().filter(Ranking.supersedes_id.is_not(None)),
        func.coalesce(func.sum(Ranking.seconds).filter(Ranking.is_imported.is_(False)), 0.0),
    )
    num_ranked, num_too_fast, num_corrected, seconds = session.execute(totals.where(*mine)).one()
    reported = select(func.count()).where(Report.rater_id == rater_id, Report.project_id == project.id)
    is_reported = select(Report.id).where(
        Report.comparison_id == Assignment.comparison_id, Report.rater_id == Assignment.rater_id
    )
    skipped = select(func.count()).where(
        Assignment.rater_id == rater_id,
        Assignment.project_id == project.id,
        Assignment.state == "skipped",
        ~is_reported.exists(),
    )
    shared = shares_of(_orders(session, project, rater_id))
    return Statistics(
        num_today=next((day.num_ranked for day in days if day.day == today), 0),
        num_ranked=num_ranked,
        num_too_fast=num_too_fast,
        num_corrected=num_corrected,
        num_skipped=session.scalar(skipped) or 0,
        num_reported=session.scalar(reported) or 0,
        active_seconds=float(seconds),
        days=days,
        num_shared=len(shared),
        agreement=_agreement(shared) if len(shared) >= MIN_SHARED else None,
    )


def _days(session: Session, project: Project, rater_id: int) -> list[ActiveDay]:
    """The last days, oldest first, each there even if nothing was done."""
    first = func.current_date() - (NUM_DAYS - 1)
    day = func.date(func.timezone("UTC", Ranking.created_at))
    done = (
        select(day, func.sum(Ranking.seconds), func.count().filter(Ranking.supersedes_id.is_(None)))
        .where(Ranking.rater_id == rater_id, Ranking.project_id == project.id, Ranking.is_imported.is_(False))
        .where(day >= first)
        .group_by(day)
    )
    found = {row[0]: (float(row[1]), row[2]) for row in session.execute(done)}
    start = session.scalars(select(first)).one()
    dates = [start + dt.timedelta(days=number) for number in range(NUM_DAYS)]
    return [ActiveDay(date, *found.get(date, (0.0, 0))) for date in dates]


def _orders(session: Session, project: Project, rater_id: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(own ranks, another rater's ranks) of the same comparisons, both current; the comparison's id under `id` in both."""
    own, other, newer, newest = (aliased(Ranking) for _ in range(4))
    query = (
        select(own.comparison_id, own.ranks, other.ranks)
        .join(other, (other.comparison_id == own.comparison_id) & (other.rater_id != own.rater_id))
        .where(own.rater_id == rater_id, own.project_id == project.id)
        .where(~select(newer.id).where(newer.supersedes_id == own.id).exists())
        .where(~select(newest.id).where(newest.supersedes_id == other.id).exists())
        .order_by(own.id.desc())
        .limit(MAX_SHARED)
    )
    return [({"id": row[0], **row[1]}, row[2]) for row in session.execute(query)]


def shares_of(orders: list[tuple[dict[str, Any], dict[str, Any]]]) -> list[float]:
    """For each comparison, over all others who ranked it and all pairs that both order strictly: the share ordered alike."""
    alike: dict[int, list[bool]] = {}
    for own, other in orders:
        for a, b in combinations([key for key in own if key != "id"], 2):
            ranks = [own[a], own[b], other.get(a), other.get(b)]
            if None not in ranks and ranks[0] != ranks[1] and ranks[2] != ranks[3]:
                alike.setdefault(own["id"], []).append((ranks[0] < ranks[1]) == (ranks[2] < ranks[3]))
    return [sum(found) / len(found) for found in alike.values()]


def _agreement(shares: list[float]) -> Agreement:
    from scipy.stats import binomtest

    whole = round(sum(shares))
    interval = binomtest(whole, len(shares)).proportion_ci(method="wilson")
    return Agreement(sum(shares) / len(shares), float(interval.low), float(interval.high), len(shares))


@dataclass(frozen=True)
class Bar:
    """A day in the picture: `x` and `height` in SVG units, `words` for who cannot see it."""

    x: float
    height: float
    words: str
    label: str


def bars(days: list[ActiveDay], *, width: float = 560, height: float = 90) -> list[Bar]:
    """A bar for each day, the longest as high as the picture; every seventh has its date below."""
    longest = max((day.seconds for day in days), default=0.0) or 1.0
    step = width / len(days)
    return [
        Bar(
            x=round(place * step, 1),
            height=round(day.seconds / longest * height, 1),
            words=f"{day.day:%d %B}: {int(day.seconds // 60)} minutes, {day.num_ranked} ranked",
            label=f"{day.day:%d %b}" if place % 7 == 0 else "",
        )
        for place, day in enumerate(days)
    ]
