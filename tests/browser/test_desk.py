"""The desk when things go well, fast, wrong, or away: nothing is lost, nothing doubled."""

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Error, Page, Route, expect
from sqlalchemy import Engine, select

from app.db import transaction
from app.projects.models import Project
from app.prompts.models import Response
from app.rating.models import Assignment
from tests.browser.desk import begin_rating, press_ranks, rankings

Enter = Callable[..., Page]
Make = Callable[..., Any]
PATIENCE = 30_000  # Milliseconds, for a machine that does other work as well.


@pytest.fixture
def pairs(db: Engine, project: Project, make_comparisons: Make) -> Callable[[int], Project]:
    """So many pairs, judged by strength."""

    def made(count: int) -> Project:
        with transaction(db) as session:
            session.get_one(Project, project.id).ask_strength = True
        make_comparisons(project, count, k=2)
        return project

    return made


def key_of(page: Page) -> str:
    return page.locator('input[name="idempotency_key"]').input_value()


def is_ahead(page: Page) -> None:
    """Wait until the comparison that follows lies ready."""
    until(page, "ahead !== null")


def until(page: Page, expression: str) -> None:
    """Poll from here: the content policy lets no text become a program within the page."""
    for _ in range(150):
        with contextlib.suppress(Error):  # While the page loads anew.
            if page.evaluate(expression):
                return
        page.wait_for_timeout(100)
    pytest.fail(f"never: {expression}")


def judge(page: Page, digit: str = "2") -> None:
    page.keyboard.press(digit)
    page.keyboard.press("Enter")


def all_sent(page: Page) -> None:
    until(page, "waiting().length === 0")


def test_the_next_comparison_is_there_before_the_server_has_answered(db: Engine, pairs: Make, enter: Enter) -> None:
    page, held = enter("rater"), list[Route]()
    begin_rating(page, pairs(3))
    first = key_of(page)
    is_ahead(page)
    page.route("**/rate/*", lambda route: held.append(route) if route.request.method == "POST" else route.continue_())
    judge(page)
    expect(page.locator('input[name="idempotency_key"]')).not_to_have_value(first)
    expect(page.locator("[data-focus]")).to_be_focused()
    assert rankings(db) == []
    expect(page.locator("[data-save-state]")).to_have_text("· saving…")
    for route in held:
        route.continue_()
    page.unroute("**/rate/*")
    expect(page.locator("[data-save-state]")).to_have_text("· Saved.")
    assert len(rankings(db)) == 1


def test_the_answer_to_a_ranking_brings_what_follows(db: Engine, pairs: Make, enter: Enter) -> None:
    page, asked = enter("rater"), list[str]()
    begin_rating(page, pairs(4))
    is_ahead(page)
    page.on("request", lambda request: asked.append(request.url) if request.url.endswith("/ahead") else None)
    for _ in range(2):
        judge(page)
        all_sent(page)
        is_ahead(page)
    assert asked == []
    assert len(rankings(db)) == 2


@pytest.mark.slow
def test_a_hundred_pairs_with_one_key_each_and_thirty_rankings_with_four(
    db: Engine, project: Project, pairs: Make, make_project: Make, make_comparisons: Make, join: Make, enter: Enter
) -> None:
    page = enter("rater")
    begin_rating(page, pairs(100))
    for number in range(100):
        before = key_of(page)
        judge(page, "12345678"[number % 8])
        if number < 99:
            expect(page.locator('input[name="idempotency_key"]')).not_to_have_value(before, timeout=PATIENCE)
    expect(page.get_by_text("Nothing left to rank just now")).to_be_visible(timeout=PATIENCE)
    assert len({ranking.comparison_id for ranking in rankings(db)}) == 100
    make_comparisons(project, 30, k=4)
    page.keyboard.press("Tab")
    page.goto(f"/projects/{project.slug}/rate")
    begin_rating(page, project)
    for number in range(30):
        before = key_of(page)
        for key in ("1", "2", "3", "4", "Enter"):
            page.keyboard.press(key)
        if number < 29:
            expect(page.locator('input[name="idempotency_key"]')).not_to_have_value(before, timeout=PATIENCE)
    expect(page.get_by_text("Nothing left to rank just now")).to_be_visible(timeout=PATIENCE)
    assert len({ranking.comparison_id for ranking in rankings(db)}) == 130


def test_what_is_ranked_offline_is_sent_later_and_once(db: Engine, pairs: Make, enter: Enter) -> None:
    page = enter("rater")
    begin_rating(page, pairs(3))
    is_ahead(page)
    page.context.set_offline(True)
    judge(page)
    expect(page.locator("[data-save-state]")).to_have_text("· offline: 1 ranking waits here and is sent later")
    judge(page, "7")
    expect(page.get_by_role("heading", name="Your ranking is on its way")).to_be_visible()
    expect(page.locator("[data-save-state]")).to_have_text("· offline: 2 rankings wait here and are sent later")
    assert rankings(db) == []
    page.context.set_offline(False)
    expect(page.locator("#comparison")).to_be_visible()
    all_sent(page)
    assert [ranking.strength for ranking in rankings(db)] == [3, 3]
    judge(page, "1")
    expect(page.get_by_text("Nothing left to rank just now")).to_be_visible()
    assert len(rankings(db)) == 3


def test_what_waits_when_the_page_dies_is_sent_by_the_next_one(db: Engine, pairs: Make, enter: Enter) -> None:
    page = enter("rater")
    begin_rating(page, pairs(3))
    is_ahead(page)
    context = page.context
    context.set_offline(True)
    judge(page)
    expect(page.locator("[data-save-state]")).to_contain_text("1 ranking waits here")
    page.close()
    context.set_offline(False)
    again = context.new_page()
    again.goto(f"/projects/{pairs(0).slug}/rate")
    all_sent(again)
    expect(again.locator("#comparison")).to_be_visible()
    assert len(rankings(db)) == 1
    is_ahead(again)
    judge(again)
    all_sent(again)
    assert len({ranking.comparison_id for ranking in rankings(db)}) == 2


def test_a_refusal_brings_the_comparison_back_with_all_that_was_typed(db: Engine, pairs: Make, enter: Enter) -> None:
    page = enter("rater")
    begin_rating(page, pairs(2))
    first = key_of(page)
    is_ahead(page)
    page.keyboard.press("6")
    page.keyboard.press("n")
    page.locator('textarea[name="note"]').fill("ä" * 3000)  # Within the field's characters, beyond its bytes.
    page.keyboard.press("Control+Enter")
    expect(page.locator("#notices")).to_contain_text("The note has 6,000 bytes")
    assert key_of(page) == first
    assert page.locator('textarea[name="note"]').input_value() == "ä" * 3000
    page.locator('textarea[name="note"]').fill("short")
    page.keyboard.press("Control+Enter")
    all_sent(page)
    assert [(r.strength, r.note) for r in rankings(db)] == [(2, "short")]
    assert key_of(page) != first


def test_two_tabs_and_a_hasty_second_enter_store_one_ranking(db: Engine, pairs: Make, enter: Enter) -> None:
    page = enter("rater")
    project = pairs(2)
    begin_rating(page, project)
    other = page.context.new_page()
    other.goto(f"/projects/{project.slug}/rate")
    assert key_of(other) == key_of(page)
    is_ahead(page)
    is_ahead(other)
    judge(page)
    page.keyboard.press("Enter")
    all_sent(page)
    judge(other, "8")
    expect(other.locator("#notices")).to_contain_text("This form was sent before with another answer")
    assert [ranking.strength for ranking in rankings(db)] == [3]


def test_undo_at_once_brings_back_what_was_just_sent(
    db: Engine, project: Project, make_comparisons: Make, enter: Enter
) -> None:
    make_comparisons(project, 2, k=3)
    page = enter("rater")
    begin_rating(page, project)
    is_ahead(page)
    press_ranks(page, "abc", "312")
    page.keyboard.press("Enter")
    page.keyboard.press("z")
    expect(page.get_by_role("heading", name="Correct your ranking")).to_be_visible()
    expect(page.locator("[data-order]")).to_have_text("B > C > A")
    page.keyboard.press("Enter")
    expect(page.locator("[data-order]")).to_have_text("Nothing is ranked yet.")
    assert [ranking.revision for ranking in rankings(db)] == [1, 2]


def test_a_lease_about_to_end_is_told_and_one_key_extends_it(db: Engine, pairs: Make, enter: Enter) -> None:
    page = enter("rater")
    page.clock.install()
    begin_rating(page, pairs(1))
    note = page.locator("[data-lease-note]")
    page.clock.fast_forward("20:00")
    expect(note).to_be_hidden()
    page.clock.fast_forward("08:00")
    expect(note).to_contain_text("held for you for 2 more minutes")
    with transaction(db) as session:
        before = session.scalars(select(Assignment.lease_until)).one()
    page.keyboard.press("t")
    expect(note).to_be_hidden()
    with transaction(db) as session:
        assert session.scalars(select(Assignment.lease_until)).one() > before
    page.clock.fast_forward("31:00")
    expect(note).to_contain_text("You can still send your ranking")
    judge(page)
    expect(page.get_by_text("Nothing left to rank just now")).to_be_visible()
    assert len(rankings(db)) == 1


CODE = "Try this:\n\n```python\nprint('<hi>')  # once\n```\n\nIt  prints *once*."


@pytest.fixture
def two_texts(db: Engine, pairs: Make) -> Project:
    """A pair of responses: code, and the same with other words."""
    project: Project = pairs(1)
    with transaction(db) as session:
        texts = [CODE, CODE.replace("once", "twice")]
        for response, text in zip(session.scalars(select(Response).order_by(Response.id)), texts, strict=True):
            response.text = text
    return project


def test_code_is_coloured_named_and_copied(two_texts: Project, enter: Enter) -> None:
    page = enter("rater", permissions=["clipboard-read", "clipboard-write"])
    begin_rating(page, two_texts)
    block = page.locator(".response .code").first
    expect(block.locator("pre")).to_have_attribute("data-language", "Python")
    expect(block.locator(".hl-nb")).to_have_text("print")
    block.get_by_role("button", name="Copy").click()
    expect(block.get_by_role("button")).to_have_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.rstrip() in {"print('<hi>')  # once", "print('<hi>')  # twice"}


def test_the_raw_text_and_the_differences_are_a_key_away(two_texts: Project, enter: Enter) -> None:
    page = enter("rater")
    begin_rating(page, two_texts)
    page.keyboard.press("m")
    raw = page.locator(".response .raw").first
    expect(raw).to_be_visible()
    assert raw.evaluate("node => node.textContent") in {CODE, CODE.replace("once", "twice")}
    expect(page.locator(".response .prose").first).to_be_hidden()
    page.keyboard.press("m")
    expect(page.locator(".response .prose").first).to_be_visible()
    page.keyboard.press("d")
    expect(page.locator("[data-view-state]")).to_have_text("Differences from Response A")
    assert page.locator(".diff ins").all_inner_texts() in ([["twice"] * 2, ["once"] * 2])
    expect(page.get_by_role("button", name="Differences")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("d")
    expect(page.locator(".diff")).to_have_count(0)
