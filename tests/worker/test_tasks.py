"""A worker and its trainer: cancelled, killed, overtaken, taught to stop when the other is gone."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import pytest
from sqlalchemy import Engine, func, select, text

from app.db import transaction
from app.embedded.valkey import ValkeyServer
from app.projects.models import Project
from app.training import runs
from app.training.models import RunLog, RunMetric
from tests.worker.conftest import run_of
from worker import clock, tasks

pytestmark = pytest.mark.slow

LONG = {"sft": {"max_steps": 100_000, "epochs": 100, "batch_size": 1}}
PATIENCE_SECONDS = 120


def until(holds: Callable[[], object]) -> None:
    """Wait for a condition; fails when patience ends."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.1)


def trainers_of(run_id: int) -> list[psutil.Process]:
    """Processes that train this run."""
    mark = ["-m", "worker.trainer", str(run_id)]
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        command = process.info["cmdline"] or []
        if command[1:4] == mark and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


@contextmanager
def working(run_id: int) -> Iterator[threading.Thread]:
    """A worker does the run while the block looks on; it must have ended, or end, after it."""
    thread = threading.Thread(target=tasks.run, args=(run_id,))
    thread.start()
    try:
        yield thread
    finally:
        thread.join(PATIENCE_SECONDS)
        for process in trainers_of(run_id):
            process.kill()
    assert not thread.is_alive()


def has_begun(db: Engine, run_id: int) -> bool:
    with db.connect() as link:
        return bool(link.scalar(select(func.count()).select_from(RunMetric).where(RunMetric.run_id == run_id)))


def test_cancel_ends_the_trainer_and_keeps_what_was_measured(
    db: Engine, ask_for: Callable[..., int], project: Project
) -> None:
    run_id = ask_for("sft", training=LONG)
    with working(run_id):
        until(lambda: has_begun(db, run_id))
        with transaction(db) as session:
            runs.cancel_run(session, project, run_id, person_id=None)
        until(lambda: run_of(db, run_id).state == "cancelled")
    assert trainers_of(run_id) == []
    assert has_begun(db, run_id)


def test_a_killed_trainer_is_started_again_until_the_run_ends(db: Engine, ask_for: Callable[..., int]) -> None:
    run_id = ask_for("sft", training=LONG)
    with working(run_id):
        until(lambda: has_begun(db, run_id))
        (trainer,) = trainers_of(run_id)
        trainer.kill()
    waiting = run_of(db, run_id)
    assert (waiting.state, waiting.attempt) == ("queued", 1)
    with db.begin() as link:
        link.execute(text("UPDATE run SET settings = '{}'"))
    tasks.run(run_id)
    done = run_of(db, run_id)
    assert (done.state, done.attempt) == ("succeeded", 2)
    with transaction(db) as session:
        lines = session.scalars(select(RunLog.line).where(RunLog.run_id == run_id)).all()
    assert any("goes on from its last checkpoint" in line for line in lines)


def test_a_run_that_is_overtaken_is_left_without_a_trace(db: Engine, ask_for: Callable[..., int]) -> None:
    run_id = ask_for("sft", training=LONG)
    with working(run_id):
        until(lambda: has_begun(db, run_id))
        with db.begin() as link:
            link.execute(text("UPDATE run SET fence = fence + 1, worker = 'another', phase = 'theirs'"))
    assert trainers_of(run_id) == []
    theirs = run_of(db, run_id)
    assert (theirs.state, theirs.worker, theirs.phase) == ("running", "another", "theirs")


def test_a_trainer_ends_when_its_worker_is_killed_and_the_clock_takes_the_run_back(
    db: Engine, ask_for: Callable[..., int]
) -> None:
    run_id = ask_for("sft", training=LONG)
    code = f"from worker.tasks import run; run({run_id})"
    worker = subprocess.Popen([sys.executable, "-c", code], env={**os.environ}, start_new_session=True)
    until(lambda: has_begun(db, run_id))
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait(PATIENCE_SECONDS)
    until(lambda: trainers_of(run_id) == [])
    with db.begin() as link:
        link.execute(text("UPDATE run SET lease_until = now() - interval '1 second', settings = '{}'"))
    clock.tick()
    assert run_of(db, run_id).state == "queued"
    tasks.run(run_id)
    assert run_of(db, run_id).state == "succeeded"


def test_a_message_from_the_outbox_reaches_a_celery_worker(
    db: Engine,
    valkey: ValkeyServer,
    ask_for: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The run is done once, though its message is delivered twice."""
    from app.config import get_settings
    from app.queue import broker

    monkeypatch.setenv("REDIS_URL", valkey.url)
    get_settings.cache_clear()
    broker.cache_clear()
    run_id = ask_for("sft")
    with transaction(db) as session:
        session.execute(text("INSERT INTO outbox (task, subject_id) SELECT task, subject_id FROM outbox"))
    clock.tick()
    command = [sys.executable, "-m", "celery", "-A", "worker.celery_app", "worker", "-Q", "gpu", "-c", "1"]
    worker = subprocess.Popen([*command, "--without-gossip", "--without-mingle"], start_new_session=True)
    try:
        until(lambda: run_of(db, run_id).state not in {"queued", "running"})
    finally:
        worker.terminate()
        worker.wait(PATIENCE_SECONDS)
        broker.cache_clear()
    done = run_of(db, run_id)
    assert (done.state, done.fence) == ("succeeded", 1)
