"""Takes the pictures of `docs/screens` anew, from the pages as they are now: `make screens`.

No test by its name, so that ordinary runs pass it over. Each function brings the website into one state.
"""

import datetime as dt
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Page, expect
from sqlalchemy import Engine, delete, select, update

from app.accounts import service as accounts
from app.accounts.models import Person, SignInSession
from app.config import Settings
from app.db import transaction
from app.guidelines import service as guidelines
from app.main import create_app
from app.projects.models import Membership, Project
from app.prompts import service as prompts
from app.prompts.models import Comparison, Prompt
from app.rating.models import Ranking
from app.teaching import lessons
from app.training.models import ModelVersion
from tests.app.chat.fake import running_fake
from tests.browser.desk import press_ranks
from tests.browser.test_desk import is_ahead

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "screens"
WIDE, PHONE = (1280, 840), (390, 844)
GUIDELINES = """# What makes a good answer

1. **It helps.** The guest can act on it at once: where, when, how much.
2. **It is true.** Say what the house has, not what a house might have.
3. **It is kind and short.** One greeting is enough.

An answer that promises what the house does not have is worse than one that says no.
"""
TOWELS = "Good evening, may I have more towels? Thank you."
ANSWERS = [
    "Welcome! Fresh towels will be at your door in a few minutes. Enjoy your stay!",
    "There are, as you may know, many ways to look at this. And then again, one could also say a few other things about it. Fresh towels will be at your door in a few minutes.",
    "Of course! The taxi waits right at the front door.",
    "Towels, in the closet.",
]
GYM = "Is there a gym, and when is it open?"
PAIR = [
    "Yes. The gym is on the **second floor**, beside the pool, and it is open from **6 am to 11 pm**. Your room key opens the door; towels and water are there.",
    "Yes, the gym is on the second floor and is open from 6 am to 10 pm. Your key opens the door.",
]
LOAN = "I borrow 1,000 at 3 % a year and pay nothing back. What do I owe after 10 years? And how do I compute it in Python?"
SUMS = [
    "After $n$ years you owe\n\n$$D_n = D_0\\,(1 + r)^n$$\n\nso with $D_0 = 1000$, $r = 0.03$ and $n = 10$ it is about $1343.92$.\n\n```python\ndebt = 1000 * 1.03 ** 10\nprint(round(debt, 2))\n```",
    "Interest is paid on interest, so the debt is\n\n$$D_n = D_0 + \\sum_{k=1}^{n} r\\,D_{k-1}$$\n\n| year | debt |\n|---|---|\n| 1 | 1,030.00 |\n| 5 | 1,159.27 |\n| 10 | 1,343.92 |",
]
REPLIES = [
    [
        "Breakfast is served from ",
        "**7 to 10.30** on the terrace",
        ", and until 11 on Sundays. In fine weather we gladly set a table in the garden; tell the waiter.",
    ],
    ["Good morning! ", "Breakfast begins at 7.", " The garden is beautiful in spring."],
]
Stage = Callable[..., Page]


class InTurn(dict[str, list[str]]):
    """One reply after the other, whoever is asked."""

    def get(self, key: str, default: Any = None) -> Any:
        self[key] = REPLIES[len(self) % 2]
        return self[key]


@pytest.fixture
def site(database_url: str, tmp_path: Path) -> Iterator[str]:
    """As the tests' own, with a stand-in for the sampler, so that there are replies to chat with."""
    with running_fake() as fake, socket.socket() as probe:
        fake.says = InTurn()
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        url = f"http://127.0.0.1:{port}"
        settings = Settings(
            DATABASE_URL=database_url, REDIS_URL="", data_dir=tmp_path / "data", public_url=url, sampler_url=fake.url, sampler_key="k"
        )  # fmt: skip
        server = uvicorn.Server(uvicorn.Config(create_app(settings), host="127.0.0.1", port=port, log_level="warning"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield url
        server.should_exit = True
        thread.join(10)


@pytest.fixture
def stage(
    db: Engine, site: str, open_page: Callable[..., Page], make_project: Callable[..., Project],
    make_person: Callable[..., Person], join: Callable[..., Person],
) -> Stage:  # fmt: skip
    """`stage(question, answers, ...)`: Robin Rater at the desk of the concierge, guidelines read, a comparison in hand."""

    def set_up(
        question: str, texts: list[str], *, count: int = 3, path: str = "rate", read: bool = True,
        size: tuple[int, int] = WIDE, scheme: str = "light", **columns: Any,
    ) -> Page:  # fmt: skip
        project = make_project(name="The concierge", **columns)
        person = join(make_person("Robin Rater"), project, "rater")
        with transaction(db) as session:
            guidelines.save_draft(session, project, body=GUIDELINES, person_id=person.id)
            guidelines.publish(session, project, person_id=person.id)
            if read:
                guidelines.acknowledge(session, project, 1, person_id=person.id)
            for i in range(count if texts else 0):
                prompt_id, _ = prompts.add_prompt(
                    session, project, [{"role": "user", "content": f"{question}{' ' * i}"}]
                )
                made = [prompts.add_response(session, prompt_id, text, origin="imported")[0] for text in texts]
                prompts.add_comparison(session, project, prompt_id, made, origin="imported")
            token = accounts.start_session(session, person)
        page = open_page(width=size[0], height=size[1], color_scheme=scheme)
        page.context.add_cookies([{"name": "attune_session", "value": token, "url": site}])
        page.goto(f"/projects/{project.slug}/{path}")
        if path == "rate" and read and texts:
            page.keyboard.press("Enter")
            page.locator("#comparison").wait_for()
        return page

    return set_up


def take(page: Page, name: str) -> None:
    page.mouse.move(0, 0)
    page.wait_for_timeout(700)  # Drafts are saved, and said to be.
    page.screenshot(path=FOLDER / f"{name}.png")


def ranked(stage: Stage, **options: Any) -> Page:
    """Four answers in an order that a careful rater would give."""
    page = stage(TOWELS, ANSWERS, **options)
    best = {text[:12]: rank for text, rank in zip(ANSWERS, "1342", strict=True)}
    shown = [best[text.strip()[:12]] for text in page.locator(".response__text").all_inner_texts()]
    press_ranks(page, "abcd", "".join(shown))
    return page


def test_ranking(stage: Stage) -> None:
    take(ranked(stage), "desk")


def test_dark(stage: Stage) -> None:
    take(ranked(stage, scheme="dark"), "desk-dark")


def test_phone(stage: Stage) -> None:
    take(ranked(stage, size=PHONE), "desk-phone")


def test_pair(stage: Stage) -> None:
    page = stage(GYM, PAIR, ask_strength=True)
    first = page.locator(".response__text").first.inner_text()
    page.keyboard.press("2" if "11 pm" in first else "7")
    take(page, "pair")


def test_differences(stage: Stage) -> None:
    page = stage(GYM, PAIR, ask_strength=True)
    page.keyboard.press("d")
    take(page, "differences")


def test_editing(stage: Stage) -> None:
    page = stage(GYM, PAIR, ask_strength=True, allow_edit=True)
    first = page.locator(".response__text").first.inner_text()
    page.keyboard.press("2" if "11 pm" in first else "7")
    page.keyboard.press("e")
    page.keyboard.press("Control+End")
    page.keyboard.type(" Enjoy your training!")
    page.locator(".edit__panes").scroll_into_view_if_needed()
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    take(page, "editing")


def test_reading(stage: Stage) -> None:
    take(stage(LOAN, SUMS, ask_strength=True), "reading")


def test_raw(stage: Stage) -> None:
    page = stage(LOAN, SUMS, ask_strength=True)
    page.keyboard.press("m")
    take(page, "raw")


def test_guidelines_drawer(stage: Stage) -> None:
    page = ranked(stage)
    page.keyboard.press("g")
    page.locator("#drawer-text[data-edition]").wait_for()
    take(page, "drawer")


def test_keys(stage: Stage) -> None:
    page = ranked(stage)
    page.keyboard.press("?")
    take(page, "keys")


def test_offline(stage: Stage) -> None:
    page = ranked(stage)
    is_ahead(page)
    page.evaluate("sessionStorage.setItem(nameOf('shown'), '0')")  # A rater who took the time.
    page.context.set_offline(True)
    page.keyboard.press("Enter")
    expect(page.locator("[data-save-state]")).to_contain_text("waits here")
    take(page, "offline")
    page.context.set_offline(False)


def test_sign_in_again(stage: Stage, db: Engine) -> None:
    page = ranked(stage)
    is_ahead(page)
    page.evaluate("sessionStorage.setItem(nameOf('shown'), '0')")
    with transaction(db) as session:
        session.execute(delete(SignInSession))
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Sign in again")).to_be_visible()
    expect(page.locator("[data-save-state]")).to_contain_text("waits here")
    take(page, "sign-in-again")


def test_warning(stage: Stage, db: Engine) -> None:
    page = stage(GYM, PAIR, ask_strength=True, count=2)
    with transaction(db) as session:
        session.execute(update(Prompt).values(warnings=["violence"]))
    page.keyboard.press("s")
    page.keyboard.press("Space")
    page.locator(".skip button").click()
    page.get_by_role("heading", name="content warning").wait_for()
    take(page, "warning")


def test_correction(stage: Stage) -> None:
    page = ranked(stage)
    is_ahead(page)
    page.keyboard.press("Enter")
    page.keyboard.press("z")
    expect(page.get_by_role("heading", name="Correct your ranking")).to_be_visible()
    take(page, "correction")


def test_skip(stage: Stage) -> None:
    page = stage(GYM, PAIR, ask_strength=True)
    page.keyboard.press("s")
    take(page, "skip")


def test_statistics(stage: Stage, db: Engine) -> None:
    page = stage(TOWELS, ANSWERS, count=4, path="my-statistics")
    with transaction(db) as session:
        project_id, rater_id = session.execute(select(Membership.project_id, Membership.person_id)).one()
        comparison_id = session.scalars(select(Comparison.id)).first()
        now = dt.datetime.now(dt.UTC)
        session.add_all(
            Ranking(
                project_id=project_id,
                comparison_id=comparison_id,
                rater_id=rater_id,
                idempotency_key=uuid.uuid4(),
                request_hash=b"",
                standing="counted",
                ranks={},
                shown_order=[0, 1, 2, 3],
                seconds=40.0 + 7 * (i % 9),
                created_at=now - dt.timedelta(days=int(i**1.5) % 23, hours=i % 5),
            )
            for i in range(1, 160)
        )
    page.reload()
    take(page, "statistics")


def test_feedback(stage: Stage, db: Engine) -> None:
    page = stage(TOWELS, ANSWERS[:3], count=1)
    with transaction(db) as session:
        project, person_id = session.scalars(select(Project)).one(), session.scalars(select(Membership.person_id)).one()
        lesson = lessons.write_lesson(
            session, project, comparison_id=session.scalars(select(Comparison.id)).one(), ranks=[1, 2, 3],
            explanation="**The first rule is to help.** The guest asked for towels: one answer brings them in a sentence. "
            "The long one does too, but makes the guest read on; the taxi helps nobody, however friendly it sounds.",
            person_id=person_id,
        )  # fmt: skip
        lesson_id = lesson.id
    page.goto(page.url.replace("/rate", f"/practice/{lesson_id}"))
    best = [text.strip().startswith("Welcome") for text in page.locator(".response__text").all_inner_texts()]
    press_ranks(page, "abc", "".join("1" if is_best else "23"[i - sum(best[:i])] for i, is_best in enumerate(best)))
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="expert").first.wait_for()
    take(page, "feedback")


def test_chat(stage: Stage, db: Engine, make_project: Callable[..., Project]) -> None:
    page = stage(GYM, [], path="chat", allow_chat=True, ask_strength=True, responses_per_comparison=2)
    with transaction(db) as session:
        project = session.scalars(select(Project).order_by(Project.id.desc())).first()
        assert project is not None
        for number, state in enumerate(["retired", "serving", "candidate"]):
            session.add(
                ModelVersion(project_id=project.id, kind="policy", number=number, state=state, manifest_hash="a" * 64)
            )
    page.reload()
    page.locator("textarea[data-composer]").fill("When is breakfast, and may I have it in the garden?")
    page.get_by_role("button", name="Begin").click()
    page.locator("#comparison, .choice").first.wait_for()
    take(page, "chat")
