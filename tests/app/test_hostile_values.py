"""Hostile numbers, texts and bodies in every path, query, form field and JSON field of every route: a sentence, no 500."""

import itertools
import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from httpx2 import Response
from sqlalchemy import Engine
from starlette.testclient import TestClient

from tests.app.hostile import ALL, BODIES, IN_PATHS, JSON_VALUES, encoded, form_body, leaves, replaced, trouble
from tests.app.routes_of import Listed, queries_of, routes_of
from tests.app.world import Good, World, enter, refuse_commits

Worlds = list[tuple[World, list[Good]]]
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}
pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def sweeper(browser: TestClient, worlds: Worlds, db: Engine) -> TestClient:
    """Signed in with all roles, in worlds that nothing changes: a COMMIT that would succeed is answered by 503."""
    enter(browser, worlds[0][0])
    refuse_commits(db, code="40001")
    return browser


def by_world(browser: TestClient, worlds: Worlds) -> Iterator[Good]:
    """All good requests, each while the person of its world is signed in."""
    for world, requests in worlds:
        enter(browser, world)
        yield from requests


def some(values: list[Any], share: int, turn: Iterator[int]) -> list[Any]:
    """Every `share`-th value, beginning where the last call ended: over all fields, all values have their turn."""
    assert math.gcd(len(values), share) == 1, "the same values would have their turn for every field"
    return [value for value in values if next(turn) % share == 0]


@pytest.mark.parametrize("share", [pytest.param(1, marks=pytest.mark.slow), 13], ids=["all", "some"])
def test_paths(app: FastAPI, sweeper: TestClient, worlds: Worlds, share: int) -> None:
    turn, wrong = itertools.count(), []
    for route in routes_of(app):
        names = route.parameters
        for name in names:
            for value in some(IN_PATHS, share, turn):
                path = {**dict.fromkeys(names, "1"), "slug": worlds[0][0].project.slug, name: encoded(value)}
                answer = sweeper.request(route.method, route.path.format(**path))
                wrong += told(f"{route} {name}={value!r:.40}", answer)
    assert wrong == []


@pytest.mark.parametrize("share", [pytest.param(1, marks=pytest.mark.slow), 5], ids=["all", "some"])
def test_queries(app: FastAPI, sweeper: TestClient, worlds: Worlds, share: int) -> None:
    turn, wrong = itertools.count(), []
    for route in routes_of(app):
        for name in queries_of(app, route):
            url = known(route, worlds[0][0])
            for value in some(ALL, share, turn):
                wrong += told(f"{route}?{name}={value!r:.40}", sweeper.get(f"{url}?{name}={encoded(value)}"))
            wrong += told(f"{route}?{name} twice", sweeper.get(f"{url}?{name}=1&{name}=x"))
    assert wrong == []


@pytest.mark.parametrize("share", [pytest.param(1, marks=pytest.mark.slow), 17], ids=["all", "some"])
def test_form_fields(sweeper: TestClient, worlds: Worlds, share: int) -> None:
    turn, wrong = itertools.count(), []
    for good in by_world(sweeper, worlds):
        for name in good.form or {}:
            for value in [*some(ALL, share, turn), ["1", "2"]]:
                if good.route == "/sign-in":
                    continue  # It has tests of its own, and a limit on attempts.
                fields = {**(good.form or {}), name: value}
                if good.file is None:
                    answer = sweeper.post(good.url, content=form_body(fields), headers=FORM)
                else:
                    clean = value if isinstance(value, list) else value.encode(errors="replace").decode()
                    answer = good.send(sweeper, **{name: clean})
                wrong += told(f"{good} {name}={value!r:.40}", answer)
    assert wrong == []


@pytest.mark.parametrize("share", [pytest.param(1, marks=pytest.mark.slow), 19], ids=["all", "some"])
def test_json_fields(sweeper: TestClient, worlds: Worlds, share: int) -> None:
    turn, wrong = itertools.count(), []
    for good in by_world(sweeper, worlds):
        if not good.json:
            continue
        for place in leaves(good.json):
            for value in some(JSON_VALUES, share, turn):
                body = json.dumps(replaced(good.json, place, value)).encode()
                answer = sweeper.request(good.method, good.url, content=body, headers=JSON)
                wrong += told(f"{good} {place}={value!r:.40}", answer)
        answer = sweeper.request(good.method, good.url, json={**good.json, "is_site_admin_of_all": True})
        assert answer.status_code == 422, f"{good}: an unknown field is accepted"
    assert wrong == []


@pytest.mark.parametrize("share", [pytest.param(1, marks=pytest.mark.slow), 7], ids=["all", "some"])
def test_bodies(sweeper: TestClient, worlds: Worlds, share: int) -> None:
    turn, wrong = itertools.count(), []
    for good in by_world(sweeper, worlds):
        for content, kind in some(BODIES, share, turn):
            answer = sweeper.request(good.method, good.url, content=content, headers={"Content-Type": kind})
            wrong += told(f"{good} {content[:20]!r} as {kind}", answer)
    assert wrong == []


def known(route: Listed, world: World) -> str:
    """The route's address in a project that exists; ids are of the first thing made."""
    return route.path.format(**{**dict.fromkeys(route.parameters, "1"), "slug": world.project.slug})


def told(what: str, answer: Response) -> list[str]:
    """What was asked and what is wrong with the answer, if anything is."""
    return [f"{what}: {found}"] if (found := trouble(answer)) else []
