"""The session ends while somebody is at work: they sign in again on the same page, and nothing is lost."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect
from sqlalchemy import Engine, delete, select, update

from app.accounts import service as accounts
from app.accounts.models import Person, SignInSession
from app.db import transaction
from app.projects.models import Membership, Project
from app.rating.models import Assignment
from tests.browser.access import small_targets, violations
from tests.browser.desk import begin_rating, rankings
from tests.browser.test_desk import Enter, Make, all_sent, is_ahead, judge, until

PASSWORD = "a long sentence of words"


@pytest.fixture
def desk(db: Engine, enter: Enter, project: Project, make_comparisons: Make) -> Page:
    """A rater with a password, at their first of four pairs, with the next one at hand."""
    with transaction(db) as session:
        session.get_one(Project, project.id).ask_strength = True
    make_comparisons(project, 4, k=2)
    page = enter("rater")
    begin_rating(page, project)
    is_ahead(page)
    with transaction(db) as session:
        person = session.get_one(Person, person_of(page))
        person.password_hash = accounts.hash_password(PASSWORD, email=person.email)
    return page


def person_of(page: Page) -> int:
    return int(page.locator("#desk").get_attribute("data-person") or 0)


def dialog_of(page: Page) -> Locator:
    return page.get_by_role("dialog", name="Sign in again")


def end_sessions(db: Engine) -> None:
    with transaction(db) as session:
        session.execute(delete(SignInSession))


def sign_in_elsewhere(db: Engine, page: Page, person_id: int, *, then: str = "/") -> None:
    with transaction(db) as session:
        token = accounts.create_link(session, "sign_in", person_id=person_id)
    other = page.context.new_page()
    other.goto(f"/link/{token}")
    other.get_by_role("button", name="Sign in").click()
    other.wait_for_url("**/projects/*")
    other.goto(then)
    other.close()
    page.evaluate("window.dispatchEvent(new Event('focus'))")


def test_who_was_signed_out_signs_in_again_in_place(db: Engine, desk: Page) -> None:
    end_sessions(db)
    judge(desk)
    dialog = dialog_of(desk)
    expect(dialog.get_by_label("Password")).to_be_focused()
    expect(desk.locator("[data-save-state]")).to_contain_text("signed out: 1 ranking waits here")
    assert violations(desk) == []
    assert small_targets(desk) == []
    desk.keyboard.type("not this one, surely")
    desk.keyboard.press("Enter")
    expect(dialog.get_by_role("alert")).to_contain_text("Email and password do not match")
    dialog.get_by_label("Password").fill(PASSWORD)
    desk.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    all_sent(desk)
    assert len(rankings(db)) == 1
    desk.keyboard.press("3")
    expect(desk.locator("[data-save-state]")).to_have_text("· draft saved")
    desk.keyboard.press("Enter")
    all_sent(desk)
    assert len({ranking.comparison_id for ranking in rankings(db)}) == 2


def test_a_draft_that_cannot_be_kept_tells_before_the_ranking_does(db: Engine, desk: Page) -> None:
    end_sessions(db)
    desk.keyboard.press("n")
    desk.keyboard.type("Both are wrong about the moon.")
    dialog = dialog_of(desk)
    expect(dialog).to_be_visible()
    dialog.get_by_label("Password").fill(PASSWORD)
    dialog.get_by_role("button", name="Sign in").click()
    expect(dialog).to_be_hidden()
    expect(desk.locator('textarea[name="note"]')).to_be_focused()
    expect(desk.locator('textarea[name="note"]')).to_have_value("Both are wrong about the moon.")
    expect(desk.locator("[data-save-state]")).to_have_text("· draft saved")
    with transaction(db) as session:
        drafts = list(session.scalars(select(Assignment.draft).where(Assignment.draft.is_not(None))))
    assert [draft["note"] for draft in drafts if draft] == ["Both are wrong about the moon."]


def test_not_now_is_an_answer_and_the_way_back_stays(db: Engine, desk: Page) -> None:
    end_sessions(db)
    judge(desk)
    dialog = dialog_of(desk)
    expect(dialog).to_be_visible()
    desk.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(desk.locator("#notices")).to_contain_text("You are signed out")
    desk.wait_for_timeout(2500)  # It was tried again meanwhile, and did not open the dialog once more.
    expect(dialog).to_be_hidden()
    desk.locator("#notices").get_by_role("link", name="sign in again").click()
    dialog.get_by_label("Password").fill(PASSWORD)
    desk.keyboard.press("Enter")
    all_sent(desk)
    expect(desk.locator("#notices")).to_be_empty()
    assert len(rankings(db)) == 1


def test_a_link_opened_in_another_tab_serves_as_well(db: Engine, desk: Page) -> None:
    end_sessions(db)
    judge(desk)
    expect(dialog_of(desk)).to_be_visible()
    sign_in_elsewhere(db, desk, person_of(desk))
    expect(dialog_of(desk)).to_be_hidden()
    all_sent(desk)
    assert len(rankings(db)) == 1
    is_ahead(desk)
    judge(desk)
    all_sent(desk)
    assert len({ranking.comparison_id for ranking in rankings(db)}) == 2


def test_another_person_who_signs_in_sends_nothing_of_the_first(
    db: Engine, desk: Page, make_person: Make, join: Make, project: Project
) -> None:
    stranger: Person = make_person()
    join(stranger, project, "rater")
    end_sessions(db)
    judge(desk)
    dialog = dialog_of(desk)
    expect(dialog).to_be_visible()
    sign_in_elsewhere(db, desk, stranger.id, then=f"/projects/{project.slug}/rate")
    desk.wait_for_timeout(500)
    assert rankings(db) == []
    assert desk.evaluate("waiting().length") == 1
    dialog.get_by_label("Password").fill(PASSWORD)
    desk.keyboard.press("Enter")
    all_sent(desk)
    assert [ranking.rater_id for ranking in rankings(db)] == [person_of(desk)]


def test_who_may_not_rank_here_any_more_is_told_so_and_not_asked_to_sign_in(db: Engine, desk: Page) -> None:
    with transaction(db) as session:
        mine = update(Membership).where(Membership.person_id == person_of(desk))
        session.execute(mine.values(role="operator"))
    judge(desk)
    expect(desk.locator("#notices")).to_contain_text("This needs the role rater")
    expect(dialog_of(desk)).to_be_hidden()
    assert desk.evaluate("waiting().length") == 1


def test_another_person_who_comes_and_goes_takes_nothing_of_the_first_along(
    db: Engine, desk: Page, make_person: Make, join: Make, project: Project
) -> None:
    stranger: Person = join(make_person(), project, "rater")
    end_sessions(db)
    judge(desk)
    expect(dialog_of(desk)).to_be_visible()
    sign_in_elsewhere(db, desk, stranger.id, then=f"/projects/{project.slug}/rate")
    other = desk.context.new_page()
    other.goto(f"/projects/{project.slug}/rate")
    other.evaluate("localStorage.setItem('attune.of-the-stranger', 'yes')")
    other.get_by_role("button", name="Sign out").click()
    other.wait_for_url("**/sign-in")
    assert other.evaluate("localStorage.getItem('attune.of-the-stranger')") is None
    other.close()
    assert desk.evaluate("waiting().length") == 1
    dialog_of(desk).get_by_label("Password").fill(PASSWORD)
    desk.keyboard.press("Enter")
    all_sent(desk)
    assert [ranking.rater_id for ranking in rankings(db)] == [person_of(desk)]


def test_a_draft_goes_on_under_the_session_that_another_tab_began(db: Engine, desk: Page) -> None:
    sign_in_elsewhere(db, desk, person_of(desk))  # This page has not seen a refusal yet; its token is out of date.
    desk.keyboard.press("3")
    expect(desk.locator("[data-save-state]")).to_have_text("· draft saved")
    expect(dialog_of(desk)).to_be_hidden()


def test_what_htmx_was_refused_is_pressed_again_and_done(db: Engine, desk: Page) -> None:
    judge(desk)
    all_sent(desk)
    end_sessions(db)
    desk.keyboard.press("z")
    expect(dialog_of(desk)).to_be_visible()
    expect(desk.locator("#notices")).to_be_empty()
    desk.keyboard.type(PASSWORD)
    desk.keyboard.press("Enter")
    expect(dialog_of(desk)).to_be_hidden()
    desk.keyboard.press("z")
    expect(desk.get_by_role("heading", name="Correct your ranking")).to_be_visible()


def test_a_form_of_an_earlier_session_is_sent_once_more(
    db: Engine, enter: Callable[..., Page], project: Project, make_person: Make
) -> None:
    page = enter("admin")
    page.goto(f"/projects/{project.slug}/guidelines/edit")
    field = page.locator("textarea").first
    field.fill("Say what is true.")
    expect(page.locator("#preview")).to_contain_text("Say what is true.")
    with transaction(db) as session:
        person_id = session.scalars(select(SignInSession.person_id)).one()
    sign_in_elsewhere(db, page, person_id)
    page.get_by_role("button", name="Publish").click()
    expect(page.locator("#notices")).to_contain_text("Nothing was lost: send it once more")
    expect(field).to_have_value("Say what is true.")
    page.get_by_role("button", name="Publish").click()
    until(page, "document.body.textContent.includes('Edition 1')")
