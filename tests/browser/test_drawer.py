"""The guidelines beside the comparison: opened and closed by a key, at the place where one was, marked where they changed."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import Engine

from app.accounts.models import Person
from app.db import transaction
from app.guidelines import service as guidelines
from app.projects.models import Project
from tests.browser.access import violations
from tests.browser.desk import begin_rating

LONG = "# What we look for\n\n" + "\n\n".join(f"Rule {i}: say what is true, and say it kindly." for i in range(80))

# Both in one turn: before the browser comes to tell of the scrolling.
SCROLL_AND_CLOSE = """() => {
  const text = document.getElementById("drawer-text");
  text.scrollTop = 900;
  text.dispatchEvent(new KeyboardEvent("keydown", { key: "g", bubbles: true }));
}"""


@pytest.fixture
def publish(db: Engine, make_person: Callable[..., Person], project: Project) -> Callable[[str], None]:
    author = make_person()

    def published(body: str) -> None:
        with transaction(db) as session:
            guidelines.save_draft(session, project, body=body, person_id=author.id)
            guidelines.publish(session, project, person_id=author.id)

    return published


def start(page: Page, project: Project) -> None:
    page.goto(f"/projects/{project.slug}/rate")
    page.get_by_role("button", name="I have read").click()
    begin_rating(page, project)


def scroll_of(page: Page) -> float:
    return float(page.evaluate("document.getElementById('drawer-text').scrollTop"))


def test_the_drawer_keeps_its_place_and_gives_the_focus_back(
    enter: Callable[..., Page], publish: Callable[[str], None], project: Project,
    make_comparisons: Callable[..., list[int]],
) -> None:  # fmt: skip
    publish(LONG)
    make_comparisons(project, 3)
    page = enter("rater")
    start(page, project)
    drawer = page.locator("#guidelines-drawer")
    opener = page.locator("[data-drawer]")
    page.keyboard.press("g")
    expect(drawer).to_be_visible()
    expect(drawer).to_contain_text("Edition 1")
    expect(opener).to_have_attribute("aria-expanded", "true")
    expect(page.locator("#drawer-text")).to_be_focused()
    cards = page.locator(".response").all()
    box = drawer.bounding_box()
    assert box is not None
    for card in cards:  # Beside the responses, not over them.
        of_card = card.bounding_box()
        assert of_card is not None
        assert of_card["x"] + of_card["width"] <= box["x"]
    page.evaluate(SCROLL_AND_CLOSE)
    expect(drawer).to_be_hidden()
    expect(opener).to_be_focused()
    page.keyboard.press("g")
    assert scroll_of(page) == 900
    page.keyboard.press("Escape")
    expect(drawer).to_be_hidden()
    page.reload()
    page.keyboard.press("g")
    expect(drawer).to_contain_text("Edition 1")
    page.wait_for_function("document.getElementById('drawer-text').scrollTop === 900")
    assert violations(page) == []


def test_what_changed_since_one_last_read_is_marked(
    enter: Callable[..., Page], publish: Callable[[str], None], project: Project,
    make_comparisons: Callable[..., list[int]],
) -> None:  # fmt: skip
    publish("# Aim\n\nBe kind.")
    make_comparisons(project, 1)
    page = enter("rater")
    start(page, project)
    publish("# Aim\n\nBe kind.\n\nAdmit what you do not know.")
    page.keyboard.press("g")
    expect(page.locator("#drawer-text")).to_contain_text("changed since you last read")
    assert page.locator("#drawer-text .prose ins").all_inner_texts() == ["Admit what you do not know."]
    assert violations(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_it_is_a_sheet_over_everything(
    enter: Callable[..., Page], publish: Callable[[str], None], project: Project,
    make_comparisons: Callable[..., list[int]], scheme: str,
) -> None:  # fmt: skip
    publish(LONG)
    make_comparisons(project, 1)
    page = enter("rater", width=320, height=640, color_scheme=scheme)
    start(page, project)
    page.locator("[data-drawer]").click()
    drawer = page.locator("#guidelines-drawer")
    expect(drawer).to_contain_text("Edition 1")
    assert drawer.bounding_box() == {"x": 0, "y": 0, "width": 320, "height": 640}
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    assert violations(page) == []
    page.get_by_role("button", name="Close").click()
    expect(drawer).to_be_hidden()
    expect(page.locator("[data-drawer]")).to_be_focused()


def test_without_scripts_the_link_leads_to_the_guidelines(
    enter: Callable[..., Page], publish: Callable[[str], None], project: Project,
    make_comparisons: Callable[..., list[int]],
) -> None:  # fmt: skip
    publish("# Aim\n\nBe kind.")
    make_comparisons(project, 1)
    page = enter("rater", java_script_enabled=False)
    page.goto(f"/projects/{project.slug}/rate")
    page.get_by_role("button", name="I have read").click()
    page.get_by_role("button", name="Show me a comparison").click()
    page.locator("[data-drawer]").click()
    expect(page.get_by_role("heading", name="Aim")).to_be_visible()
