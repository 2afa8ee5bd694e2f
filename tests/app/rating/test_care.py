"""Limits of the day, and one's own figures."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, text
from starlette.testclient import TestClient

from app.accounts.models import Person
from app.db import transaction
from app.projects.models import Project
from app.rating import care, leases, service
from app.rating.answers import Answer
from app.rating.statistics import NUM_DAYS, shares_of, statistics_of

SignIn = Callable[[Person], TestClient]
Make = Callable[..., Any]


def rank(db: Engine, project: Project, rater: Person, *, ranks: list[int | None], seconds: float = 5.0) -> bool:
    """One comparison, if there is one; the ranks are of canonical positions."""
    with transaction(db) as session:
        taken = leases.next_assignment(session, project, rater_id=rater.id)
        if taken is None:
            return False
        taken.leased_at = taken.leased_at - dt.timedelta(hours=1)
        session.flush()
        answer = Answer([ranks[position] for position in taken.shown_order], seconds=seconds)
        key = taken.idempotency_key
        service.record_ranking(session, project, rater, assignment_id=taken.id, idempotency_key=key, answer=answer)
    return True


def let_a_day_pass(db: Engine) -> None:
    """As if all rankings were of yesterday; they are append-only, so their trigger looks away."""
    with db.begin() as link:
        link.execute(text("ALTER TABLE ranking DISABLE TRIGGER USER"))
        link.execute(text("UPDATE ranking SET created_at = created_at - interval '1 day'"))
        link.execute(text("ALTER TABLE ranking ENABLE TRIGGER USER"))


@pytest.fixture
def rater(make_person: Callable[..., Person]) -> Person:
    return make_person()


def test_a_rater_is_given_as_many_a_day_as_the_project_says(
    db: Engine, make_project: Callable[..., Project], make_comparisons: Callable[..., list[int]], rater: Person
) -> None:
    project = make_project(max_rankings_per_day=2)
    make_comparisons(project, 4)
    with transaction(db) as session:
        assert leases.next_assignment(session, project, rater_id=rater.id) is not None
        assert leases.take_ahead(session, project, rater_id=rater.id) is not None
        assert leases.take_ahead(session, project, rater_id=rater.id) is not None  # The same one.
    assert [rank(db, project, rater, ranks=[1, 2]) for _ in range(3)] == [True, True, False]
    let_a_day_pass(db)
    assert rank(db, project, rater, ranks=[1, 2])


def test_hours_end_a_day_too_and_what_is_in_hand_stays(
    db: Engine, make_project: Callable[..., Project], make_comparisons: Callable[..., list[int]], rater: Person
) -> None:
    project = make_project(max_hours_per_day=1)
    make_comparisons(project, 4)
    assert rank(db, project, rater, ranks=[1, 2], seconds=1800)
    with transaction(db) as session:
        held = leases.next_assignment(session, project, rater_id=rater.id)
        assert held is not None
    assert rank(db, project, rater, ranks=[1, 2], seconds=1801)
    assert not rank(db, project, rater, ranks=[1, 2])


def test_correcting_what_was_ranked_yesterday_counts_as_no_ranking_of_today(
    db: Engine, make_project: Callable[..., Project], make_comparisons: Callable[..., list[int]], rater: Person
) -> None:
    project = make_project(max_rankings_per_day=1)
    make_comparisons(project, 2)
    assert rank(db, project, rater, ranks=[1, 2], seconds=60)
    let_a_day_pass(db)
    with transaction(db) as session:
        opened = service.undo_last(session, project, rater_id=rater.id)
        key, again = opened.idempotency_key, Answer([2, 1], seconds=30)
        service.record_ranking(session, project, rater, assignment_id=opened.id, idempotency_key=key, answer=again)
        day = care.today(session, project, rater_id=rater.id)
        assert (day.num_ranked, day.active_seconds) == (0, 30)
        found = statistics_of(session, project, rater_id=rater.id)
        assert [(done.num_ranked, done.seconds) for done in found.days[-2:]] == [(1, 60), (0, 30)]
        assert leases.next_assignment(session, project, rater_id=rater.id) is not None


def test_who_has_done_enough_is_told_so_kindly(
    db: Engine,
    make_project: Callable[..., Project],
    make_comparisons: Callable[..., list[int]],
    join: Callable[..., Person],
    make_person: Callable[..., Person],
    sign_in: SignIn,
) -> None:
    project = make_project(max_rankings_per_day=1)
    make_comparisons(project, 2)
    rater = join(make_person(), project, "rater")
    browser = sign_in(rater)
    assert rank(db, project, rater, ranks=[1, 2])
    page = browser.post(f"/projects/{project.slug}/rate/next", headers={"HX-Request": "true"}).text
    assert "Enough for today" in page
    assert "You have ranked one comparison today" in page
    answer = browser.post(f"/api/v1/projects/{project.slug}/next")
    assert answer.status_code == 409
    assert "Come back tomorrow" in answer.text


def test_figures_count_what_was_done(
    db: Engine,
    make_project: Callable[..., Project],
    make_comparisons: Callable[..., list[int]],
    join: Callable[..., Person],
    make_person: Callable[..., Person],
    sign_in: SignIn,
) -> None:
    project = make_project(raters_per_comparison=3)
    make_comparisons(project, 24, wanted=3)
    first, second = (join(make_person(), project, "rater") for _ in range(2))
    for number in range(22):
        assert rank(db, project, first, ranks=[1, 2], seconds=60)
        assert rank(db, project, second, ranks=[1, 2] if number % 2 else [2, 1])
    with transaction(db) as session:
        skipped = leases.next_assignment(session, project, rater_id=first.id)
        assert skipped is not None
        leases.skip(session, project, skipped.id, rater_id=first.id, reason="unclear")
        opened = service.undo_last(session, project, rater_id=first.id)
        key, again = opened.idempotency_key, Answer([2, 1], seconds=30)
        service.record_ranking(session, project, first, assignment_id=opened.id, idempotency_key=key, answer=again)
        found = statistics_of(session, project, rater_id=first.id)
    assert (found.num_ranked, found.num_corrected, found.num_skipped, found.num_today) == (22, 1, 1, 22)
    assert found.active_seconds == pytest.approx(22 * 60 + 30)
    assert len(found.days) == NUM_DAYS
    assert found.days[-1].seconds == pytest.approx(found.active_seconds)
    assert found.agreement is not None
    assert found.agreement.num_comparisons == 22
    assert found.agreement.low < found.agreement.share < found.agreement.high
    told = sign_in(first).get(f"/api/v1/projects/{project.slug}/me/statistics").json()
    assert told["agreement"]["share"] == pytest.approx(found.agreement.share)
    page = sign_in(first).get(f"/projects/{project.slug}/my-statistics").text
    assert "22 comparisons" in page
    assert "22 min" in page


def test_agreement_is_over_pairs_that_both_order() -> None:
    own = {"id": 1, "7": 1, "8": 2, "9": 2}
    assert shares_of([(own, {"7": 1, "8": 2, "9": 3})]) == [1.0]
    assert shares_of([(own, {"7": 2, "8": 1, "9": 3})]) == [0.5]
    assert shares_of([(own, {"7": 1, "8": None, "9": None})]) == []
    assert shares_of([(own, {"7": 2, "8": 1, "9": 1}), (own, {"7": 1, "8": 2, "9": 2})]) == [0.5]


@pytest.mark.parametrize(("most", "told"), [(0, "Comparison 1 of 3:"), (2, "Comparison 1 of 2:")])
def test_the_desk_says_how_many_are_left_today(
    sign_in: SignIn, make_person: Make, make_project: Make, make_comparisons: Make, join: Make, most: int, told: str
) -> None:
    project = make_project(max_rankings_per_day=most)
    make_comparisons(project, 3)
    browser = sign_in(join(make_person(), project, "rater"))
    desk = browser.post(f"/projects/{project.slug}/rate/next", headers={"HX-Request": "true"}).text
    assert told in desk
    ahead = browser.post(f"/projects/{project.slug}/rate/ahead").text
    assert told.replace("1 of", "2 of") in ahead
