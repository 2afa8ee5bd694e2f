"""Writing tasks (a prompt in one rater's hands) and demonstrations (append-only)."""

import datetime as dt
import uuid

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Key, Now


class WritingTask(Base):
    """A prompt that a rater writes a response to. While `leased`, nobody else is given the place that it holds."""

    __tablename__ = "writing_task"
    __table_args__ = (
        UniqueConstraint("prompt_id", "writer_id"),
        CheckConstraint("state IN ('leased', 'written', 'skipped', 'expired')", name="state_is_known"),
        Index(
            "uq_writing_task_in_hand",
            "project_id",
            "writer_id",
            unique=True,
            postgresql_where=text("state = 'leased'"),
        ),
    )

    id: Mapped[Key]
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    prompt_id: Mapped[int] = mapped_column(ForeignKey("prompt.id"))
    writer_id: Mapped[int] = mapped_column(ForeignKey("person.id"))
    state: Mapped[str] = mapped_column(default="leased")
    guideline_id: Mapped[int | None] = mapped_column(ForeignKey("guideline.id"))
    draft: Mapped[str] = mapped_column(default="")
    skip_reason: Mapped[str | None]
    skip_note: Mapped[str | None]
    idempotency_key: Mapped[uuid.UUID] = mapped_column(default=uuid.uuid4)
    leased_at: Mapped[Now]
    lease_until: Mapped[dt.datetime]


class Demonstration(Base):
    """What was written, as a response of origin `written`. Never updated: a correction is a revision that supersedes."""

    __tablename__ = "demonstration"
    __table_args__ = (
        UniqueConstraint("idempotency_key"),
        UniqueConstraint("supersedes_id"),
        UniqueConstraint("task_id", "revision"),
        Index("ix_demonstration_response_id", "response_id"),
        Index("ix_demonstration_project_id_writer_id", "project_id", "writer_id"),
    )

    id: Mapped[Key]
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    task_id: Mapped[int] = mapped_column(ForeignKey("writing_task.id"))
    response_id: Mapped[int] = mapped_column(ForeignKey("response.id"))
    writer_id: Mapped[int] = mapped_column(ForeignKey("person.id"))
    guideline_id: Mapped[int | None] = mapped_column(ForeignKey("guideline.id"))
    idempotency_key: Mapped[uuid.UUID]
    revision: Mapped[int] = mapped_column(default=1)
    supersedes_id: Mapped[int | None] = mapped_column(ForeignKey("demonstration.id"))
    created_at: Mapped[Now]
