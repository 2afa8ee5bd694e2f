"""Imports as rows, so that progress and problems can be watched and survive a restart."""

import datetime as dt

from sqlalchemy import CheckConstraint, ForeignKey, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Key, Now


class ImportJob(Base):
    """One file on its way in. States: waiting, running, done, refused (bad lines, nothing kept), failed."""

    __tablename__ = "import_job"
    __table_args__ = (
        CheckConstraint("state IN ('waiting', 'running', 'done', 'refused', 'failed')", name="state_is_known"),
    )

    id: Mapped[Key]
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"), index=True)
    started_by_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))
    file_name: Mapped[str]
    stored_name: Mapped[str]
    file_hash: Mapped[bytes | None] = mapped_column(LargeBinary)
    format: Mapped[str] = mapped_column(default="auto")
    keep_good_lines: Mapped[bool] = mapped_column(default=False)
    state: Mapped[str] = mapped_column(default="waiting")
    bytes_total: Mapped[int] = mapped_column(default=0)
    bytes_done: Mapped[int] = mapped_column(default=0)
    num_lines: Mapped[int] = mapped_column(default=0)
    num_bad_lines: Mapped[int] = mapped_column(default=0)
    num_new_prompts: Mapped[int] = mapped_column(default=0)
    num_new_responses: Mapped[int] = mapped_column(default=0)
    num_new_comparisons: Mapped[int] = mapped_column(default=0)
    num_new_rankings: Mapped[int] = mapped_column(default=0)
    num_known: Mapped[int] = mapped_column(default=0)
    error: Mapped[str | None]
    heartbeat_at: Mapped[dt.datetime | None]
    created_at: Mapped[Now]
    finished_at: Mapped[dt.datetime | None]


class ImportProblem(Base):
    """Why one line was not accepted. The first 1,000 are kept; `num_bad_lines` counts all."""

    __tablename__ = "import_problem"

    id: Mapped[Key]
    import_id: Mapped[int] = mapped_column(ForeignKey("import_job.id", ondelete="CASCADE"), index=True)
    line: Mapped[int]
    reason: Mapped[str]
