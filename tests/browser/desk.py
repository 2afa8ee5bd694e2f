"""What tests of the desk do again and again."""

from playwright.sync_api import Page, expect
from sqlalchemy import Engine, select

from app.db import transaction
from app.projects.models import Project
from app.rating.models import Ranking


def rankings(db: Engine) -> list[Ranking]:
    with transaction(db) as session:
        return list(session.scalars(select(Ranking).order_by(Ranking.id)))


def begin_rating(page: Page, project: Project) -> None:
    page.goto(f"/projects/{project.slug}/rate")
    page.keyboard.press("Enter")
    page.locator("#comparison").wait_for()
    takes_keys(page)


def takes_keys(page: Page) -> None:
    """Wait for the desk's scripts, which move the focus: a key that comes earlier is lost."""
    expect(page.locator("[data-focus]")).to_be_focused()


def press_ranks(page: Page, letters: str, digits: str) -> None:
    """A letter takes the card, the digit ranks it."""
    for letter, digit in zip(letters, digits, strict=True):
        page.keyboard.press(letter)
        page.keyboard.press(digit)
