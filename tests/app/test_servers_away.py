"""Postgres cut off in the middle of a request, and a broker that is not there: 503 with a sentence, or no difference."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, create_engine, event, func, select, text
from starlette.testclient import TestClient

from app import migrations, queue
from app.accounts.models import Person
from app.config import Settings, get_settings
from app.db import transaction
from app.embedded.postgres import start_postgres
from app.main import create_app
from app.projects.models import Project
from app.queue import Outbox
from app.rating.models import Ranking
from app.training.models import Run
from tests.app.conftest import BASE_URL
from tests.app.test_commit_first import counts
from tests.app.world import Good, World, enter, make_world, page_requests

WRITES = {"INSERT", "UPDATE", "DELETE"}


@contextmanager
def first_write_cut_off(app: FastAPI, cut: Callable[[int], object]) -> Iterator[list[str]]:
    """`cut(backend pid)` is called just before the first statement that writes; the statements that were cut off."""
    seen: list[str] = []

    def look(link: object, _cursor: object, statement: str, *_rest: object) -> None:
        if not seen and statement.lstrip().split(maxsplit=1)[0].upper() in WRITES:
            seen.append(statement)
            cut(link.connection.dbapi_connection.info.backend_pid)  # type: ignore[attr-defined]

    event.listen(app.state.engine, "before_cursor_execute", look)
    yield seen
    event.remove(app.state.engine, "before_cursor_execute", look)


def test_a_connection_cut_in_any_writing_request_is_503_and_stores_nothing(
    app: FastAPI, browser: TestClient, worlds: list[tuple[World, list[Good]]], db: Engine
) -> None:
    wrong = []

    def cut(pid: int) -> None:
        with db.connect() as link:
            link.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})

    for world, requests in worlds:
        enter(browser, world)
        before = counts(db)
        for good in requests:
            with first_write_cut_off(app, cut) as seen:
                answer = good.send(browser)
            if not seen:
                continue  # A preview stores nothing.
            fits = answer.status_code == 503 and "Retry-After" in answer.headers and "Nothing was stored" in answer.text
            if not fits:
                wrong.append(f"{good}: {answer.status_code} {answer.text[-200:]}")
        assert counts(db) == before
    assert wrong == []


@pytest.mark.slow
def test_a_ranking_whose_database_is_killed_is_kept_in_the_form_and_stored_once_when_it_is_back(tmp_path: Path) -> None:
    server = start_postgres(tmp_path / "pg", fsync=False)
    url = server.url("postgres")
    migrations.upgrade(url)
    db = create_engine(url, pool_pre_ping=True)
    world = make_world(db)
    app = create_app(Settings(DATABASE_URL=url, REDIS_URL="", data_dir=tmp_path / "data"))
    rank = next(good for good in page_requests(world) if good.route.endswith("/rate/{assignment_id}"))
    with TestClient(app, base_url=BASE_URL, follow_redirects=False, raise_server_exceptions=False) as browser:
        enter(browser, world)
        assert server.pid is not None
        with first_write_cut_off(app, lambda _: os.kill(server.pid, signal.SIGKILL)):  # type: ignore[arg-type]
            first = rank.send(browser)
        away = [rank.send(browser).status_code, browser.get("/readyz").status_code, browser.get("/healthz").status_code]
        server = start_postgres(tmp_path / "pg", fsync=False)
        again = [rank.send(browser).status_code for _ in range(2)]
    # The postmaster alone was killed: the backend of this request may live long enough to commit.
    assert first.status_code in {303, 503}
    assert away == [503, 503, 200]
    assert again == [303, 303]
    with transaction(db) as session:
        key = rank.form["idempotency_key"] if rank.form else ""
        assert session.scalar(select(func.count()).where(Ranking.idempotency_key == key)) == 1
    db.dispose()
    app.state.engine.dispose()
    server.stop()


@pytest.fixture(params=["closed", "silent"])
def broken_broker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a broker that refuses connections, or takes them and never says a word."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    if request.param == "silent":
        listener.listen(50)
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{listener.getsockname()[1]}/0")
    get_settings.cache_clear()
    queue.broker.cache_clear()
    yield request.param
    get_settings.cache_clear()
    queue.broker.cache_clear()
    listener.close()


@pytest.mark.timeout(60)
def test_without_a_broker_a_run_is_queued_all_the_same_and_waits_in_the_outbox(
    broken_broker: str, sign_in: Callable[[Person], TestClient], make_person: Callable[..., Person],
    make_project: Callable[..., Project], join: Callable[..., Person], db: Engine,
) -> None:  # fmt: skip
    project = make_project()
    browser = sign_in(join(make_person(), project, "operator"))
    assert browser.post(f"/projects/{project.slug}/runs", data={"kind": "sft"}).status_code == 303
    with transaction(db) as session:
        assert session.scalars(select(Run.state)).all() == ["queued"]
        assert [row.sent_at for row in session.scalars(select(Outbox))] == [None]
