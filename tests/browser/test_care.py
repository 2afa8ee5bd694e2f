"""Warnings before content, time at the desk, and a break."""

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect
from sqlalchemy import Engine, func, select, update

from app.db import transaction
from app.projects.models import Project
from app.prompts.models import Prompt, Response
from app.rating.contact_models import Report
from app.rating.models import Ranking
from tests.browser.access import violations
from tests.browser.desk import begin_rating
from tests.browser.test_desk import all_sent


def test_marked_content_is_seen_only_when_asked_for(
    db: Engine, project: Project, make_comparisons: Callable[..., list[int]], enter: Callable[..., Page]
) -> None:
    make_comparisons(project, 2, k=2)
    with transaction(db) as session:
        session.execute(update(Prompt).values(warnings=["violence"]))
    page = enter("rater")
    page.goto(f"/projects/{project.slug}/rate")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="This one carries a content warning")).to_be_focused()
    expect(page.locator(".response").first).to_be_hidden()
    assert violations(page) == []
    for key in ("1", "2", "a"):  # Nothing behind the warning is reached by keys.
        page.keyboard.press(key)
    assert page.locator('input[type="radio"]:checked').count() == 0
    page.keyboard.press("Enter")
    expect(page.locator(".response").first).to_be_visible()
    text = page.locator(".response__text").first
    for how in ("blur(", "none"):  # Seen, and then rather not.
        page.keyboard.press("u")
        expect(text).to_have_css("filter", re.compile(re.escape(how)))
    page.reload()
    expect(page.locator(".response").first).to_be_visible()
    for key in ("1", "2", "Enter"):
        page.keyboard.press(key)
    expect(page.get_by_role("heading", name="This one carries a content warning")).to_be_visible()
    expect(page.locator(".response").first).to_be_hidden()
    all_sent(page)
    with transaction(db) as session:
        assert session.scalar(select(func.count()).select_from(Ranking)) == 1
    page.keyboard.press("s")
    page.get_by_text("Nothing left to rank").wait_for()


def test_time_is_shown_may_be_hidden_and_a_break_is_offered(
    project: Project, make_comparisons: Callable[..., list[int]], enter: Callable[..., Page]
) -> None:
    make_comparisons(project, 1, k=2)
    page = enter("rater")
    begin_rating(page, project)
    timer = page.locator("[data-timer]")
    expect(timer).to_contain_text("0 min active")
    expect(page.locator("[data-break]")).to_be_hidden()
    page.evaluate("activeMs += 51 * 60000")
    expect(timer).to_contain_text("51 min active")
    expect(page.locator("[data-break]")).to_be_visible()
    expect(page.locator('input[name="seconds"]')).to_have_value(re.compile("^3[0-9]{3}"))
    page.reload()
    expect(timer).to_contain_text("51 min active")
    page.get_by_role("button", name="Thank you").click()
    expect(page.locator("[data-break]")).to_be_hidden()
    timer.click()
    expect(timer).to_contain_text("Show time")
    page.reload()
    expect(timer).to_contain_text("Show time")


def test_who_is_quicker_than_the_eye_is_told_so_and_nothing_else_happens(
    db: Engine, project: Project, make_comparisons: Callable[..., list[int]], enter: Callable[..., Page]
) -> None:
    make_comparisons(project, 4, k=2)
    with transaction(db) as session:
        session.execute(update(Response).values(text="So it goes. " * 2000))  # Some minutes' worth.
    page = enter("rater")
    begin_rating(page, project)
    nudge = page.locator("[data-nudge]")
    expect(nudge).to_be_hidden()
    for is_quick in (True, False, True):
        if not is_quick:
            page.evaluate("sessionStorage.setItem(nameOf('shown'), '0')")
        for key in ("1", "2", "Enter"):
            page.keyboard.press(key)
        all_sent(page)
        expect(nudge).to_be_visible(visible=is_quick)
    expect(nudge).to_contain_text("quicker than all of it can be read")
    assert violations(page) == []
    page.keyboard.press("s")
    page.get_by_label("Unclear").check()
    page.get_by_role("button", name="Skip", exact=True).click()
    page.get_by_text("Nothing left to rank").wait_for()
    expect(nudge).to_be_hidden()
    with transaction(db) as session:
        marked = session.execute(select(Ranking.is_too_fast, Ranking.standing).order_by(Ranking.id)).all()
    # The server allows no more time than there was: by its own clock, the second was quick as well.
    assert [tuple(row) for row in marked] == [(True, "counted")] * 3


def test_a_question_is_asked_and_a_report_filed_by_keyboard_without_losing_a_draft(
    db: Engine, project: Project, make_comparisons: Callable[..., list[int]], enter: Callable[..., Page]
) -> None:
    make_comparisons(project, 2, k=3)
    page = enter("rater")
    begin_rating(page, project)
    page.keyboard.press("2")
    page.keyboard.press("q")
    page.keyboard.type("Which one is meant?")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Your question is with the admins")).to_be_visible()
    assert page.locator('input[name^="rank-"]:checked').count() == 1
    assert violations(page) == []
    page.locator(".response").first.focus()
    page.keyboard.press("r")
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").filter(has_text="Reported.")).to_be_visible()
    assert page.locator('input[name^="rank-"]:checked').count() == 0
    with transaction(db) as session:
        assert session.scalar(select(func.count()).select_from(Report)) == 1
