"""Model versions: which policy serves, what a run leaves behind, and how a candidate becomes the serving one."""

from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.errors import Conflict, NotFound
from app.projects.models import Project
from app.training.models import Checkpoint, ModelVersion, Run, State
from app.training.runs import note_progress


def serving_policy(session: Session, project_id: int) -> ModelVersion | None:
    """The policy that writes responses, if there is one."""
    query = select(ModelVersion).where(ModelVersion.project_id == project_id, ModelVersion.state == "serving")
    return session.scalar(query.where(ModelVersion.kind == "policy"))


def newest_version(session: Session, project_id: int, *, kind: str) -> ModelVersion | None:
    """The newest of a kind."""
    query = select(ModelVersion).where(ModelVersion.project_id == project_id, ModelVersion.kind == kind)
    return session.scalar(query.order_by(ModelVersion.number.desc()).limit(1))


def reward_model_before(session: Session, project_id: int, *, snapshot_id: int) -> ModelVersion | None:
    """The reward model that learned from the newest snapshot before this one."""
    query = select(ModelVersion).where(ModelVersion.project_id == project_id, ModelVersion.kind == "reward_model")
    return session.scalar(query.where(ModelVersion.snapshot_id < snapshot_id).order_by(ModelVersion.snapshot_id.desc()))


def get_version(session: Session, project: Project, version_id: int) -> ModelVersion:
    """A version of this project.

    Raises:
        NotFound: it has no such version.
    """
    version = session.scalar(
        select(ModelVersion).where(ModelVersion.id == version_id, ModelVersion.project_id == project.id)
    )
    if version is None:
        raise NotFound("This project has no such model version.")
    return version


def list_versions(session: Session, project: Project) -> list[ModelVersion]:
    """All, newest first."""
    query = select(ModelVersion).where(ModelVersion.project_id == project.id)
    return list(session.scalars(query.order_by(ModelVersion.id.desc()).limit(200)))


def register_version(
    session: Session, run: Run, *, kind: str, manifest_hash: str, state: str, **values: Any
) -> ModelVersion | None:
    """Add what a run leaves, under its fence; None when the run belongs to another process now."""
    holds = select(Run.id).where(Run.id == run.id, Run.fence == run.fence, Run.state == State.RUNNING)
    if session.scalar(holds.with_for_update()) is None:
        return None
    next_number = select(func.coalesce(func.max(ModelVersion.number) + 1, 0)).where(
        ModelVersion.project_id == run.project_id, ModelVersion.kind == kind
    )
    version = ModelVersion(
        project_id=run.project_id,
        run_id=run.id,
        kind=kind,
        number=session.scalar(next_number) or 0,
        state=state,
        manifest_hash=manifest_hash,
        serving_since=session.scalar(select(func.now())) if state == "serving" else None,
        **values,
    )
    session.add(version)
    session.flush()
    return version


def version_of_run(session: Session, run_id: int, *, kind: str) -> ModelVersion | None:
    """What this run has registered already, so that a resumed run does not do it twice."""
    return session.scalar(select(ModelVersion).where(ModelVersion.run_id == run_id, ModelVersion.kind == kind))


def make_serving(session: Session, version: ModelVersion, *, only_from: tuple[str, ...]) -> None:
    """Let this policy serve in the place of the present one, which retires.

    Raises:
        Conflict: it is in no state from which that is allowed.
    """
    others = (
        ModelVersion.project_id == version.project_id,
        ModelVersion.kind == "policy",
        ModelVersion.id != version.id,
    )
    retire = update(ModelVersion).where(*others, ModelVersion.state == "serving")
    session.execute(retire.values(state="retired"))
    promote = update(ModelVersion).where(ModelVersion.id == version.id, ModelVersion.state.in_(only_from))
    changed = session.execute(promote.values(state="serving", serving_since=func.now()))
    if changed.rowcount != 1:  # type: ignore[attr-defined]
        raise Conflict("Someone else has just decided on this policy. Look again.")
    session.refresh(version)


def record_checkpoint(session: Session, run: Run, *, phase: str, step: int, manifest_hash: str) -> None:
    """A checkpoint is whole on disk: the run gets on, and the attempts behind it no longer count against it."""
    note_progress(session, run.id, fence=run.fence, attempt=1)
    session.add(Checkpoint(run_id=run.id, fence=run.fence, phase=phase, step=step, manifest_hash=manifest_hash))
