"""What raters learn from before they rank: practice comparisons and quiz questions, and what they answered.

Lessons and questions never change: an edit is a new row that replaces the old one, so that answers keep their meaning.
"""

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Key, Now


class Lesson(Base):
    """A comparison with an expert's ranking and why. Raters practise on it; it is never handed out to be ranked.

    `ranks` maps a response id (as text) to the expert's rank, equal ranks tied. Those who practise are shown the lesson
    of a comparison that is not retired; there is one at most.
    """

    __tablename__ = "lesson"
    __table_args__ = (
        Index("uq_lesson_current", "comparison_id", unique=True, postgresql_where=text("retired_at IS NULL")),
        Index("ix_lesson_comparison_id", "comparison_id"),
        Index("ix_lesson_project_id", "project_id"),
        UniqueConstraint("replaces_id"),
    )

    id: Mapped[Key]
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    comparison_id: Mapped[int] = mapped_column(ForeignKey("comparison.id"))
    ranks: Mapped[dict[str, Any]]
    explanation: Mapped[str]
    guideline_id: Mapped[int | None] = mapped_column(ForeignKey("guideline.id"))
    replaces_id: Mapped[int | None] = mapped_column(ForeignKey("lesson.id"))
    written_by_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))
    created_at: Mapped[Now]
    retired_at: Mapped[dt.datetime | None]


class LessonAnswer(Base):
    """How a rater ordered a lesson's responses. Practice may be repeated; it is never a ranking."""

    __tablename__ = "lesson_answer"
    __table_args__ = (
        UniqueConstraint("idempotency_key"),
        Index("ix_lesson_answer_project_id_rater_id", "project_id", "rater_id"),
        Index("ix_lesson_answer_lesson_id", "lesson_id"),
    )

    id: Mapped[Key]
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    lesson_id: Mapped[int] = mapped_column(ForeignKey("lesson.id"))
    rater_id: Mapped[int] = mapped_column(ForeignKey("person.id"))
    idempotency_key: Mapped[uuid.UUID]
    ranks: Mapped[dict[str, Any]]
    shown_order: Mapped[list[int]]
    num_pairs: Mapped[int]
    num_agreed: Mapped[int]
    created_at: Mapped[Now]


class QuizQuestion(Base):
    """A question with 2 to 8 options, one of them right. Of kind `pair`, the options are two responses to a prompt.

    `place` orders the questions; what replaces a question takes its place.
    """

    __tablename__ = "quiz_question"
    __table_args__ = (
        CheckConstraint("kind IN ('choice', 'pair')", name="kind_is_known"),
        Index(
            "uq_quiz_question_current",
            "project_id",
            "content_hash",
            unique=True,
            postgresql_where=text("retired_at IS NULL"),
        ),
        UniqueConstraint("replaces_id"),
    )

    id: Mapped[Key]
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    content_hash: Mapped[bytes] = mapped_column(LargeBinary)
    place: Mapped[int]
    kind: Mapped[str]
    body: Mapped[str]
    options: Mapped[list[str]]
    correct: Mapped[int]
    explanation: Mapped[str]
    replaces_id: Mapped[int | None] = mapped_column(ForeignKey("quiz_question.id"))
    written_by_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))
    created_at: Mapped[Now]
    retired_at: Mapped[dt.datetime | None]


class QuizAttempt(Base):
    """One try at the quiz. `answers` maps the id of a question as it then was (as text) to the option chosen."""

    __tablename__ = "quiz_attempt"
    __table_args__ = (
        UniqueConstraint("idempotency_key"),
        Index("ix_quiz_attempt_project_id_rater_id", "project_id", "rater_id"),
    )

    id: Mapped[Key]
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    rater_id: Mapped[int] = mapped_column(ForeignKey("person.id"))
    idempotency_key: Mapped[uuid.UUID]
    answers: Mapped[dict[str, Any]]
    num_questions: Mapped[int]
    num_right: Mapped[int]
    pass_percent: Mapped[int]
    is_passed: Mapped[bool]
    created_at: Mapped[Now]


class Ruling(Base):
    """An admin lets a rater through without practice and quiz (`pass`), or has them begin anew (`reset`). The newest holds."""

    __tablename__ = "teaching_ruling"
    __table_args__ = (
        CheckConstraint("kind IN ('pass', 'reset')", name="kind_is_known"),
        Index("ix_teaching_ruling_project_id_rater_id", "project_id", "rater_id"),
    )

    id: Mapped[Key]
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    rater_id: Mapped[int] = mapped_column(ForeignKey("person.id"))
    kind: Mapped[str]
    reason: Mapped[str] = mapped_column(default="")
    ruled_by_id: Mapped[int] = mapped_column(ForeignKey("person.id"))
    created_at: Mapped[Now]
