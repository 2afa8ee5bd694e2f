"""Every route that writes answers after its COMMIT, and only success for one that succeeded."""

from fastapi import FastAPI
from sqlalchemy import Engine, text
from starlette.testclient import TestClient

from app.db import Base
from tests.app.routes_of import routes_of
from tests.app.world import Good, World, allow_commits, enter, refuse_commits


def counts(db: Engine) -> dict[str, int]:
    """How often each row of each table was written, as far as it was kept; attempts to sign in may count."""
    with db.connect() as link:
        return {
            name: link.scalar(text(f'SELECT coalesce(sum(hashtext(t::text)::bigint), 0) FROM "{name}" t')) or 0
            for name in Base.metadata.tables
            if name != "rate_limit"
        }


def test_there_is_a_good_request_for_every_route_that_writes(
    app: FastAPI, worlds: list[tuple[World, list[Good]]]
) -> None:
    known = {str(good) for _, requests in worlds for good in requests}
    writing = {str(route) for route in routes_of(app) if route.method != "GET"}
    assert writing - known == {"POST /sign-in", "POST /sign-out"}, "these two have tests of their own"
    assert known <= writing


def test_a_commit_that_fails_in_the_database_never_answers_success(
    worlds: list[tuple[World, list[Good]]], db: Engine, browser: TestClient
) -> None:
    """Constraints checked at the end of the transaction make the COMMIT itself fail, whatever was written."""
    wrong = []
    for world, requests in worlds:
        enter(browser, world)
        refuse_commits(db)
        before = counts(db)
        for good in requests:
            answer = good.send(browser)
            if answer.status_code < 500 and not good.route.endswith("/preview"):
                wrong.append(f"{good}: {answer.status_code} although nothing could be stored")
            elif "Nothing was stored" not in answer.text and not good.route.endswith("/preview"):
                wrong.append(f"{good}: it does not say that nothing was stored")
        assert counts(db) == before
        allow_commits(db)
        wrong += [
            f"{good}: {answer.status_code}, on being sent again: {answer.text[-300:]}"
            for good in requests
            if (answer := good.send(browser)).status_code >= 400
        ]
    assert wrong == []
