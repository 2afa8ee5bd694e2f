"""Nobody ranks what they wrote: not responses of theirs, not responses to prompts of theirs, also when many ask at once."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, select, update
from starlette.testclient import TestClient

from app.accounts.models import Person
from app.db import transaction
from app.projects.models import Project
from app.prompts.models import Comparison, ComparisonResponse, Prompt, Response
from app.rating import leases, service
from app.rating.answers import Answer
from app.rating.models import Assignment

Make = Callable[..., Any]


def wrote(db: Engine, what: str, comparison_id: int, person: Person) -> None:
    """From now on `person` is the author of the comparison's prompt, or of its last response."""
    with transaction(db) as session:
        if what == "prompt":
            mine = select(Comparison.prompt_id).where(Comparison.id == comparison_id).scalar_subquery()
            session.execute(update(Prompt).where(Prompt.id == mine).values(written_by_id=person.id))
        else:
            parts = select(ComparisonResponse.response_id).where(ComparisonResponse.comparison_id == comparison_id)
            last = parts.order_by(ComparisonResponse.position.desc()).limit(1).scalar_subquery()
            session.execute(update(Response).where(Response.id == last).values(written_by_id=person.id))


def authors_met(db: Engine, comparison_ids: list[int]) -> set[tuple[int, int]]:
    """(rater, comparison) of all that was handed out, by reading the rows: nothing of the query under test."""
    with transaction(db) as session:
        rows = session.execute(select(Assignment.rater_id, Assignment.comparison_id))
        return {(row.rater_id, row.comparison_id) for row in rows if row.comparison_id in comparison_ids}


@pytest.mark.parametrize("what", ["prompt", "response"])
def test_ones_own_is_passed_over_and_goes_to_somebody_else(
    db: Engine, make_person: Make, make_project: Make, make_comparisons: Make, what: str
) -> None:
    project, ada, bob = make_project(), make_person(), make_person()
    own, other = make_comparisons(project, 2)
    wrote(db, what, own, ada)
    with transaction(db) as session:
        first = leases.next_assignment(session, project, rater_id=ada.id, may_wait=True)
        assert first is not None
        assert first.comparison_id == other
        assert leases.take_ahead(session, project, rater_id=ada.id) is None
        leases.skip(session, project, first.id, rater_id=ada.id, reason="other")
        assert leases.next_assignment(session, project, rater_id=ada.id, may_wait=True) is None
    with transaction(db) as session:
        theirs = leases.next_assignment(session, project, rater_id=bob.id)
        assert theirs is not None
        assert theirs.comparison_id == own


@pytest.mark.parametrize("what", ["prompt", "response"])
def test_ones_own_is_never_taken_ahead(
    db: Engine, make_person: Make, make_project: Make, make_comparisons: Make, what: str
) -> None:
    project, ada = make_project(), make_person()
    first, own, third = make_comparisons(project, 3)
    wrote(db, what, own, ada)
    with transaction(db) as session:
        in_hand = leases.next_assignment(session, project, rater_id=ada.id)
        ahead = leases.take_ahead(session, project, rater_id=ada.id)
        assert in_hand is not None
        assert ahead is not None
        assert [in_hand.comparison_id, ahead.comparison_id] == [first, third]


@pytest.mark.parametrize("where", ["page", "api"])
def test_neither_the_page_nor_a_program_gets_it(
    db: Engine, sign_in: Make, make_person: Make, make_project: Make, make_comparisons: Make, join: Make, where: str
) -> None:
    project = make_project()
    ada = join(make_person(), project, "rater")
    (own,) = make_comparisons(project, 1)
    wrote(db, "response", own, ada)
    browser: TestClient = sign_in(ada)
    if where == "api":
        assert browser.post(f"/api/v1/projects/{project.slug}/next", json={}).status_code == 204
    else:
        answer = browser.post(f"/projects/{project.slug}/rate/next", headers={"HX-Request": "true"})
        assert "Nothing left to rank just now" in answer.text
    assert authors_met(db, [own]) == set()


def test_authors_at_work_all_at_once_never_meet_their_own(
    database_url: str, db: Engine, make_person: Make, make_project: Make, make_comparisons: Make
) -> None:
    """Six raters, each the author of every sixth comparison; all others must still be ranked as often as wanted."""
    project: Project = make_project(auto_train=False)
    raters = [make_person() for _ in range(6)]
    ids = make_comparisons(project, 24, wanted=3)
    for place, comparison_id in enumerate(ids):
        wrote(db, "prompt" if place % 2 else "response", comparison_id, raters[place % 6])
    engine = create_engine(database_url, pool_size=6)

    def rate_all(rater: Person) -> None:
        while True:
            with transaction(engine) as session:
                taken = leases.next_assignment(session, project, rater_id=rater.id, may_wait=True)
            if taken is None:
                return
            with transaction(engine) as session:
                leases.take_ahead(session, project, rater_id=rater.id)
            with transaction(engine) as session:
                key, answer = taken.idempotency_key, Answer([1, 2])
                service.record_ranking(
                    session, project, rater, assignment_id=taken.id, idempotency_key=key, answer=answer
                )

    try:
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(rate_all, raters))
    finally:
        engine.dispose()
    met = authors_met(db, ids)
    assert {(raters[place % 6].id, comparison_id) for place, comparison_id in enumerate(ids)} & met == set()
    assert set(Counter(comparison_id for _, comparison_id in met).values()) == {3}
