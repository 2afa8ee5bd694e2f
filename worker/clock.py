"""The clock: what was not sent is sent, what was lost is taken back, what is due is asked for. Never loads torch."""

import contextlib
import logging
import signal
import threading

from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.config import BadEnvironment, get_settings
from app.db import transaction
from app.projects.models import Project
from app.queue import send_unsent
from app.rating.leases import expire_leases
from app.training import runs
from app.training.triggers import request_if_due
from worker.database import engine

log = logging.getLogger("attune.clock")
LOCK = 0x434C4F43


def main() -> None:
    """Tick until told to stop. Postgres or the broker being away costs a tick, no more."""
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    while not stop.is_set():
        try:
            tick()
        except DBAPIError as reason:
            log.warning("The database did not answer (%s); trying again.", type(reason).__name__)
        with contextlib.suppress(
            OSError
        ):  # The container's health check reads it; a full disk must not stop the clock.
            (get_settings().data_dir / "clock.beat").touch()
        stop.wait(get_settings().clock_seconds)


def tick() -> None:
    """One round. With two clocks, the advisory lock lets one work."""
    with transaction(engine()) as session:
        if session.scalar(select(func.pg_try_advisory_xact_lock(LOCK))):
            look_after(session)
    try:
        while send_unsent(engine()):
            pass
    except Exception as reason:  # noqa: BLE001 - whatever the broker raises, the next tick tries again
        log.warning("The broker did not answer (%s); messages wait in the outbox.", type(reason).__name__)


def look_after(session: Session) -> None:
    """Leases of raters, lost runs, forgotten runs, due runs."""
    expire_leases(session)
    if lost := runs.reap_lost_runs(session):
        log.warning("Took back lost runs %s.", lost)
    runs.resend_queued(session)
    for project in session.scalars(select(Project).where(Project.auto_train, Project.archived_at.is_(None))):
        if (run := request_if_due(session, project)) is not None and run.attempt == 0:
            log.info("Run %s of project %s is due.", run.id, project.slug)


if __name__ == "__main__":
    try:
        main()
    except BadEnvironment as refusal:
        raise SystemExit(f"attune: {refusal.message}") from None
