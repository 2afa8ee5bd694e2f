"""Practice: a rater orders a lesson's responses, and is told what the expert said and why. Never a ranking."""

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.errors import NotFound
from app.guidelines.models import Guideline
from app.projects.models import Project
from app.prompts.models import Comparison, Prompt, Response
from app.prompts.service import Messages, responses_of
from app.rating.answers import by_response, check_ranks, sentence
from app.rating.desk import LETTERS, Card
from app.rating.leases import shown_order
from app.teaching.gate import Standing, begun_anew_at, standing_of
from app.teaching.lessons import agreement, get_lesson, lessons_of
from app.teaching.models import Lesson, LessonAnswer


@dataclass(frozen=True)
class Shown:
    """A lesson as one rater sees it; `expert` has the rank of each card, and is told after the answer only."""

    lesson: Lesson
    messages: Messages
    warnings: list[str]
    cards: list[Card]
    order: list[int]
    response_ids: list[int]

    @property
    def expert(self) -> list[int | None]:
        """The expert's ranks, in shown order."""
        return [self.lesson.ranks.get(str(response_id)) for response_id in self.response_ids]

    @property
    def explanation(self) -> str:
        """Why, with the letter that this rater saw for each response that is named by number: `[2]` becomes `**A**`."""

        def letter(named: re.Match[str]) -> str:
            position = int(named[1]) - 1
            return f"**{LETTERS[self.order.index(position)]}**" if position in self.order else named[0]

        return re.sub(r"\[([1-9])\](?!\()", letter, self.lesson.explanation)

    @property
    def expert_order(self) -> str:
        """In words."""
        return sentence(self.expert)


@dataclass(frozen=True)
class Feedback:
    """What became of an answer. `edition` of the guidelines was in force when the lesson was written."""

    answer: LessonAnswer
    shown: Shown
    edition: int | None

    @property
    def ranks(self) -> list[int | None]:
        """The rater's, in shown order."""
        return [self.answer.ranks.get(str(response_id)) for response_id in self.shown.response_ids]

    @property
    def order(self) -> str:
        """In words."""
        return sentence(self.ranks)

    @property
    def is_same(self) -> bool:
        """Whether the rater ordered all as the expert did."""
        return self.answer.num_agreed == self.answer.num_pairs


@dataclass(frozen=True)
class Practice:
    """A rater's practice: the lessons, which of them are done, and the next one."""

    lessons: list[Lesson]
    done: dict[int, LessonAnswer]
    standing: Standing

    @property
    def next(self) -> Lesson | None:
        """The first that was not answered."""
        return next((lesson for lesson in self.lessons if lesson.comparison_id not in self.done), None)


def practice_of(session: Session, project: Project, *, rater_id: int) -> Practice:
    """How far a rater's practice has come; `done` has the newest answer for each comparison."""
    answers = (
        select(Lesson.comparison_id, LessonAnswer)
        .join(Lesson, Lesson.id == LessonAnswer.lesson_id)
        .where(LessonAnswer.project_id == project.id, LessonAnswer.rater_id == rater_id)
        .order_by(LessonAnswer.id)
    )
    since = begun_anew_at(session, project, rater_id=rater_id)
    if since is not None:
        answers = answers.where(LessonAnswer.created_at > since)
    done = {row.comparison_id: row.LessonAnswer for row in session.execute(answers)}
    return Practice(
        lessons_of(session, project, rater_id=rater_id), done, standing_of(session, project, rater_id=rater_id)
    )


def shown_lesson(session: Session, project: Project, lesson_id: int, *, rater_id: int) -> Shown:
    """A lesson in force, in the order in which this rater sees its responses."""
    return _shown(session, get_lesson(session, project, lesson_id), rater_id)


def answer_lesson(
    session: Session,
    project: Project,
    lesson_id: int,
    *,
    rater_id: int,
    ranks: Sequence[int | None],
    idempotency_key: uuid.UUID,
) -> LessonAnswer:
    """Keep a rater's order of a lesson, and how far it agrees. Sending a form twice keeps the first.

    Raises:
        NotFound: no such lesson. Conflict: it was changed meanwhile. Invalid: a rank is missing.
    """
    shown = shown_lesson(session, project, lesson_id, rater_id=rater_id)
    checked = check_ranks(list(ranks), project, k=len(shown.cards))
    given = by_response(checked, shown.response_ids)
    num_pairs, num_agreed = agreement(shown.lesson.ranks, given)
    made = insert(LessonAnswer).values(
        project_id=project.id,
        lesson_id=lesson_id,
        rater_id=rater_id,
        idempotency_key=idempotency_key,
        ranks=given,
        shown_order=shown.order,
        num_pairs=num_pairs,
        num_agreed=num_agreed,
    )
    stored: LessonAnswer | None = session.scalar(made.on_conflict_do_nothing().returning(LessonAnswer))
    return stored or _replayed(session, idempotency_key, rater_id)


def _replayed(session: Session, idempotency_key: uuid.UUID, rater_id: int) -> LessonAnswer:
    mine = (LessonAnswer.idempotency_key == idempotency_key, LessonAnswer.rater_id == rater_id)
    before = session.scalar(select(LessonAnswer).where(*mine))
    if before is None:
        raise NotFound("This form was not given to you.")
    return before


def feedback_on(session: Session, project: Project, answer_id: int, *, rater_id: int) -> Feedback:
    """What the expert said of the lesson as it was when it was answered.

    Raises:
        NotFound: this rater gave no such answer.
    """
    mine = (LessonAnswer.id == answer_id, LessonAnswer.rater_id == rater_id, LessonAnswer.project_id == project.id)
    answer = session.scalar(select(LessonAnswer).where(*mine))
    if answer is None:
        raise NotFound("You gave no such practice answer.")
    lesson = session.get_one(Lesson, answer.lesson_id)
    edition = session.get_one(Guideline, lesson.guideline_id).edition if lesson.guideline_id else None
    return Feedback(answer, _shown(session, lesson, rater_id), edition)


def _shown(session: Session, lesson: Lesson, rater_id: int) -> Shown:
    prompt = select(Prompt.messages, Prompt.warnings).join(Comparison, Comparison.prompt_id == Prompt.id)
    asked, warnings = session.execute(prompt.where(Comparison.id == lesson.comparison_id)).one()
    responses: list[Response] = responses_of(session, [lesson.comparison_id])[lesson.comparison_id]
    order = shown_order(len(responses), rater_id=rater_id, comparison_id=lesson.comparison_id)
    cards = [
        Card(LETTERS[place], place, responses[position].text, responses[position].finish_reason == "length")
        for place, position in enumerate(order)
    ]
    return Shown(lesson, asked, warnings, cards, order, [responses[position].id for position in order])
