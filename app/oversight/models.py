"""Decisions on policies."""

from sqlalchemy import CheckConstraint, ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Key, Now


class Approval(Base):
    """One overseer's decision on one policy. It is bound to the manifest of the files that were judged."""

    __tablename__ = "approval"
    __table_args__ = (
        UniqueConstraint("model_version_id", "person_id"),
        CheckConstraint("decision IN ('approve', 'refuse')", name="decision_is_known"),
        CheckConstraint("requester_id IS NULL OR requester_id <> person_id", name="not_ones_own_run"),
    )

    id: Mapped[Key]
    model_version_id: Mapped[int] = mapped_column(ForeignKey("model_version.id"))
    person_id: Mapped[int] = mapped_column(ForeignKey("person.id"))
    requester_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))
    decision: Mapped[str]
    reason: Mapped[str]
    manifest_hash: Mapped[str]
    created_at: Mapped[Now]
