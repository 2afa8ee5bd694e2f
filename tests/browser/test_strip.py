"""The order may be dragged, and says the same as the digits."""

from collections.abc import Callable

from playwright.sync_api import Page, expect

from app.projects.models import Project
from tests.browser.access import violations
from tests.browser.desk import begin_rating, press_ranks

RANKED = "[data-strip-ranked]"


def drag(page: Page, which: str, onto: str) -> None:
    """By the mouse, in steps, to the left edge of another letter, or into an empty list; let go where it has landed."""
    start = page.locator(f'[data-strip] [data-letter="{"ABCD".index(which)}"]').bounding_box()
    end = page.locator(onto).bounding_box()
    assert start is not None
    assert end is not None
    page.mouse.move(start["x"] + start["width"] - 8, start["y"] + start["height"] / 2)
    page.mouse.down()
    page.mouse.move(end["x"] + 3, end["y"] + end["height"] / 2, steps=12)
    page.mouse.move(end["x"] + 2, end["y"] + end["height"] / 2, steps=3)
    landed = letter(which) if onto == RANKED else f"{letter(which)} + {onto.removeprefix(RANKED)}"
    expect(page.locator(landed)).to_have_count(1)
    page.mouse.up()


def letter(which: str) -> str:
    return f'{RANKED} [data-letter="{"ABCD".index(which)}"]'


def test_letters_are_dragged_into_an_order_that_the_form_then_holds(
    project: Project, make_comparisons: Callable[..., list[int]], enter: Callable[..., Page]
) -> None:
    make_comparisons(project, 1, k=4)
    page = enter("rater")
    begin_rating(page, project)
    order = page.locator("[data-order]")
    expect(order).to_have_text("Nothing is ranked yet.")
    drag(page, "C", RANKED)
    expect(order).to_have_text("C, 3 to go")
    drag(page, "A", letter("C"))
    expect(order).to_have_text("A > C, 2 to go")
    page.reload()
    expect(order).to_have_text("A > C, 2 to go")
    press_ranks(page, "BD", "33")
    expect(order).to_have_text("A > C > B = D")
    drag(page, "C", letter("A"))
    expect(order).to_have_text("C > A > B = D")  # The tie stays.
    drag(page, "D", letter("C"))
    expect(order).to_have_text("D > C > A > B")
    assert violations(page) == []


def test_a_phone_has_no_strip(
    project: Project, make_comparisons: Callable[..., list[int]], enter: Callable[..., Page]
) -> None:
    make_comparisons(project, 1, k=3)
    page = enter("rater", width=390, height=844)
    begin_rating(page, project)
    expect(page.locator("[data-strip]")).to_be_hidden()
