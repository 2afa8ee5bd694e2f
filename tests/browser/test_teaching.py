"""A new rater's way to the first comparison, and a demonstration from prompt to correction, as people walk them."""

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect
from sqlalchemy import Engine, update

from app.accounts.models import Person
from app.db import transaction
from app.projects.models import Project
from app.prompts import service as prompts
from app.prompts.models import Prompt
from app.teaching import lessons, quiz
from tests.browser.desk import press_ranks, takes_keys


def test_practice_by_keys_then_the_quiz_then_the_first_comparison(
    db: Engine, enter: Callable[..., Page], project: Project, make_person: Callable[..., Person],
    make_comparisons: Callable[..., list[int]],
) -> None:  # fmt: skip
    expert = make_person()
    (practised,) = make_comparisons(project, 1, k=3)
    make_comparisons(project, 1, k=3)
    with transaction(db) as session:
        kept = session.get_one(Project, project.id)
        kept.practice_comparisons, kept.quiz_required, kept.quiz_tries = 1, True, 2
        lessons.write_lesson(
            session, project, comparison_id=practised, ranks=[1, 2, 3], explanation="Rule 1.", person_id=expert.id
        )
        quiz.write_question(
            session, project, kind="choice", body="Which?", options=["This", "That"], correct=0, explanation="Rule 2.",
            person_id=expert.id,
        )  # fmt: skip
    page = enter("rater")
    page.goto(f"/projects/{project.slug}/rate")
    expect(page.get_by_role("heading", name="Practise first")).to_be_visible()
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Start", exact=True).click()
    takes_keys(page)
    press_ranks(page, "abc", "123")
    expect(page.locator("[data-order]")).to_have_text("A > B > C")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Why")).to_be_visible()
    expect(page.get_by_text("Rule 1.")).to_be_visible()
    page.get_by_role("link", name="Take the quiz").click()
    page.get_by_label("That").check()
    page.get_by_role("button", name="Send my answers").click()
    expect(page.get_by_role("heading", name="Not passed")).to_be_visible()
    page.get_by_role("link", name="Try again").click()
    page.get_by_label("This").check()
    page.get_by_role("button", name="Send my answers").click()
    expect(page.get_by_role("heading", name="Passed", exact=True)).to_be_visible()
    page.get_by_role("link", name="Go to the comparisons").click()
    page.get_by_role("button", name="Show me a comparison").press("Enter")
    page.locator("#comparison").wait_for()


def test_practice_blurs_what_it_warned_of(
    db: Engine, enter: Callable[..., Page], project: Project, make_person: Callable[..., Person],
    make_comparisons: Callable[..., list[int]],
) -> None:  # fmt: skip
    (practised,) = make_comparisons(project, 1, k=2)
    with transaction(db) as session:
        session.get_one(Project, project.id).practice_comparisons = 1
        session.execute(update(Prompt).values(warnings=["violence"]))
        lessons.write_lesson(
            session, project, comparison_id=practised, ranks=[1, 2], explanation="Rule 1.", person_id=make_person().id
        )
    page = enter("rater")
    page.goto(f"/projects/{project.slug}/practice")
    page.get_by_role("link", name="Start", exact=True).click()
    expect(page.get_by_role("button", name="Blur")).to_be_hidden()
    page.get_by_text("Show it").click()
    page.get_by_role("button", name="Blur").click()
    expect(page.locator(".response__text").first).to_have_css("filter", re.compile(r"blur\("))
    page.keyboard.press("u")
    expect(page.locator(".response__text").first).to_have_css("filter", "none")


def test_an_admin_makes_a_practice_comparison(
    enter: Callable[..., Page], project: Project, make_comparisons: Callable[..., list[int]]
) -> None:
    (comparison,) = make_comparisons(project, 1, k=2)
    page = enter("admin")
    page.goto(f"/projects/{project.slug}/comparisons/{comparison}")
    page.get_by_role("link", name="Use for practice").click()
    for response, rank in ((1, 2), (2, 1)):
        page.locator(f'input[name="rank-{response - 1}"][value="{rank}"]').check()
    page.get_by_label("Why this order?").fill("[2] is **short**.")
    expect(page.locator("#preview strong")).to_have_text("short")
    page.get_by_role("button", name="Add to practice").click()
    expect(page.get_by_role("cell", name="2 > 1")).to_be_visible()


def test_a_demonstration_survives_a_reload_and_can_be_corrected(
    db: Engine, enter: Callable[..., Page], project: Project
) -> None:
    with transaction(db) as session:
        session.get_one(Project, project.id).demonstrations_per_prompt = 1
        prompts.add_prompt(session, project, [{"role": "user", "content": "Why is the sky blue?"}])
    page = enter("rater")
    page.get_by_role("link", name="Write responses").click()
    page.get_by_role("button", name="Give me a prompt").click()
    page.get_by_label("Your response").fill("It **scatters**.")
    expect(page.get_by_text("draft saved")).to_be_visible()
    expect(page.locator("#preview strong")).to_have_text("scatters")
    page.reload()
    expect(page.get_by_label("Your response")).to_have_value("It **scatters**.")
    page.get_by_label("Your response").fill("")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#notices")).to_contain_text("Write a response")
    page.get_by_label("Your response").fill("Blue scatters most.")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("Saved. Thank you.")).to_be_visible()
    page.get_by_role("link", name="My demonstrations").click()
    page.get_by_role("link", name="Correct").click()
    page.get_by_label("Your response").fill("Blue light scatters most.")
    page.get_by_role("button", name="Send correction").click()
    expect(page.get_by_role("cell", name="Blue light scatters most.")).to_be_visible()
