"""What a rater has to do before the first comparison: practise, and pass the quiz, where the project asks for it."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.accounts.models import Person
from app.projects.models import Project
from app.prompts.models import Comparison, Prompt
from app.prompts.wishes import is_welcome_to
from app.teaching.models import Lesson, LessonAnswer, QuizAttempt, QuizQuestion, Ruling


@dataclass(frozen=True)
class Standing:
    """How far a rater has come. `is_exempt`: let through by an admin, or simulated."""

    lessons_done: int = 0
    lessons_needed: int = 0
    quiz_is_needed: bool = False
    quiz_is_passed: bool = False
    tries_used: int = 0
    tries: int = 0
    pass_percent: int = 0
    is_exempt: bool = False

    @property
    def tries_left(self) -> int:
        """How often the quiz may still be taken."""
        return max(0, self.tries - self.tries_used)

    @property
    def step(self) -> str:
        """What comes next: `practice`, `quiz`, `stuck` (no tries are left), or "" when nothing is in the way."""
        if self.is_exempt:
            return ""
        if self.lessons_done < self.lessons_needed:
            return "practice"
        if not self.quiz_is_needed or self.quiz_is_passed:
            return ""
        return "quiz" if self.tries_left else "stuck"

    def sentence(self, project: Project) -> str:
        """Why no comparison is handed out, and what to do."""
        base = f"/projects/{project.slug}"
        return {
            "practice": f"This project asks you to practise first: {self.lessons_done} of {self.lessons_needed} practice "
            f"comparisons are done. Go on at {base}/practice.",
            "quiz": f"This project asks you to pass its quiz first: {self.pass_percent} % of the answers right, "
            f"{self.tries_left} of {self.tries} tries left. Take it at {base}/quiz.",
            "stuck": f"You have used all {self.tries} tries of the quiz, so there are no comparisons for you yet. "
            f"Ask an admin of the project for new tries; your results are at {base}/quiz.",
        }.get(self.step, "")


def standing_of(session: Session, project: Project, *, rater_id: int) -> Standing:
    """How far one rater has come; nothing is asked of the database where the project asks for nothing."""
    if not project.practice_comparisons and not project.quiz_required:
        return Standing()
    return standings_of(session, project, [rater_id])[rater_id]


def standings_of(session: Session, project: Project, rater_ids: Sequence[int]) -> dict[int, Standing]:
    """How far each of these raters has come."""
    lessons = select(func.count()).where(Lesson.project_id == project.id, Lesson.retired_at.is_(None))
    questions = select(func.count()).where(QuizQuestion.project_id == project.id, QuizQuestion.retired_at.is_(None))
    rows = session.execute(_progress(project).where(Person.id.in_(rater_ids))).all()
    num_lessons, num_questions = session.scalar(lessons) or 0, session.scalar(questions) or 0
    return {
        row.id: Standing(
            lessons_done=row.lessons_done,
            lessons_needed=min(project.practice_comparisons, num_lessons - row.lessons_unwelcome),
            quiz_is_needed=project.quiz_required and num_questions > 0,
            quiz_is_passed=row.passes > 0,
            tries_used=row.tries_used,
            tries=project.quiz_tries,
            pass_percent=project.quiz_pass_percent,
            is_exempt=row.is_simulated or row.ruling == "pass",
        )
        for row in rows
    }


def begun_anew_at(session: Session, project: Project, *, rater_id: int) -> dt.datetime | None:
    """When an admin last had this rater begin anew; nothing that was done before counts."""
    resets = (Ruling.project_id == project.id, Ruling.rater_id == rater_id, Ruling.kind == "reset")
    return session.scalar(select(func.max(Ruling.created_at)).where(*resets))


def is_ready(session: Session, project: Project, *, rater_id: int) -> bool:
    """Whether this rater may have comparisons."""
    return standing_of(session, project, rater_id=rater_id).step == ""


def _progress(project: Project) -> "sa.Select[tuple[int, bool, str | None, int, int, int, int]]":
    """Per person what was done since an admin last had them begin anew."""
    here = (Ruling.project_id == project.id, Ruling.rater_id == Person.id)
    newest = select(Ruling.kind).where(*here).order_by(Ruling.id.desc()).limit(1).scalar_subquery()
    resets = select(func.max(Ruling.created_at)).where(*here, Ruling.kind == "reset")
    reset_at = resets.correlate(Person).scalar_subquery()  # Two selects deep, where it would not be by itself.
    since = func.coalesce(reset_at, sa.text("'-infinity'::timestamptz"))
    lessons = (
        select(func.count(Lesson.comparison_id.distinct()))
        .join(LessonAnswer, LessonAnswer.lesson_id == Lesson.id)
        .where(LessonAnswer.project_id == project.id, LessonAnswer.rater_id == Person.id)
        .where(LessonAnswer.created_at > since)
    )
    unwelcome = (
        select(func.count())
        .select_from(Lesson)
        .join(Comparison, Comparison.id == Lesson.comparison_id)
        .join(Prompt, Prompt.id == Comparison.prompt_id)
        .where(Lesson.project_id == project.id, Lesson.retired_at.is_(None), ~is_welcome_to(Person.id))
        .correlate(Person)
    )
    tries = select(func.count()).where(
        QuizAttempt.project_id == project.id, QuizAttempt.rater_id == Person.id, QuizAttempt.created_at > since
    )
    return select(
        Person.id,
        Person.is_simulated,
        newest.label("ruling"),
        lessons.scalar_subquery().label("lessons_done"),
        unwelcome.scalar_subquery().label("lessons_unwelcome"),
        tries.scalar_subquery().label("tries_used"),
        tries.where(QuizAttempt.is_passed).scalar_subquery().label("passes"),
    )
