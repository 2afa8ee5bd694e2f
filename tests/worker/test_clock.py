"""One tick of the clock, on a real database and a real broker."""

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine, select, text

from app.accounts.models import Person
from app.config import get_settings
from app.db import transaction
from app.embedded.valkey import ValkeyServer
from app.projects.models import Project
from app.prompts.models import Comparison
from app.queue import Outbox, broker
from app.rating import leases
from app.rating.models import Assignment
from app.training import runs
from app.training.models import Run
from tests.worker.conftest import run_of
from worker import clock, tasks
from worker.trainer import classify


@pytest.fixture
def ringing(valkey: ValkeyServer, at_work: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The clock reaches a broker."""
    monkeypatch.setenv("REDIS_URL", valkey.url)
    get_settings.cache_clear()
    broker.cache_clear()
    yield
    broker().control.purge()
    broker.cache_clear()


def unsent(db: Engine) -> int:
    with transaction(db) as session:
        return len(session.scalars(select(Outbox.id).where(Outbox.sent_at.is_(None))).all())


def test_a_message_is_sent_on_commit_and_by_the_clock_if_it_was_not(
    db: Engine, ask_for: Callable[..., int], ringing: None
) -> None:
    ask_for("reward")
    assert unsent(db) == 0
    with db.begin() as link:
        link.execute(text("UPDATE outbox SET sent_at = NULL"))
    clock.tick()
    assert unsent(db) == 0


def test_a_broker_that_is_away_costs_nothing(
    db: Engine, ask_for: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    get_settings.cache_clear()
    broker.cache_clear()
    ask_for("reward")
    clock.tick()
    assert unsent(db) == 1
    broker.cache_clear()


def test_a_lost_run_is_queued_again_and_a_spent_one_fails(
    db: Engine, ask_for: Callable[..., int], ringing: None
) -> None:
    lost, spent = ask_for("reward"), ask_for("ppo")
    with db.begin() as link:
        link.execute(text("UPDATE run SET state = 'running', lease_until = now() - interval '1 second', attempt = 1"))
        link.execute(text("UPDATE run SET attempt = 5 WHERE id = :id"), {"id": spent})
    clock.tick()
    assert run_of(db, lost).state == "queued"
    assert (run_of(db, spent).state, run_of(db, spent).error_class) == ("failed", "lost")


def test_a_rater_who_went_away_frees_the_place(
    db: Engine, project: Project, make_person: Callable[..., Person], ringing: None
) -> None:
    with transaction(db) as session:
        taken = leases.next_assignment(session, project, rater_id=make_person().id)
    assert taken is not None
    with db.begin() as link:
        link.execute(text("UPDATE assignment SET lease_until = now() - interval '1 second'"))
    clock.tick()
    with transaction(db) as session:
        assert session.get_one(Assignment, taken.id).state == "expired"
        assert session.get_one(Comparison, taken.comparison_id).leased == 0


def test_a_threshold_that_no_transaction_saw_is_seen_by_the_clock(
    db: Engine, project: Project, rank_all: Callable[[], int], ringing: None
) -> None:
    assert rank_all() == 40
    with db.begin() as link:
        link.execute(text("UPDATE project SET threshold = 40"))
        link.execute(
            text(
                "INSERT INTO model_version (project_id, kind, number, state, manifest_hash, num_parameters, metrics)"
                " VALUES (:id, 'policy', 0, 'serving', 'x', 0, '{}')"
            ),
            {"id": project.id},
        )
    clock.tick()
    with transaction(db) as session:
        assert session.scalars(select(Run.kind)).all() == ["loop"]


def test_while_one_clock_works_another_leaves_it_alone(db: Engine, ask_for: Callable[..., int], ringing: None) -> None:
    run_id = ask_for("reward")
    with db.begin() as link:
        link.execute(text("UPDATE run SET state = 'running', lease_until = now() - interval '1 second'"))
    with db.begin() as other:
        other.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": clock.LOCK})
        clock.tick()
        assert run_of(db, run_id).state == "running"
    clock.tick()
    assert run_of(db, run_id).state == "queued"


def test_a_second_delivery_leaves(db: Engine, ask_for: Callable[..., int]) -> None:
    run_id = ask_for("reward")
    with transaction(db) as session:
        assert runs.claim_run(session, run_id, worker="first") is not None
    tasks.run(run_id)
    assert (run_of(db, run_id).worker, run_of(db, run_id).fence) == ("first", 1)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), "oom"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "oom"),
        (OSError(28, "No space left on device"), "disk"),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "cuda"),
        (ValueError("This project has no demonstrations."), "data"),
        (KeyError("x"), "bug"),
    ],
)
def test_failures_are_classed(error: Exception, expected: str) -> None:
    assert classify(error)[0] == expected
