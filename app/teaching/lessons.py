"""Practice comparisons as admins make them: an expert's ranking and why, for a comparison of the project."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app import audit
from app.errors import Conflict, Invalid, NotFound
from app.guidelines import service as guidelines
from app.projects.models import Project
from app.prompts.models import Comparison, Prompt, Response
from app.prompts.service import check_text, responses_of
from app.prompts.wishes import is_welcome_to
from app.teaching.models import Lesson, LessonAnswer
from app.texts import order_in_words

MAX_EXPLANATION = 20_000
ALREADY = "This comparison is a practice comparison already. Edit it under Teaching."


@dataclass(frozen=True)
class LessonRow:
    """A lesson in the admins' list, with how raters did on it in all its editions."""

    lesson: Lesson
    prompt: str
    order: str
    num_answers: int
    agreement: float | None


def lessons_of(session: Session, project: Project, *, rater_id: int | None = None) -> list[Lesson]:
    """Those that raters practise on (or this rater, who may have opted out of some), in the order in which they were made."""
    current = select(Lesson).where(Lesson.project_id == project.id, Lesson.retired_at.is_(None))
    if rater_id is not None:
        asked = select(Prompt.id).join(Comparison, Comparison.prompt_id == Prompt.id)
        current = current.where(asked.where(Comparison.id == Lesson.comparison_id, is_welcome_to(rater_id)).exists())
    return list(session.scalars(current.order_by(Lesson.comparison_id)))


def lesson_rows(session: Session, project: Project) -> list[LessonRow]:
    """The lessons with their prompts, orders and results."""
    lessons = lessons_of(session, project)
    ids = [lesson.comparison_id for lesson in lessons]
    asked = select(Comparison.id, Prompt.messages).join(Prompt, Prompt.id == Comparison.prompt_id)
    prompts = {row.id: row.messages[-1]["content"] for row in session.execute(asked.where(Comparison.id.in_(ids)))}
    done = (
        select(Lesson.comparison_id, func.count(), func.sum(LessonAnswer.num_agreed), func.sum(LessonAnswer.num_pairs))
        .join(LessonAnswer, LessonAnswer.lesson_id == Lesson.id)
        .where(Lesson.comparison_id.in_(ids))
        .group_by(Lesson.comparison_id)
    )
    counts = {row[0]: (row[1], float(row[2]) / float(row[3]) if row[3] else None) for row in session.execute(done)}
    responses = responses_of(session, ids)
    return [
        LessonRow(
            lesson,
            prompts[lesson.comparison_id],
            _order(lesson, responses[lesson.comparison_id]),
            *counts.get(lesson.comparison_id, (0, None)),
        )
        for lesson in lessons
    ]


def get_lesson(session: Session, project: Project, lesson_id: int) -> Lesson:
    """A lesson that is in force.

    Raises:
        NotFound: there is none of that number. Conflict: it was replaced or removed meanwhile.
    """
    lesson = session.scalar(select(Lesson).where(Lesson.id == lesson_id, Lesson.project_id == project.id))
    if lesson is None:
        raise NotFound("This project has no such practice comparison.")
    if lesson.retired_at is not None:
        raise Conflict(
            "This practice comparison was changed or removed meanwhile. Go back to the list and open it anew."
        )
    return lesson


def comparison_for_lesson(session: Session, project: Project, comparison_id: int) -> tuple[Comparison, list[Response]]:
    """A comparison of the project and its responses, in canonical order.

    Raises:
        NotFound: the project has none of that number.
    """
    here = select(Comparison).where(Comparison.id == comparison_id, Comparison.project_id == project.id)
    found = session.scalar(here)
    if found is None:
        raise NotFound(f"This project has no comparison {comparison_id}.")
    return found, responses_of(session, [found.id])[found.id]


def write_lesson(
    session: Session,
    project: Project,
    *,
    ranks: Sequence[int | None],
    explanation: str,
    person_id: int,
    comparison_id: int = 0,
    lesson_id: int | None = None,
) -> Lesson:
    """Make a lesson of `comparison_id`, or replace `lesson_id`. What raters answered to the one replaced stays with it.

    Args:
        ranks: the expert's, one for each response in canonical order, 1 best, equal ranks tied.

    Raises:
        Invalid: a rank or the explanation is missing. NotFound: no such comparison, or lesson.
        Conflict: the comparison is a lesson already, or somebody else has just changed this one.
    """
    before = get_lesson(session, project, lesson_id) if lesson_id is not None else None
    found, responses = comparison_for_lesson(session, project, before.comparison_id if before else comparison_id)
    lesson = Lesson(
        project_id=project.id,
        comparison_id=found.id,
        ranks=_checked_ranks(ranks, responses, project),
        explanation=_checked_explanation(explanation),
        guideline_id=next((edition.id for edition in guidelines.editions(session, project)), None),
        replaces_id=lesson_id,
        written_by_id=person_id,
    )
    if before is not None:
        _retire(session, before)
    try:
        with session.begin_nested():
            session.add(lesson)
            session.flush()
    except IntegrityError:
        raise Conflict(ALREADY) from None
    _record(session, project, "lesson.written", lesson.id, person_id)
    return lesson


def remove_lesson(session: Session, project: Project, lesson_id: int, *, person_id: int) -> None:
    """Nobody practises on it any more, and its comparison may be ranked again by who did not; twice is harmless.

    Raises:
        NotFound: there is none of that number.
    """
    here = select(Lesson.id).where(Lesson.id == lesson_id, Lesson.project_id == project.id)
    if session.scalar(here) is None:
        raise NotFound("This project has no such practice comparison.")
    gone = update(Lesson).where(Lesson.id == lesson_id, Lesson.retired_at.is_(None)).values(retired_at=func.now())
    if session.execute(gone).rowcount:  # type: ignore[attr-defined]
        _record(session, project, "lesson.removed", lesson_id, person_id)


def agreement(expert: dict[str, Any], given: dict[str, Any]) -> tuple[int, int]:
    """(pairs of responses, those of them that both put in the same relation: before, after, or tied)."""

    def relation(ranks: dict[str, Any], a: str, b: str) -> int | None:
        first, second = ranks.get(a), ranks.get(b)
        return None if first is None or second is None else (first > second) - (first < second)

    pairs = list(combinations(sorted(expert), 2))
    return len(pairs), sum(relation(expert, a, b) == relation(given, a, b) for a, b in pairs)


def _checked_ranks(ranks: Sequence[int | None], responses: Sequence[Response], project: Project) -> dict[str, int]:
    if len(ranks) != len(responses) or any(rank is None or not 1 <= rank <= 9 for rank in ranks):
        raise Invalid(f"Give each of the {len(responses)} responses a rank, 1 for the best.", field="ranks")
    if len(set(ranks)) < len(ranks) and not project.allow_ties:
        raise Invalid("This project has no ties: give each response a rank of its own.", field="ranks")
    dense = {rank: place for place, rank in enumerate(sorted({r for r in ranks if r is not None}), start=1)}
    return {str(response.id): dense[rank] for response, rank in zip(responses, ranks, strict=True) if rank is not None}


def _checked_explanation(explanation: str) -> str:
    cleaned = check_text(explanation, where="explanation").replace("\r\n", "\n").strip()
    if not cleaned or len(cleaned) > MAX_EXPLANATION:
        raise Invalid(
            f"Explain the order, in 1 to {MAX_EXPLANATION:,} characters: raters learn from the reasons.",
            field="explanation",
        )
    return cleaned


def _retire(session: Session, lesson: Lesson) -> None:
    retired: list[dt.datetime] = list(
        session.scalars(
            update(Lesson)
            .where(Lesson.id == lesson.id, Lesson.retired_at.is_(None))
            .values(retired_at=func.now())
            .returning(Lesson.retired_at)
            .execution_options(synchronize_session=False)
        )
    )
    if not retired:
        raise Conflict("Somebody else has just changed this practice comparison. Open it anew.")


def _record(session: Session, project: Project, action: str, lesson_id: int, person_id: int) -> None:
    audit.record(session, action, subject=f"lesson:{lesson_id}", actor_id=person_id, project_id=project.id)


def _order(lesson: Lesson, responses: Sequence[Response]) -> str:
    """The expert's order of the responses by their numbers: "2 > 1 = 3"."""
    numbers = [str(number) for number in range(1, len(responses) + 1)]
    return order_in_words([lesson.ranks.get(str(response.id)) for response in responses], numbers)
