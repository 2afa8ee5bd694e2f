"""Demonstrations: handed out as often as wanted, kept for ever, learned from as they stand."""

import json
import re
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine, create_engine, func, select, update
from sqlalchemy.exc import DBAPIError

from app.accounts.models import Person
from app.db import transaction
from app.exchange import export
from app.guidelines import service as guidelines
from app.projects.models import Project
from app.prompts import service as prompts
from app.prompts.models import Prompt, RaterCare, Response
from app.rating import leases
from app.writing import service as writing
from app.writing.models import Demonstration, WritingTask
from worker.lessons import demonstrations_of

Make = Callable[..., Any]


@pytest.fixture
def project(make_project: Make) -> Project:
    made: Project = make_project(demonstrations_per_prompt=1)
    return made


@pytest.fixture
def ada(make_person: Make, join: Make, project: Project) -> Person:
    person: Person = join(make_person(), project, "rater")
    return person


@pytest.fixture
def ask(db: Engine, project: Project) -> Callable[..., list[int]]:
    """Ids of new prompts."""

    def asked(*texts: str) -> list[int]:
        with transaction(db) as session:
            given = ([{"role": "user", "content": text}] for text in texts)
            return [prompts.add_prompt(session, project, messages, split="train")[0] for messages in given]

    return asked


def write(db: Engine, project: Project, writer: Person, text: str) -> int:
    """Take the next prompt and answer it; the id of the task."""
    with transaction(db) as session:
        task = writing.next_task(session, project, writer_id=writer.id)
        assert task is not None
        key = task.idempotency_key
        writing.submit(session, project, writer, task_id=task.id, text=text, idempotency_key=key)
        return task.id


def learned(db: Engine, project: Project) -> list[str]:
    with transaction(db) as session:
        return sorted(item.response for part in demonstrations_of(session, project) for item in part)


def exported(db: Engine, project: Project) -> list[dict[str, Any]]:
    content = b"".join(export.stream(db, project, what="demonstrations", format="jsonl"))
    return [json.loads(line) for line in content.splitlines()]


def test_what_is_written_is_learned_from_and_exported(
    db: Engine, project: Project, ada: Person, ask: Callable[..., list[int]], sign_in: Make
) -> None:
    ask("Why is the sky blue?")
    browser, base = sign_in(ada), f"/projects/{project.slug}"
    assert browser.post(f"{base}/write/next").headers["Location"] == f"{base}/write"
    page = browser.get(f"{base}/write").text
    assert "Why is the sky blue?" in page
    with transaction(db) as session:
        task = session.scalars(select(WritingTask)).one()
    saved = browser.post(f"{base}/write/{task.id}/draft", data={"text": "It *scat"}, headers={"HX-Request": "true"})
    assert "draft saved" in saved.text
    assert "It *scat</textarea>" in browser.get(f"{base}/write").text
    form = {"text": "It *scatters*.\r\n", "idempotency_key": str(task.idempotency_key)}
    for _ in range(2):
        assert browser.post(f"{base}/write/{task.id}", data=form).status_code == 303
    assert learned(db, project) == ["It *scatters*."]
    (row,) = exported(db, project)
    assert (row["response"], row["rater"]) == ("It *scatters*.", ada.pseudonym)
    assert row["prompt"] == [{"role": "user", "content": "Why is the sky blue?"}]
    assert "It *scatters*." in browser.get(f"{base}/my-demonstrations").text
    assert browser.post(f"{base}/write/next").headers["Location"] == f"{base}/write?none=left"


def test_a_correction_supersedes_and_both_are_kept(
    db: Engine, project: Project, ada: Person, ask: Callable[..., list[int]], sign_in: Make
) -> None:
    ask("Why?")
    task_id = write(db, project, ada, "First.")
    browser, path = sign_in(ada), f"/projects/{project.slug}/my-demonstrations/{task_id}"
    assert "First." in browser.get(path).text
    key = str(uuid.uuid4())
    for _ in range(2):
        browser.post(path, data={"text": "Second.", "idempotency_key": key})
    assert learned(db, project) == ["Second."]
    assert [row["response"] for row in exported(db, project)] == ["Second."]
    browser.post(path, data={"text": "First.", "idempotency_key": str(uuid.uuid4())})
    assert learned(db, project) == ["First."], "back to the words of the first revision"
    with transaction(db) as session:
        assert session.scalars(select(Demonstration.revision).order_by(Demonstration.id)).all() == [1, 2, 3]
        assert session.scalar(select(func.count()).select_from(Response)) == 2
    with pytest.raises(DBAPIError, match="append-only"), transaction(db) as session:
        session.execute(update(Demonstration).values(revision=9))


@pytest.mark.parametrize("wanted", [1, 2])
def test_writers_at_once_get_each_prompt_as_often_as_wanted(
    database_url: str, db: Engine, make_project: Make, make_person: Make, wanted: int
) -> None:
    project = make_project(demonstrations_per_prompt=wanted)
    with transaction(db) as session:
        for i in range(8):
            prompts.add_prompt(session, project, [{"role": "user", "content": f"Question {i}?"}])
    writers = [make_person() for _ in range(5)]
    engine = create_engine(database_url, pool_size=5)

    def write_all(writer: Person) -> None:
        while True:
            with transaction(engine) as session:
                task = writing.next_task(session, project, writer_id=writer.id)
            if task is None:
                return
            with transaction(engine) as session:
                key = task.idempotency_key
                text = f"By {writer.id}."
                writing.submit(session, project, writer, task_id=task.id, text=text, idempotency_key=key)

    try:
        with ThreadPoolExecutor(5) as pool:
            list(pool.map(write_all, writers))
    finally:
        engine.dispose()
    with transaction(db) as session:
        rows = session.execute(select(Response.prompt_id, Response.written_by_id)).all()
    assert set(Counter(row.prompt_id for row in rows).values()) == {wanted}
    assert len(rows) == 8 * wanted == len(set(rows))


def test_imported_demonstrations_count_and_a_skipped_prompt_goes_to_somebody_else(
    db: Engine, project: Project, ada: Person, make_person: Make, ask: Callable[..., list[int]]
) -> None:
    answered, first, second = ask("Answered?", "First?", "Second?")
    bob = make_person()
    with transaction(db) as session:
        prompts.add_response(session, answered, "Yes.", origin="written")
        task = writing.next_task(session, project, writer_id=ada.id)
        assert task is not None
        assert task.prompt_id == first
        writing.skip(session, project, task.id, writer_id=ada.id, reason="expertise")
        following = writing.next_task(session, project, writer_id=ada.id)
        theirs = writing.next_task(session, project, writer_id=bob.id)
        assert following is not None
        assert theirs is not None
        assert (following.prompt_id, theirs.prompt_id) == (second, first)


def test_a_lease_that_ran_out_frees_the_prompt_and_a_late_text_is_kept(
    db: Engine, project: Project, ada: Person, make_person: Make, ask: Callable[..., list[int]]
) -> None:
    ask("Why?")
    bob = make_person()
    with transaction(db) as session:
        task = writing.next_task(session, project, writer_id=ada.id)
        assert task is not None
        assert writing.next_task(session, project, writer_id=bob.id) is None
        session.execute(update(WritingTask).values(lease_until=func.now() - sa.text("interval '1 second'")))
    with transaction(db) as session:
        assert writing.next_task(session, project, writer_id=bob.id) is not None
    with transaction(db) as session:
        key = task.idempotency_key
        writing.submit(session, project, ada, task_id=task.id, text="Late.", idempotency_key=key)
    assert learned(db, project) == ["Late."]


def test_writers_never_rank_what_they_wrote(
    db: Engine, project: Project, ada: Person, make_person: Make, ask: Callable[..., list[int]]
) -> None:
    (prompt_id,) = ask("Why?")
    write(db, project, ada, "Because.")
    with transaction(db) as session:
        mine = session.scalars(select(Response.id)).one()
        other, _ = prompts.add_response(session, prompt_id, "No idea.", origin="sampled")
        prompts.add_comparison(session, project, prompt_id, [mine, other], origin="sampled")
        assert leases.next_assignment(session, project, rater_id=ada.id, may_wait=True) is None
        assert leases.next_assignment(session, project, rater_id=make_person().id) is not None


def test_admins_read_what_was_written_a_page_at_a_time_and_raters_do_not(
    db: Engine, project: Project, ada: Person, ask: Callable[..., list[int]], sign_in: Make, make_person: Make,
    join: Make, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    ask("One?", "Two?", "Three?")
    admin, path = sign_in(join(make_person(), project, "admin")), f"/projects/{project.slug}/demonstrations"
    assert "Nobody has written" in admin.get(path).text
    tasks = [write(db, project, ada, text) for text in ("First *said*.", "Second.", "<b>Third</b>.")]
    with transaction(db) as session:
        key = uuid.uuid4()
        writing.correct(session, project, ada, task_id=tasks[0], text="First, mended.", idempotency_key=key)
    monkeypatch.setattr("app.writing.routes.PAGE", 2)
    page = admin.get(path).text
    assert page.index("First, mended.") < page.index("&lt;b&gt;Third&lt;/b&gt;.")
    assert (ada.pseudonym in page, ada.name in page, "First <em>said" in page) == (True, False, False)
    older = re.search(r"/demonstrations\?before=\d+", page)
    assert older
    rest = admin.get(f"/projects/{project.slug}{older[0]}").text
    assert ("Second." in rest, "Third" in rest, "before=" in rest) == (True, False, False)
    monkeypatch.setattr("app.writing.routes.PAGE", 3)
    assert "before=" not in admin.get(path).text
    assert sign_in(ada).get(path).status_code == 403


def test_content_warnings_come_first_and_nobody_is_given_what_they_opted_out_of(
    db: Engine, ada: Person, project: Project, make_person: Make, ask: Callable[..., list[int]], sign_in: Make
) -> None:
    harsh, mild = ask("Harsh?", "Mild?")
    bob = make_person()
    with transaction(db) as session:
        session.get_one(Project, project.id).warnings = [{"key": "hate", "label": "Hateful words"}]
        session.get_one(Prompt, harsh).warnings = ["hate"]
        session.add(RaterCare(project_id=project.id, rater_id=bob.id, opted_out=["hate"]))
        session.flush()
        theirs = writing.next_task(session, project, writer_id=bob.id)
        assert theirs is not None
        assert theirs.prompt_id == mild
    browser, base = sign_in(ada), f"/projects/{project.slug}"
    browser.post(f"{base}/write/next")
    page = browser.get(f"{base}/write").text
    assert page.index("hateful words") < page.index("<details") < page.index("Harsh?")


def test_new_guidelines_are_read_before_writing(
    db: Engine, project: Project, ada: Person, ask: Callable[..., list[int]], sign_in: Make
) -> None:
    ask("Why?")
    with transaction(db) as session:
        guidelines.save_draft(session, project, body="Be kind.", person_id=ada.id)
        guidelines.publish(session, project, person_id=ada.id)
    browser, base = sign_in(ada), f"/projects/{project.slug}"
    assert browser.post(f"/api/v1{base}/writing/next", json={}).status_code == 409
    assert "I have read edition 1" in browser.get(f"{base}/write").text
    done = browser.post(f"{base}/guidelines/1/acknowledge", data={"back": "write"})
    assert done.headers["Location"] == f"{base}/write"
    told = browser.post(f"/api/v1{base}/writing/next", json={}).json()
    assert told["messages"] == [{"role": "user", "content": "Why?"}]
    with transaction(db) as session:
        assert session.scalars(select(WritingTask.guideline_id)).one() is not None


def test_programs_write_too(
    project: Project, ada: Person, ask: Callable[..., list[int]], sign_in: Make, make_person: Make, join: Make
) -> None:
    ask("Why?", "How?")
    browser, base = sign_in(ada), f"/api/v1/projects/{project.slug}"
    task = browser.post(f"{base}/writing/next", json={}).json()
    assert browser.post(f"{base}/writing/{task['id']}/draft", json={"text": "Bec"}).status_code == 204
    assert browser.post(f"{base}/writing/next", json={}).json()["draft"] == "Bec"
    body = {"text": " ", "idempotency_key": task["idempotency_key"]}
    assert browser.post(f"{base}/writing/{task['id']}", json=body).status_code == 422
    body["text"] = "Because."
    assert browser.post(f"{base}/writing/{task['id']}", json=body).json()["revision"] == 1
    body = {"text": "Since.", "idempotency_key": str(uuid.uuid4())}
    assert browser.post(f"{base}/demonstrations/{task['id']}", json=body).json()["revision"] == 2
    assert [row["text"] for row in browser.get(f"{base}/demonstrations").json()] == ["Since."]
    other = sign_in(join(make_person(), project, "rater"))
    assert other.post(f"{base}/demonstrations/{task['id']}", json=body).status_code == 404
    task = browser.post(f"{base}/writing/next", json={}).json()
    assert browser.post(f"{base}/writing/{task['id']}/skip", json={"reason": "unclear"}).status_code == 204
    assert browser.post(f"{base}/writing/next", json={}).status_code == 204


def test_a_project_that_does_not_ask_says_so(make_project: Make, make_person: Make, join: Make, sign_in: Make) -> None:
    project = make_project()
    browser = sign_in(join(make_person(), project, "rater"))
    refused = browser.post(f"/api/v1/projects/{project.slug}/writing/next", json={})
    assert refused.status_code == 409
    assert "does not ask for demonstrations" in refused.json()["error"]["message"]
    page = browser.get(f"/projects/{project.slug}/write").text
    assert "does not ask for written responses" in page
    assert f'/projects/{project.slug}/write"' not in page.split("<main")[0], "no entry in the menu"
