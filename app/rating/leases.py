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
from app.prompts.models import Comparison, ComparisonResponse, Prompt, Response
from app.prompts.wishes import is_welcome_to
from app.rating import care
from app.rating.models import Assignment, RaterQueue
from app.teaching import gate
from app.teaching.models import Lesson, LessonAnswer

HELD = ("leased", "reopened")
MAX_COUNTED = 200  # More than anybody does in a day; counting on would take longer with each import.
SKIP_REASONS = {
    "unclear": "The question is unclear",
    "expertise": "Outside my expertise",
    "disturbing": "Disturbing content",
    "broken": "Something is broken",
    "other": "Another reason",
}


def next_assignment(session: Session, project: Project, *, rater_id: int, may_wait: bool = False) -> Assignment | None:
    """The comparison in this rater's hands, or the next one; None when nothing is left for them, or something is to be
    done first (`app.teaching.gate` says what).

    Args:
        may_wait: wait for comparisons that other requests hold at this moment, rather than miss the last ones.
            Only for a transaction that holds no comparison itself: two that wait for each other would both fail.
    """
    cursor = take_turn(session, project, rater_id)
    held = _held(session, project, rater_id)
    if held is not None:
        return held
    if care.why_rest(session, project, rater_id=rater_id) or not gate.is_ready(session, project, rater_id=rater_id):
        return None
    taken = _take_place(session, project, rater_id, cursor=cursor)
    if taken is None and (expire_leases(session, project_id=project.id) or may_wait):
        taken = _take_after(session, project, rater_id, after=-1, skip_locked=not may_wait)
    return None if taken is None else _lease(session, project, rater_id=rater_id, taken=taken)


def take_ahead(session: Session, project: Project, *, rater_id: int) -> Assignment | None:
    """The comparison that will follow the one in this rater's hands, so that it can be shown at once; None if there is none.

    A rater holds two at most. What was taken ahead is what `next_assignment` gives once the first is done.
    """
    cursor = take_turn(session, project, rater_id)
    held = list(session.scalars(_in_hand(project, rater_id).limit(2)))
    if len(held) != 1:
        return held[1] if held else None
    if care.why_rest(session, project, rater_id=rater_id) or not gate.is_ready(session, project, rater_id=rater_id):
        return None
    taken = _take_place(session, project, rater_id, cursor=cursor)
    return None if taken is None else _lease(session, project, rater_id=rater_id, taken=taken)


def held_assignment(session: Session, project: Project, *, rater_id: int) -> Assignment | None:
    """What this rater has in hand, without touching its lease."""
    held: Assignment | None = session.scalar(_in_hand(project, rater_id).limit(1))
    return held


def num_left(session: Session, project: Project, *, rater_id: int) -> int | None:
    """How many comparisons this rater has in hand or could be given; None for more than are worth counting."""
    free = _free_for(project, rater_id).limit(MAX_COUNTED + 1).subquery()
    held = _in_hand(project, rater_id).where(Assignment.state == "leased").order_by(None).subquery()
    counts = [select(func.count()).select_from(part).scalar_subquery() for part in (free, held)]
    num_free, num_held = session.execute(select(*counts)).one()
    return None if num_free > MAX_COUNTED else num_free + num_held


def _in_hand(project: Project, rater_id: int) -> "sa.Select[Any]":
    """All that this rater holds: first what is being corrected, then what was given first."""
    mine = (Assignment.rater_id == rater_id, Assignment.project_id == project.id, Assignment.state.in_(HELD))
    order = (sa.desc(Assignment.state == "reopened"), Assignment.leased_at, Assignment.id)
    return select(Assignment).where(*mine, _may_be_shown(rater_id)).order_by(*order)


def _may_be_shown(rater_id: int) -> "sa.ColumnElement[bool]":
    """Not withdrawn meanwhile, nor marked with what this rater has opted out of.

    What may not is as if it were not in hand: nothing renews its lease, so its place is free again before long.
    """
    shown = select(Comparison.id).where(
        Comparison.id == Assignment.comparison_id, Comparison.state == "open", _not_opted_out_of(rater_id)
    )
    return (Assignment.state == "reopened") | shown.exists()


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
    take_turn(session, project, rater_id)
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
    mine = mine.where(_may_be_shown(rater_id))
    newest = mine.order_by(sa.desc(Assignment.state == "reopened"), Assignment.leased_at, Assignment.id).limit(1)
    renew = update(Assignment).where(Assignment.id == newest.scalar_subquery(), Assignment.state.in_(HELD))
    return session.scalar(
        renew.values(lease_until=func.now() + _lease_time(project))
        .returning(Assignment)
        .execution_options(synchronize_session=False, populate_existing=True)
    )


def take_turn(session: Session, project: Project, rater_id: int) -> int:
    """How far this rater has come; held until the transaction ends, so that one rater's requests take turns.

    Whatever changes an assignment and then looks for the next one does this first: two requests of one rater that lock
    in different orders would wait for each other.
    """
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
    free = (
        _free_for(project, rater_id)
        .where(Comparison.queue_key > after)
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


def _free_for(project: Project, rater_id: int) -> "sa.Select[Any]":
    """Comparisons that this rater could be given."""
    seen = select(Assignment.id).where(Assignment.rater_id == rater_id, Assignment.comparison_id == Comparison.id)
    return select(Comparison.id).where(
        Comparison.project_id == project.id,
        Comparison.state == "open",
        Comparison.counted + Comparison.leased < Comparison.wanted,
        ~seen.exists(),
        *_not_written_by(rater_id),
        ~_is_practice(rater_id),
        _not_opted_out_of(rater_id),
    )


def _not_opted_out_of(rater_id: int) -> "sa.ColumnElement[bool]":
    """No category that its prompt is marked with is one that this rater has asked not to be given."""
    return select(Prompt.id).where(Prompt.id == Comparison.prompt_id, is_welcome_to(rater_id)).exists()


def _not_written_by(rater_id: int) -> "tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]":
    """Nobody ranks what they wrote: neither one of a comparison's responses nor its prompt is this rater's.

    Safe at any concurrency, because what a comparison consists of never changes once it is there.
    """
    part = select(ComparisonResponse.response_id).join(Response, Response.id == ComparisonResponse.response_id)
    response = part.where(ComparisonResponse.comparison_id == Comparison.id, Response.written_by_id == rater_id)
    prompt = select(Prompt.id).where(Prompt.id == Comparison.prompt_id, Prompt.written_by_id == rater_id)
    return ~response.exists(), ~prompt.exists()


def _is_practice(rater_id: int) -> "sa.ColumnElement[bool]":
    """Raters practise on it, or this one did before it was removed: the expert's ranking is known."""
    answered = select(LessonAnswer.id).where(LessonAnswer.lesson_id == Lesson.id, LessonAnswer.rater_id == rater_id)
    lesson = select(Lesson.id).where(Lesson.comparison_id == Comparison.id)
    return lesson.where(Lesson.retired_at.is_(None) | answered.exists()).exists()


def _lease(session: Session, project: Project, *, rater_id: int, taken: "sa.Row[Any]") -> Assignment:
    assignment = Assignment(
        project_id=project.id,
        comparison_id=taken.id,
        rater_id=rater_id,
        state="leased",
        shown_order=_balanced_order(session, project, rater_id=rater_id, taken=taken),
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


def _balanced_order(session: Session, project: Project, *, rater_id: int, taken: "sa.Row[Any]") -> list[int]:
    """The order shown. Of pairs by two sources, each source is left about as often for this rater.

    By a biased coin (Efron 1971): the side that is behind comes with probability 3/4, so that nobody can foresee it.
    """
    order = shown_order(taken.k, rater_id=rater_id, comparison_id=taken.id)
    if taken.k != 2:
        return order
    queue = (RaterQueue.project_id == project.id, RaterQueue.rater_id == rater_id)
    sources = (
        select(func.coalesce(Response.model_version_id, 0), Response.source, RaterQueue.left_lead)
        .join(ComparisonResponse, ComparisonResponse.response_id == Response.id)
        .join(RaterQueue, sa.and_(*queue))
        .where(ComparisonResponse.comparison_id == taken.id)
        .order_by(ComparisonResponse.position)
    )
    (*one, lead), (*other, _) = session.execute(sources).all()
    if one == other:
        return order
    lower, is_behind = (0 if one < other else 1), lead < 0
    draw = random.Random(f"side:{rater_id}:{taken.id}").random()
    is_left = draw < (0.5 if lead == 0 else 0.75 if is_behind else 0.25)
    change = RaterQueue.left_lead + (1 if is_left else -1)
    session.execute(update(RaterQueue).where(*queue).values(left_lead=change))
    return [lower, 1 - lower] if is_left else [1 - lower, lower]


def _free_place(session: Session, comparison_id: int) -> None:
    free = update(Comparison).where(Comparison.id == comparison_id).values(leased=Comparison.leased - 1)
    session.execute(free.execution_options(synchronize_session=False))


def _lease_time(project: Project) -> dt.timedelta:
    return dt.timedelta(minutes=project.lease_minutes)
