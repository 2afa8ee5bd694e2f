"""Training as rows: the run is the truth, the Celery message only its id."""

import datetime as dt
import enum
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Key, Now


class Kind(enum.StrEnum):
    """What a run does. `loop` is reward model, PPO and evaluation; it leaves a candidate."""

    SFT = "sft"
    REWARD = "reward"
    PPO = "ppo"
    LOOP = "loop"
    SAMPLE = "sample"


class State(enum.StrEnum):
    """Where a run is. Every change is a compare-and-set."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Snapshot(Base):
    """The frozen set of rankings that a run learned from. `content_hash` is sha256 over the sorted members."""

    __tablename__ = "snapshot"

    id: Mapped[Key]
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"), index=True)
    content_hash: Mapped[bytes] = mapped_column(LargeBinary)
    num_rankings: Mapped[int]
    num_preferences: Mapped[int]
    last_ranking_id: Mapped[int]
    created_at: Mapped[Now]


class SnapshotRanking(Base):
    """Membership of one ranking in one snapshot."""

    __tablename__ = "snapshot_ranking"

    snapshot_id: Mapped[int] = mapped_column(ForeignKey("snapshot.id"), primary_key=True)
    ranking_id: Mapped[int] = mapped_column(ForeignKey("ranking.id"), primary_key=True, index=True)


class Run(Base):
    """One training run. At most one active per project and kind, held by a partial unique index."""

    __tablename__ = "run"
    __table_args__ = (
        Index(
            "uq_run_active",
            "project_id",
            "kind",
            unique=True,
            postgresql_where=text("state IN ('queued', 'running')"),
        ),
        CheckConstraint("kind IN ('sft', 'reward', 'ppo', 'loop', 'sample')", name="kind_is_known"),
        CheckConstraint("state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')", name="state_is_known"),
        Index("ix_run_project_id_id", "project_id", "id"),
    )

    id: Mapped[Key]
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    kind: Mapped[str]
    state: Mapped[str] = mapped_column(default="queued")
    trigger: Mapped[str] = mapped_column(default="manual")
    started_by_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))
    settings: Mapped[dict[str, Any]] = mapped_column(default=dict)
    snapshot_id: Mapped[int | None] = mapped_column(ForeignKey("snapshot.id"))
    attempt: Mapped[int] = mapped_column(default=0)
    fence: Mapped[int] = mapped_column(default=0)
    worker: Mapped[str] = mapped_column(default="")
    lease_until: Mapped[dt.datetime | None]
    heartbeat_at: Mapped[dt.datetime | None]
    cancel_requested_at: Mapped[dt.datetime | None]
    phase: Mapped[str] = mapped_column(default="")
    step: Mapped[int] = mapped_column(default=0)
    total_steps: Mapped[int] = mapped_column(default=0)
    progress: Mapped[float] = mapped_column(default=0.0)
    error_class: Mapped[str | None]
    error: Mapped[str | None]
    result: Mapped[dict[str, Any]] = mapped_column(default=dict)
    queued_at: Mapped[Now]
    started_at: Mapped[dt.datetime | None]
    finished_at: Mapped[dt.datetime | None]
    created_at: Mapped[Now]


class RunMetric(Base):
    """What one step of one phase measured. Written under the run's fence; a resumed step writes over itself."""

    __tablename__ = "run_metric"

    run_id: Mapped[int] = mapped_column(ForeignKey("run.id"), primary_key=True)
    phase: Mapped[str] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    values: Mapped[dict[str, Any]]
    created_at: Mapped[Now]


class RunLog(Base):
    """A line for the operator."""

    __tablename__ = "run_log"
    __table_args__ = (Index("ix_run_log_run_id_id", "run_id", "id"),)

    id: Mapped[Key]
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id"))
    level: Mapped[str] = mapped_column(default="info")
    line: Mapped[str]
    created_at: Mapped[Now]


class Checkpoint(Base):
    """A complete checkpoint on disk, under the artifact root at runs/<run>/<fence>/<phase>-<step>."""

    __tablename__ = "checkpoint"
    __table_args__ = (UniqueConstraint("run_id", "fence", "phase", "step"),)

    id: Mapped[Key]
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id"))
    fence: Mapped[int]
    phase: Mapped[str]
    step: Mapped[int]
    manifest_hash: Mapped[str]
    created_at: Mapped[Now]


class ModelVersion(Base):
    """What a run leaves: a Hugging Face folder under the artifact root at models/<id>.

    Policies go base | candidate -> approved (serving is the one with the newest `serving_since`) or refused;
    reward models are `registered`.
    """

    __tablename__ = "model_version"
    __table_args__ = (
        UniqueConstraint("project_id", "kind", "number"),
        CheckConstraint("kind IN ('policy', 'reward_model')", name="kind_is_known"),
        CheckConstraint(
            "state IN ('base', 'candidate', 'serving', 'retired', 'refused', 'registered')", name="state_is_known"
        ),
        Index(
            "uq_model_version_serving",
            "project_id",
            unique=True,
            postgresql_where=text("kind = 'policy' AND state = 'serving'"),
        ),
    )

    id: Mapped[Key]
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    kind: Mapped[str]
    number: Mapped[int]
    state: Mapped[str]
    run_id: Mapped[int | None] = mapped_column(ForeignKey("run.id"))
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("model_version.id"))
    reward_model_id: Mapped[int | None] = mapped_column(ForeignKey("model_version.id"))
    snapshot_id: Mapped[int | None] = mapped_column(ForeignKey("snapshot.id"))
    manifest_hash: Mapped[str]
    num_parameters: Mapped[int] = mapped_column(default=0)
    metrics: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[Now]
    serving_since: Mapped[dt.datetime | None]
