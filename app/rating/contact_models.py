"""What raters tell the people of a project: reports of a comparison, and questions about one."""

import datetime as dt

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Key, Now


class Report(Base):
    """A rater finds that nobody should be shown a comparison; an admin decides, once for all reports of it."""

    __tablename__ = "report"
    __table_args__ = (
        UniqueConstraint("comparison_id", "rater_id"),
        CheckConstraint("state IN ('open', 'kept', 'withdrawn')", name="state_is_known"),
        Index("ix_report_open", "project_id", "id", postgresql_where=text("state = 'open'")),
    )

    id: Mapped[Key]
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    comparison_id: Mapped[int] = mapped_column(ForeignKey("comparison.id"))
    rater_id: Mapped[int] = mapped_column(ForeignKey("person.id"), index=True)
    reason: Mapped[str]
    words: Mapped[str] = mapped_column(default="")
    state: Mapped[str] = mapped_column(default="open")
    note: Mapped[str] = mapped_column(default="")
    decided_by_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))
    decided_at: Mapped[dt.datetime | None]
    created_at: Mapped[Now]


class Thread(Base):
    """One rater's questions about one comparison. `waits_for`: whose turn it is to say something."""

    __tablename__ = "thread"
    __table_args__ = (
        UniqueConstraint("comparison_id", "rater_id"),
        CheckConstraint("waits_for IN ('admin', 'rater', 'nobody')", name="turn_is_known"),
        Index("ix_thread_project_id_waits_for", "project_id", "waits_for", "id"),
    )

    id: Mapped[Key]
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    comparison_id: Mapped[int] = mapped_column(ForeignKey("comparison.id"))
    rater_id: Mapped[int] = mapped_column(ForeignKey("person.id"), index=True)
    waits_for: Mapped[str] = mapped_column(default="admin")
    created_at: Mapped[Now]


class ThreadMessage(Base):
    """Something said in a thread; never changed."""

    __tablename__ = "thread_message"

    id: Mapped[Key]
    thread_id: Mapped[int] = mapped_column(ForeignKey("thread.id"), index=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("person.id"))
    is_answer: Mapped[bool] = mapped_column(default=False)
    text: Mapped[str]
    created_at: Mapped[Now]
