"""An admin helps a member in who lost the password, and gets no further than the own projects by it."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, select, update
from starlette.testclient import TestClient

from app.accounts.models import OneTimeLink, Person
from app.audit import AuditEvent
from app.db import transaction
from app.projects.models import Project

Make = Callable[..., Any]
REFUSED = "You cannot make a sign-in link"


@pytest.fixture
def project(make_project: Make) -> Project:
    made: Project = make_project()
    return made


@pytest.fixture
def admin(make_person: Make, join: Make, project: Project) -> Person:
    person: Person = join(make_person(), project, "admin")
    return person


def asked(browser: TestClient, project: Project, member_id: int) -> Any:
    return browser.post(f"/projects/{project.slug}/members/{member_id}/link")


def links(db: Engine) -> list[OneTimeLink]:
    with transaction(db) as session:
        return list(session.scalars(select(OneTimeLink)))


def test_the_link_is_shown_once_signs_in_once_and_is_in_the_trail(
    db: Engine, project: Project, admin: Person, sign_in: Make, make_person: Make, join: Make, client: TestClient
) -> None:
    rater = join(make_person(name="Ada"), project, "rater")
    browser = sign_in(admin)
    assert "New sign-in link" in browser.get(f"/projects/{project.slug}/members").text
    page = asked(browser, project, rater.id).text
    assert "Sign-in link for Ada" in page
    token = page.split("/link/")[1].split("<")[0]
    assert token not in browser.get(f"/projects/{project.slug}/members").text
    assert client.post(f"/link/{token}").status_code == 303
    assert "Ada" in client.get("/account").text
    assert client.get(f"/link/{token}").status_code == 404
    with transaction(db) as session:
        event = session.scalars(select(AuditEvent).where(AuditEvent.action == "member.sign_in_link")).one()
    assert (event.actor_id, event.subject, event.project_id) == (admin.id, f"person:{rater.id}", project.id)
    assert token not in str(event.details)
    (link,) = links(db)
    assert (link.expires_at - link.created_at).total_seconds() == pytest.approx(24 * 3600, abs=5)


def test_the_api_makes_the_same_link(
    db: Engine, project: Project, admin: Person, sign_in: Make, make_person: Make, join: Make
) -> None:
    rater = join(make_person(), project, "rater")
    answer = sign_in(admin).post(f"/api/v1/projects/{project.slug}/members/{rater.id}/link")
    assert answer.status_code == 201
    assert answer.json()["hours"] == 24
    assert "/link/" in answer.json()["link"]
    assert [link.person_id for link in links(db)] == [rater.id]


def test_somebody_with_a_role_where_the_admin_is_none_is_refused(
    db: Engine, project: Project, admin: Person, sign_in: Make, make_person: Make, make_project: Make, join: Make
) -> None:
    other = make_project()
    rater = join(join(make_person(), project, "rater"), other, "rater")
    browser = sign_in(admin)
    assert "New sign-in link" not in browser.get(f"/projects/{project.slug}/members").text
    assert asked(browser, project, rater.id).status_code == 403
    join(admin, other, "rater")
    assert asked(browser, project, rater.id).status_code == 403, "a rater there could become its admin by this"
    assert links(db) == []
    join(admin, other, "admin")
    assert asked(browser, project, rater.id).status_code == 200


@pytest.mark.parametrize("what", ["is_site_admin", "is_simulated", "is_inactive", "oneself"])
def test_some_people_are_refused(
    db: Engine, project: Project, admin: Person, sign_in: Make, make_person: Make, join: Make, what: str
) -> None:
    flags = {what: True} if what.startswith("is_s") else {}
    member = admin if what == "oneself" else join(make_person(**flags), project, "rater")
    if what == "is_inactive":
        with transaction(db) as session:
            session.execute(update(Person).where(Person.id == member.id).values(is_active=False))
    answer = asked(sign_in(admin), project, member.id)
    assert answer.status_code == 403
    assert REFUSED in answer.text
    assert links(db) == []


def test_somebody_outside_the_project_is_not_found(
    db: Engine, project: Project, admin: Person, sign_in: Make, make_person: Make
) -> None:
    assert asked(sign_in(admin), project, make_person().id).status_code == 404
    assert links(db) == []
