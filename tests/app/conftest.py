"""People, projects and comparisons for tests of the website; clients that are signed in."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.accounts import service as accounts
from app.accounts.deps import COOKIE
from app.accounts.models import Person
from app.config import Settings, get_settings
from app.db import transaction
from app.main import create_app
from app.projects.models import Membership, Project
from app.prompts.models import Comparison, ComparisonResponse, Prompt, Response
from tests.app.world import Good, World, api_requests, make_world, page_requests

BASE_URL = "http://127.0.0.1:8000"
_numbers = itertools.count(1)


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Settings of a test: its own database, no broker."""
    return Settings(
        DATABASE_URL=database_url,
        REDIS_URL="",
        data_dir=tmp_path / "data",
        pool_size=20,
        endpoint_origins=["http://127.0.0.1:9"],
    )


@pytest.fixture
def app(settings: Settings) -> Iterator[FastAPI]:
    """The application on a database of its own, in which requests really commit."""
    made = create_app(settings)
    yield made
    made.state.engine.dispose()


@pytest.fixture
def db(database_url: str) -> Iterator[Engine]:
    """An engine on the application's database, to prepare and to look."""
    engine = create_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    """Nobody is signed in; redirects are shown, not followed."""
    with TestClient(app, base_url=BASE_URL, follow_redirects=False) as made:
        yield made


@pytest.fixture
def browser(app: FastAPI) -> Iterator[TestClient]:
    """Sees a bug as its page, as people do."""
    with TestClient(app, base_url=BASE_URL, follow_redirects=False, raise_server_exceptions=False) as made:
        yield made


@pytest.fixture
def worlds(db: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[World, list[Good]]]]:
    """One world for the pages and one for the API, each with a request for each of its routes that write."""
    monkeypatch.setenv("ATTUNE_DATA_DIR", str(settings.data_dir))
    get_settings.cache_clear()
    pages, programs = make_world(db), make_world(db)
    yield [(pages, list(page_requests(pages))), (programs, list(api_requests(programs)))]
    get_settings.cache_clear()


@pytest.fixture
def sign_in(app: FastAPI, db: Engine) -> Iterator[Callable[[Person], TestClient]]:
    """A browser of this person: session cookie set, CSRF token in every request's header."""
    opened: list[TestClient] = []

    def signed_in(person: Person) -> TestClient:
        with transaction(db) as session:
            token = accounts.start_session(session, person)
        browser = TestClient(app, base_url=BASE_URL, follow_redirects=False)
        browser.cookies.set(COOKIE, token)
        browser.headers["X-CSRF-Token"] = accounts.csrf_token(token)
        opened.append(browser)
        return browser

    yield signed_in
    for browser in opened:
        browser.close()


@pytest.fixture
def make_person(db: Engine) -> Callable[..., Person]:
    """A new person; `make_person(password=..., is_site_admin=True)`."""

    def made(name: str = "", **details: object) -> Person:
        number = next(_numbers)
        with transaction(db) as session:
            person = accounts.create_person(
                session,
                f"person{number}@example.org",
                name=name or f"Person {number}",
                **details,  # type: ignore[arg-type]
            )
        return person

    return made


@pytest.fixture
def make_project(db: Engine) -> Callable[..., Project]:
    """A new project; keyword arguments are its columns."""

    def made(**columns: object) -> Project:
        number = next(_numbers)
        with transaction(db) as session:
            project = Project(**{"slug": f"project-{number}", "name": f"Project {number}", **columns})
            session.add(project)
        return project

    return made


@pytest.fixture
def join(db: Engine) -> Callable[..., Person]:
    """Give a person roles in a project: `join(person, project, "rater", "admin")`."""

    def joined(person: Person, project: Project, *roles: str) -> Person:
        with transaction(db) as session:
            session.add_all(Membership(project_id=project.id, person_id=person.id, role=role) for role in roles)
        return person

    return joined


@pytest.fixture
def make_comparisons(db: Engine) -> Callable[..., list[int]]:
    """Ids of n new comparisons of k responses; `wanted` raters each."""

    def made(project: Project, n: int = 1, *, k: int = 2, wanted: int = 1) -> list[int]:
        with transaction(db) as session:
            return [_comparison(session, project, k=k, wanted=wanted) for _ in range(n)]

    return made


def _comparison(session: Session, project: Project, *, k: int, wanted: int) -> int:
    number = next(_numbers)
    mark = f"{project.id}-{number}".encode()
    prompt = Prompt(
        project_id=project.id, content_hash=mark, messages=[{"role": "user", "content": f"Question {number}?"}]
    )
    session.add(prompt)
    session.flush()
    responses = [
        Response(prompt_id=prompt.id, content_hash=b"%d" % i, text=f"Answer {i} to {number}.", origin="imported")
        for i in range(k)
    ]
    comparison = Comparison(
        project_id=project.id, prompt_id=prompt.id, content_hash=mark, wanted=wanted, queue_key=number
    )
    session.add_all([*responses, comparison])
    session.flush()
    session.add_all(
        ComparisonResponse(comparison_id=comparison.id, position=i, response_id=response.id)
        for i, response in enumerate(responses)
    )
    return comparison.id
