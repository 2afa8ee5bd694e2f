"""A project with chat, policies, and a stand-in that answers for them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from starlette.testclient import TestClient

from app.accounts.models import Person
from app.config import Settings
from app.db import transaction
from app.projects.models import Project
from app.training.models import ModelVersion
from tests.app.chat.fake import Fake, running_fake


@pytest.fixture
def fake() -> Iterator[Fake]:
    with running_fake() as made:
        yield made


@pytest.fixture
def settings(database_url: str, tmp_path: Path, fake: Fake) -> Settings:
    """Of a test: the sampler is the stand-in, and endpoints may be registered at its origin."""
    return Settings(
        DATABASE_URL=database_url,
        REDIS_URL="",
        data_dir=tmp_path / "data",
        pool_size=20,
        sampler_url=fake.url,
        sampler_key="a key for the sampler",
        endpoint_origins=[fake.url.removesuffix("/v1")],
    )


@pytest.fixture
def project(db: Engine, make_project: Callable[..., Project]) -> Project:
    """Pairs with a strength, and four policies: one serves, one is a candidate, two served before."""
    made = make_project(allow_chat=True, ask_strength=True, responses_per_comparison=2, threshold=1000)
    with transaction(db) as session:
        for number, state in enumerate(["retired", "retired", "serving", "candidate"]):
            session.add(
                ModelVersion(project_id=made.id, kind="policy", number=number, state=state, manifest_hash="a" * 64)
            )
    return made


@pytest.fixture
def rater(make_person: Callable[..., Person], join: Callable[..., Person], project: Project) -> Person:
    return join(make_person(), project, "rater")


@pytest.fixture
def at_desk(sign_in: Callable[[Person], TestClient], rater: Person) -> TestClient:
    return sign_in(rater)
