"""Keys of one's own: remapped on the page, they work at the desk; single characters can be switched off."""

from collections.abc import Callable

from playwright.sync_api import Page, expect

from app.projects.models import Project
from tests.browser.desk import begin_rating

Enter = Callable[..., Page]
Make = Callable[..., object]


def test_a_command_gets_another_key_on_the_page_and_has_it_at_the_desk(
    project: Project, make_comparisons: Make, enter: Enter
) -> None:
    make_comparisons(project, 1, k=3)
    page = enter("rater")
    page.goto("/account/keys")
    page.get_by_label("Skip, with a reason").fill("n")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#notices")).to_contain_text("Give one of them another key.")
    page.get_by_label("Skip, with a reason").fill("v F2")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_label("Skip, with a reason")).to_have_value("V F2")
    begin_rating(page, project)
    skip = page.locator("details.skip")
    expect(skip.locator("summary kbd")).to_have_text("V")
    for key, is_open in (("s", False), ("v", True)):
        page.keyboard.press(key)
        assert skip.evaluate("node => node.open") is is_open
    page.locator("h1").click()
    page.keyboard.press("F2")
    assert skip.evaluate("node => node.open") is False


def test_single_characters_are_switched_off_from_the_list_of_keys(
    project: Project, make_comparisons: Make, enter: Enter
) -> None:
    make_comparisons(project, 1, k=3)
    page = enter("rater")
    begin_rating(page, project)
    page.keyboard.press("?")
    page.get_by_role("button", name="Switch them off").click()
    expect(page.locator("[data-single-keys]")).to_contain_text("Single-character keys are off")
    page.keyboard.press("Escape")
    expect(page.locator("details.skip kbd")).to_be_hidden()
    page.keyboard.press("s")
    page.keyboard.press("1")
    expect(page.locator("details.skip")).not_to_have_attribute("open", "")
    expect(page.locator("[data-order]")).to_have_text("Nothing is ranked yet.")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Alt+ArrowDown")
    expect(page.locator("[data-order]")).to_have_text("B, 2 to go")
    page.reload()
    expect(page.locator("#comparison")).to_be_visible()
    page.keyboard.press("s")
    expect(page.locator("details.skip")).not_to_have_attribute("open", "")


def test_a_letter_that_names_a_response_goes_there_and_with_shift_it_is_the_command(
    project: Project, make_comparisons: Make, enter: Enter
) -> None:
    make_comparisons(project, 1, k=4)
    page = enter("rater")
    begin_rating(page, project)
    page.keyboard.press("d")
    expect(page.locator("#response-3")).to_be_focused()
    page.keyboard.press("Shift+D")
    expect(page.get_by_role("button", name="Differences")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("button", name="Differences").locator("kbd")).to_have_text("Shift D")
