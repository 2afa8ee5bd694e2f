"""A real website on a real database, and Chromium to look at it; fails on console errors and foreign requests."""

import asyncio
import os
import random
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from sqlalchemy import Engine

from app.accounts import service as accounts
from app.accounts.models import Person
from app.config import Settings
from app.db import transaction
from app.main import create_app
from app.projects.models import Project
from tests.app.conftest import (  # noqa: F401 - fixtures
    db,
    join,
    make_comparisons,
    make_person,
    make_project,
)

PATIENCE = 30_000  # Milliseconds, for a machine that does other work as well.
expect.set_options(timeout=PATIENCE)

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests here need the browser."""
    for item in items:
        if "tests/browser" in str(item.path):
            item.add_marker(pytest.mark.browser)


def find_chromium() -> str:
    """The browser's path; without one the tests are skipped aloud, or fail where it is demanded."""
    for name in (os.environ.get("CHROME_BIN", ""), *NAMES):
        if name and (found := shutil.which(name)):
            return found
    sentence = "browser tests need Chromium: install it, or set CHROME_BIN"
    if os.environ.get("ATTUNE_REQUIRE_BROWSER"):
        pytest.fail(sentence)
    pytest.skip(sentence)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """One browser for all tests of this process."""
    path = find_chromium()
    flags = [*FLAGS, "--no-sandbox"] if os.geteuid() == 0 else FLAGS
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def more_settings() -> dict[str, Any]:
    """Settings that a file of tests adds to the website's."""
    return {}


class Late:
    """A website whose answers come later, by seconds: `ATTUNE_TEST_LATE=0.3` finds the tests that do not wait."""

    def __init__(self, app: FastAPI, seconds: float) -> None:
        self.app, self.seconds = app, seconds

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and self.seconds:
            await asyncio.sleep(self.seconds * random.uniform(0.3, 1))
        await self.app(scope, receive, send)


@pytest.fixture
def site(database_url: str, tmp_path: Any, more_settings: dict[str, Any]) -> Iterator[str]:
    """The address of a running website on this test's database."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    settings = Settings(
        DATABASE_URL=database_url, REDIS_URL="", data_dir=tmp_path / "data", public_url=url, **more_settings
    )
    app: FastAPI = create_app(settings)
    late = Late(app, float(os.environ.get("ATTUNE_TEST_LATE", "0")))
    server = uvicorn.Server(uvicorn.Config(late, host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield url
    server.should_exit = True
    thread.join(10)


def is_provoked(message: str) -> bool:
    """What the console says of refusals, and of requests while a test has cut the connection."""
    return "status of 4" in message or "ERR_INTERNET_DISCONNECTED" in message


@pytest.fixture
def open_page(chromium: Browser, site: str) -> Iterator[Callable[..., Page]]:
    """`open_page(width=390, height=844, color_scheme="dark")`: a page of a fresh browser profile.

    When the test ends, no console error, no page error and no request to anywhere else may have happened; a refusal
    (4xx) that the test provokes also shows in the console, and is allowed.
    """
    contexts: list[BrowserContext] = []
    trouble: list[str] = []

    def opened(*, width: int = 1280, height: int = 900, **options: Any) -> Page:
        context = chromium.new_context(base_url=site, viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        if os.environ.get("ATTUNE_TEST_LATE"):
            context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": 4})
        page.on("pageerror", lambda error: trouble.append(f"page error: {error}"))
        page.on("console", lambda m: trouble.append(m.text) if m.type == "error" and not is_provoked(m.text) else None)
        page.on(
            "request", lambda r: None if r.url.startswith((site, "data:")) else trouble.append(f"asked for {r.url}")
        )
        return page

    yield opened
    for context in contexts:
        context.close()
    assert trouble == []


@pytest.fixture
def project(make_project: Callable[..., Project]) -> Project:  # noqa: F811
    return make_project(name="Answers", responses_per_comparison=4)


@pytest.fixture
def enter(
    db: Engine,  # noqa: F811
    make_person: Callable[..., Person],  # noqa: F811
    join: Callable[..., Person],  # noqa: F811
    project: Project,
    open_page: Callable[..., Page],
) -> Callable[..., Page]:
    """A new person with these roles, signed in by one-time link."""

    def entered(*roles: str, **options: object) -> Page:
        person = join(make_person(), project, *roles)
        with transaction(db) as session:
            token = accounts.create_link(session, "sign_in", person_id=person.id)
        page = open_page(**options)
        page.goto(f"/link/{token}")
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/projects/*")
        return page

    return entered
