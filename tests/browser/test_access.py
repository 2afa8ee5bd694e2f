"""The desk for everybody: each of its states, by keyboard alone, announced, without motion, in forced colours, on 320 px."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import Engine, delete, update

from app.accounts import service as accounts
from app.accounts.models import Person, SignInSession
from app.db import transaction
from app.guidelines import service as guidelines
from app.projects.models import Project
from app.prompts.models import Response
from tests.browser.access import HIDDEN_FOCUS, small_targets, tab_through, violations
from tests.browser.desk import begin_rating, press_ranks, rankings, takes_keys
from tests.browser.test_desk import all_sent, is_ahead

Enter = Callable[..., Page]
Make = Callable[..., Any]
RICH = """A response with $\\frac{1}{2}$, [a link](https://a.example) and

```python
print("a line of code that is long enough to be wider than a card on a telephone, and then some")
```

| a | b | c | d | e | f |
|---|---|---|---|---|---|
| one column | two columns | three columns | four columns | five columns | six columns |
"""
SIZES = [(1280, 800), (390, 844), (320, 640)]
LYING = (844, 390)


@pytest.fixture
def furnished(db: Engine, project: Project, make_comparisons: Make, make_person: Make) -> Callable[..., Project]:
    """The project with guidelines, attributes, flags and comparisons of rich texts."""

    def made(count: int, *, k: int = 3, **columns: Any) -> Project:
        make_comparisons(project, count, k=k)
        author: Person = make_person()
        with transaction(db) as session:
            stored = session.get_one(Project, project.id)
            stored.attributes = [{"key": "warmth", "label": "Warmth", "help": "Is it kind?"}]
            stored.flags = [{"key": "harmful", "label": "Harmful"}, {"key": "private", "label": "Private information"}]
            for name, value in columns.items():
                setattr(stored, name, value)
            session.execute(update(Response).values(text=RICH))
            guidelines.save_draft(session, project, body="# Kindness\n\n" + RICH, person_id=author.id)
            guidelines.publish(session, project, person_id=author.id)
        return project

    return made


def read_and_begin(page: Page, project: Project) -> None:
    page.goto(f"/projects/{project.slug}/rate")
    page.get_by_role("button", name="I have read edition 1").click()
    begin_rating(page, project)


class Look:
    """Looks at one state after another and says at the end what was wrong in which."""

    def __init__(self, page: Page) -> None:
        self.page, self.wrong = page, list[str]()

    def __call__(self, state: str) -> None:
        viewport = self.page.viewport_size
        assert viewport is not None
        found = [*violations(self.page), *(f"small target {target}" for target in small_targets(self.page))]
        if self.page.evaluate("document.documentElement.scrollWidth") > viewport["width"]:
            found.append(f"wider than {viewport['width']} px")
        self.wrong += [f"{state}: {what}" for what in found]


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_every_state_of_the_desk_is_usable_by_everybody(
    furnished: Make, enter: Enter, db: Engine, width: int, height: int
) -> None:
    page = enter("rater", width=width, height=height, color_scheme="dark" if width == 390 else "light")
    project = furnished(3)
    look = Look(page)
    page.goto(f"/projects/{project.slug}/rate")
    look("unread guidelines")
    page.get_by_role("button", name="I have read edition 1").click()
    page.goto(f"/projects/{project.slug}/rate")
    look("before the first")
    page.keyboard.press("Enter")
    page.locator("#comparison").wait_for()
    look("nothing ranked")
    press_ranks(page, "abc", "213")
    look("ranked")
    for key, state in (
        ("d", "differences"),
        ("m", "raw text"),
        ("m", "rendered again"),
        ("y", "scrolled together"),
        ("y", "apart"),
    ):
        page.keyboard.press(key)
        look(state)
    page.keyboard.press("g")
    page.locator("#drawer-text[data-edition]").wait_for()
    look("guidelines open")
    page.keyboard.press("Escape")
    page.keyboard.press("n")
    look("note open")
    page.keyboard.press("Escape")
    page.locator("h1").first.click()
    page.keyboard.press("s")
    look("skip open")
    page.locator("h1").first.click()
    page.keyboard.press("s")
    page.keyboard.press("?")
    expect(page.locator("#keys-help")).to_be_visible()
    look("list of keys")
    page.keyboard.press("Escape")
    is_ahead(page)
    page.context.set_offline(True)
    page.keyboard.press("Enter")
    expect(page.locator("[data-save-state]")).to_contain_text("waits here")
    look("offline")
    page.context.set_offline(False)
    all_sent(page)
    page.keyboard.press("z")
    expect(page.get_by_role("heading", name="Correct your ranking")).to_be_visible()
    look("correction")
    page.keyboard.press("l")
    expect(page.get_by_role("heading", name="Correct your ranking")).to_be_hidden()
    page.locator("#notices").evaluate(
        "node => node.innerHTML = '<p class=\"notice notice--error\">Refused, because.</p>'"
    )
    look("refused")
    assert look.wrong == []


def test_what_comes_at_the_end_is_usable_by_everybody(furnished: Make, enter: Enter, db: Engine) -> None:
    page = enter("rater")
    look = Look(page)
    page.clock.install()
    read_and_begin(page, furnished(1, k=2, ask_strength=True))
    page.keyboard.press("3")
    look("a pair, judged")
    page.clock.fast_forward("28:00")
    expect(page.locator("[data-lease-note]")).to_contain_text("held for you")
    look("time nearly over")
    with transaction(db) as session:
        session.execute(delete(SignInSession).where(SignInSession.person_id == _person_of(page)))
    page.evaluate("ahead = document.getElementById('desk-on-its-way').innerHTML")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Sign in again")).to_be_visible()
    look("signed out")
    page.get_by_role("button", name="Not now").click()
    look("signed out, and not yet in again")
    assert look.wrong == []


def test_nothing_left_is_usable_by_everybody(furnished: Make, enter: Enter) -> None:
    page = enter("rater")
    look = Look(page)
    read_and_begin(page, furnished(1, k=2, ask_strength=True))
    page.keyboard.press("3")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Nothing left to rank just now")).to_be_visible()
    look("nothing left")
    assert look.wrong == []


def _person_of(page: Page) -> int:
    return int(page.locator("#desk").get_attribute("data-person") or 0)


@pytest.mark.parametrize(("width", "height"), [*SIZES, LYING])
def test_tab_reaches_everything_in_order_and_nothing_hides_it(
    furnished: Make, enter: Enter, width: int, height: int
) -> None:
    page = enter("rater", width=width, height=height)
    read_and_begin(page, furnished(2, k=4))
    for opened in ("n", "s"):
        page.locator("h1").first.click()
        page.keyboard.press(opened)
        expect(page.locator("details[open]").last).to_be_visible()
    page.evaluate(
        "new Promise(done => requestAnimationFrame(() => setTimeout(done)))"
    )  # What opens is brought into view.
    visited, wrong = tab_through(page)
    assert wrong == []
    cards = [name for name in visited if name.startswith("Response ")]
    assert cards == [f"Response {letter}" for letter in "ABCD"]
    assert visited[0] == "Skip to the main content"
    assert "Send ranking" in visited[-1]


def test_tab_goes_backwards_without_hiding_what_it_reaches(furnished: Make, enter: Enter) -> None:
    page = enter("rater", width=390, height=600)
    read_and_begin(page, furnished(1, k=4))
    wrong = []
    for _ in range(40):
        page.keyboard.press("Shift+Tab")
        wrong.append(page.evaluate(HIDDEN_FOCUS))
    assert [found for found in wrong if found] == []


def test_a_day_of_work_by_keyboard_alone(
    db: Engine, furnished: Make, open_page: Callable[..., Page], make_person: Make, join: Make
) -> None:
    """Sign in, read, rank, write a note, skip, change a key and sign out, with Tab, Enter, Space and letters only."""
    project = furnished(3, k=2, ask_strength=True)
    person: Person = make_person("Kay")
    join(person, project, "rater")
    with transaction(db) as session:
        session.get_one(Person, person.id).password_hash = accounts.hash_password("seven blue herons at dawn")
    page = open_page()
    page.goto("/sign-in")
    tab_to(page, "input[name=email]")
    page.keyboard.type(person.email)
    page.keyboard.press("Tab")
    page.keyboard.type("seven blue herons at dawn")
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "sign-in" not in url)
    tab_to(page, "a[href$='/rate']")
    page.keyboard.press("Enter")
    tab_to(page, "button:has-text('I have read')")
    page.keyboard.press("Enter")
    page.wait_for_load_state("networkidle")
    if "/rate" not in page.url:
        tab_to(page, "a[href$='/rate']")
        page.keyboard.press("Enter")
    page.locator("[data-command=send]").wait_for()
    page.keyboard.press("Enter")
    page.locator("#comparison").wait_for()
    takes_keys(page)
    page.keyboard.press("2")
    page.keyboard.press("n")
    page.keyboard.type("Clearer.")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".desk__bar")).to_contain_text("Saved.")
    assert [(r.strength, r.note) for r in rankings(db)] == [(3, "Clearer.")]
    takes_keys(page)
    page.keyboard.press("s")
    expect(page.locator(".skip input[type=radio]").first).to_be_focused()
    page.keyboard.press("Space")
    tab_to(page, ".skip button")
    page.keyboard.press("Enter")
    expect(page.locator(".desk__bar")).to_contain_text("Skipped.")
    takes_keys(page)
    page.keyboard.press("?")
    tab_to(page, "dialog a[href='/account/keys']")
    page.keyboard.press("Enter")
    page.wait_for_url("**/account/keys")
    tab_to(page, "input[name=skip]")
    page.keyboard.press("Control+a")
    page.keyboard.type("v")
    page.keyboard.press("Enter")
    expect(page.locator("input[name=skip]")).to_have_value("V")
    tab_to(page, "form[action='/sign-out'] button")
    page.keyboard.press("Enter")
    page.wait_for_url("**/sign-in**")


def tab_to(page: Page, selector: str, *, most: int = 120) -> None:
    """Press Tab until what the selector names has the focus."""
    wanted = page.locator(selector).first
    wanted.wait_for()
    for _ in range(most):
        page.keyboard.press("Tab")
        if wanted.evaluate("node => node === document.activeElement"):
            return
    pytest.fail(f"Tab does not reach {selector}")


def test_the_next_comparison_is_announced_and_has_the_focus(furnished: Make, enter: Enter) -> None:
    """A screen reader reads what gets the focus, and what changes in a live region."""
    page = enter("rater")
    read_and_begin(page, furnished(3))
    heading = page.locator("h1[data-focus]")
    expect(heading).to_be_focused()
    expect(heading).to_have_text("Comparison 1 of 3: Rank these 3 responses")
    status = page.get_by_role("status").filter(has_text="ranked today")
    expect(status).to_have_attribute("aria-live", "polite")
    is_ahead(page)
    press_ranks(page, "abc", "321")
    expect(page.locator("[data-order]")).to_have_text("C > B > A")
    expect(page.locator("[data-order]")).to_have_attribute("aria-live", "polite")
    page.keyboard.press("Enter")
    expect(heading).to_have_text("Comparison 2 of 3: Rank these 3 responses")
    expect(heading).to_be_focused()
    expect(status).to_contain_text("1 ranked today")
    assert page.evaluate("window.scrollY") == 0
    expect(page.locator("#notices")).to_have_attribute("aria-live", "assertive")
    tree = page.locator("#desk").aria_snapshot()
    for name in ('region "Prompt"', 'region "Response A"', 'group "Rank of response A"', 'radio "1"'):
        assert name in tree


def test_nothing_moves_for_those_who_asked_for_stillness(furnished: Make, enter: Enter) -> None:
    page = enter("rater", reduced_motion="reduce")
    read_and_begin(page, furnished(1))
    moving = page.evaluate(
        "[...document.querySelectorAll('*')].filter(e => { const s = getComputedStyle(e); return s.scrollBehavior === 'smooth'"
        " || parseFloat(s.transitionDuration) > 0 || (s.animationName !== 'none' && parseFloat(s.animationDuration) > 0) })"
        ".map(e => e.outerHTML.slice(0, 100))"
    )
    assert moving == []


@pytest.mark.parametrize("k", [2, 3])
def test_choices_are_told_apart_in_forced_colours(furnished: Make, enter: Enter, k: int) -> None:
    page = enter("rater", forced_colors="active")
    read_and_begin(page, furnished(1, k=k, ask_strength=True))
    for chosen, key in (
        (page.locator("[data-command=rank-1] + span, [name=rank-0] + span").first, "1"),
        (page.locator("[data-view=raw]"), "m"),
    ):
        before = chosen.screenshot()
        page.keyboard.press(key)
        assert chosen.screenshot() != before, "forced colours are of pixels, not of computed styles"
    page.locator(".response").last.focus()
    outline = page.locator(".response").last.evaluate("node => getComputedStyle(node).outlineStyle")
    assert outline == "solid"


def test_small_targets_and_hidden_focus_are_seen_by_what_measures_them(enter: Enter) -> None:
    page = enter("rater")
    assert small_targets(page) == []
    page.evaluate(
        "document.querySelector('main').insertAdjacentHTML('beforeend', '<button>i</button><button>j</button>');"
        "for (const b of [...document.querySelectorAll('main button')].slice(-2))"
        " Object.assign(b.style, {width: '12px', height: '12px', padding: 0})"
    )
    assert len(small_targets(page)) == 2
    page.evaluate(
        "const cover = document.createElement('div'); cover.className = 'actions';"
        "Object.assign(cover.style, {position: 'fixed', inset: 0, zIndex: 99}); document.body.append(cover);"
        "document.querySelector('main button:last-of-type').focus()"
    )
    assert page.evaluate(HIDDEN_FOCUS).startswith("hidden")


def test_text_may_be_spaced_and_enlarged(furnished: Make, enter: Enter) -> None:
    """1.4.12: with wider spacing nothing is cut off; 1.4.4: at twice the size nothing is lost."""
    page = enter("rater", width=640, height=800)
    read_and_begin(page, furnished(1))
    page.evaluate(
        "for (const e of document.querySelectorAll('*')) Object.assign(e.style, {lineHeight: 1.5, letterSpacing: '0.12em', wordSpacing: '0.16em'})"
    )
    cut = page.evaluate(
        "[...document.querySelectorAll('button, summary, h1, h2, label, .badge, .desk__bar p')].filter(e => e.checkVisibility()"
        " && getComputedStyle(e).overflow === 'hidden' && e.scrollWidth > e.clientWidth + 1 && !e.matches('.visually-hidden'))"
        ".map(e => e.outerHTML.slice(0, 100))"
    )
    assert cut == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 640


def test_a_first_page_has_a_language_a_title_and_a_way_around(enter: Enter) -> None:
    page = enter("rater")
    titles = set()
    for path in ("/", "/account", "/account/keys", "/help", "/help/raters"):
        page.goto(path)
        assert page.locator("html").get_attribute("lang") == "en"
        assert page.locator("h1").count() == 1
        titles.add(page.title())
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_be_focused()
        assert page.locator(".nav a").first.inner_text() == "Attune"
        assert page.get_by_role("navigation", name="Account").get_by_role("link").first.inner_text() == "Help"
    assert len(titles) == 5


def test_responses_say_in_words_which_rank_they_have(furnished: Make, enter: Enter) -> None:
    """Rank buttons are radio buttons with names; the order is also a sentence, so nothing is said by colour or place alone."""
    page = enter("rater")
    read_and_begin(page, furnished(1))
    page.get_by_role("group", name="Rank of response B").get_by_role("radio", name="1").check(force=True)
    expect(page.locator("[data-order]")).to_have_text("B, 2 to go")
    expect(page.get_by_role("region", name="Response B").get_by_role("status")).to_have_text("#1")
    page.get_by_role("button", name="Move response A up").click()
    expect(page.locator("[data-order]")).to_have_text("B > A, 1 to go")


def test_a_press_that_is_dragged_away_does_nothing(furnished: Make, enter: Enter) -> None:
    page = enter("rater")
    read_and_begin(page, furnished(1))
    button = page.locator("[data-command=help]").bounding_box()
    assert button is not None
    page.mouse.move(button["x"] + 5, button["y"] + 5)
    page.mouse.down()
    page.mouse.move(400, 300)
    page.mouse.up()
    expect(page.locator("#keys-help")).to_be_hidden()


def test_what_is_written_on_a_button_is_in_its_name(furnished: Make, enter: Enter) -> None:
    page = enter("rater")
    project = furnished(1)
    read_and_begin(page, project)
    for path in (
        f"/projects/{project.slug}/rate",
        "/account",
        "/account/keys",
        f"/projects/{project.slug}/my-rankings",
    ):
        page.goto(path)
        wrong = page.evaluate(
            "[...document.querySelectorAll('a, button, summary')].filter(e => e.hasAttribute('aria-label') && /[a-z]{2}/i.test(e.textContent)"
            " && !e.getAttribute('aria-label').toLowerCase().includes(e.textContent.trim().toLowerCase())).map(e => e.outerHTML)"
        )
        assert wrong == []
