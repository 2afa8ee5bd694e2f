"""Recording rankings, drafts and undo. One request is one transaction is one acknowledgement."""

import datetime as dt
import json
import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.orm import Session

from app.accounts.models import Person
from app.errors import Conflict, Invalid, NotFound
from app.projects.models import Project
from app.prompts.models import Comparison, ComparisonResponse, Response
from app.prompts.service import add_response
from app.rating.answers import MAX_EDIT_BYTES, Answer, bare, by_response, check_answer
from app.rating.leases import get_assignment, take_turn
from app.rating.models import Assignment, Ranking
from app.rating.pace import is_too_fast
from app.training.service import request_if_due

MAX_DRAFT_BYTES = 20_000  # Apart from an edited response, which has a bound of its own.
NUM_RECENT = 30


@dataclass(frozen=True)
class Recorded:
    """What became of a ranking. `is_replay`: it had been stored before, and nothing was stored now."""

    ranking: Ranking
    is_replay: bool


def record_ranking(
    session: Session,
    project: Project,
    rater: Person,
    *,
    assignment_id: int,
    idempotency_key: uuid.UUID,
    answer: Answer,
) -> Recorded:
    """Store a rater's ranking and ask for a training run if enough are new.

    Sending twice keeps the first: the key came with the form. A late ranking is counted while the comparison
    still wants one, and kept as surplus otherwise; it is never refused.

    Raises:
        NotFound: no such comparison was given to this rater.
        Invalid: the answer does not fit the comparison, or the key was used for another answer.
        Conflict: the comparison has been ranked already, with another form.
    """
    take_turn(session, project, rater.id)
    assignment, response_ids, elapsed = _locked(session, project, assignment_id, rater_id=rater.id)
    checked = check_answer(answer, project, k=len(response_ids))
    if idempotency_key != assignment.idempotency_key or assignment.state in {"ranked", "skipped"}:
        return _replayed(session, idempotency_key, checked, rater)
    previous = _current(session, assignment.id) if assignment.state == "reopened" else None
    is_late = assignment.state == "expired"
    standing = previous.standing if previous else _take_standing(session, assignment)
    ranking = Ranking(
        project_id=project.id,
        comparison_id=assignment.comparison_id,
        assignment_id=assignment.id,
        rater_id=rater.id,
        guideline_id=assignment.guideline_id,
        idempotency_key=idempotency_key,
        request_hash=checked.fingerprint(),
        revision=previous.revision + 1 if previous else 1,
        supersedes_id=previous.id if previous else None,
        standing=standing,
        ranks=by_response(checked.ranks, response_ids),
        all_bad=checked.all_bad,
        strength=checked.strength,
        attributes={name: by_response(values, response_ids) for name, values in checked.attributes.items()},
        flags={str(response_ids[int(place)]): names for place, names in checked.flags.items()},
        note=checked.note,
        edited_id=_edited(session, rater, checked, response_ids),
        reasons=checked.reasons,
        likert=by_response(checked.likert, response_ids) if checked.likert else {},
        shown_order=assignment.shown_order,
        seconds=_seconds(elapsed, checked.seconds),
        is_simulated=rater.is_simulated,
        is_late=is_late,
        is_too_fast=previous.is_too_fast if previous else _is_too_fast(session, rater, assignment, elapsed, checked),
    )
    session.add(ranking)
    assignment.state, assignment.draft, assignment.ranked_at = "ranked", None, func.now()
    session.flush()
    if previous is None and standing == "counted":
        request_if_due(session, project)
    return Recorded(ranking, is_replay=False)


def save_draft(session: Session, project: Project, assignment_id: int, *, rater_id: int, draft: dict[str, Any]) -> None:
    """Keep what has been chosen so far, so that a reload finds it. Who is at work keeps the lease."""
    if len(str(draft.get("edit", "")).encode(errors="replace")) > MAX_EDIT_BYTES:
        raise Invalid(f"The edited response may have {MAX_EDIT_BYTES:,} bytes. Shorten it.", field="edit")
    if len(json.dumps({**draft, "edit": ""}).encode()) > MAX_DRAFT_BYTES or "\\u0000" in json.dumps(draft):
        raise Invalid(f"A draft may have {MAX_DRAFT_BYTES:,} bytes, and no NUL character.", field="draft")
    mine = update(Assignment).where(
        Assignment.id == assignment_id,
        Assignment.rater_id == rater_id,
        Assignment.project_id == project.id,
        Assignment.state.in_(["leased", "reopened", "expired"]),
    )
    lease_until = func.now() + dt.timedelta(minutes=project.lease_minutes)
    saved = session.execute(mine.values(draft=draft, draft_saved_at=func.now(), lease_until=lease_until))
    if saved.rowcount != 1:  # type: ignore[attr-defined]
        raise NotFound("This comparison is not in your hands any more.")


def undo_last(session: Session, project: Project, *, rater_id: int, assignment_id: int | None = None) -> Assignment:
    """Reopen the newest ranking (or that of `assignment_id`) with its answers. It stands until a correction replaces it.

    Raises:
        NotFound: there is nothing to undo.
    """
    take_turn(session, project, rater_id)
    ranked = select(Assignment).where(
        Assignment.rater_id == rater_id, Assignment.project_id == project.id, Assignment.state == "ranked"
    )
    if assignment_id is not None:
        ranked = ranked.where(Assignment.id == assignment_id)
    assignment = session.scalar(ranked.order_by(Assignment.ranked_at.desc()).limit(1).with_for_update())
    if assignment is None:
        raise NotFound("There is no ranking to undo.")
    last = _current(session, assignment.id)
    assert last is not None
    assignment.state = "reopened"
    assignment.idempotency_key = uuid.uuid4()
    edit = session.get_one(Response, last.edited_id).text if last.edited_id else ""
    assignment.draft = draft_of(last, _shown_response_ids(session, assignment), edit=edit)
    session.flush()
    return assignment


def leave_as_it_was(session: Session, project: Project, assignment_id: int, *, rater_id: int) -> None:
    """End a correction without one: the ranking stands, as it did all the time. Twice is harmless.

    Raises:
        NotFound: no such comparison was given to this rater. Conflict: no ranking of it is being corrected.
    """
    take_turn(session, project, rater_id)
    assignment = get_assignment(session, project, assignment_id, rater_id=rater_id)
    if assignment.state == "ranked":
        return
    closed = update(Assignment).where(Assignment.id == assignment.id, Assignment.state == "reopened")
    if session.execute(closed.values(state="ranked", draft=None)).rowcount != 1:  # type: ignore[attr-defined]
        raise Conflict("You are not correcting a ranking of this comparison. Nothing was changed.")


def draft_of(ranking: Ranking, response_ids: list[int], *, edit: str = "") -> dict[str, Any]:
    """A ranking as the form's draft, in shown order."""
    return {
        "ranks": [ranking.ranks.get(str(i)) for i in response_ids],
        "all_bad": ranking.all_bad,
        "strength": ranking.strength,
        "attributes": {name: [values.get(str(i)) for i in response_ids] for name, values in ranking.attributes.items()},
        "flags": {str(place): ranking.flags[str(i)] for place, i in enumerate(response_ids) if str(i) in ranking.flags},
        "note": ranking.note,
        "edit": edit,
        "reasons": ranking.reasons,
        "likert": [ranking.likert.get(str(i)) for i in response_ids],
    }


def recent_rankings(session: Session, project: Project, *, rater_id: int, limit: int = NUM_RECENT) -> list[Ranking]:
    """This rater's newest current rankings."""
    newer = Ranking.__table__.alias("newer")
    query = (
        select(Ranking)
        .where(Ranking.rater_id == rater_id, Ranking.project_id == project.id)
        .where(~select(newer.c.id).where(newer.c.supersedes_id == Ranking.id).exists())
    )
    return list(session.scalars(query.order_by(Ranking.id.desc()).limit(limit)))


def _locked(
    session: Session, project: Project, assignment_id: int, *, rater_id: int
) -> tuple[Assignment, list[int], float]:
    """The assignment, locked; its response ids in shown order; seconds since it was leased, by the database's clock."""
    ids = select(func.array_agg(aggregate_order_by(ComparisonResponse.response_id, ComparisonResponse.position)))
    canonical = ids.where(ComparisonResponse.comparison_id == Assignment.comparison_id).scalar_subquery()
    elapsed = func.extract("epoch", func.now() - Assignment.leased_at)
    row = session.execute(
        select(Assignment, canonical.label("canonical"), elapsed.label("elapsed"))
        .where(Assignment.id == assignment_id, Assignment.rater_id == rater_id, Assignment.project_id == project.id)
        .with_for_update(of=Assignment)
        .execution_options(populate_existing=True)
    ).first()
    if row is None:
        raise NotFound("This comparison was not given to you.")
    return row.Assignment, [row.canonical[position] for position in row.Assignment.shown_order], float(row.elapsed)


def _edited(session: Session, rater: Person, answer: Answer, response_ids: list[int]) -> int | None:
    """The edited text as a response of this rater's; None where it is a shown response as it was.

    Of any response, not of the best alone: a field that was filled from one and left so is no edit of another.
    """
    if not answer.edit:
        return None
    shown = session.scalars(select(Response).where(Response.id.in_(response_ids))).all()
    if any(bare(response.text) == answer.edit for response in shown):
        return None
    prompt_id, name = shown[0].prompt_id, rater.pseudonym
    return add_response(session, prompt_id, answer.edit, origin="edited", source=name, written_by_id=rater.id)[0]


def _replayed(session: Session, idempotency_key: uuid.UUID, answer: Answer, rater: Person) -> Recorded:
    """What was stored under this key; a key that comes with nothing stored is not that of the form in hand."""
    replay = session.scalar(select(Ranking).where(Ranking.idempotency_key == idempotency_key))
    if replay is None:
        raise Conflict("You have dealt with this comparison already, in another window perhaps. Nothing was changed.")
    if replay.rater_id != rater.id:
        raise NotFound("This form was not given to you.")
    if replay.request_hash != answer.fingerprint():
        raise Invalid("This form was sent before with another answer, which is kept. Use undo to change it.")
    return Recorded(replay, is_replay=True)


def _take_standing(session: Session, assignment: Assignment) -> str:
    """Turn the lease's place into a counted ranking; a late one takes a free place, or is surplus."""
    comparison = update(Comparison).where(Comparison.id == assignment.comparison_id)
    if assignment.state == "leased":
        counted = comparison.values(leased=Comparison.leased - 1, counted=Comparison.counted + 1)
    else:
        free = Comparison.counted + Comparison.leased < Comparison.wanted
        counted = comparison.where(free, Comparison.state == "open").values(counted=Comparison.counted + 1)
    changed = session.execute(counted.execution_options(synchronize_session=False))
    return "counted" if changed.rowcount == 1 else "surplus"  # type: ignore[attr-defined]


def _shown_response_ids(session: Session, assignment: Assignment) -> list[int]:
    query = (
        select(ComparisonResponse.response_id)
        .where(ComparisonResponse.comparison_id == assignment.comparison_id)
        .order_by(ComparisonResponse.position)
    )
    canonical = list(session.scalars(query))
    return [canonical[position] for position in assignment.shown_order]


def _current(session: Session, assignment_id: int) -> Ranking | None:
    query = select(Ranking).where(Ranking.assignment_id == assignment_id)
    return session.scalar(query.order_by(Ranking.revision.desc()).limit(1))


def _is_too_fast(session: Session, rater: Person, assignment: Assignment, elapsed: float, answer: Answer) -> bool:
    """By the clock, not by active time: who reads moves nothing. A correction keeps the mark of what it corrects."""
    shown = elapsed if answer.shown_seconds is None else min(elapsed, answer.shown_seconds)
    return not rater.is_simulated and is_too_fast(session, assignment.comparison_id, seconds=shown)


def _seconds(elapsed: float, claimed: float | None) -> float:
    """Active time as the browser measured it, but never more than the server's own clock allows."""
    return elapsed if claimed is None or not 0 <= claimed <= elapsed + 5 else claimed
