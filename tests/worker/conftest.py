"""A project with a model of a few thousand parameters, and workers that train it for real."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select

from app.accounts.models import Person
from app.config import get_settings
from app.db import transaction
from app.projects.models import Project
from app.prompts import service as prompts
from app.rating import leases, service
from app.rating.answers import Answer
from app.training import runs
from app.training.models import Run
from tests.app.conftest import db, make_person, make_project  # noqa: F401 - fixtures
from worker import database

TRAINING = {
    "tiny": {"vocab_size": 300, "hidden": 16, "layers": 1, "heads": 2, "max_positions": 128},
    "sft": {"max_steps": 3, "batch_size": 8, "max_length": 96},
    "reward": {"batch_size": 8, "max_length": 96},
    "ppo": {"num_updates": 2, "batch_size": 8, "minibatch_size": 8, "epochs": 1},
    "num_eval_prompts": 8,
    "heldout_share": 0.3,
}
SAMPLING = {"max_new_tokens": 6, "num_prompts": 5}


@pytest.fixture
def at_work(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """This process and the trainers it starts work on the test's database; the data folder."""
    environment = {
        "DATABASE_URL": database_url,
        "REDIS_URL": "",
        "ATTUNE_DATA_DIR": str(tmp_path / "data"),
        "ATTUNE_RUN_LEASE_SECONDS": "4",
        "ATTUNE_TRAINER_THREADS": "1",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    _forget()
    yield tmp_path / "data"
    database.engine().dispose()
    _forget()


def _forget() -> None:
    get_settings.cache_clear()
    database.engine.cache_clear()


@pytest.fixture
def project(at_work: Path, db: Engine, make_project: Callable[..., Project]) -> Project:  # noqa: F811
    """Forty prompts with two demonstrations each, and a comparison of three responses for each."""
    made = make_project(
        base_model="tiny",
        training=TRAINING,
        sampling=SAMPLING,
        responses_per_comparison=3,
        raters_per_comparison=1,
        threshold=10_000,
    )
    with transaction(db) as session:
        for number in range(40):
            asked: prompts.Messages = [{"role": "user", "content": f"Where is room {number}?"}]
            prompt_id, _ = prompts.add_prompt(session, made, asked)
            for text in ("Up the stairs.", "Gladly: up the stairs."):
                prompts.add_response(session, prompt_id, text, origin="written")
            texts = ("Up.", f"Room {number} is up the stairs.", "No idea, sorry, no idea at all.")
            ids = [prompts.add_response(session, prompt_id, text, origin="imported")[0] for text in texts]
            prompts.add_comparison(session, made, prompt_id, ids, origin="imported")
    return made


@pytest.fixture
def rank_all(db: Engine, project: Project, make_person: Callable[..., Person]) -> Callable[[], int]:  # noqa: F811
    """A new rater ranks what is open, the longest response last; how many there were."""

    def ranked() -> int:
        rater = make_person()
        for count in range(10_000):
            with transaction(db) as session:
                assignment = leases.next_assignment(session, project, rater_id=rater.id)
                if assignment is None:
                    return count
                ranks: list[int | None] = [position + 1 for position in assignment.shown_order]
                service.record_ranking(
                    session,
                    project,
                    rater,
                    assignment_id=assignment.id,
                    idempotency_key=assignment.idempotency_key,
                    answer=Answer(ranks),
                )
        raise AssertionError("the queue has no end")

    return ranked


@pytest.fixture
def ask_for(db: Engine, project: Project) -> Callable[..., int]:  # noqa: F811
    """Ask for a run of a kind; its id. `training` replaces settings of this run."""

    def requested(kind: str, *, training: dict[str, Any] | None = None, started_by: Person | None = None) -> int:
        settings = {"training": training} if training else {}
        started_by_id = started_by.id if started_by else None
        with transaction(db) as session:
            run = runs.request_run(
                session, project, kind, trigger="test", settings=settings, started_by_id=started_by_id
            )
            return run.id

    return requested


def run_of(db: Engine, run_id: int) -> Run:  # noqa: F811
    """The run as it stands."""
    with transaction(db) as session:
        return session.scalars(select(Run).where(Run.id == run_id)).one()
