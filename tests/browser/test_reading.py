"""Reading at the desk: formulas are drawn, what cannot be seen is shown, long responses scroll together."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import Engine, select

from app.db import transaction
from app.projects.models import Project
from app.prompts.models import Response
from tests.browser.desk import begin_rating

Enter = Callable[..., Page]
Make = Callable[..., Any]
LONG = "\n\n".join(f"Paragraph {i} of a response that is long." for i in range(80))
WIDE = "$$" + " + ".join(f"x_{{{i}}}" for i in range(60)) + "$$"


@pytest.fixture
def desk(db: Engine, project: Project, make_comparisons: Make, enter: Enter) -> Callable[..., Page]:
    """A comparison of these texts, in front of a rater."""

    def opened(*texts: str, **options: Any) -> Page:
        make_comparisons(project, 1, k=len(texts))
        with transaction(db) as session:
            for response, text in zip(session.scalars(select(Response).order_by(Response.id)), texts, strict=True):
                response.text = text
        page = enter("rater", **options)
        begin_rating(page, project)
        return page

    return opened


def test_formulas_are_drawn_and_a_wide_one_is_scrolled_by_keyboard(desk: Make) -> None:
    page = desk(r"It is $\frac{1}{2}$.", WIDE, width=390)
    fraction = page.locator("math mfrac")
    top, bottom = fraction.locator("mn").first.bounding_box(), fraction.locator("mn").last.bounding_box()
    assert top is not None
    assert bottom is not None
    assert bottom["y"] > top["y"] + 2
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    wide = page.locator(".math--block")
    expect(wide).to_have_attribute("tabindex", "0")
    wide.focus()
    for _ in range(20):
        page.wait_for_timeout(50)
        if wide.evaluate("node => node.scrollLeft") > 50:
            return
        page.keyboard.press("ArrowRight", delay=20)
    pytest.fail("the formula does not scroll")


def test_the_raw_text_shows_what_cannot_be_seen_and_is_still_the_text(desk: Make) -> None:
    text = "two  spaces\tand a tab\u00a0\u200b\u202eend\n\nlast "
    page = desk(text, text)
    page.keyboard.press("m")
    raw = page.locator(".response .raw").first
    assert raw.evaluate("node => node.textContent") == text
    signs = raw.locator(".unseen").evaluate_all("nodes => nodes.map(node => node.dataset.sign)")
    assert "".join(signs) == "··→··⍽U+200BU+202E↵↵·"
    shown = raw.locator(".unseen").first.evaluate("node => getComputedStyle(node, '::before').content")
    assert "·" in shown


def test_responses_scroll_together_by_key_and_by_hand(desk: Make) -> None:
    page = desk(LONG, LONG[: len(LONG) // 2], LONG)
    page.keyboard.press("j")
    assert page.evaluate("window.scrollY") > 100
    page.keyboard.press("k")
    page.keyboard.press("y")
    expect(page.get_by_role("button", name="Scroll together")).to_have_attribute("aria-pressed", "true")
    assert all(share == 0 for share in shares(page))
    page.keyboard.press("j")
    moved(page)
    page.keyboard.press("k")
    page.locator(".response__text").nth(1).hover()
    page.mouse.wheel(0, 300)
    moved(page)
    page.reload()
    expect(page.get_by_role("button", name="Scroll together")).to_have_attribute("aria-pressed", "true")


def shares(page: Page) -> list[float]:
    """How far each response is scrolled, from 0 to 1."""
    texts = page.locator(".response__text")
    return list(texts.evaluate_all("all => all.map(t => t.scrollTop / (t.scrollHeight - t.clientHeight))"))


def moved(page: Page) -> None:
    """Wait until all have moved, by the same share."""
    for _ in range(50):
        now = shares(page)
        if min(now) > 0.02 and max(now) - min(now) < 0.02:
            return
        page.wait_for_timeout(50)
    pytest.fail(f"they stand at {shares(page)}")
