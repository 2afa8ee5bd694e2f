"""Real Postgres and Valkey for all tests, started from the wheels on private sockets."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session

from app import migrations
from app.embedded.postgres import PostgresServer, start_postgres
from app.embedded.valkey import ValkeyServer, start_valkey

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
for _name in ("DATABASE_URL", "REDIS_URL"):
    os.environ.pop(_name, None)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A server for this test process; without fsync, because nobody will miss its data."""
    server = start_postgres(tmp_path_factory.mktemp("pg"), fsync=False)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def template(postgres: PostgresServer) -> str:
    """The name of a migrated database, to be copied."""
    _administer(postgres, 'CREATE DATABASE "template"')
    migrations.upgrade(postgres.url("template"))
    return "template"


@pytest.fixture
def database_url(postgres: PostgresServer, template: str) -> Iterator[str]:
    """A fresh migrated database for a test that commits."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    _administer(postgres, f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')
    yield postgres.url(name)
    _administer(postgres, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(scope="session")
def engine(postgres: PostgresServer, template: str) -> Iterator[Engine]:
    """An engine on a database that stays empty: tests with `session` roll back."""
    _administer(postgres, f'CREATE DATABASE "shared" TEMPLATE "{template}" STRATEGY file_copy')
    made = create_engine(postgres.url("shared"))
    yield made
    made.dispose()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    """A session inside a transaction that is rolled back after the test."""
    with engine.connect() as connection:
        outer = connection.begin()
        with Session(connection, expire_on_commit=False, join_transaction_mode="create_savepoint") as made:
            yield made
        outer.rollback()


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A broker for this test process."""
    server = start_valkey(tmp_path_factory.mktemp("valkey"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real preference data, where the checkout has one beside it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the shared data folder is not here; tests on real data are skipped")
    return folder


def _administer(server: PostgresServer, statement: str) -> None:
    with psycopg.connect(host=str(server.socket_dir), user="postgres", dbname="postgres", autocommit=True) as link:
        link.execute(statement)  # type: ignore[arg-type]
