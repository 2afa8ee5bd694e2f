"""Chats, their turns, the replies to each turn with where they came from, red-team reports, and registered endpoints."""

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Key, Now


class Chat(Base):
    """One rater's conversation. `is_red_team` is the project's mode at its start. `start_key` came with the form."""

    __tablename__ = "chat"
    __table_args__ = (
        UniqueConstraint("start_key"),
        CheckConstraint("state IN ('open', 'ended')", name="state_is_known"),
        Index("ix_chat_rater_id_project_id", "rater_id", "project_id", "id"),
    )

    id: Mapped[Key]
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"), index=True)
    rater_id: Mapped[int] = mapped_column(ForeignKey("person.id"))
    state: Mapped[str] = mapped_column(default="open")
    is_red_team: Mapped[bool] = mapped_column(default=False)
    start_key: Mapped[uuid.UUID]
    created_at: Mapped[Now]
    ended_at: Mapped[dt.datetime | None]


class ChatTurn(Base):
    """What the rater wrote, and what became of the replies to it.

    `round` counts how often all replies were written anew. `key` comes with the voting form and becomes the ranking's.
    """

    __tablename__ = "chat_turn"
    __table_args__ = (
        UniqueConstraint("chat_id", "number"),
        UniqueConstraint("say_key"),
        CheckConstraint("state IN ('open', 'chosen')", name="state_is_known"),
    )

    id: Mapped[Key]
    chat_id: Mapped[int] = mapped_column(ForeignKey("chat.id"))
    number: Mapped[int]
    text: Mapped[str]
    state: Mapped[str] = mapped_column(default="open")
    round: Mapped[int] = mapped_column(default=1)
    say_key: Mapped[uuid.UUID]
    key: Mapped[uuid.UUID] = mapped_column(default=uuid.uuid4)
    draft: Mapped[dict[str, Any] | None]
    chosen_place: Mapped[int | None]
    assignment_id: Mapped[int | None] = mapped_column(ForeignKey("assignment.id"))
    guideline_id: Mapped[int | None] = mapped_column(ForeignKey("guideline.id"))
    created_at: Mapped[Now]
    chosen_at: Mapped[dt.datetime | None]


class ChatReply(Base):
    """One reply: its place on the screen, and its source, which no rater sees. Earlier rounds are kept.

    A writer beats every second; `tries` is its fence: one that was overtaken can write nothing more.
    """

    __tablename__ = "chat_reply"
    __table_args__ = (
        UniqueConstraint("turn_id", "round", "place"),
        CheckConstraint("state IN ('waiting', 'writing', 'done', 'failed')", name="state_is_known"),
        CheckConstraint("(model_version_id IS NULL) <> (endpoint_id IS NULL)", name="one_source"),
    )

    id: Mapped[Key]
    turn_id: Mapped[int] = mapped_column(ForeignKey("chat_turn.id"))
    round: Mapped[int]
    place: Mapped[int]
    model_version_id: Mapped[int | None] = mapped_column(ForeignKey("model_version.id"))
    endpoint_id: Mapped[int | None] = mapped_column(ForeignKey("chat_endpoint.id"))
    source: Mapped[str]
    sampling: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(default="waiting")
    tries: Mapped[int] = mapped_column(default=0)
    text: Mapped[str] = mapped_column(default="")
    finish_reason: Mapped[str | None]
    error: Mapped[str] = mapped_column(default="")
    response_id: Mapped[int | None] = mapped_column(ForeignKey("response.id"))
    beat_at: Mapped[Now]
    finished_at: Mapped[dt.datetime | None]
    created_at: Mapped[Now]


class ChatProbe(Base):
    """A red-team report on one turn: which rule was tried (none is ""), whether it broke, and how badly (0 to 4)."""

    __tablename__ = "chat_probe"
    __table_args__ = (CheckConstraint("severity BETWEEN 0 AND 4", name="severity_between_0_and_4"),)

    turn_id: Mapped[int] = mapped_column(ForeignKey("chat_turn.id"), primary_key=True)
    rule: Mapped[str]
    broke: Mapped[bool]
    severity: Mapped[int]
    note: Mapped[str] = mapped_column(default="")
    created_at: Mapped[Now]


class ChatEndpoint(Base):
    """A model elsewhere that speaks the OpenAI protocol. `secret` is its key, encrypted; it is never shown again."""

    __tablename__ = "chat_endpoint"
    __table_args__ = (
        CheckConstraint("weight BETWEEN 0 AND 100", name="weight_between_0_and_100"),
        CheckConstraint("temperature >= 0 AND temperature <= 5", name="temperature_between_0_and_5"),
        Index("uq_chat_endpoint_name", "project_id", "name", unique=True, postgresql_where=text("removed_at IS NULL")),
    )

    id: Mapped[Key]
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    name: Mapped[str]
    base_url: Mapped[str]
    model: Mapped[str]
    secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    temperature: Mapped[float] = mapped_column(default=1.0)
    weight: Mapped[int] = mapped_column(default=1)
    is_enabled: Mapped[bool] = mapped_column(default=True)
    created_by_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))
    created_at: Mapped[Now]
    removed_at: Mapped[dt.datetime | None]
