"""Simulated raters rate over the public API, and their rankings say so."""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, func, select
from starlette.testclient import TestClient

from app.db import transaction
from app.demo.simulate import Habits, SimulatedRater, Tally, make_raters, simulate
from app.errors import AppError, NotFound
from app.guidelines.models import Guideline
from app.prompts.models import Comparison
from app.rating.models import Ranking
from tests.app.conftest import BASE_URL

Make = Callable[..., Any]
RULES = {"allow_ties": True, "allow_all_bad": True, "ask_strength": False}
ASKED = [{"role": "user", "content": "Hello, where is the pool?"}]
WARM = "Of course! The pool is open to all guests until nine. Enjoy your stay!"
CURT = "Pool, top floor."
RUDE = "That is not my problem. I really do not care."


@pytest.fixture
def connect(app: FastAPI) -> Callable[[str], httpx2.Client]:
    def connected(token: str) -> httpx2.Client:
        return TestClient(app, base_url=BASE_URL, headers={"Authorization": f"Bearer {token}"})

    return connected


def test_raters_together_rank_everything_as_often_as_wanted(
    connect: Make, make_project: Make, make_comparisons: Make, db: Engine
) -> None:
    project = make_project()
    make_comparisons(project, 12, k=3, wanted=2)
    with transaction(db) as session:
        session.add(Guideline(project_id=project.id, edition=1, body="Be kind.", published_at=func.now()))
        tokens = make_raters(session, project.slug, 4)
    tally = simulate(connect, project.slug, tokens=tokens, num_at_random=1)
    assert tally.num_rankings - tally.num_surplus == 24
    with transaction(db) as session:
        assert set(session.execute(select(Comparison.counted, Comparison.leased)).all()) == {(2, 0)}
        assert set(session.scalars(select(Ranking.is_simulated))) == {True}


def test_raters_stop_at_the_number_asked_for(
    connect: Make, make_project: Make, make_comparisons: Make, db: Engine
) -> None:
    project = make_project()
    make_comparisons(project, 20)
    with transaction(db) as session:
        tokens = make_raters(session, project.slug, 3)
    assert simulate(connect, project.slug, tokens=tokens, num_rankings=7).num_rankings == 7
    with transaction(db) as session:
        assert session.scalar(select(func.count()).select_from(Ranking)) == 7


def test_raters_made_twice_are_the_same_people(make_project: Make, db: Engine) -> None:
    project = make_project()
    with transaction(db) as session:
        first = make_raters(session, project.slug, 2)
        second = make_raters(session, project.slug, 2)
        assert set(first).isdisjoint(second)
        with pytest.raises(NotFound):
            make_raters(session, "nowhere", 1)


def taken(*texts: str, **rules: bool) -> dict[str, Any]:
    return {
        "id": 1,
        "idempotency_key": "k",
        "messages": ASKED,
        "responses": [{"text": text} for text in texts],
        "rules": {**RULES, **rules},
    }


def rater(noise: float = 0.0, client: httpx2.Client | None = None) -> SimulatedRater:
    import random

    from app.demo.oracle import warm_brief

    habits = Habits(warm_brief, noise, patience_seconds=0.5)
    return SimulatedRater(client or httpx2.Client(), "p", habits, random.Random(1))


def test_a_faultless_rater_goes_by_the_oracle() -> None:
    assert rater().judge(taken(RUDE, WARM, CURT))["ranks"] == [3, 1, 2]


def test_a_rater_whose_every_judgement_errs_does_not() -> None:
    assert rater(noise=1.0).judge(taken(RUDE, WARM, CURT))["ranks"] != [3, 1, 2]


def test_equal_responses_tie_where_ties_are_allowed_only() -> None:
    assert rater().judge(taken(WARM, WARM))["ranks"] == [1, 1]
    assert sorted(rater().judge(taken(WARM, WARM, allow_ties=False))["ranks"]) == [1, 2]


def test_hopeless_responses_are_all_bad() -> None:
    assert rater().judge(taken(RUDE, RUDE))["all_bad"]
    assert not rater().judge(taken(RUDE, WARM))["all_bad"]


def test_a_rater_sends_again_with_the_same_key_while_the_server_is_away() -> None:
    seen: list[bytes] = []

    def flaky(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.content)
        if len(seen) == 1:
            raise httpx2.ConnectError("nobody there", request=request)
        return httpx2.Response(503 if len(seen) == 2 else 200, json={})

    client = httpx2.Client(transport=httpx2.MockTransport(flaky), base_url=BASE_URL)
    tally = Tally()
    rater(client=client)._post("/assignments/1/ranking", {"idempotency_key": "k"}, tally)
    assert tally.num_retries == 2
    assert len(set(seen)) == 1


def test_a_refused_rater_says_why() -> None:
    transport = httpx2.MockTransport(lambda _: httpx2.Response(403, text="not a rater"))
    with pytest.raises(AppError, match="not a rater"):
        rater(client=httpx2.Client(transport=transport, base_url=BASE_URL))._post("/next", None, Tally())
