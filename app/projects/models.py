"""Projects and who does what in them."""

import datetime as dt
import enum
import json
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Key, Now

WARNINGS = [
    {"key": "violence", "label": "Violence", "help": ""},
    {"key": "sexual", "label": "Sexual content", "help": ""},
    {"key": "self_harm", "label": "Self-harm or suicide", "help": ""},
    {"key": "hate", "label": "Hate or harassment", "help": ""},
]
"""Categories of content that a new project warns of."""


class Role(enum.StrEnum):
    """What a member may do in a project. A person may hold several."""

    RATER = "rater"
    ADMIN = "admin"
    OPERATOR = "operator"
    OVERSEER = "overseer"


class Project(Base):
    """One effort: prompts, guidelines, raters and the models that learn from them.

    `sampling` and `training` are validated by `app.projects.settings`; the rest is columns because the
    rating path reads it on every request.
    """

    __tablename__ = "project"
    __table_args__ = (
        CheckConstraint("responses_per_comparison BETWEEN 2 AND 9", name="responses_between_2_and_9"),
        CheckConstraint("raters_per_comparison BETWEEN 1 AND 100", name="raters_between_1_and_100"),
        CheckConstraint("threshold BETWEEN 1 AND 10000000", name="threshold_positive"),
        CheckConstraint("lease_minutes BETWEEN 1 AND 1440", name="lease_within_a_day"),
        CheckConstraint("chat_replies BETWEEN 2 AND 4", name="chat_replies_between_2_and_4"),
        CheckConstraint("chat_min_turns BETWEEN 0 AND 50", name="chat_min_turns_between_0_and_50"),
        CheckConstraint("max_hours_per_day BETWEEN 0 AND 24", name="hours_of_a_day"),
    )

    id: Mapped[Key]
    slug: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    description: Mapped[str] = mapped_column(default="")
    template: Mapped[str] = mapped_column(default="ranking")
    responses_per_comparison: Mapped[int] = mapped_column(default=4)
    raters_per_comparison: Mapped[int] = mapped_column(default=1)
    allow_ties: Mapped[bool] = mapped_column(default=True)
    allow_all_bad: Mapped[bool] = mapped_column(default=True)
    allow_partial: Mapped[bool] = mapped_column(default=False)
    ask_strength: Mapped[bool] = mapped_column(default=False)
    attributes: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    flags: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    warnings: Mapped[list[dict[str, Any]]] = mapped_column(
        default=lambda: [dict(row) for row in WARNINGS], server_default=json.dumps(WARNINGS)
    )
    reasons: Mapped[list[dict[str, Any]]] = mapped_column(default=list, server_default="[]")
    allow_edit: Mapped[bool] = mapped_column(default=False, server_default="false")
    require_reason: Mapped[bool] = mapped_column(default=False, server_default="false")
    ask_likert: Mapped[bool] = mapped_column(default=False, server_default="false")
    lease_minutes: Mapped[int] = mapped_column(default=30)
    allow_chat: Mapped[bool] = mapped_column(default=False, server_default="false")
    chat_replies: Mapped[int] = mapped_column(default=2, server_default="2")
    chat_min_turns: Mapped[int] = mapped_column(default=0, server_default="0")
    red_team: Mapped[bool] = mapped_column(default=False, server_default="false")
    rules: Mapped[list[dict[str, Any]]] = mapped_column(default=list, server_default="[]")
    max_rankings_per_day: Mapped[int] = mapped_column(default=0, server_default="0")
    max_hours_per_day: Mapped[int] = mapped_column(default=0, server_default="0")
    break_minutes: Mapped[int] = mapped_column(default=50, server_default="50")
    threshold: Mapped[int] = mapped_column(default=200)
    auto_train: Mapped[bool] = mapped_column(default=True)
    include_simulated: Mapped[bool] = mapped_column(default=True)
    practice_comparisons: Mapped[int] = mapped_column(default=0, server_default="0")
    quiz_required: Mapped[bool] = mapped_column(default=False, server_default="false")
    quiz_pass_percent: Mapped[int] = mapped_column(default=80, server_default="80")
    quiz_tries: Mapped[int] = mapped_column(default=3, server_default="3")
    demonstrations_per_prompt: Mapped[int] = mapped_column(default=0, server_default="0")
    base_model: Mapped[str] = mapped_column(default="")
    sampling: Mapped[dict[str, Any]] = mapped_column(default=dict)
    training: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_by_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))
    created_at: Mapped[Now]
    archived_at: Mapped[dt.datetime | None]


class Membership(Base):
    """One role of one person in one project."""

    __tablename__ = "membership"
    __table_args__ = (
        UniqueConstraint("project_id", "person_id", "role"),
        CheckConstraint("role IN ('rater', 'admin', 'operator', 'overseer')", name="role_is_known"),
    )

    id: Mapped[Key]
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    person_id: Mapped[int] = mapped_column(ForeignKey("person.id"), index=True)
    role: Mapped[str]
    created_at: Mapped[Now]
