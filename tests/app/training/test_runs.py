"""The life of a run: one holder at a time, no write under a stale fence, nothing lost that nobody cancelled."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, func, select, text
from sqlalchemy.orm import Session

from app.accounts.models import Person
from app.db import transaction
from app.errors import Conflict, NotFound
from app.projects.models import Project
from app.queue import Outbox
from app.training import runs, triggers, versions
from app.training.models import Kind, ModelVersion, Run, RunMetric, State


@pytest.fixture
def project(make_project: Callable[..., Project]) -> Project:
    return make_project()


def requested(db: Engine, project: Project, kind: str = Kind.LOOP) -> int:
    with transaction(db) as session:
        return runs.request_run(session, project, kind, trigger="test").id


def claimed(db: Engine, run_id: int) -> Run | None:
    with transaction(db) as session:
        return runs.claim_run(session, run_id, worker="w")


def state_of(db: Engine, run_id: int) -> str:
    with transaction(db) as session:
        return session.get_one(Run, run_id).state


def let_lease_run_out(db: Engine, run_id: int) -> None:
    with db.begin() as link:
        link.execute(text("UPDATE run SET lease_until = now() - interval '1 second' WHERE id = :id"), {"id": run_id})


def test_a_request_leaves_a_run_and_a_message_with_its_id(db: Engine, project: Project) -> None:
    run_id = requested(db, project)
    with transaction(db) as session:
        message = session.scalars(select(Outbox)).one()
        assert (message.task, message.subject_id, message.sent_at) == ("run", run_id, None)


def test_a_second_request_of_the_kind_is_a_conflict_and_of_another_kind_is_not(db: Engine, project: Project) -> None:
    requested(db, project)
    with pytest.raises(Conflict, match="already under way"):
        requested(db, project)
    requested(db, project, Kind.SAMPLE)


def test_of_many_requests_at_once_one_run_is_made(db: Engine, project: Project) -> None:
    outcomes: list[str] = []

    def ask() -> None:
        try:
            requested(db, project)
            outcomes.append("made")
        except Conflict:
            outcomes.append("conflict")

    in_threads(ask, 12)
    assert sorted(outcomes) == ["conflict"] * 11 + ["made"]


def test_of_many_claims_at_once_one_wins(db: Engine, project: Project) -> None:
    run_id = requested(db, project)
    winners: list[Run | None] = []
    in_threads(lambda: winners.append(claimed(db, run_id)), 12)
    assert sum(winner is not None for winner in winners) == 1


def test_a_lost_run_is_claimed_again_with_a_higher_fence(db: Engine, project: Project) -> None:
    run_id = requested(db, project)
    first = claimed(db, run_id)
    assert claimed(db, run_id) is None
    let_lease_run_out(db, run_id)
    second = claimed(db, run_id)
    assert first is not None
    assert second is not None
    assert (second.fence, second.attempt) == (first.fence + 1, 2)


@pytest.mark.parametrize(
    "write",
    [
        lambda s, i, f: runs.write_metrics(s, i, fence=f, rows=[{"phase": "ppo", "step": 1, "values": {"score": 1.0}}]),
        lambda s, i, f: runs.note_progress(s, i, fence=f, phase="stale"),
        lambda s, i, f: runs.finish_run(s, i, fence=f),
        lambda s, i, f: runs.fail_run(s, i, fence=f, error_class="bug"),
        lambda s, i, f: runs.release_run(s, i, fence=f),
    ],
)
def test_a_stale_fence_writes_nothing(db: Engine, project: Project, write: Callable[[Session, int, int], bool]) -> None:
    run_id = requested(db, project)
    first = claimed(db, run_id)
    let_lease_run_out(db, run_id)
    second = claimed(db, run_id)
    assert first is not None
    assert second is not None
    with transaction(db) as session:
        assert write(session, run_id, first.fence) is False
    with transaction(db) as session:
        run = session.get_one(Run, run_id)
        assert (run.state, run.phase, run.fence) == (State.RUNNING, "", second.fence)
        assert session.scalar(select(func.count()).select_from(RunMetric)) == 0
        assert write(session, run_id, second.fence) is True


def test_renewing_tells_of_cancel_and_of_loss(db: Engine, project: Project) -> None:
    run_id = requested(db, project)
    run = claimed(db, run_id)
    assert run is not None
    answers = []
    with transaction(db) as session:
        answers.append(runs.renew_lease(session, run_id, fence=run.fence))
        runs.cancel_run(session, project, run_id, person_id=None)
    with transaction(db) as session:
        answers.append(runs.renew_lease(session, run_id, fence=run.fence))
        answers.append(runs.renew_lease(session, run_id, fence=run.fence - 1))
    assert answers == ["go", "cancel", "lost"]


def test_a_queued_run_is_cancelled_at_once_and_twice_is_harmless(db: Engine, project: Project) -> None:
    run_id = requested(db, project)
    for _ in range(2):
        with transaction(db) as session:
            assert runs.cancel_run(session, project, run_id, person_id=None).state == State.CANCELLED
    assert claimed(db, run_id) is None


def test_an_ended_run_cannot_be_cancelled_and_a_good_one_not_retried(db: Engine, project: Project) -> None:
    run_id = requested(db, project)
    run = claimed(db, run_id)
    assert run is not None
    with transaction(db) as session:
        runs.finish_run(session, run_id, fence=run.fence)
    with pytest.raises(Conflict, match="nothing to cancel"), transaction(db) as session:
        runs.cancel_run(session, project, run_id, person_id=None)
    with pytest.raises(Conflict, match="only failed"), transaction(db) as session:
        runs.retry_run(session, project, run_id, person_id=None)


def test_a_failed_run_says_what_to_do_and_can_be_retried(db: Engine, project: Project) -> None:
    run_id = requested(db, project)
    run = claimed(db, run_id)
    assert run is not None
    with transaction(db) as session:
        runs.fail_run(session, run_id, fence=run.fence, error_class="oom")
    with transaction(db) as session:
        assert "batch size" in str(session.get_one(Run, run_id).error)
        assert runs.retry_run(session, project, run_id, person_id=None).state == State.QUEUED
    assert claimed(db, run_id) is not None


def test_the_reaper_queues_lost_runs_until_attempts_are_spent(db: Engine, project: Project) -> None:
    run_id = requested(db, project)
    for _ in range(5):
        assert claimed(db, run_id) is not None
        let_lease_run_out(db, run_id)
        with transaction(db) as session:
            runs.reap_lost_runs(session)
    with transaction(db) as session:
        run = session.get_one(Run, run_id)
        assert (run.state, run.error_class, run.attempt) == (State.FAILED, "lost", 5)


def test_a_checkpoint_frees_a_run_of_the_attempts_before_it(db: Engine, project: Project) -> None:
    run_id = requested(db, project)
    for _ in range(8):
        run = claimed(db, run_id)
        assert run is not None
        with transaction(db) as session:
            versions.record_checkpoint(session, run, phase="sft", step=1, manifest_hash="00")
        let_lease_run_out(db, run_id)
        with transaction(db) as session:
            assert runs.reap_lost_runs(session) == [run_id]


def test_a_run_with_a_live_lease_is_left_alone(db: Engine, project: Project) -> None:
    run_id = requested(db, project)
    claimed(db, run_id)
    with transaction(db) as session:
        assert runs.reap_lost_runs(session) == []
    assert state_of(db, run_id) == State.RUNNING


def test_a_queued_run_whose_message_was_lost_is_sent_again(db: Engine, project: Project) -> None:
    requested(db, project)
    with db.begin() as link:
        link.execute(text("UPDATE outbox SET sent_at = now()"))
        link.execute(text("UPDATE run SET queued_at = now() - interval '1 minute'"))
    with transaction(db) as session:
        assert runs.resend_queued(session) == 1
    with transaction(db) as session:
        assert runs.resend_queued(session) == 0
        assert session.scalar(select(func.count()).where(Outbox.sent_at.is_(None))) == 1


def test_a_run_of_another_project_is_not_found(
    db: Engine, project: Project, make_project: Callable[..., Project]
) -> None:
    run_id = requested(db, project)
    with pytest.raises(NotFound), transaction(db) as session:
        runs.get_run(session, make_project(), run_id)


def test_a_resumed_step_writes_over_its_metrics(db: Engine, project: Project) -> None:
    run_id = requested(db, project)
    run = claimed(db, run_id)
    assert run is not None
    for loss in (0.7, 0.6):
        with transaction(db) as session:
            runs.write_metrics(
                session, run_id, fence=run.fence, rows=[{"phase": "reward", "step": 1, "values": {"loss": loss}}]
            )
    with transaction(db) as session:
        assert [row.values for row in runs.metrics_of(session, run_id)] == [{"loss": 0.6}]


# The threshold.


@pytest.fixture
def due_project(db: Engine, make_project: Callable[..., Project]) -> Project:
    """Wants 3 rankings, and has a serving policy."""
    made = make_project(threshold=3)
    with transaction(db) as session:
        session.add(ModelVersion(project_id=made.id, kind="policy", number=0, state="serving", manifest_hash="x"))
    return made


@pytest.fixture
def add_rankings(db: Engine, make_person: Callable[..., Person], make_comparisons: Callable[..., list[int]]) -> Any:
    """Store rankings straight into the table."""

    def added(project: Project, n: int, **columns: Any) -> None:
        rater = make_person()
        values = {"standing": "'counted'", "is_imported": "false", "is_simulated": "false", **columns}
        for comparison_id in make_comparisons(project, n):
            with db.begin() as link:
                link.execute(
                    text(
                        "INSERT INTO ranking (project_id, comparison_id, rater_id, idempotency_key, request_hash, revision,"
                        " standing, ranks, all_bad, attributes, flags, note, shown_order, seconds, is_simulated, is_imported,"
                        f" is_late) VALUES (:p, :c, :r, gen_random_uuid(), '', 1, {values['standing']}, '{{}}', false, '{{}}',"
                        f" '{{}}', '', '[]', 0, {values['is_simulated']}, {values['is_imported']}, false)"
                    ),
                    {"p": project.id, "c": comparison_id, "r": rater.id},
                )

    return added


def ask_if_due(db: Engine, project: Project) -> Run | None:
    with transaction(db) as session:
        return triggers.request_if_due(session, project)


def test_exactly_the_threshold_starts_a_run(db: Engine, due_project: Project, add_rankings: Any) -> None:
    add_rankings(due_project, 2)
    assert ask_if_due(db, due_project) is None
    add_rankings(due_project, 1)
    run = ask_if_due(db, due_project)
    assert run is not None
    assert (run.kind, run.trigger) == (Kind.LOOP, "threshold")


@pytest.mark.parametrize("columns", [{"standing": "'surplus'"}, {"is_imported": "true"}])
def test_rankings_that_do_not_count_start_nothing(
    db: Engine, due_project: Project, add_rankings: Any, columns: dict[str, str]
) -> None:
    add_rankings(due_project, 3, **columns)
    assert ask_if_due(db, due_project) is None


def test_no_second_run_while_one_is_active_or_a_candidate_waits(
    db: Engine, due_project: Project, add_rankings: Any
) -> None:
    add_rankings(due_project, 3)
    run = ask_if_due(db, due_project)
    assert run is not None
    assert ask_if_due(db, due_project) is None
    with db.begin() as link:
        link.execute(text("UPDATE run SET state = 'succeeded'"))
        link.execute(
            text(
                "INSERT INTO model_version (project_id, kind, number, state, manifest_hash, num_parameters, metrics)"
                " VALUES (:p, 'policy', 1, 'candidate', 'x', 0, '{}')"
            ),
            {"p": due_project.id},
        )
    assert ask_if_due(db, due_project) is None


def test_without_a_serving_policy_nothing_is_due(db: Engine, project: Project, add_rankings: Any) -> None:
    add_rankings(project, 3)
    assert ask_if_due(db, project) is None


def test_many_who_ask_at_once_get_one_run(db: Engine, due_project: Project, add_rankings: Any) -> None:
    add_rankings(due_project, 3)
    in_threads(lambda: ask_if_due(db, due_project), 10)
    with transaction(db) as session:
        assert session.scalar(select(func.count()).select_from(Run)) == 1


def in_threads(act: Callable[[], object], n: int) -> None:
    """All begin at the same moment."""
    barrier = threading.Barrier(n)

    def begin() -> None:
        barrier.wait()
        act()

    threads = [threading.Thread(target=begin) for _ in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
