"""Every route says who may ask for it, and keeps to it: all roles, on all routes, in their own and in other projects."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from fastapi import FastAPI
from httpx2 import Response
from sqlalchemy import Engine, event
from starlette.testclient import TestClient

from app.accounts.deps import AnyonePermission, InPersonPermission, SignedInPermission, SiteAdminPermission
from app.accounts.models import Person
from app.db import transaction
from app.guidelines import service as guidelines
from app.projects.deps import RolePermission
from app.projects.models import Project, Role
from tests.app.routes_of import Listed, routes_of

pytestmark = pytest.mark.timeout(300)


def ask(browser: TestClient, route: Listed, slug: str = "absent") -> Response:
    """Ask for a route with an empty form, or an empty JSON body."""
    if route.method == "GET":
        return browser.get(route.url(slug))
    body: dict[str, dict[str, str]] = {"json": {}} if route.path.startswith("/api/") else {"data": {}}
    return browser.request(route.method, route.url(slug), **body)  # type: ignore[arg-type]


def in_projects(app: FastAPI) -> list[Listed]:
    """Routes that ask for a role in the project of their path."""
    return [route for route in routes_of(app) if isinstance(route.permission, RolePermission)]


def roles_of(route: Listed) -> frozenset[Role]:
    """The roles that open a route."""
    assert isinstance(route.permission, RolePermission)
    return route.permission.roles


def test_every_route_carries_exactly_one_permission(app: FastAPI) -> None:
    assert len(routes_of(app)) > 60
    assert [f"{route}: {len(route.permissions)}" for route in routes_of(app) if len(route.permissions) != 1] == []


def test_a_route_inside_a_project_asks_for_a_role_there(app: FastAPI) -> None:
    inside = [route for route in routes_of(app) if "{slug}" in route.path]
    assert [str(route) for route in inside if not isinstance(route.permission, RolePermission)] == []


def test_only_the_way_in_and_the_manual_are_open_to_anyone(app: FastAPI) -> None:
    opened = {route.path for route in routes_of(app) if isinstance(route.permission, AnyonePermission)}
    assert opened == {"/", "/sign-in", "/link/{token}", "/help", "/help/{page}"}


def test_no_two_routes_answer_the_same_method_and_path(app: FastAPI) -> None:
    names = [str(route) for route in routes_of(app)]
    assert sorted(names) == sorted(set(names))


def test_nobody_gets_past_sign_in(app: FastAPI, client: TestClient, make_project: Callable[..., Project]) -> None:
    project = make_project()
    wrong = []
    for route in routes_of(app):
        if isinstance(route.permission, AnyonePermission):
            continue
        answer = ask(client, route, project.slug)
        is_page = route.method == "GET" and not route.path.startswith("/api/")
        sent_away = answer.status_code == 303 and answer.headers["Location"].startswith("/sign-in?next=/")
        if not (sent_away if is_page else answer.status_code == 401):
            wrong.append(f"{route}: {answer.status_code}")
    assert wrong == []


@pytest.mark.parametrize("role", list(Role))
def test_a_role_opens_its_routes_and_no_others(
    app: FastAPI,
    role: Role,
    sign_in: Callable[[Person], TestClient],
    make_person: Callable[..., Person],
    make_project: Callable[..., Project],
    join: Callable[..., Person],
) -> None:
    project = make_project()
    browser = sign_in(join(make_person(), project, role))
    wrong = []
    for route in in_projects(app):
        status = ask(browser, route, project.slug).status_code
        fits = status not in {401, 403} and status < 500 if role in roles_of(route) else status == 403
        if not fits:
            wrong.append(f"{route}: {status}")
    assert wrong == []


def test_another_project_looks_like_one_that_does_not_exist(
    app: FastAPI,
    sign_in: Callable[[Person], TestClient],
    make_person: Callable[..., Person],
    make_project: Callable[..., Project],
    join: Callable[..., Person],
) -> None:
    mine, other = make_project(), make_project()
    browser = sign_in(join(make_person(), mine, *Role))
    wrong = []
    for route in in_projects(app):
        theirs, absent = ask(browser, route, other.slug), ask(browser, route, "absent")
        if (theirs.status_code, absent.status_code) != (404, 404):
            wrong.append(f"{route}: {theirs.status_code}, {absent.status_code}")
        elif theirs.text.replace(other.slug, "absent") != absent.text:
            wrong.append(f"{route}: the two refusals differ")
    assert wrong == []


def test_only_site_admins_do_what_is_theirs(
    app: FastAPI, sign_in: Callable[[Person], TestClient], make_person: Callable[..., Person]
) -> None:
    ordinary, admin = sign_in(make_person()), sign_in(make_person(is_site_admin=True))
    routes = [route for route in routes_of(app) if isinstance(route.permission, SiteAdminPermission)]
    assert routes
    assert {str(route): ask(ordinary, route).status_code for route in routes} == {str(route): 403 for route in routes}
    assert not {ask(admin, route).status_code for route in routes} & {401, 403, 404, 500}


def test_a_token_is_limited_to_its_scopes(
    app: FastAPI,
    client: TestClient,
    sign_in: Callable[[Person], TestClient],
    make_person: Callable[..., Person],
    make_project: Callable[..., Project],
    join: Callable[..., Person],
) -> None:
    project = make_project()
    browser = sign_in(join(make_person(is_site_admin=True), project, *Role))
    made = browser.post("/api/v1/tokens", json={"name": "reads", "scopes": ["rater"]})
    client.headers["Authorization"] = f"Bearer {made.json()['token']}"
    wrong = []
    for route in routes_of(app):
        if isinstance(route.permission, AnyonePermission):
            continue
        status = ask(client, route, project.slug).status_code
        if isinstance(route.permission, InPersonPermission | SiteAdminPermission):
            fits = status == 403
        elif isinstance(route.permission, RolePermission):
            fits = (status == 403) == (Role.RATER not in roles_of(route))
        else:
            fits = status not in {401, 403}
        if not fits:
            wrong.append(f"{route}: {status}")
    assert wrong == []


def test_signed_in_is_enough_for_ones_own_account(
    app: FastAPI, sign_in: Callable[[Person], TestClient], make_person: Callable[..., Person]
) -> None:
    person = make_person()
    own = [r for r in routes_of(app) if isinstance(r.permission, SignedInPermission | InPersonPermission)]
    statuses = {str(route): ask(sign_in(person), route).status_code for route in own}
    assert {name: status for name, status in statuses.items() if status in {401, 403} or status >= 500} == {}


def test_no_get_route_writes(
    app: FastAPI,
    db: Engine,
    sign_in: Callable[[Person], TestClient],
    make_person: Callable[..., Person],
    make_project: Callable[..., Project],
    make_comparisons: Callable[..., list[int]],
    join: Callable[..., Person],
) -> None:
    project = make_project()
    person = join(make_person(is_site_admin=True), project, *Role)
    browser = sign_in(person)
    make_comparisons(project, 2)
    with transaction(db) as session:
        guidelines.save_draft(session, project, body="Be kind.", person_id=person.id)
        guidelines.publish(session, project, person_id=person.id)
    browser.post(f"/projects/{project.slug}/guidelines/1/acknowledge")
    browser.post(f"/projects/{project.slug}/rate/next")
    with writes_of(app) as writes:
        for route in routes_of(app):
            if route.method == "GET":
                for number in ("1", "987654321"):
                    answer = browser.get(route.url(project.slug).replace("987654321", number))
                    assert answer.status_code < 500, f"{route}: {answer.status_code}"
    assert writes == []


@contextmanager
def writes_of(app: FastAPI) -> Iterator[list[str]]:
    """The statements that change something while the block runs."""
    writes: list[str] = []

    def note(_link: object, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.lstrip().split(maxsplit=1)[0].upper() in {"INSERT", "UPDATE", "DELETE", "MERGE", "TRUNCATE"}:
            writes.append(statement)

    event.listen(app.state.engine, "before_cursor_execute", note)
    yield writes
    event.remove(app.state.engine, "before_cursor_execute", note)
