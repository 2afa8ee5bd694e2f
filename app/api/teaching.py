"""Practice, the quiz and how raters stand, as JSON."""

import datetime as dt
import uuid
from dataclasses import replace
from typing import Any

from fastapi import APIRouter
from pydantic import Field

from app.api.shapes import Answer, Body
from app.errors import Conflict
from app.projects.deps import Admin, Rater
from app.rating import lessons as practice
from app.teaching import lessons, quiz, rulings
from app.teaching.gate import Standing, standing_of
from app.web import SessionDep

router = APIRouter(prefix="/projects/{slug}", tags=["teaching"])


class LessonBody(Body):
    """An expert's ranking of a comparison, and why. `ranks` has one entry per response, in canonical order."""

    ranks: list[int | None] = Field(max_length=9, description="1 is best, equal numbers tie.")
    explanation: str = Field(
        description="In Markdown; raters read it after they have answered. `[1]` names the first response in canonical "
        "order; each rater reads the letter that they saw."
    )


class NewLesson(LessonBody):
    """A lesson made of a comparison of the project."""

    comparison_id: int


class LessonAnswer(Answer):
    """A lesson. `ranks` goes from response id to rank."""

    id: int
    comparison_id: int
    ranks: dict[str, int]
    explanation: str
    created_at: dt.datetime


class QuestionBody(Body):
    """A question of the quiz. `correct` is the place of the right option, 0 first."""

    kind: str = Field("choice", description="`choice`, or `pair`: two responses to the prompt in `body`.")
    body: str
    options: list[str] = Field(max_length=8)
    correct: int
    explanation: str


class QuestionAnswer(Answer):
    """A question as admins see it."""

    id: int
    kind: str
    body: str
    options: list[str]
    correct: int
    explanation: str


class RulingBody(Body):
    """`pass` lets a rater through, `reset` has them begin anew."""

    kind: str
    reason: str = ""


class StandingAnswer(Answer):
    """How far a rater has come. `step` is what comes next: practice, quiz, stuck, or empty."""

    step: str
    lessons_done: int
    lessons_needed: int
    quiz_is_needed: bool
    quiz_is_passed: bool
    tries_left: int
    is_exempt: bool


class RaterAnswer(Answer):
    """A rater and how they stand; shares are between 0 and 1."""

    id: int
    name: str
    standing: StandingAnswer
    practice_agreement: float | None
    best_try: float | None


class PracticeAnswer(Answer):
    """One's practice. `next_lesson_id` is the first lesson without an answer."""

    standing: StandingAnswer
    lesson_ids: list[int]
    next_lesson_id: int | None


class ShownLesson(Answer):
    """A lesson as a rater sees it; responses are in the order shown."""

    id: int
    messages: list[dict[str, Any]]
    warnings: list[str]
    responses: list[str]


class OrderBody(Body):
    """A rater's order, in the order shown. The key is any UUID: sending it twice stores the answer once."""

    ranks: list[int | None] = Field(max_length=9)
    idempotency_key: uuid.UUID = Field(strict=False)


class FeedbackAnswer(Answer):
    """What the expert said; ranks are in the order shown."""

    answer_id: int
    ranks: list[int | None]
    expert_ranks: list[int | None]
    num_pairs: int
    num_agreed: int
    explanation: str
    guideline_edition: int | None


class AskedQuestion(Answer):
    """A question as raters are asked it."""

    id: int
    kind: str
    body: str
    options: list[str]


class QuizAnswer(Answer):
    """The quiz, while it is open to the caller."""

    standing: StandingAnswer
    pass_percent: int
    questions: list[AskedQuestion]


class Chosen(Body):
    """One answer: the place of an option, 0 first."""

    question_id: int
    option: int


class TryBody(Body):
    """A try at the quiz, all questions answered. The key is any UUID: sending it twice costs one try."""

    answers: list[Chosen] = Field(max_length=1000)
    idempotency_key: uuid.UUID = Field(strict=False)


class MarkedAnswer(Answer):
    """One question marked; the right option and the reason only where they are told."""

    question_id: int
    option: int | None
    is_right: bool
    correct: int | None
    explanation: str | None


class TryAnswer(Answer):
    """What came of a try."""

    id: int
    num_right: int
    num_questions: int
    is_passed: bool
    standing: StandingAnswer
    answers: list[MarkedAnswer]


@router.get("/teaching/lessons")
def list_lessons(member: Admin, session: SessionDep) -> list[LessonAnswer]:
    """The practice comparisons."""
    return [LessonAnswer.model_validate(lesson) for lesson in lessons.lessons_of(session, member.project)]


@router.post("/teaching/lessons", status_code=201)
def add_lesson(member: Admin, body: NewLesson, session: SessionDep) -> LessonAnswer:
    """Make a practice comparison of a comparison; it is not handed out to be ranked any more."""
    made = lessons.write_lesson(session, member.project, **body.model_dump(), person_id=member.person.id)
    return LessonAnswer.model_validate(made)


@router.put("/teaching/lessons/{lesson_id}")
def replace_lesson(member: Admin, lesson_id: int, body: LessonBody, session: SessionDep) -> LessonAnswer:
    """A new edition, with an id of its own; answers to the old one stay with it."""
    changed = body.model_dump()
    made = lessons.write_lesson(session, member.project, **changed, lesson_id=lesson_id, person_id=member.person.id)
    return LessonAnswer.model_validate(made)


@router.delete("/teaching/lessons/{lesson_id}", status_code=204)
def remove_lesson(member: Admin, lesson_id: int, session: SessionDep) -> None:
    """Take it out of practice."""
    lessons.remove_lesson(session, member.project, lesson_id, person_id=member.person.id)


@router.get("/teaching/questions")
def list_questions(member: Admin, session: SessionDep) -> list[QuestionAnswer]:
    """The questions of the quiz, with their answers."""
    return [QuestionAnswer.model_validate(question) for question in quiz.questions_of(session, member.project)]


@router.post("/teaching/questions", status_code=201)
def add_question(member: Admin, body: QuestionBody, session: SessionDep) -> QuestionAnswer:
    """Add a question."""
    made = quiz.write_question(session, member.project, **body.model_dump(), person_id=member.person.id)
    return QuestionAnswer.model_validate(made)


@router.put("/teaching/questions/{question_id}")
def replace_question(member: Admin, question_id: int, body: QuestionBody, session: SessionDep) -> QuestionAnswer:
    """A new edition, with an id of its own; tries that were asked the old one keep it."""
    changed = body.model_dump()
    made = quiz.write_question(session, member.project, **changed, question_id=question_id, person_id=member.person.id)
    return QuestionAnswer.model_validate(made)


@router.delete("/teaching/questions/{question_id}", status_code=204)
def remove_question(member: Admin, question_id: int, session: SessionDep) -> None:
    """Ask it no more."""
    quiz.remove_question(session, member.project, question_id, person_id=member.person.id)


@router.get("/teaching/raters")
def list_raters(member: Admin, session: SessionDep) -> list[RaterAnswer]:
    """How each rater stands. Practice is told as the project asks for it: what a rater opted out of is nobody else's matter."""
    return [
        RaterAnswer(
            id=row.person.id,
            name=row.person.name,
            standing=_standing(replace(row.standing, lessons_needed=member.project.practice_comparisons)),
            practice_agreement=row.agreement,
            best_try=row.best_try,
        )
        for row in rulings.raters_of(session, member.project)
    ]


@router.post("/teaching/raters/{person_id}", status_code=204)
def rule(member: Admin, person_id: int, body: RulingBody, session: SessionDep) -> None:
    """Let a rater through, or have them begin anew."""
    rulings.rule(session, member.project, person_id, **body.model_dump(), person_id=member.person.id)


@router.get("/practice")
def show_practice(member: Rater, session: SessionDep) -> PracticeAnswer:
    """How far one's practice has come."""
    mine = practice.practice_of(session, member.project, rater_id=member.person.id)
    ids = [lesson.id for lesson in mine.lessons]
    following = mine.next.id if mine.next else None
    return PracticeAnswer(standing=_standing(mine.standing), lesson_ids=ids, next_lesson_id=following)


@router.get("/practice/{lesson_id}")
def show_lesson(member: Rater, lesson_id: int, session: SessionDep) -> ShownLesson:
    """One lesson, to be ordered."""
    shown = practice.shown_lesson(session, member.project, lesson_id, rater_id=member.person.id)
    messages = [{"role": message["role"], "content": message["content"]} for message in shown.messages]
    responses = [card.text for card in shown.cards]
    return ShownLesson(id=lesson_id, messages=messages, warnings=shown.warnings, responses=responses)


@router.post("/practice/{lesson_id}")
def answer_lesson(member: Rater, lesson_id: int, body: OrderBody, session: SessionDep) -> FeedbackAnswer:
    """Answer a lesson; never a ranking."""
    kept = practice.answer_lesson(session, member.project, lesson_id, **body.model_dump(), rater_id=member.person.id)
    told = practice.feedback_on(session, member.project, kept.id, rater_id=member.person.id)
    return FeedbackAnswer(
        answer_id=kept.id,
        ranks=told.ranks,
        expert_ranks=told.shown.expert,
        num_pairs=kept.num_pairs,
        num_agreed=kept.num_agreed,
        explanation=told.shown.explanation,
        guideline_edition=told.edition,
    )


@router.get("/quiz")
def show_quiz(member: Rater, session: SessionDep) -> QuizAnswer:
    """The questions, while the quiz is open to the caller."""
    standing = standing_of(session, member.project, rater_id=member.person.id)
    if standing.step != "quiz":
        raise Conflict(standing.sentence(member.project) or "There is no quiz for you to take.")
    questions = [AskedQuestion.model_validate(question) for question in quiz.questions_of(session, member.project)]
    return QuizAnswer(standing=_standing(standing), pass_percent=member.project.quiz_pass_percent, questions=questions)


@router.post("/quiz")
def take_quiz(member: Rater, body: TryBody, session: SessionDep) -> TryAnswer:
    """Mark a try."""
    made = quiz.attempt(
        session,
        member.project,
        rater_id=member.person.id,
        answers={chosen.question_id: chosen.option for chosen in body.answers},
        idempotency_key=body.idempotency_key,
    )
    _, rows = quiz.marked(session, member.project, made.id, rater_id=member.person.id)
    return TryAnswer(
        id=made.id,
        num_right=made.num_right,
        num_questions=made.num_questions,
        is_passed=made.is_passed,
        standing=_standing(standing_of(session, member.project, rater_id=member.person.id)),
        answers=[_marked(row) for row in rows],
    )


def _marked(row: quiz.Marked) -> MarkedAnswer:
    return MarkedAnswer(
        question_id=row.question.id,
        option=row.chosen,
        is_right=row.is_right,
        correct=row.question.correct if row.is_told else None,
        explanation=row.question.explanation if row.is_told else None,
    )


def _standing(standing: Standing) -> StandingAnswer:
    return StandingAnswer.model_validate(standing)
