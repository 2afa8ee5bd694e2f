"""A hostile import in a real browser: on every page it is text, and nothing of it runs or asks for anything."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Page
from sqlalchemy import Engine, select

from app.accounts import service as accounts
from app.accounts.models import Person
from app.db import transaction
from app.exchange.models import ImportJob
from app.exchange.service import run_import
from app.guidelines import service as guidelines
from app.projects.models import Project
from app.prompts.models import Comparison
from tests.payloads import PAYLOADS

LOOK = """() => [
  window.pwned,
  ...[...document.querySelectorAll('.prose, td, li, .notice, dd, h1, p')].flatMap(part =>
    [...part.querySelectorAll('img, script, iframe, svg, math [href], annotation-xml, mglyph, maction, style, object, video, meta, base, link, form form')]
      .map(element => element.outerHTML.slice(0, 100))),
  ...[...document.querySelectorAll('[hx-ignore] *')].flatMap(element =>
    [...element.attributes].filter(a => /^(on|hx-|data-hx|id$|name$|style$)/.test(a.name)).map(a => a.name)),
].filter(Boolean)"""


def test_a_hostile_import_is_nothing_but_text(
    db: Engine, make_person: Callable[..., Person], join: Callable[..., Person], make_project: Callable[..., Project],
    open_page: Callable[..., Page], tmp_path: Path,
) -> None:  # fmt: skip
    project = make_project(
        name="<img src=x onerror=window.pwned=1>", description=PAYLOADS[0],
        attributes=[{"key": "a", "label": "<svg onload=window.pwned=1>", "help": PAYLOADS[3]}],
        flags=[{"key": "f", "label": PAYLOADS[3]}],
    )  # fmt: skip
    person = join(make_person("<script>window.pwned=1</script>"), project, "rater", "admin", "operator", "overseer")
    with transaction(db) as session:
        guidelines.save_draft(session, project, body="\n\n".join(PAYLOADS), summary=PAYLOADS[3], person_id=person.id)
        guidelines.publish(session, project, person_id=person.id)
        token = accounts.create_link(session, "sign_in", person_id=person.id)
    page = open_page()
    page.on("dialog", lambda dialog: (_ for _ in ()).throw(AssertionError(dialog.message)))
    page.goto(f"/link/{token}")
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/projects/*")
    number = bring_in(page, project, db, tmp_path)
    with transaction(db) as session:
        ranked = session.scalars(select(Comparison.id).where(Comparison.counted > 0)).first()
    paths = ["", "/data", f"/imports/{number}", "/comparisons", f"/comparisons/{ranked}", "/guidelines", "/guidelines/1",
             "/guidelines/edit", "/members", "/settings", "/runs", "/versions", "/audit", "/rate", "/my-rankings"]  # fmt: skip
    for path in ["/", "/account", *(f"/projects/{project.slug}{path}" for path in paths)]:
        look_at(page, path)
    rate_all(page, project, num=8)
    page.evaluate("document.querySelector('h1').innerHTML = '<img src=data:,>'")
    assert page.evaluate(LOOK) != [], "the look sees what it looks for"


def bring_in(page: Page, project: Project, db: Engine, folder: Path) -> int:
    """Upload through the form, as a person does; a worker imports it. The number of the import."""
    rows: list[dict[str, Any]] = []
    for i, payload in enumerate(PAYLOADS):
        responses = [
            {"text": f"{payload}\n\n{i}", "model": payload[:150]},
            {"text": payload[::-1] + payload, "model": "m"},
        ]
        rows.append({"prompt": payload, "topic": payload, "id": payload, "responses": responses})
        rows.append({**rows[-1], "prompt": f"{payload} again", "ranks": [1, 2], "rater": payload, "note": payload})
    bad = [{"prompt": payload, "responses": [payload]} for payload in PAYLOADS[:20]]
    file = folder / "<img src=x onerror=window.pwned=1>.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *bad]), encoding="utf-8")
    page.goto(f"/projects/{project.slug}/data")
    page.locator("input[type=file]").set_input_files(file)
    page.locator("[name=keep_good_lines]").check()
    page.locator("form[enctype='multipart/form-data'] button").click()
    page.wait_for_url("**/imports/*")
    with transaction(db) as session:
        job = session.scalars(select(ImportJob).order_by(ImportJob.id.desc())).first()
    assert job is not None
    worker = threading.Thread(target=run_import, args=(db, job.id), kwargs={"folder": folder / "data" / "uploads"})
    worker.start()
    worker.join()
    with transaction(db) as session:
        done = session.get_one(ImportJob, job.id)
    assert (done.state, done.num_bad_lines, done.num_new_rankings) == ("done", len(bad), len(PAYLOADS))
    return job.id


def look_at(page: Page, path: str) -> None:
    answer = page.goto(path)
    assert answer is not None
    assert answer.status == 200, path
    assert page.evaluate(LOOK) == [], path


def rate_all(page: Page, project: Project, *, num: int) -> None:
    """Read the guidelines, then go through comparisons as they come."""
    page.goto(f"/projects/{project.slug}/rate")
    page.locator("form[action$='/acknowledge'] button").first.click()
    page.wait_for_load_state("networkidle")
    for _ in range(num):
        page.locator("#comparison, form[action$='/rate/next']").first.wait_for()  # Not while the next is on its way.
        if page.locator("#comparison").count() == 0:
            page.locator("form[action$='/rate/next'] button").first.click()
            page.locator("#comparison").wait_for()
        assert page.evaluate(LOOK) == []
        key = page.locator("[name=idempotency_key]").input_value()
        for place, rank in ((0, 1), (1, 2)):
            page.locator(f"[name=rank-{place}][value='{rank}']").check(force=True)
        page.locator("[data-submit]").click()
        page.wait_for_function("key => document.querySelector('[name=idempotency_key]')?.value !== key", arg=key)
    look_at(page, f"/projects/{project.slug}/my-rankings")
