"""Some hundred hostile texts in each place that takes text, in a real browser: nothing runs, leaves or breaks the policy."""

import datetime as dt
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.accounts import service as accounts
from app.accounts.models import Person
from app.db import transaction
from app.exchange.models import ImportJob
from app.guidelines.models import Acknowledgement, Guideline
from app.projects.models import Membership, Project, Role
from app.prompts import service as prompts
from app.rating.models import Ranking
from tests.browser.test_hostile import LOOK
from tests.payloads import CORPUS

WATCH = """
window.broken = [];
document.addEventListener('securitypolicyviolation', e => broken.push(`${e.effectiveDirective}: ${e.blockedURI} ${e.sample}`));
"""
PER_PAGE = 20  # Imports on the page of data.


@pytest.fixture
def watched(open_page: Callable[..., Page], site: str) -> Iterator[Page]:
    """A page that notes every violation of the content policy, every dialog and everything that is loaded but ours."""
    page, loaded = open_page(), list[str]()
    page.add_init_script(WATCH)
    page.on("dialog", lambda dialog: loaded.append(f"dialog {dialog.message}"))
    page.on("request", lambda r: None if is_ours(r.url, site, kind=r.resource_type) else loaded.append(r.url))
    yield page
    assert loaded == []


def is_ours(url: str, site: str, *, kind: str) -> bool:
    """Pages and what they are made of; an image or a script from elsewhere on our own site is an injected one."""
    if kind in {"document", "fetch", "xhr"}:
        return url.startswith(f"{site}/")
    return url.startswith((f"{site}/static/", f"{site}/favicon.ico"))


def look(page: Page, path: str = "") -> None:
    if path:
        answer = page.goto(path)
        assert answer is not None
        assert answer.status == 200, path
    assert page.evaluate("window.broken") == [], path or page.url
    assert page.evaluate(LOOK) == [], path or page.url


def test_the_corpus_in_every_field_is_nothing_but_text(
    db: Engine, watched: Page, site: str, make_person: Callable[..., Person], join: Callable[..., Person],
    make_project: Callable[..., Project],
) -> None:  # fmt: skip
    flags = [{"key": f"f{i}", "label": payload} for i, payload in enumerate(CORPUS)]
    attributes = [{"key": f"a{i}", "label": payload, "help": payload} for i, payload in enumerate(CORPUS[:20])]
    project = make_project(name=CORPUS[0], flags=flags, attributes=attributes)
    person = join(make_person(is_site_admin=True), project, *Role)
    with transaction(db) as session:
        slugs = _named(session, person)
        comparisons = _compared(session, project, person)
        _guidelines(session, project, person)
        token = accounts.start_session(session, person)
    watched.context.add_cookies([{"name": "attune_session", "value": token, "url": site}])
    at = f"/projects/{project.slug}"
    for path in ("/", f"{at}/members", f"{at}/settings", f"{at}/guidelines", f"{at}/guidelines/1", f"{at}/comparisons"):
        look(watched, path)
    for slug in slugs:
        look(watched, f"/projects/{slug}/data")
    for number in comparisons:
        look(watched, f"{at}/comparisons/{number}")
    _rate(watched, at)


def test_the_watch_sees_what_it_watches_for(chromium: Browser, site: str) -> None:
    page = chromium.new_page()
    page.add_init_script(WATCH)
    page.goto(f"{site}/sign-in")
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), {src: 'data:,1'}))")
    page.wait_for_timeout(200)
    assert page.evaluate("window.broken")[0].startswith("script-src-elem")
    page.close()


def _rate(page: Page, at: str) -> None:
    """At the desk: as it is, by differences, raw, with all that opens, and after a ranking."""
    page.goto(f"{at}/rate")
    page.keyboard.press("Enter")
    page.locator("#comparison").wait_for()
    look(page)
    for key in ("Shift+D", "m", "m", "Shift+G", "Escape", "n"):
        page.keyboard.press(key)
        look(page)
    page.locator('textarea[name="note"]').fill(CORPUS[0])
    for place in range(page.locator(".response").count()):
        page.locator(f'[name="rank-{place}"][value="{place + 1}"]').check(force=True)
    page.locator("[data-submit]").click()
    page.wait_for_function("() => document.querySelector('.desk__bar').textContent.includes('Saved')")
    look(page)
    look(page, f"{at}/my-rankings")


def slices(size: int) -> list[list[str]]:
    return [CORPUS[i : i + size] for i in range(0, len(CORPUS), size)]


def _named(session: Session, person: Person) -> list[str]:
    """People, projects and files with these names; the addresses of projects that have files."""
    slugs = []
    for i, payloads in enumerate(slices(PER_PAGE)):
        for j, payload in enumerate(payloads):
            project = Project(slug=f"named-{i}-{j}", name=payload, description=payload)
            session.add(project)
            session.flush()
            session.add(Membership(project_id=project.id, person_id=person.id, role="admin"))
            if j == 0:
                slugs.append(project.slug)
                home = project.id
            named = Person(name=payload, email=f"n{i}.{j}@x.example")
            session.add(named)
            session.flush()
            session.add(Membership(project_id=home, person_id=named.id, role="rater"))
            session.add(ImportJob(project_id=home, file_name=payload, stored_name="x", state="refused", error=payload))
    return slugs


def _compared(session: Session, project: Project, person: Person) -> list[int]:
    """Nine payloads a comparison as turns of the prompt, as responses and as notes of rankings."""
    made = []
    for payloads in slices(9):
        turns = [{"role": "user" if i % 2 == 0 else "assistant", "content": text} for i, text in enumerate(payloads)]
        prompt_id, _ = prompts.add_prompt(
            session, project, [*turns, {"role": "user", "content": payloads[-1]}][: len(turns) | 1]
        )
        texts = [prompts.add_response(session, prompt_id, text, origin="imported", source=text)[0] for text in payloads]
        comparison_id, _ = prompts.add_comparison(session, project, prompt_id, texts, origin="imported")
        ranks: dict[str, Any] = {str(response_id): rank for rank, response_id in enumerate(texts, start=1)}
        session.add_all(
            Ranking(
                project_id=project.id,
                comparison_id=comparison_id,
                rater_id=person.id,
                idempotency_key=uuid.uuid4(),
                request_hash=b"",
                standing="surplus",
                ranks=ranks,
                shown_order=list(range(len(texts))),
                seconds=1.0,
                note=note,
            )
            for note in payloads
        )
        made.append(comparison_id)
    return made


def _guidelines(session: Session, project: Project, person: Person) -> None:
    """One edition with each payload in an item of a list, so that none swallows the next."""
    body = "\n".join("- " + payload.replace("\n", "\n  ") for payload in CORPUS)
    edition = Guideline(
        project_id=project.id, edition=1, body=body, summary=CORPUS[0], published_at=dt.datetime.now(dt.UTC)
    )
    session.add(edition)
    session.flush()
    session.add(Acknowledgement(guideline_id=edition.id, person_id=person.id))
