"""Many raters at once: exactly as many counted rankings as wanted, none twice by one rater, no success without COMMIT."""

import itertools
import random
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from sqlalchemy import Engine, create_engine, event, func, select, update
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.accounts.models import Person
from app.db import transaction
from app.projects.models import Project
from app.prompts.models import Comparison, ComparisonResponse, Response
from app.rating import leases, service
from app.rating.answers import Answer
from app.rating.models import Assignment, Ranking

Make = Callable[..., Any]


def rate_all(engine: Engine, project: Project, rater: Person) -> int:
    """What a rater's client does, one transaction for each request; now and then a lease is lost on the way."""
    rng, num_ranked = random.Random(rater.id), 0
    while True:
        with transaction(engine) as session:
            assignment = leases.next_assignment(session, project, rater_id=rater.id, may_wait=True)
        if assignment is None:
            return num_ranked
        if rng.random() < 0.5:
            with transaction(engine) as session:
                following = leases.take_ahead(session, project, rater_id=rater.id)
                assert following is None or following.id != assignment.id
        if rng.random() < 0.05:
            with transaction(engine) as session:
                late = update(Assignment).where(Assignment.id == assignment.id)
                session.execute(late.values(lease_until=func.now() - sa.text("interval '1 second'")))
                leases.expire_leases(session, project_id=project.id)
        with transaction(engine) as session:
            service.record_ranking(
                session,
                project,
                rater,
                assignment_id=assignment.id,
                idempotency_key=assignment.idempotency_key,
                answer=Answer([1, 2]),
            )
        num_ranked += 1


def check_exactly(engine: Engine, project: Project, *, wanted: int) -> None:
    """Counted from the rankings themselves, not from the counters."""
    with transaction(engine) as session:
        rows = session.execute(
            select(Ranking.comparison_id, Ranking.rater_id, Ranking.standing).where(Ranking.project_id == project.id)
        ).all()
        comparisons = session.scalars(select(Comparison).where(Comparison.project_id == project.id)).all()
    counted = Counter(row.comparison_id for row in rows if row.standing == "counted")
    assert set(counted.values()) == {wanted}
    assert len(counted) == len(comparisons)
    assert max(Counter((row.comparison_id, row.rater_id) for row in rows).values()) == 1
    assert {(c.counted, c.leased) for c in comparisons} == {(wanted, 0)}


def race(database_url: str, project: Project, raters: list[Person]) -> None:
    engine = create_engine(database_url, pool_size=len(raters))
    try:
        with ThreadPoolExecutor(len(raters)) as pool:
            list(pool.map(lambda rater: rate_all(engine, project, rater), raters))
    finally:
        engine.dispose()


def test_six_raters_at_once_rank_each_comparison_as_often_as_wanted(
    database_url: str, db: Engine, make_person: Make, make_project: Make, make_comparisons: Make
) -> None:
    project = make_project(auto_train=False)
    make_comparisons(project, 25, wanted=3)
    race(database_url, project, [make_person() for _ in range(6)])
    check_exactly(db, project, wanted=3)


@pytest.mark.slow
def test_twenty_raters_at_once_on_500_comparisons(
    database_url: str, db: Engine, make_person: Make, make_project: Make, make_comparisons: Make
) -> None:
    project = make_project(auto_train=False)
    make_comparisons(project, 500, wanted=3)
    race(database_url, project, [make_person() for _ in range(20)])
    check_exactly(db, project, wanted=3)


def at_once(n: int, act: Callable[[int], Any]) -> list[Any]:
    """`act(0)` ... `act(n - 1)` in as many threads, released together."""
    gate = threading.Barrier(n)

    def one(index: int) -> Any:
        gate.wait()
        return act(index)

    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(one, range(n)))


def test_what_is_taken_ahead_comes_next_and_is_one_only(
    db: Engine, make_person: Make, make_project: Make, make_comparisons: Make
) -> None:
    project, rater, other = make_project(), make_person(), make_person()
    make_comparisons(project, 3)
    with transaction(db) as session:
        assert leases.take_ahead(session, project, rater_id=rater.id) is None  # There is nothing that it would follow.
        first = leases.next_assignment(session, project, rater_id=rater.id)
        following, again = (leases.take_ahead(session, project, rater_id=rater.id) for _ in range(2))
        assert first is not None
        assert following is not None
        assert again is not None
        assert first.id != following.id == again.id
        assert leases.next_assignment(session, project, rater_id=rater.id) is first
    with transaction(db) as session:
        theirs = leases.next_assignment(session, project, rater_id=other.id)
        assert theirs is not None
        assert theirs.comparison_id not in {first.comparison_id, following.comparison_id}
        leases.skip(session, project, first.id, rater_id=rater.id, reason="unclear")
        after = leases.next_assignment(session, project, rater_id=rater.id)
        assert after is not None
        assert after.id == following.id


def test_each_source_is_left_about_as_often_for_each_rater(
    db: Engine, make_person: Make, make_project: Make, make_comparisons: Make
) -> None:
    """After 100 pairs 45 to 55 %; a fair coin alone would miss that for every third rater."""
    project = make_project()
    make_comparisons(project, 100, wanted=12)
    with transaction(db) as session:
        for position, source in ((0, "x"), (1, "y")):
            ids = select(ComparisonResponse.response_id).where(ComparisonResponse.position == position)
            session.execute(update(Response).where(Response.id.in_(ids)).values(source=source))
    shares, orders = [], set()
    for rater in (make_person() for _ in range(12)):
        with transaction(db) as session:
            for _ in range(100):
                taken = leases.next_assignment(session, project, rater_id=rater.id)
                assert taken is not None
                leases.skip(session, project, taken.id, rater_id=rater.id, reason="other")
            mine = select(Assignment.shown_order).where(Assignment.rater_id == rater.id).order_by(Assignment.id)
            left = [order[0] for order in session.scalars(mine)]
        shares.append(sum(left) / 100)
        orders.add(tuple(left))
    assert all(0.45 <= share <= 0.55 for share in shares), shares
    assert len(orders) == 12  # No two raters see the same sides.


def test_two_rankings_of_one_rater_on_their_way_at_once_do_not_lock_each_other(
    database_url: str, make_person: Make, make_project: Make, make_comparisons: Make
) -> None:
    """Each stores its ranking and then asks for the next comparison, which is the other's."""
    project, rater = make_project(auto_train=False), make_person()
    make_comparisons(project, 40)
    engine = create_engine(database_url, pool_size=2)

    def send(held: list[Assignment], index: int) -> None:
        taken = held[index]
        with transaction(engine) as session:
            key, answer = taken.idempotency_key, Answer([1, 2])
            service.record_ranking(session, project, rater, assignment_id=taken.id, idempotency_key=key, answer=answer)
            leases.next_assignment(session, project, rater_id=rater.id)

    for _ in range(20):
        with transaction(engine) as session:
            leases.next_assignment(session, project, rater_id=rater.id)
            leases.take_ahead(session, project, rater_id=rater.id)
            held = list(session.scalars(select(Assignment).where(Assignment.state == "leased")))
        at_once(2, partial(send, held))
    with transaction(engine) as session:
        assert session.scalar(select(func.count()).select_from(Ranking)) == 40
    engine.dispose()


def test_a_double_click_on_next_gives_one_comparison(
    database_url: str, make_person: Make, make_project: Make, make_comparisons: Make
) -> None:
    project, rater = make_project(), make_person()
    make_comparisons(project, 10)
    engine = create_engine(database_url, pool_size=8)

    def take(_: int) -> int:
        with transaction(engine) as session:
            taken = leases.next_assignment(session, project, rater_id=rater.id)
            assert taken is not None
            return taken.id

    assert len(set(at_once(8, take))) == 1
    engine.dispose()


def test_the_same_form_sent_fifty_times_at_once_is_stored_once(
    sign_in: Make, make_person: Make, make_project: Make, make_comparisons: Make, join: Make, db: Engine
) -> None:
    project = make_project(auto_train=False)
    rater = join(make_person(), project, "rater")
    make_comparisons(project, 1, wanted=3)
    with transaction(db) as session:
        taken = leases.next_assignment(session, project, rater_id=rater.id)
        assert taken is not None
    form = {"idempotency_key": str(taken.idempotency_key), "rank-0": "1", "rank-1": "2"}
    browser = sign_in(rater)
    answers = at_once(50, lambda _: browser.post(f"/projects/{project.slug}/rate/{taken.id}", data=form).status_code)
    assert set(answers) <= {303, 503}, "a 503 says: try again"
    assert 303 in answers
    with transaction(db) as session:
        assert session.scalar(select(func.count()).select_from(Ranking)) == 1
        assert session.scalars(select(Comparison)).one().counted == 1


@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_a_commit_that_fails_never_answers_success(
    app: FastAPI, sign_in: Make, make_person: Make, make_project: Make, make_comparisons: Make, join: Make,
    db: Engine, accept: str,
) -> None:  # fmt: skip
    project = make_project(auto_train=False)
    rater = join(make_person(), project, "rater")
    make_comparisons(project, 2)
    with transaction(db) as session:
        taken = leases.next_assignment(session, project, rater_id=rater.id)
        assert taken is not None
    browser = TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False, follow_redirects=False)
    signed_in = sign_in(rater)
    browser.cookies, browser.headers = signed_in.cookies, signed_in.headers
    form = {"idempotency_key": str(taken.idempotency_key), "rank-0": "1", "rank-1": "2"}
    path = f"/projects/{project.slug}/rate/{taken.id}"

    def fail(_: Session) -> None:
        raise RuntimeError("the disk is gone")

    event.listen(Session, "before_commit", fail)
    try:
        answer = browser.post(path, data=form, headers={"Accept": accept})
    finally:
        event.remove(Session, "before_commit", fail)
    assert answer.status_code == 500
    assert "Nothing was stored" in answer.text
    with transaction(db) as session:
        assert session.scalar(select(func.count()).select_from(Ranking)) == 0
    assert browser.post(path, data=form).status_code == 303, "sending again works"


def test_a_late_ranking_counts_while_a_place_is_free_and_is_surplus_otherwise(
    db: Engine, make_person: Make, make_project: Make, make_comparisons: Make
) -> None:
    project = make_project(auto_train=False)
    make_comparisons(project, 1, wanted=1)
    ada, bob = make_person(), make_person()

    def take(rater: Person) -> Assignment:
        with transaction(db) as session:
            taken = leases.next_assignment(session, project, rater_id=rater.id)
            assert taken is not None
            return taken

    def send(rater: Person, taken: Assignment) -> Ranking:
        with transaction(db) as session:
            key = taken.idempotency_key
            answer = Answer([1, 2])
            return service.record_ranking(
                session, project, rater, assignment_id=taken.id, idempotency_key=key, answer=answer
            ).ranking

    def run_out(taken: Assignment) -> None:
        with transaction(db) as session:
            late = update(Assignment).where(Assignment.id == taken.id)
            session.execute(late.values(lease_until=func.now() - sa.text("interval '1 second'")))
            assert leases.expire_leases(session) == 1

    first = take(ada)
    run_out(first)
    second = take(bob)
    assert send(bob, second).standing == "counted"
    late = send(ada, first)
    assert (late.standing, late.is_late) == ("surplus", True)

    make_comparisons(project, 1, wanted=1)
    third = take(ada)
    run_out(third)
    assert send(ada, third).standing == "counted", "nobody was first"


def test_orders_shown_are_balanced() -> None:
    shown = Counter(
        tuple(leases.shown_order(3, rater_id=rater, comparison_id=comparison))
        for rater, comparison in itertools.product(range(30), range(200))
    )
    assert len(shown) == 6
    assert all(abs(count - 1000) < 150 for count in shown.values()), "five standard deviations"
    again = leases.shown_order(3, rater_id=1, comparison_id=2)
    assert again == leases.shown_order(3, rater_id=1, comparison_id=2)


def test_keys_are_never_shared(db: Engine, make_person: Make, make_project: Make, make_comparisons: Make) -> None:
    project = make_project()
    make_comparisons(project, 3, wanted=3)
    keys: set[uuid.UUID] = set()
    for _ in range(3):
        with transaction(db) as session:
            taken = leases.next_assignment(session, project, rater_id=make_person().id)
            assert taken is not None
            keys.add(taken.idempotency_key)
    assert len(keys) == 3
