"""Chat in Chromium with a real sampler process: two streams at once, a choice, what it sets off, and a sampler that dies."""

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import Engine, update

from app.db import transaction
from app.projects.models import Project
from app.training.snapshots import read_snapshot, take_snapshot
from app.up import free_port
from tests.worker.policies import KEY, add_policy, sampler

LONG = 120_000  # Milliseconds: the first request loads torch and the policy.
SHORT_REPLIES, LONG_REPLIES = 24, 800


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def more_settings(port: int) -> dict[str, Any]:
    return {"sampler_url": f"http://127.0.0.1:{port}/v1", "sampler_key": KEY}


@pytest.fixture
def project(db: Engine, make_project: Callable[..., Project], tmp_path: Path) -> Project:
    made = make_project(
        name="Answers", allow_chat=True, ask_strength=True, responses_per_comparison=2, threshold=1000, auto_train=False
    )
    add_policy(db, made, tmp_path / "data", state="serving", number=0)
    write_at_most(db, made, SHORT_REPLIES)
    return made


@pytest.fixture
def start_sampler(database_url: str, tmp_path: Path, port: int) -> Iterator[Callable[[], Any]]:
    """Starts the sampler on the port that the website knows; its process."""
    with contextlib.ExitStack() as running:
        yield lambda: running.enter_context(sampler(database_url, tmp_path / "data", port=port))[1]


def write_at_most(db: Engine, project: Project, tokens: int) -> None:
    with transaction(db) as session:
        sampling = {"max_new_tokens": tokens}
        session.execute(update(Project).where(Project.id == project.id).values(sampling=sampling))


def heading(page: Page, words: str) -> None:
    expect(page.get_by_role("heading", level=1)).to_have_text(words, timeout=LONG)


def snapshot_rows(db: Engine, project: Project) -> list[Any]:
    with transaction(db) as session:
        taken = take_snapshot(session, session.get_one(Project, project.id))
        return list(read_snapshot(session, taken.id))


def test_a_chat_survives_the_death_of_its_sampler(
    enter: Callable[..., Page], project: Project, db: Engine, start_sampler: Callable[[], Any]
) -> None:
    process = start_sampler()
    page = enter("rater")
    page.get_by_role("link", name="Chat").click()
    page.get_by_label("Say something, as a user would").fill("Where is the <b>pool</b>?")
    page.get_by_role("button", name="Begin").click()
    heading(page, "Which reply is better?")
    left, right = (page.locator(f"#response-{place} .raw").text_content() for place in (0, 1))
    page.keyboard.press("7")
    expect(page.locator("[data-order]")).to_have_text("B better")
    page.keyboard.press("Enter")
    heading(page, "Your turn")
    expect(page.locator(".turn--assistant .turn__role")).to_have_text("Reply B")
    expect(page.locator("#composer textarea")).to_be_focused()

    write_at_most(db, project, LONG_REPLIES)
    page.keyboard.type("And when does it open?")
    page.keyboard.press("Control+Enter")
    tiles = page.locator("[data-tile]")
    for place in (0, 1):  # Both stream at once.
        expect(tiles.nth(place).locator("[data-text]")).to_have_text(re.compile(r"\S"), timeout=LONG)
        expect(tiles.nth(place)).to_have_attribute("aria-busy", "true")
    assert page.locator("#comparison").count() == 0, "nobody can choose before all replies are complete"
    process.kill()
    heading(page, "A reply broke off")
    assert page.get_by_text("This reply broke off. Nothing else is lost").count() == 2
    page.reload()
    expect(page.locator(".turn--user").last).to_contain_text("And when does it open?")
    expect(page.locator(".turn--assistant")).to_contain_text(re.compile(r"\S"))

    start_sampler()
    page.get_by_role("button", name="Write it again").click()
    heading(page, "Which reply is better?")
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    heading(page, "Your turn")
    first, second = snapshot_rows(db, project)
    # What an untrained policy writes has line ends of all kinds, which a page shows as one.
    assert [text.split() for text in first.responses] == [(left or "").split(), (right or "").split()]
    assert (first.ranks, first.strength) == ([2, 1], 3)
    assert (second.ranks, second.strength) == ([1, 2], 4)
    assert [(m["role"], m["content"]) for m in second.messages] == [
        ("user", "Where is the <b>pool</b>?"),
        ("assistant", first.responses[1]),
        ("user", "And when does it open?"),
    ]
    page.get_by_role("button", name="End chat").click()
    heading(page, "This chat has ended")
    page.get_by_role("link", name="My chats").click()
    expect(page.get_by_text("2 choices")).to_be_visible()


def test_a_reload_in_the_middle_goes_on_where_it_was(
    enter: Callable[..., Page], project: Project, db: Engine, start_sampler: Callable[[], Any]
) -> None:
    write_at_most(db, project, LONG_REPLIES)
    start_sampler()
    page = enter("rater")
    page.goto(f"/projects/{project.slug}/chat")
    page.get_by_label("Say something, as a user would").fill("Where is the pool?")
    page.get_by_role("button", name="Begin").click()
    expect(page.locator("[data-tile] [data-text]").first).to_have_text(re.compile(r"\S"), timeout=LONG)
    page.reload()
    heading(page, "Which reply is better?")
    page.keyboard.press("2")
    expect(page.locator("[data-save-state]")).to_contain_text("draft saved")
    page.reload()
    expect(page.locator('input[value="a3"]')).to_be_checked()
