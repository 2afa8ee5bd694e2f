"""The quiz: questions as admins write them, and tries as raters take them."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app import audit
from app.errors import Conflict, Invalid, NotFound
from app.projects.models import Project
from app.prompts.service import check_text, digest
from app.teaching.gate import standing_of
from app.teaching.models import QuizAttempt, QuizQuestion

KINDS = {"choice": "Multiple choice", "pair": "Which response is better?"}
MAX_OPTIONS = 8
MAX_TEXT = 20_000


@dataclass(frozen=True)
class Marked:
    """One question of a try with what was chosen. `is_told`: the right option and the reason may be shown."""

    question: QuizQuestion
    chosen: int | None
    is_told: bool

    @property
    def is_right(self) -> bool:
        """Whether the right option was chosen."""
        return self.chosen == self.question.correct


def questions_of(session: Session, project: Project) -> list[QuizQuestion]:
    """Those that raters are asked, in the order in which they were written."""
    current = select(QuizQuestion).where(QuizQuestion.project_id == project.id, QuizQuestion.retired_at.is_(None))
    return list(session.scalars(current.order_by(QuizQuestion.place, QuizQuestion.id)))


def get_question(session: Session, project: Project, question_id: int) -> QuizQuestion:
    """A question that is in force.

    Raises:
        NotFound: there is none of that number. Conflict: it was replaced or removed meanwhile.
    """
    here = select(QuizQuestion).where(QuizQuestion.id == question_id, QuizQuestion.project_id == project.id)
    question = session.scalar(here)
    if question is None:
        raise NotFound("This project has no such question.")
    if question.retired_at is not None:
        raise Conflict("This question was changed or removed meanwhile. Go back to the list and open it anew.")
    return question


def write_question(
    session: Session,
    project: Project,
    *,
    kind: str,
    body: str,
    options: Sequence[str],
    correct: int | None,
    explanation: str,
    person_id: int,
    question_id: int | None = None,
) -> QuizQuestion:
    """Add a question, or replace `question_id`. Tries that were asked the one replaced keep it.

    Raises:
        Invalid: something is missing. NotFound: no such question. Conflict: somebody else has just changed it.
    """
    given = [_checked(option, "options", may_be_empty=True) for option in options]
    chosen = given[correct] if correct is not None and 0 <= correct < len(given) else ""
    texts = [option for option in given if option]
    if kind not in KINDS:
        raise Invalid(f"Choose a kind of question: {', '.join(KINDS)}.", field="kind")
    if not 2 <= len(texts) <= (2 if kind == "pair" else MAX_OPTIONS) or len(set(texts)) < len(texts):
        many = "two different responses" if kind == "pair" else f"2 to {MAX_OPTIONS} different options"
        raise Invalid(f"This kind of question needs {many}.", field="options")
    if not chosen:
        raise Invalid("Say which of the options is right.", field="correct")
    content = (kind, _checked(body, "body"), texts, texts.index(chosen), _checked(explanation, "explanation"))
    before = get_question(session, project, question_id) if question_id is not None else None
    if before is not None:
        _retire(session, before)
    question = QuizQuestion(
        project_id=project.id,
        place=before.place if before else _next_place(session, project),
        content_hash=digest(*content),
        kind=kind,
        body=content[1],
        options=texts,
        correct=content[3],
        explanation=content[4],
        replaces_id=question_id,
        written_by_id=person_id,
    )
    return _added(session, project, question, person_id)


def _next_place(session: Session, project: Project) -> int:
    last = select(func.max(QuizQuestion.place)).where(QuizQuestion.project_id == project.id)
    return (session.scalar(last) or 0) + 1


def _added(session: Session, project: Project, question: QuizQuestion, person_id: int) -> QuizQuestion:
    """The question, stored; the one that says the same, where there is one."""
    try:
        with session.begin_nested():
            session.add(question)
            session.flush()
    except IntegrityError:
        same = (QuizQuestion.project_id == project.id, QuizQuestion.content_hash == question.content_hash)
        return session.scalars(select(QuizQuestion).where(*same, QuizQuestion.retired_at.is_(None))).one()
    subject = f"quiz_question:{question.id}"
    audit.record(session, "question.written", subject=subject, actor_id=person_id, project_id=project.id)
    return question


def remove_question(session: Session, project: Project, question_id: int, *, person_id: int) -> None:
    """It is asked no more; twice is harmless.

    Raises:
        NotFound: there is none of that number.
    """
    here = (QuizQuestion.id == question_id, QuizQuestion.project_id == project.id)
    if session.scalar(select(QuizQuestion.id).where(*here)) is None:
        raise NotFound("This project has no such question.")
    gone = update(QuizQuestion).where(*here, QuizQuestion.retired_at.is_(None)).values(retired_at=func.now())
    if session.execute(gone).rowcount:  # type: ignore[attr-defined]
        subject = f"quiz_question:{question_id}"
        audit.record(session, "question.removed", subject=subject, actor_id=person_id, project_id=project.id)


def attempt(
    session: Session, project: Project, *, rater_id: int, answers: Mapping[int, int], idempotency_key: uuid.UUID
) -> QuizAttempt:
    """Mark a try. Sending a form twice counts once.

    Args:
        answers: from the id of a question to the place of the option chosen, 0 first.

    Raises:
        Invalid: a question is not answered. Conflict: there are no questions, no tries are left, or the quiz is passed;
            or the questions have changed since the form was shown.
    """
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"quiz:{project.id}:{rater_id}", 0))))
    before = session.scalar(select(QuizAttempt).where(QuizAttempt.idempotency_key == idempotency_key))
    if before is not None and before.rater_id == rater_id and before.project_id == project.id:
        return before
    if before is not None:
        raise NotFound("This form was not given to you.")
    questions = questions_of(session, project)
    _demand_open(session, project, questions, rater_id)
    if set(answers) - {question.id for question in questions}:
        raise Conflict("The questions have changed since you opened the quiz. Open it anew; this did not cost a try.")
    for number, question in enumerate(questions, start=1):
        if not 0 <= answers.get(question.id, -1) < len(question.options):
            raise Invalid(
                f"Question {number} has no answer yet. Answer all, then send.", field=f"question-{question.id}"
            )
    num_right = sum(answers[question.id] == question.correct for question in questions)
    made = QuizAttempt(
        project_id=project.id,
        rater_id=rater_id,
        idempotency_key=idempotency_key,
        answers={str(question.id): answers[question.id] for question in questions},
        num_questions=len(questions),
        num_right=num_right,
        pass_percent=project.quiz_pass_percent,
        is_passed=100 * num_right >= project.quiz_pass_percent * len(questions),
    )
    session.add(made)
    session.flush()
    return made


def _demand_open(session: Session, project: Project, questions: Sequence[QuizQuestion], rater_id: int) -> None:
    standing = standing_of(session, project, rater_id=rater_id)
    if not project.quiz_required or not questions:
        raise Conflict("This project has no quiz at present.")
    if standing.step == "practice":
        raise Conflict(standing.sentence(project))
    if standing.quiz_is_passed:
        raise Conflict("You have passed the quiz already. You can go on to the comparisons.")
    if not standing.tries_left:
        raise Conflict(f"You have used all {standing.tries} tries. Ask an admin of the project for new ones.")


def attempts_of(session: Session, project: Project, *, rater_id: int) -> list[QuizAttempt]:
    """A rater's tries, newest first."""
    mine = (QuizAttempt.project_id == project.id, QuizAttempt.rater_id == rater_id)
    return list(session.scalars(select(QuizAttempt).where(*mine).order_by(QuizAttempt.id.desc()).limit(100)))


def marked(session: Session, project: Project, attempt_id: int, *, rater_id: int) -> tuple[QuizAttempt, list[Marked]]:
    """A try with its questions as they were. What was wrong is told once no try is left that it would give away.

    Raises:
        NotFound: this rater has no such try.
    """
    mine = (QuizAttempt.id == attempt_id, QuizAttempt.project_id == project.id, QuizAttempt.rater_id == rater_id)
    found = session.scalar(select(QuizAttempt).where(*mine))
    if found is None:
        raise NotFound("You have no such try of the quiz.")
    standing = standing_of(session, project, rater_id=rater_id)
    is_over = standing.quiz_is_passed or not standing.tries_left or not standing.quiz_is_needed
    asked = select(QuizQuestion).where(QuizQuestion.id.in_([int(key) for key in found.answers]))
    rows = []
    for question in session.scalars(asked.order_by(QuizQuestion.place, QuizQuestion.id)):
        chosen = found.answers[str(question.id)]
        rows.append(Marked(question, chosen, is_told=is_over or chosen == question.correct))
    return found, rows


def _checked(text: str, where: str, *, may_be_empty: bool = False) -> str:
    cleaned = check_text(text, where=where).replace("\r\n", "\n").strip()
    if (not cleaned and not may_be_empty) or len(cleaned) > MAX_TEXT:
        words = {"body": "the question", "options": "an option", "explanation": "why the answer is right"}[where]
        raise Invalid(f"Write {words}, in 1 to {MAX_TEXT:,} characters.", field=where)
    return cleaned


def _retire(session: Session, question: QuizQuestion) -> None:
    retire = update(QuizQuestion).where(QuizQuestion.id == question.id, QuizQuestion.retired_at.is_(None))
    retired = session.execute(retire.values(retired_at=func.now()).execution_options(synchronize_session=False))
    if not retired.rowcount:  # type: ignore[attr-defined]
        raise Conflict("Somebody else has just changed this question. Open it anew.")
