"""What is new in the guidelines since one last read them: in the drawer, before going on, and for programs."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine

from app.accounts.models import Person
from app.db import transaction
from app.guidelines import service as guidelines
from app.guidelines.reading import added_lines
from app.guidelines.service import diff
from app.projects.models import Project
from app.texts import markdown, markdown_with_changes

Make = Callable[..., Any]
FIRST = "# Aim\n\nBe kind.\n\n- short\n- true"
SECOND = "# Aim\n\nBe kind and brief.\n\n- short\n- true\n- calm"


@pytest.fixture
def rater(make_person: Make, make_project: Make, join: Make) -> tuple[Person, Project]:
    project = make_project()
    return join(make_person(), project, "rater"), project


def publish(db: Engine, project: Project, person: Person, *bodies: str) -> None:
    with transaction(db) as session:
        for body in bodies:
            guidelines.save_draft(session, project, body=body, person_id=person.id)
            guidelines.publish(session, project, person_id=person.id)


def test_only_what_was_added_is_marked() -> None:
    changed = added_lines(diff(FIRST, SECOND))
    assert changed == {2, 6}
    html = str(markdown_with_changes(SECOND, changed))
    assert html.count("<ins>") == 2
    assert "<p><ins>Be kind and brief.</ins></p>" in html
    assert "<li><ins>calm</ins></li>" in html
    assert html.replace("<ins>", "").replace("</ins>", "") == str(markdown(SECOND))


@pytest.mark.parametrize(
    ("text", "changed", "marked"),
    [
        ("```python\nx = 1\n```", {1}, "<ins><pre"),
        ("|a|b|\n|-|-|\n|1|2|\n|3|4|", {3}, "<td><ins>3</ins></td>"),
        ("> quoted\n\nplain", {0}, "<p><ins>quoted</ins></p>"),
        ("1. one\n2. two\n   - inner", {2}, "<li><ins>inner</ins></li>"),
        ("<script>alert(1)</script>", {0}, "<ins>&lt;script&gt;"),
        ("[a](javascript:alert(1))", {0}, "<ins>[a](javascript"),
    ],
)
def test_marks_keep_the_structure_and_nothing_gets_through(text: str, changed: set[int], marked: str) -> None:
    html = str(markdown_with_changes(text, frozenset(changed)))
    assert marked in html
    assert "<script" not in html
    assert 'href="javascript' not in html


def test_who_never_read_any_sees_no_marks(db: Engine, rater: tuple[Person, Project], sign_in: Make) -> None:
    person, project = rater
    browser = sign_in(person)
    path = f"/projects/{project.slug}/guidelines/drawer"
    assert "There are no guidelines yet" in browser.get(path).text
    publish(db, project, person, FIRST, SECOND)
    page = browser.get(path).text
    assert "Edition 2" in page
    assert "<ins>" not in page


def test_the_drawer_marks_what_changed_since_the_edition_last_acknowledged(
    db: Engine, rater: tuple[Person, Project], sign_in: Make
) -> None:
    person, project = rater
    browser, base = sign_in(person), f"/projects/{project.slug}"
    publish(db, project, person, FIRST)
    browser.post(f"{base}/guidelines/1/acknowledge")
    assert "you have read it" in browser.get(f"{base}/guidelines/drawer").text
    publish(db, project, person, "# Aim\n\nBetween.", SECOND)
    page = browser.get(f"{base}/guidelines/drawer").text
    assert "changed since you last read" in page
    assert "since edition 1" in page, "the second was never acknowledged"
    assert "<ins>Be kind and brief.</ins>" in page
    assert "1 line was taken out" in page
    assert f'{base}/guidelines/3?against=1"' in page
    assert "<ins>Be kind and brief.</ins>" in browser.get(f"{base}/rate").text, "also before going on"
    browser.post(f"{base}/guidelines/3/acknowledge")
    page = browser.get(f"{base}/guidelines/drawer").text
    assert "changed since you last read" not in page
    assert "What is new since edition 1" in page


def test_programs_get_the_same(db: Engine, rater: tuple[Person, Project], sign_in: Make) -> None:
    person, project = rater
    browser, path = sign_in(person), f"/api/v1/projects/{project.slug}/guidelines/reading"
    assert browser.get(path).status_code == 404
    publish(db, project, person, FIRST, SECOND)
    assert browser.get(path).json()["last_read_edition"] is None
    browser.post(f"/projects/{project.slug}/guidelines/1/acknowledge")
    said = browser.get(path).json()
    assert (said["edition"], said["is_read"], said["last_read_edition"]) == (2, False, 1)
    assert [c["text"] for c in said["changes"] if c["kind"] == "added"] == ["Be kind and brief.", "- calm"]
    assert [c["text"] for c in said["changes"] if c["kind"] == "removed"] == ["Be kind."]
