"""The life of a run: every change of state is one compare-and-set, and every write of a trainer carries its fence."""

import datetime as dt
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app import audit
from app.config import get_settings
from app.errors import Conflict, NotFound
from app.projects.models import Project
from app.queue import enqueue
from app.training.models import Kind, Run, RunLog, RunMetric, State

ACTIVE = (State.QUEUED, State.RUNNING)
ENDED = (State.SUCCEEDED, State.FAILED, State.CANCELLED)
RESEND_SECONDS = 30

ADVICE = {
    "oom": "The run needs more memory than there is. Lower batch size or length in the settings, then retry.",
    "disk": "The disk of the data folder is full. Free some space, then retry: the run goes on from its last checkpoint.",
    "cuda": "The GPU failed. Look at it (nvidia-smi), then retry: the run goes on from its last checkpoint.",
    "nan": "The loss stopped being a number. Lower the learning rate in the settings and start a new run.",
    "lost": "The process that trained was lost again and again. Look at the worker's log, then retry.",
    "data": "The data does not allow this run.",
    "bug": "Something broke in the trainer; the log has the details. Retry once; if it happens again, report it.",
}


def request_run(
    session: Session,
    project: Project,
    kind: str,
    *,
    trigger: str,
    started_by_id: int | None = None,
    settings: dict[str, Any] | None = None,
    unless_active: bool = False,
) -> Run:
    """Queue a run and, once committed, ring for a worker.

    Raises:
        Conflict: one of this kind is active, unless `unless_active`, which then returns that one.
    """
    values = {"project_id": project.id, "kind": kind, "trigger": trigger, "started_by_id": started_by_id}
    made: Run | None = session.scalar(
        insert(Run)
        .values(**values, settings=settings or {}, state=State.QUEUED, result={})
        .on_conflict_do_nothing(index_elements=["project_id", "kind"], index_where=Run.state.in_(ACTIVE))
        .returning(Run)
    )
    if made is None:
        return _active(session, project, kind, unless_active=unless_active)
    enqueue(session, "run", subject_id=made.id)
    audit.record(
        session,
        "run.requested",
        subject=f"run:{made.id}",
        actor_id=started_by_id,
        project_id=project.id,
        details={"kind": kind, "trigger": trigger},
    )
    return made


def _active(session: Session, project: Project, kind: str, *, unless_active: bool) -> Run:
    active = session.scalar(select(Run).where(Run.project_id == project.id, Run.kind == kind, Run.state.in_(ACTIVE)))
    if active is not None and unless_active:
        return active
    name = f"Run {active.id}" if active else "A run"
    raise Conflict(f"{name} of kind {kind} is already under way in this project. Wait for it, or cancel it first.")


def get_run(session: Session, project: Project, run_id: int) -> Run:
    """A run of this project.

    Raises:
        NotFound: it has no such run.
    """
    run = session.scalar(select(Run).where(Run.id == run_id, Run.project_id == project.id))
    if run is None:
        raise NotFound("This project has no such run.")
    return run


def cancel_run(session: Session, project: Project, run_id: int, *, person_id: int | None) -> Run:
    """Cancel: at once when queued, within two seconds when running. Twice is harmless.

    Raises:
        Conflict: it has ended.
    """
    run = get_run(session, project, run_id)
    queued = update(Run).where(Run.id == run.id, Run.state == State.QUEUED)
    running = update(Run).where(Run.id == run.id, Run.state == State.RUNNING)
    if not _did(session, queued.values(state=State.CANCELLED, finished_at=func.now())) and not _did(
        session, running.values(cancel_requested_at=func.coalesce(Run.cancel_requested_at, func.now()))
    ):
        session.refresh(run)
        if run.state == State.CANCELLED:
            return run
        raise Conflict(f"Run {run.id} has ended ({run.state}); there is nothing to cancel.")
    audit.record(session, "run.cancelled", subject=f"run:{run.id}", actor_id=person_id, project_id=project.id)
    session.refresh(run)
    return run


def retry_run(session: Session, project: Project, run_id: int, *, person_id: int | None) -> Run:
    """Queue an ended run again; it goes on from its last checkpoint.

    Raises:
        Conflict: it did not fail, or another of its kind is active.
    """
    run = get_run(session, project, run_id)
    if run.state not in {State.FAILED, State.CANCELLED}:
        raise Conflict(f"Run {run.id} is {run.state}; only failed and cancelled runs can be retried.")
    if session.scalar(select(Run.id).where(Run.project_id == project.id, Run.kind == run.kind, Run.state.in_(ACTIVE))):
        raise Conflict(f"Another run of kind {run.kind} is under way. Wait for it, or cancel it first.")
    again = {
        "state": State.QUEUED,
        "attempt": 0,
        "cancel_requested_at": None,
        "error": None,
        "error_class": None,
        "finished_at": None,
        "queued_at": func.now(),
    }
    if not _did(session, update(Run).where(Run.id == run.id, Run.state == run.state).values(again)):
        raise Conflict(f"Someone else has just changed run {run.id}. Look again.")
    enqueue(session, "run", subject_id=run.id)
    audit.record(session, "run.retried", subject=f"run:{run.id}", actor_id=person_id, project_id=project.id)
    session.refresh(run)
    return run


def claim_run(session: Session, run_id: int, *, worker: str) -> Run | None:
    """Take a queued or lost run: raises the fence and sets the lease. None when another has it, or it has ended."""
    lease = dt.timedelta(seconds=get_settings().run_lease_seconds)
    lost = (Run.state == State.RUNNING) & (Run.lease_until < func.now())
    claim = (
        update(Run)
        .where(Run.id == run_id, (Run.state == State.QUEUED) | lost)
        .values(
            state=State.RUNNING,
            fence=Run.fence + 1,
            attempt=Run.attempt + 1,
            worker=worker,
            lease_until=func.now() + lease,
            heartbeat_at=func.now(),
            started_at=func.coalesce(Run.started_at, func.now()),
        )
        .returning(Run)
    )
    return session.scalar(claim.execution_options(synchronize_session=False, populate_existing=True))


def renew_lease(session: Session, run_id: int, *, fence: int) -> str:
    """`go`, `cancel` (somebody asked for it) or `lost` (the run belongs to another process)."""
    lease = dt.timedelta(seconds=get_settings().run_lease_seconds)
    renewed = (
        update(Run)
        .where(Run.id == run_id, Run.fence == fence, Run.state == State.RUNNING)
        .values(lease_until=func.now() + lease, heartbeat_at=func.now())
        .returning(Run.cancel_requested_at)
    )
    row = session.execute(renewed.execution_options(synchronize_session=False)).first()
    return "lost" if row is None else "cancel" if row.cancel_requested_at is not None else "go"


def check_run(session: Session, run_id: int, *, fence: int) -> str:
    """Like `renew_lease`, without writing."""
    query = select(Run.cancel_requested_at).where(Run.id == run_id, Run.fence == fence, Run.state == State.RUNNING)
    row = session.execute(query).first()
    return "lost" if row is None else "cancel" if row.cancel_requested_at is not None else "go"


def release_run(session: Session, run_id: int, *, fence: int) -> bool:
    """Put a run back into the queue, as when its worker shuts down; it does not count as an attempt."""
    back = update(Run).where(Run.id == run_id, Run.fence == fence, Run.state == State.RUNNING)
    done = _did(
        session, back.values(state=State.QUEUED, lease_until=None, attempt=Run.attempt - 1, queued_at=func.now())
    )
    if done:
        enqueue(session, "run", subject_id=run_id)
    return done


def finish_run(session: Session, run_id: int, *, fence: int, state: str = State.SUCCEEDED, **values: Any) -> bool:
    """End a run under its fence; False when it belongs to another process now."""
    end = update(Run).where(Run.id == run_id, Run.fence == fence, Run.state == State.RUNNING)
    progress = {"progress": 1.0} if state == State.SUCCEEDED else {}
    return _did(session, end.values(state=state, finished_at=func.now(), lease_until=None, **progress, **values))


def fail_run(session: Session, run_id: int, *, fence: int, error_class: str, reason: str = "") -> bool:
    """Fail a run with a sentence that says what to do."""
    sentence = f"{reason} {ADVICE[error_class]}".strip()
    write_log(session, run_id, sentence, level="error")
    return finish_run(session, run_id, fence=fence, state=State.FAILED, error_class=error_class, error=sentence)


def note_progress(session: Session, run_id: int, *, fence: int, **values: Any) -> bool:
    """Phase, step, total_steps, progress, result or snapshot; False when the fence is stale."""
    return _did(
        session, update(Run).where(Run.id == run_id, Run.fence == fence, Run.state == State.RUNNING).values(values)
    )


def write_metrics(session: Session, run_id: int, *, fence: int, rows: list[dict[str, Any]]) -> bool:
    """Store what steps measured: rows of phase, step and values. Nothing is written under a stale fence."""
    holds = select(Run.id).where(Run.id == run_id, Run.fence == fence, Run.state == State.RUNNING)
    if session.scalar(holds.with_for_update(read=True)) is None:
        return False
    if rows:
        statement = insert(RunMetric).values([{"run_id": run_id, **row} for row in rows])
        changed = {"values": statement.excluded["values"]}
        session.execute(statement.on_conflict_do_update(index_elements=["run_id", "phase", "step"], set_=changed))
    return True


def write_log(session: Session, run_id: int, line: str, *, level: str = "info") -> None:
    """A line for the operator."""
    session.add(RunLog(run_id=run_id, line=line[:2000].replace("\x00", ""), level=level))


def reap_lost_runs(session: Session) -> list[int]:
    """Take back runs whose lease ran out: queued again while attempts are left, else failed. Ids of those queued."""
    lost = (Run.state == State.RUNNING) & (Run.lease_until < func.now())
    limit = get_settings().max_run_attempts
    spent = update(Run).where(lost, Run.attempt >= limit)
    session.execute(
        spent.values(
            state=State.FAILED, error_class="lost", error=ADVICE["lost"], finished_at=func.now(), lease_until=None
        )
    )
    back = (
        update(Run).where(lost, Run.attempt < limit).values(state=State.QUEUED, lease_until=None, queued_at=func.now())
    )
    ids = list(session.scalars(back.returning(Run.id)))
    for run_id in ids:
        write_log(
            session,
            run_id,
            "The process that trained was lost; the run goes on from its last checkpoint.",
            level="warning",
        )
        enqueue(session, "run", subject_id=run_id)
    return ids


def resend_queued(session: Session) -> int:
    """Ring again for runs that have been queued for a while: the broker may have lost their message."""
    since = dt.timedelta(seconds=RESEND_SECONDS)
    stale = update(Run).where(Run.state == State.QUEUED, Run.queued_at < func.now() - since)
    ids = list(session.scalars(stale.values(queued_at=func.now()).returning(Run.id)))
    for run_id in ids:
        enqueue(session, "run", subject_id=run_id)
    return len(ids)


def metrics_of(session: Session, run_id: int, *, after: int = 0) -> list[RunMetric]:
    """What was measured, in the order of phases and steps."""
    query = select(RunMetric).where(RunMetric.run_id == run_id, RunMetric.step > after)
    return list(session.scalars(query.order_by(RunMetric.created_at, RunMetric.step)))


def log_of(session: Session, run_id: int, *, limit: int = 50) -> list[RunLog]:
    """The last lines of the log, oldest first."""
    newest = session.scalars(
        select(RunLog).where(RunLog.run_id == run_id).order_by(RunLog.id.desc()).limit(limit)
    ).all()
    return list(reversed(newest))


def _did(session: Session, statement: Any) -> bool:
    """Whether a compare-and-set changed its row."""
    result: Any = session.execute(statement.execution_options(synchronize_session=False))
    return bool(result.rowcount)


KINDS = {
    Kind.SFT: "Fine-tune the base model on demonstrations, or take it as it is where there are none: the first policy.",
    Kind.REWARD: "Train a reward model on all rankings so far, and evaluate it on held-out prompts.",
    Kind.PPO: "Optimise the serving policy against the newest reward model.",
    Kind.LOOP: "Reward model, PPO and evaluation; leaves a candidate for an overseer.",
    Kind.SAMPLE: "Let the serving policy write responses, and open comparisons of them.",
}


def eta_seconds(session: Session, run: Run) -> float | None:
    """Seconds to go, from the progress so far; None before there is any."""
    if run.state != State.RUNNING or run.started_at is None or run.progress < 0.02:
        return None
    elapsed = float(session.scalar(select(func.extract("epoch", func.now() - run.started_at))) or 0.0)
    return elapsed * (1 - run.progress) / run.progress
