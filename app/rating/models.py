"""Assignments (a comparison leased to a rater) and rankings (append-only)."""

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Key, Now


class Assignment(Base):
    """A comparison in one rater's hands. `shown_order` lists canonical positions as this rater sees them.

    While `state = 'leased'` the assignment holds one of the comparison's `leased` places.
    """

    __tablename__ = "assignment"
    __table_args__ = (
        UniqueConstraint("comparison_id", "rater_id"),
        CheckConstraint("state IN ('leased', 'ranked', 'expired', 'skipped', 'reopened')", name="state_is_known"),
        Index(
            "ix_assignment_active", "rater_id", "project_id", postgresql_where=text("state IN ('leased', 'reopened')")
        ),
        Index("ix_assignment_lease_until", "lease_until", postgresql_where=text("state = 'leased'")),
        Index("ix_assignment_rater_ranked", "rater_id", "project_id", "ranked_at"),
    )

    id: Mapped[Key]
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    comparison_id: Mapped[int] = mapped_column(ForeignKey("comparison.id"))
    rater_id: Mapped[int] = mapped_column(ForeignKey("person.id"))
    state: Mapped[str] = mapped_column(default="leased")
    shown_order: Mapped[list[int]]
    guideline_id: Mapped[int | None] = mapped_column(ForeignKey("guideline.id"))
    idempotency_key: Mapped[uuid.UUID] = mapped_column(default=uuid.uuid4)
    leased_at: Mapped[Now]
    lease_until: Mapped[dt.datetime]
    draft: Mapped[dict[str, Any] | None]
    draft_saved_at: Mapped[dt.datetime | None]
    skip_reason: Mapped[str | None]
    skip_note: Mapped[str | None]
    ranked_at: Mapped[dt.datetime | None]


class RaterQueue(Base):
    """How far along the queue a rater has come, so that the search for the next comparison starts there.

    `left_lead`: of pairs by two sources, how many more had the source of lower order on the left than on the right.
    """

    __tablename__ = "rater_queue"

    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"), primary_key=True)
    rater_id: Mapped[int] = mapped_column(ForeignKey("person.id"), primary_key=True)
    queue_key: Mapped[int] = mapped_column(default=-1)
    left_lead: Mapped[int] = mapped_column(default=0, server_default="0")


class Ranking(Base):
    """One rater's weak order over one comparison. Never updated: a correction is a new row that supersedes.

    `ranks` maps a response id (as text) to its rank, 1 best, equal ranks tied, null unranked. `strength` is
    1 to 4, "barely" to "much", for pairs. A `surplus` ranking came after the wanted number was reached: it
    is kept and paid, and does not count. `edited_id`: the best response as the rater edited it, which is better than
    all. `likert` maps response ids to marks from 1 to 7. The current ranking is the one that no other supersedes.
    """

    __tablename__ = "ranking"
    __table_args__ = (
        UniqueConstraint("idempotency_key"),
        UniqueConstraint("supersedes_id"),
        UniqueConstraint("assignment_id", "revision"),
        CheckConstraint("standing IN ('counted', 'surplus')", name="standing_is_known"),
        CheckConstraint("strength IS NULL OR strength BETWEEN 1 AND 4", name="strength_between_1_and_4"),
        Index("ix_ranking_project_id_id", "project_id", "id"),
        Index("ix_ranking_rater_id_id", "rater_id", "id"),
        Index("ix_ranking_rater_day", "rater_id", "project_id", "created_at", postgresql_include=["seconds"]),
        Index("ix_ranking_comparison_id", "comparison_id"),
        Index("ix_ranking_edited_id", "edited_id", postgresql_where=text("edited_id IS NOT NULL")),
    )

    id: Mapped[Key]
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    comparison_id: Mapped[int] = mapped_column(ForeignKey("comparison.id"))
    assignment_id: Mapped[int | None] = mapped_column(ForeignKey("assignment.id"))
    rater_id: Mapped[int] = mapped_column(ForeignKey("person.id"))
    guideline_id: Mapped[int | None] = mapped_column(ForeignKey("guideline.id"))
    idempotency_key: Mapped[uuid.UUID]
    request_hash: Mapped[bytes] = mapped_column(LargeBinary)
    revision: Mapped[int] = mapped_column(default=1)
    supersedes_id: Mapped[int | None] = mapped_column(ForeignKey("ranking.id"))
    standing: Mapped[str]
    ranks: Mapped[dict[str, Any]]
    all_bad: Mapped[bool] = mapped_column(default=False)
    strength: Mapped[int | None]
    attributes: Mapped[dict[str, Any]] = mapped_column(default=dict)
    flags: Mapped[dict[str, Any]] = mapped_column(default=dict)
    note: Mapped[str] = mapped_column(default="")
    reasons: Mapped[list[str]] = mapped_column(default=list, server_default="[]")
    likert: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    edited_id: Mapped[int | None] = mapped_column(ForeignKey("response.id"))
    shown_order: Mapped[list[int]]
    seconds: Mapped[float]
    is_simulated: Mapped[bool] = mapped_column(default=False)
    is_imported: Mapped[bool] = mapped_column(default=False)
    is_late: Mapped[bool] = mapped_column(default=False)
    is_too_fast: Mapped[bool] = mapped_column(default=False, server_default="false")
    created_at: Mapped[Now]
