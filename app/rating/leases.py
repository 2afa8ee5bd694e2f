"""Handing out comparisons: each to exactly the number of raters it wants, held by the database at any concurrency."""

import datetime as dt
import random
from typing import Any

import sqlalchemy as sa
from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.errors import Conflict, Invalid, NotFound
from app.guidelines.models import Guideline
from app.projects.models import Project
from app.prompts.models import Comparison, ComparisonResponse
from app.rating.models import Assignment, RaterQueue

HELD = ("leased", "reopened")
SKIP_REASONS = {
    "unclear": "The question is unclear",
    "expertise": "Outside my expertise",
    "disturbing": "Disturbing content",
    "broken": "Something is broken",
    "other": "Another reason",
}


def next_assignment(session: Session, project: Project, *, rater_id: int, may_wait: bool = False) -> Assignment | None:
    """The comparison in this rater's hands, or the next one; None when nothing is left for them.

    Args:
        may_wait: wait for comparisons that other requests hold at this moment, rather than miss the last ones.
            Only for a transaction that holds no comparison itself: two that wait for each other would both fail.
    """
    cursor = _lock_queue(session, project, rater_id)
    held = _held(session, project, rater_id)
    if held is not None:
        return held
    taken = _take_place(session, project, rater_id, cursor=cursor)
    if taken is None and (expire_leases(session, project_id=project.id) or may_wait):
        taken = _take_after(session, project, rater_id, after=-1, skip_locked=not may_wait)
    return None if taken is None else _lease(session, project, rater_id=rater_id, taken=taken)


def held_assignment(session: Session, project: Project, *, rater_id: int) -> Assignment | None:
    """What this rater has in hand, without touching its lease."""
    mine = (Assignment.rater_id == rater_id, Assignment.project_id == project.id, Assignment.state.in_(HELD))
    order = (sa.desc(Assignment.state == "reopened"), Assignment.leased_at, Assignment.id)
    return session.scalar(select(Assignment).where(*mine).order_by(*order).limit(1))


def get_assignment(session: Session, project: Project, assignment_id: int, *, rater_id: int) -> Assignment:
    """An assignment of this rater in this project.

    Raises:
        NotFound: it is nobody's, or somebody else's.
    """
    mine = (Assignment.id == assignment_id, Assignment.rater_id == rater_id, Assignment.project_id == project.id)
    assignment = session.scalar(select(Assignment).where(*mine))
    if assignment is None:
        raise NotFound("This comparison was not given to you.")
    return assignment


def extend_lease(session: Session, project: Project, assignment_id: int, *, rater_id: int) -> Assignment:
    """Hold a comparison for another full lease.

    Raises:
        Conflict: it is no longer in this rater's hands.
    """
    assignment = get_assignment(session, project, assignment_id, rater_id=rater_id)
    longer = update(Assignment).where(Assignment.id == assignment.id, Assignment.state.in_(HELD))
    renewed = session.execute(
        longer.values(lease_until=func.now() + _lease_time(project)).returning(Assignment.lease_until)
    )
    row = renewed.first()
    if row is None:
        raise Conflict("Your time for this comparison ran out. You can still send your ranking: it will be kept.")
    session.refresh(assignment)
    return assignment


def skip(session: Session, project: Project, assignment_id: int, *, rater_id: int, reason: str, note: str = "") -> None:
    """Give a comparison back, with a reason; it goes to somebody else and never comes back to this rater.

    Raises:
        Invalid: an unknown reason. Conflict: it is no longer in this rater's hands.
    """
    if reason not in SKIP_REASONS:
        raise Invalid(f"Choose one of the reasons: {', '.join(SKIP_REASONS)}.", field="reason")
    if len(note.encode()) > 2000 or "\x00" in note:
        raise Invalid("The note may have 2,000 bytes, and no NUL character.", field="note")
    assignment = get_assignment(session, project, assignment_id, rater_id=rater_id)
    if assignment.state == "skipped":
        return
    done = update(Assignment).where(Assignment.id == assignment.id, Assignment.state == "leased")
    skipped = session.execute(done.values(state="skipped", skip_reason=reason, skip_note=note, draft=None))
    if skipped.rowcount != 1:  # type: ignore[attr-defined]
        raise Conflict("This comparison is no longer in your hands, so it cannot be skipped.")
    _free_place(session, assignment.comparison_id)


def expire_leases(session: Session, *, project_id: int | None = None) -> int:
    """Free the places of leases that ran out; a ranking that comes later is still kept. How many there were."""
    late = select(Assignment.id).where(Assignment.state == "leased", Assignment.lease_until < func.now())
    if project_id is not None:
        late = late.where(Assignment.project_id == project_id)
    late = late.order_by(Assignment.comparison_id).limit(1000).with_for_update(skip_locked=True)
    expire = update(Assignment).where(Assignment.id.in_(late)).values(state="expired")
    comparisons = list(
        session.scalars(expire.returning(Assignment.comparison_id).execution_options(synchronize_session=False))
    )
    for comparison_id in sorted(comparisons):
        _free_place(session, comparison_id)
    return len(comparisons)


def _held(session: Session, project: Project, rater_id: int) -> Assignment | None:
    """What this rater has in hand, its lease renewed."""
    mine = select(Assignment.id).where(
        Assignment.rater_id == rater_id, Assignment.project_id == project.id, Assignment.state.in_(HELD)
    )
    newest = mine.order_by(sa.desc(Assignment.state == "reopened"), Assignment.leased_at, Assignment.id).limit(1)
    renew = update(Assignment).where(Assignment.id == newest.scalar_subquery(), Assignment.state.in_(HELD))
    return session.scalar(
        renew.values(lease_until=func.now() + _lease_time(project))
        .returning(Assignment)
        .execution_options(synchronize_session=False, populate_existing=True)
    )


def _lock_queue(session: Session, project: Project, rater_id: int) -> int:
    """How far this rater has come; held until the transaction ends, so that one rater's requests take turns."""
    place = insert(RaterQueue).values(project_id=project.id, rater_id=rater_id, queue_key=-1)
    keep = place.on_conflict_do_update(
        index_elements=["project_id", "rater_id"], set_={"queue_key": RaterQueue.queue_key}
    )
    return session.execute(keep.returning(RaterQueue.queue_key)).scalar_one()


def _take_place(session: Session, project: Project, rater_id: int, *, cursor: int) -> "sa.Row[Any] | None":
    """Take one place in the next comparison: the search begins where this rater has come to, and wraps around once.

    So its cost does not grow with the number of comparisons, nor with those this rater has done.
    """
    taken = _take_after(session, project, rater_id, after=cursor)
    if taken is None and cursor >= 0:
        taken = _take_after(session, project, rater_id, after=-1)
    return taken


def _take_after(
    session: Session, project: Project, rater_id: int, *, after: int, skip_locked: bool = True
) -> "sa.Row[Any] | None":
    seen = select(Assignment.id).where(Assignment.rater_id == rater_id, Assignment.comparison_id == Comparison.id)
    free = (
        select(Comparison.id)
        .where(
            Comparison.project_id == project.id,
            Comparison.state == "open",
            Comparison.counted + Comparison.leased < Comparison.wanted,
            Comparison.queue_key > after,
            ~seen.exists(),
        )
        .order_by(Comparison.queue_key)
        .limit(1)
        .with_for_update(skip_locked=skip_locked, key_share=True, of=Comparison)
    )
    size = select(func.count()).where(ComparisonResponse.comparison_id == Comparison.id).scalar_subquery()
    edition = select(Guideline.id).where(Guideline.project_id == project.id, Guideline.published_at.is_not(None))
    newest = edition.order_by(Guideline.edition.desc()).limit(1).scalar_subquery()
    take = update(Comparison).where(Comparison.id == free.scalar_subquery()).values(leased=Comparison.leased + 1)
    place = (Comparison.id, Comparison.project_id, Comparison.queue_key)
    taken = take.returning(*place, size.label("k"), newest.label("guideline_id")).cte("taken")
    mine = (RaterQueue.project_id == taken.c.project_id, RaterQueue.rater_id == rater_id)
    moved = (
        update(RaterQueue).where(*mine).values(queue_key=taken.c.queue_key).returning(RaterQueue.rater_id).cte("moved")
    )
    return session.execute(select(taken).add_cte(moved)).first()


def _lease(session: Session, project: Project, *, rater_id: int, taken: "sa.Row[Any]") -> Assignment:
    assignment = Assignment(
        project_id=project.id,
        comparison_id=taken.id,
        rater_id=rater_id,
        state="leased",
        shown_order=shown_order(taken.k, rater_id=rater_id, comparison_id=taken.id),
        guideline_id=taken.guideline_id,
        lease_until=func.now() + _lease_time(project),
    )
    session.add(assignment)
    session.flush()
    return assignment


def shown_order(k: int, *, rater_id: int, comparison_id: int) -> list[int]:
    """Canonical positions in the order that this rater sees: drawn per rater and comparison, every order as likely."""
    order = list(range(k))
    random.Random(f"{rater_id}:{comparison_id}").shuffle(order)
    return order


def _free_place(session: Session, comparison_id: int) -> None:
    free = update(Comparison).where(Comparison.id == comparison_id).values(leased=Comparison.leased - 1)
    session.execute(free.execution_options(synchronize_session=False))


def _lease_time(project: Project) -> dt.timedelta:
    return dt.timedelta(minutes=project.lease_minutes)
