"""Which rankings a run learns from, which it knows already, and from where it starts."""

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine, select, update

from app.db import transaction
from app.projects.models import Project
from app.projects.settings import training_of
from app.prompts.models import Comparison
from app.training import snapshots
from app.training.models import ModelVersion, Run, RunLog
from tests.worker.conftest import run_of
from worker import tasks
from worker.lessons import to_learn
from worker.progress import Recorder
from worker.work import Work


def work_of(project: Project, retrain: str) -> Work:
    """A run that wants it so; nothing is trained."""
    run = Run(id=1, project_id=project.id, kind="reward", fence=1)
    return Work(run, project, training_of({"reward": {"retrain": retrain}}), Recorder(run), Path())


def test_what_an_earlier_reward_model_learned_from_is_known(
    db: Engine, project: Project, rank_all: Callable[[], int]
) -> None:
    """Forty rankings, then forty more by another rater."""
    rank_all()
    with transaction(db) as session:
        first = snapshots.take_snapshot(session, project).id
        made = {"kind": "reward_model", "number": 0, "state": "registered", "manifest_hash": "a" * 64}
        session.add(ModelVersion(project_id=project.id, snapshot_id=first, **made))
        session.execute(update(Comparison).values(wanted=2))
    assert rank_all() == 40
    with transaction(db) as session:
        second = snapshots.take_snapshot(session, project).id
        before, new, old, heldout = to_learn(session, work_of(project, "further"), second)
        assert before is not None
        assert before.snapshot_id == first
        assert len(new) == len(old)
        assert len(new) + len(old) + len(heldout) == 80
        assert {ranking.rater for ranking in new}.isdisjoint({ranking.rater for ranking in old})
        again, all_new, none_old, same = to_learn(session, work_of(project, "anew"), second)
        assert (again, len(all_new), none_old, len(same)) == (None, len(new) + len(old), [], len(heldout))
        assert to_learn(session, work_of(project, "further"), first)[0] is None  # No reward model came before.


@pytest.mark.slow
def test_a_reward_model_is_trained_further_on_what_is_new(
    db: Engine, project: Project, rank_all: Callable[[], int], ask_for: Callable[..., int]
) -> None:
    rank_all()
    tasks.run(ask_for("reward"))
    with transaction(db) as session:
        session.execute(update(Comparison).values(wanted=2))
    rank_all()
    second = ask_for("reward", training={"reward": {"batch_size": 8, "max_length": 96, "retrain": "further"}})
    tasks.run(second)
    assert run_of(db, second).state == "succeeded", run_of(db, second).error
    with transaction(db) as session:
        first, further = session.scalars(select(ModelVersion).order_by(ModelVersion.number)).all()
        assert (first.parent_id, further.parent_id) == (None, first.id)
        assert further.metrics["num_rankings"] == first.metrics["num_rankings"] * 2  # The new ones, and as many old.
        lines = session.scalars(select(RunLog.line).where(RunLog.run_id == second)).all()
    assert any("Reward model 0 is trained further" in line for line in lines)
