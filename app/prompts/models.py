"""What is rated: a prompt, responses to it, and comparisons that put K responses before raters."""

import datetime as dt
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Key, Now


class Prompt(Base):
    """A conversation that ends with the user's turn: `messages` is [{"role", "content"}, ...].

    `written_by_id` is the rater who wrote it, if one did: nobody ranks what they wrote. `warnings`: categories of content
    that its readers are warned of, in the responses too.
    """

    __tablename__ = "prompt"
    __table_args__ = (
        UniqueConstraint("project_id", "content_hash"),
        CheckConstraint("split IN ('train', 'heldout')", name="split_is_known"),
    )

    id: Mapped[Key]
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    content_hash: Mapped[bytes] = mapped_column(LargeBinary)
    messages: Mapped[list[dict[str, Any]]]
    topic: Mapped[str | None]
    external_id: Mapped[str | None]
    split: Mapped[str] = mapped_column(default="train")
    written_by_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))
    warnings: Mapped[list[str]] = mapped_column(default=list, server_default="[]")
    import_id: Mapped[int | None] = mapped_column(ForeignKey("import_job.id"))
    created_at: Mapped[Now]


class RaterCare(Base):
    """What a rater has asked for in a project: categories of content that they are never given."""

    __tablename__ = "rater_care"

    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"), primary_key=True)
    rater_id: Mapped[int] = mapped_column(ForeignKey("person.id"), primary_key=True)
    opted_out: Mapped[list[str]] = mapped_column(default=list)
    changed_at: Mapped[Now]


class Response(Base):
    """A model's output, or a demonstration written by a person, to one prompt.

    `content_hash` covers origin, source and text, so that an import done twice changes nothing while two
    models that say the same stay two responses. `source` is never shown to a rater.
    """

    __tablename__ = "response"
    __table_args__ = (
        UniqueConstraint("prompt_id", "content_hash"),
        CheckConstraint("origin IN ('imported', 'sampled', 'written', 'edited')", name="origin_is_known"),
    )

    id: Mapped[Key]
    prompt_id: Mapped[int] = mapped_column(ForeignKey("prompt.id"))
    content_hash: Mapped[bytes] = mapped_column(LargeBinary)
    text: Mapped[str]
    origin: Mapped[str]
    source: Mapped[str] = mapped_column(default="")
    model_version_id: Mapped[int | None] = mapped_column(ForeignKey("model_version.id"), index=True)
    run_id: Mapped[int | None] = mapped_column(ForeignKey("run.id"))
    written_by_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))
    finish_reason: Mapped[str | None]
    sampling: Mapped[dict[str, Any]] = mapped_column(default=dict)
    import_id: Mapped[int | None] = mapped_column(ForeignKey("import_job.id"))
    created_at: Mapped[Now]


class Comparison(Base):
    """One prompt with its K responses, put before `wanted` raters.

    The database itself holds the number of raters: a ranking may count only while
    `counted + leased <= wanted`. `queue_key` is the order in which comparisons are handed out.
    """

    __tablename__ = "comparison"
    __table_args__ = (
        UniqueConstraint("project_id", "content_hash"),
        CheckConstraint("wanted >= 0 AND leased >= 0 AND counted >= 0", name="counts_not_negative"),
        CheckConstraint("counted + leased <= wanted", name="never_more_raters_than_wanted"),
        CheckConstraint("state IN ('open', 'withdrawn')", name="state_is_known"),
        Index(
            "ix_comparison_available",
            "project_id",
            "queue_key",
            postgresql_where=text("state = 'open' AND counted + leased < wanted"),
        ),
        Index("ix_comparison_project_id_id", "project_id", "id"),
    )

    id: Mapped[Key]
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    prompt_id: Mapped[int] = mapped_column(ForeignKey("prompt.id"), index=True)
    content_hash: Mapped[bytes] = mapped_column(LargeBinary)
    state: Mapped[str] = mapped_column(default="open")
    wanted: Mapped[int]
    leased: Mapped[int] = mapped_column(default=0)
    counted: Mapped[int] = mapped_column(default=0)
    queue_key: Mapped[int]
    origin: Mapped[str] = mapped_column(default="imported")
    run_id: Mapped[int | None] = mapped_column(ForeignKey("run.id"))
    import_id: Mapped[int | None] = mapped_column(ForeignKey("import_job.id"))
    created_at: Mapped[Now]
    withdrawn_at: Mapped[dt.datetime | None]


class ComparisonResponse(Base):
    """The k-th response of a comparison, in canonical (not shown) order."""

    __tablename__ = "comparison_response"
    __table_args__ = (UniqueConstraint("comparison_id", "response_id"),)

    comparison_id: Mapped[int] = mapped_column(ForeignKey("comparison.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    response_id: Mapped[int] = mapped_column(ForeignKey("response.id"), index=True)
