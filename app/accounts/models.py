"""Tables of people and of the ways they prove who they are. Secrets are stored as hashes only."""

import datetime as dt
import secrets
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from app.accounts.browsers import browser_in_words
from app.db import Base, Key, Now


def new_pseudonym() -> str:
    """What others see of a rater in exports and statistics."""
    return "r-" + secrets.token_hex(5)


class Person(Base):
    """Someone who can sign in. Rankings refer to the id; exports show the pseudonym, never name or email."""

    __tablename__ = "person"
    __table_args__ = (
        Index("uq_person_email", "email", unique=True),
        CheckConstraint("email = lower(email)", name="email_is_lower"),
    )

    id: Mapped[Key]
    name: Mapped[str]
    email: Mapped[str]
    pseudonym: Mapped[str] = mapped_column(default=new_pseudonym, unique=True)
    password_hash: Mapped[str | None]
    is_site_admin: Mapped[bool] = mapped_column(default=False)
    is_active: Mapped[bool] = mapped_column(default=True)
    is_simulated: Mapped[bool] = mapped_column(default=False)
    preferences: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[Now]


class SignInSession(Base):
    """A browser that is signed in. The cookie holds the token, this row its hash."""

    __tablename__ = "sign_in_session"

    id: Mapped[Key]
    token_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    person_id: Mapped[int] = mapped_column(ForeignKey("person.id", ondelete="CASCADE"), index=True)
    user_agent: Mapped[str] = mapped_column(default="")
    created_at: Mapped[Now]
    last_seen_at: Mapped[Now]
    confirmed_at: Mapped[Now]

    @property
    def browser(self) -> str:
        """Browser and system in words."""
        return browser_in_words(self.user_agent)


class OneTimeLink(Base):
    """An invitation, a sign-in link, or the token that makes the first admin. Works once, before it expires."""

    __tablename__ = "one_time_link"
    __table_args__ = (CheckConstraint("purpose IN ('invitation', 'sign_in', 'first_admin')", name="purpose_is_known"),)

    id: Mapped[Key]
    token_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    purpose: Mapped[str]
    person_id: Mapped[int | None] = mapped_column(ForeignKey("person.id", ondelete="CASCADE"))
    project_id: Mapped[int | None] = mapped_column(ForeignKey("project.id", ondelete="CASCADE"))
    roles: Mapped[list[str]] = mapped_column(default=list)
    label: Mapped[str] = mapped_column(default="")
    created_by_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))
    created_at: Mapped[Now]
    expires_at: Mapped[dt.datetime]
    used_at: Mapped[dt.datetime | None]


class ApiToken(Base):
    """A token for programs: shown once, stored as a hash, limited to the scopes (roles) it names."""

    __tablename__ = "api_token"

    id: Mapped[Key]
    token_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    hint: Mapped[str]
    name: Mapped[str]
    person_id: Mapped[int] = mapped_column(ForeignKey("person.id", ondelete="CASCADE"), index=True)
    scopes: Mapped[list[str]]
    created_at: Mapped[Now]
    last_used_at: Mapped[dt.datetime | None]
    expires_at: Mapped[dt.datetime | None]
    revoked_at: Mapped[dt.datetime | None]


class RateLimit(Base):
    """Hits on one key within one window, such as sign-in attempts of an address in five minutes."""

    __tablename__ = "rate_limit"

    key: Mapped[str] = mapped_column(primary_key=True)
    window_start: Mapped[dt.datetime] = mapped_column(primary_key=True)
    hits: Mapped[int] = mapped_column(default=0)
