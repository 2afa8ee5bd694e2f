"""Guideline editions: a draft has no number; a published one is immutable."""

import datetime as dt

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Key, Now


class Guideline(Base):
    """One edition, in Markdown. At most one draft per project; a trigger refuses changes to published ones."""

    __tablename__ = "guideline"
    __table_args__ = (
        UniqueConstraint("project_id", "edition"),
        Index("uq_guideline_draft", "project_id", unique=True, postgresql_where=text("published_at IS NULL")),
        CheckConstraint("(edition IS NULL) = (published_at IS NULL)", name="numbered_when_published"),
    )

    id: Mapped[Key]
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    edition: Mapped[int | None]
    body: Mapped[str]
    summary: Mapped[str] = mapped_column(default="")
    revision: Mapped[int] = mapped_column(default=1)
    written_by_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))
    published_by_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))
    created_at: Mapped[Now]
    published_at: Mapped[dt.datetime | None]


class Acknowledgement(Base):
    """A rater has read this edition and goes by it."""

    __tablename__ = "acknowledgement"

    guideline_id: Mapped[int] = mapped_column(ForeignKey("guideline.id"), primary_key=True)
    person_id: Mapped[int] = mapped_column(ForeignKey("person.id"), primary_key=True)
    acknowledged_at: Mapped[Now]
