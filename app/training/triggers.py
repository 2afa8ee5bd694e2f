"""When a run is due: enough new rankings, a policy to improve, and nothing of the kind under way."""

import sqlalchemy as sa
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.projects.models import Project
from app.training.models import Kind, ModelVersion, Run, Snapshot, State
from app.training.runs import request_run
from app.training.versions import serving_policy

# Rankings belong to a slice above this one, so they are read by table name.
_ranking = sa.table(
    "ranking",
    sa.column("id", sa.BigInteger),
    sa.column("project_id", sa.BigInteger),
    sa.column("revision", sa.BigInteger),
    sa.column("standing", sa.String),
    sa.column("is_imported", sa.Boolean),
    sa.column("is_simulated", sa.Boolean),
)


def count_new_rankings(session: Session, project: Project, *, at_most: int | None = None) -> int:
    """New rankings since the last loop run, as trigger and overview count them.

    Args:
        at_most: stop counting there, so that the cost does not grow with the project; None counts all.
    """
    new = select(_ranking.c.id).where(
        _ranking.c.project_id == project.id,
        _ranking.c.id > _last_consumed(project.id),
        _ranking.c.revision == 1,
        _ranking.c.standing == "counted",
        _ranking.c.is_imported.is_(False),
    )
    if not project.include_simulated:
        new = new.where(_ranking.c.is_simulated.is_(False))
    return session.scalar(select(func.count()).select_from(new.limit(at_most).subquery())) or 0


def request_if_due(session: Session, project: Project) -> Run | None:
    """Ask for a loop run when the threshold is reached. Called with every ranking, and again by the clock:
    when exactly the threshold commits at once, no transaction of them sees the full count.
    """
    if not project.auto_train or project.archived_at is not None:
        return None
    if count_new_rankings(session, project, at_most=project.threshold) < project.threshold:
        return None
    if serving_policy(session, project.id) is None or _is_busy(session, project.id):
        return None
    return request_run(session, project, Kind.LOOP, trigger="threshold", unless_active=True)


def _last_consumed(project_id: int) -> "sa.ScalarSelect[int]":
    """The newest ranking that a loop run has learned from, or is learning from."""
    return (
        select(func.coalesce(func.max(Snapshot.last_ranking_id), 0))
        .join(Run, Run.snapshot_id == Snapshot.id)
        .where(Run.project_id == project_id, Run.kind == Kind.LOOP, Run.state.not_in([State.FAILED, State.CANCELLED]))
        .scalar_subquery()
    )


def _is_busy(session: Session, project_id: int) -> bool:
    """A loop or first policy under way, a candidate that waits for its decision, or a loop run that failed and was not retried."""
    active = select(Run.id).where(
        Run.project_id == project_id, Run.kind.in_([Kind.LOOP, Kind.SFT]), Run.state.in_([State.QUEUED, State.RUNNING])
    )
    waiting = select(ModelVersion.id).where(ModelVersion.project_id == project_id, ModelVersion.state == "candidate")
    newest = (
        select(Run.state).where(Run.project_id == project_id, Run.kind == Kind.LOOP).order_by(Run.id.desc()).limit(1)
    )
    return (
        session.scalar(active.limit(1)) is not None
        or session.scalar(waiting.limit(1)) is not None
        or session.scalar(newest) in {State.FAILED, State.CANCELLED}
    )
