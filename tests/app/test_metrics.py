"""What Prometheus reads: requests by route, and the state that all web processes share."""

from collections.abc import Callable, Iterator

import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine
from starlette.testclient import TestClient

from app.config import Settings
from app.db import transaction
from app.main import create_app
from app.projects.models import Project
from app.training.models import Kind
from app.training.service import request_run


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    """A client on this machine: without a token, only such may read the metrics."""
    with TestClient(app, base_url="http://127.0.0.1:8000", client=("127.0.0.1", 50000)) as made:
        yield made


def samples(client: TestClient) -> dict[tuple[str, ...], float]:
    """(name, label values ...) to value."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_runs_and_their_messages_are_counted(
    client: TestClient, db: Engine, make_project: Callable[..., Project]
) -> None:
    assert ("attune_runs", "queued") not in samples(client)
    with transaction(db) as session:
        request_run(session, session.merge(make_project()), Kind.REWARD, trigger="test")
    found = samples(client)
    assert found["attune_runs", "queued"] == 1
    assert found["attune_outbox_unsent", ""] == 1
    assert found["attune_oldest_queued_run_seconds", ""] >= 0


def test_requests_are_counted_by_pattern_and_never_by_path(client: TestClient) -> None:
    def seen() -> float:
        return samples(client).get(("attune_request_seconds_count", "GET", "/link/{token}", "404"), 0)

    before = seen()
    client.get("/link/a-secret-token")
    assert seen() == before + 1
    assert "a-secret-token" not in client.get("/metrics").text
    client.get("/api/v1/projects/some-project/runs")
    assert ("attune_request_seconds_count", "GET", "/api/v1/projects/{slug}/runs", "401") in samples(client)


def test_without_a_database_requests_are_still_told(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from sqlalchemy.exc import OperationalError

    def away(_: object) -> None:
        raise OperationalError("connect", {}, Exception("away"))

    monkeypatch.setattr(Engine, "connect", away)
    names = {name for name, *_ in samples(client)}
    assert "attune_request_seconds_count" in names
    assert "attune_runs" not in names


def test_strangers_need_the_token(settings: Settings) -> None:
    token = "a-long-token-of-24-letters"
    app = create_app(settings.model_copy(update={"metrics_token": token}))
    with TestClient(app, base_url="http://127.0.0.1:8000") as stranger:
        assert stranger.get("/metrics").status_code == 404
        assert stranger.get("/metrics", headers={"Authorization": "Bearer guessed"}).status_code == 404
        assert stranger.get("/metrics", headers={"Authorization": f"Bearer {token}"}).status_code == 200
