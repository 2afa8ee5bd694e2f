"""The tasks: supervise one trainer process for one run, and import files. Never loads torch."""

import contextlib
import logging
import os
import shlex
import signal
import socket
import subprocess
import sys
import time

from app.config import get_settings
from app.training import runs
from app.training.models import Run, State
from worker.celery_app import celery_app
from worker.database import engine, in_transaction

log = logging.getLogger(__name__)

POLL_SECONDS = 0.25
TERM_SECONDS = 10.0
TAIL_BYTES = 4000


@celery_app.task(name="attune.run")
def run(run_id: int) -> None:
    """Claim a run and see it through. A second delivery finds the lease and leaves."""
    worker = f"{socket.gethostname()}:{os.getpid()}"
    claimed = in_transaction(lambda session: runs.claim_run(session, run_id, worker=worker))
    if claimed is None:
        log.info("Run %s is taken or has ended; nothing to do.", run_id)
        return
    log.info("Run %s (%s): attempt %s, fence %s.", run_id, claimed.kind, claimed.attempt, claimed.fence)
    supervise(claimed)


@celery_app.task(name="attune.import_file")
def import_file(import_id: int) -> None:
    """Import a file that was uploaded."""
    from app.exchange.service import run_import

    run_import(engine(), import_id)


def supervise(claimed: Run) -> None:
    """Start the trainer, keep the lease, watch for cancel; whatever the trainer left unsaid about its end is said here."""
    run_id, fence = claimed.id, claimed.fence
    log_path = get_settings().data_dir / "logs" / f"run-{run_id}.log"
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("ab") as out:
        trainer = subprocess.Popen(
            trainer_command(run_id, fence),
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=out,
            start_new_session=True,
            # Threads of OpenMP that wait in a loop take the processor from the website, and from each other.
            env={"OMP_WAIT_POLICY": "passive", **os.environ},
        )
    try:
        verdict = _watch(trainer, run_id, fence)
    except (SystemExit, KeyboardInterrupt):  # The worker shuts down: the run goes back, its checkpoint stays.
        _end(trainer)
        in_transaction(lambda session: runs.release_run(session, run_id, fence=fence), patience_seconds=5)
        raise
    finally:
        _end(trainer)
    _conclude(run_id, fence, verdict, returncode=trainer.returncode, tail=_tail(log_path))


def trainer_command(run_id: int, fence: int) -> list[str]:
    """This Python, or what the settings say (`accelerate launch`), on the trainer module."""
    launcher = shlex.split(get_settings().trainer_command) or [sys.executable]
    return [*launcher, "-m", "worker.trainer", str(run_id), str(fence)]


def _watch(trainer: subprocess.Popen[bytes], run_id: int, fence: int) -> str:
    """Until the trainer ends (`ended`), somebody cancels (`cancel`), or the run is another's (`lost`)."""
    renew_every = max(0.5, get_settings().run_lease_seconds / 6)
    renewed_at = 0.0
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            trainer.wait(POLL_SECONDS)
            return "ended"
        if time.monotonic() - renewed_at >= renew_every:
            answer = in_transaction(lambda session: runs.renew_lease(session, run_id, fence=fence))
            renewed_at = time.monotonic()
        else:
            answer = in_transaction(lambda session: runs.check_run(session, run_id, fence=fence))
        if answer == "lost" and trainer.poll() is not None:
            return "ended"
        if answer != "go":
            return answer


def _end(trainer: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the whole group, then SIGKILL. A trainer that has ended is left alone."""
    for number, seconds in ((signal.SIGTERM, TERM_SECONDS), (signal.SIGKILL, TERM_SECONDS)):
        if trainer.poll() is not None:
            break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(trainer.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            trainer.wait(seconds)
    if trainer.stdin:
        trainer.stdin.close()


def _conclude(run_id: int, fence: int, verdict: str, *, returncode: int | None, tail: str) -> None:
    """The trainer normally ends its run itself; this is for when it could not."""
    if verdict == "cancel":
        in_transaction(lambda session: runs.finish_run(session, run_id, fence=fence, state=State.CANCELLED))
    elif verdict == "ended" and returncode != 0:
        error_class = "oom" if returncode in {-signal.SIGKILL, 137} else "bug"
        reason = f"The trainer ended with status {returncode}."
        log.error("Run %s: %s\n%s", run_id, reason, tail)
        in_transaction(lambda session: _retry_or_fail(session, run_id, fence, error_class=error_class, reason=reason))


def _retry_or_fail(session: object, run_id: int, fence: int, *, error_class: str, reason: str) -> None:
    """A trainer that was killed gets another attempt from its checkpoint while attempts are left."""
    from sqlalchemy.orm import Session

    assert isinstance(session, Session)
    row = session.get(Run, run_id)
    if row is None or row.fence != fence or row.state != State.RUNNING:
        return
    if error_class == "oom" and row.attempt < get_settings().max_run_attempts:
        runs.write_log(session, run_id, f"{reason} The run goes on from its last checkpoint.", level="warning")
        attempt = row.attempt
        if runs.release_run(session, run_id, fence=fence):
            session.refresh(row)
            row.attempt = attempt
        return
    runs.fail_run(session, run_id, fence=fence, error_class=error_class, reason=reason)


def _tail(path: "os.PathLike[str]") -> str:
    from pathlib import Path

    content = Path(path).read_bytes()[-TAIL_BYTES:]
    return content.decode(errors="replace")
