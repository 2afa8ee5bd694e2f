"""The best response is edited beside what changed, and the edit is kept while one goes on choosing."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import Engine, func, select, update

from app.db import transaction
from app.projects.models import Project
from app.prompts.models import Response
from app.rating.models import Ranking
from tests.browser.access import violations
from tests.browser.desk import begin_rating, press_ranks


def test_the_best_is_edited_by_keyboard(
    db: Engine, project: Project, make_comparisons: Callable[..., list[int]], enter: Callable[..., Page]
) -> None:
    with transaction(db) as session:
        session.merge(project).allow_edit = True
    make_comparisons(project, 1, k=3)
    page = enter("rater")
    begin_rating(page, project)
    press_ranks(page, "ABC", "312")
    best = page.locator(".response").nth(1).locator(".raw").text_content() or ""
    page.keyboard.press("e")
    field = page.locator("[data-edit]")
    expect(field).to_be_focused()
    expect(field).to_have_value(best.lstrip("\n"))
    expect(page.locator("[data-edit-diff]")).to_have_text("Nothing yet.")
    page.locator("#response-0").focus()
    press_ranks(page, "AB", "13")  # Not edited yet: the field follows the choice.
    expect(page.locator("[data-edit-label]")).to_have_text("Response A, as it should be")
    field.focus()
    page.keyboard.press("Control+End")
    page.keyboard.type(" And more.")
    expect(page.locator("[data-edit-diff] ins")).to_have_text("And more.", use_inner_text=True)
    assert violations(page) == []
    expect(page.locator("[data-save-state]")).to_contain_text("draft saved")
    page.reload()
    expect(field).to_have_value(
        f"{(page.locator('.response').first.locator('.raw').text_content() or '').strip()} And more."
    )
    field.focus()
    page.keyboard.press("Control+Enter")
    page.get_by_text("Nothing left to rank").wait_for()
    with transaction(db) as session:
        edited = session.scalars(select(Ranking.edited_id)).one()
        assert edited is not None
        assert session.get_one(Response, edited).text.endswith(" And more.")


@pytest.mark.parametrize("text", ["", "One.\r\nTwo.", "One.\rTwo.", "ä" * 12_000])
def test_what_is_left_as_it_was_is_no_edit_of_another(
    db: Engine, project: Project, make_comparisons: Callable[..., list[int]], enter: Callable[..., Page], text: str
) -> None:
    """The field was filled from the best, and closed; then another is the best."""
    with transaction(db) as session:
        session.merge(project).allow_edit = True
    make_comparisons(project, 1, k=3)
    with transaction(db) as session:
        if text:
            session.execute(update(Response).values(text=Response.text + text))
    page = enter("rater")
    begin_rating(page, project)
    press_ranks(page, "AB", "12")
    page.keyboard.press("e")
    expect(page.locator("[data-edit]")).to_be_focused()
    page.locator("#response-0").focus()
    press_ranks(page, "C", "3")
    expect(page.locator("[data-save-state]")).to_contain_text("draft saved")
    page.locator("details.edit summary").click()
    press_ranks(page, "AB", "21")
    expect(page.locator("[data-order]")).to_have_text("B > A > C")
    page.keyboard.press("Enter")
    page.get_by_text("Nothing left to rank").wait_for()
    with transaction(db) as session:
        assert session.scalar(select(func.count()).where(Response.origin == "edited")) == 0


def test_a_draft_of_what_is_left_as_it_was_is_none(
    db: Engine, project: Project, make_comparisons: Callable[..., list[int]], enter: Callable[..., Page]
) -> None:
    with transaction(db) as session:
        session.merge(project).allow_edit = True
    make_comparisons(project, 1, k=3)
    page = enter("rater")
    begin_rating(page, project)
    press_ranks(page, "AB", "12")
    page.keyboard.press("e")
    page.locator("#response-0").focus()
    press_ranks(page, "C", "3")
    expect(page.locator("[data-save-state]")).to_contain_text("draft saved")
    page.reload()
    expect(page.locator("[data-order]")).to_have_text("A > B > C")
    expect(page.locator("[data-edit]")).to_have_value("")
