"""What was sent sooner than it can be read is marked, and treated as all else is."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, update
from starlette.testclient import TestClient

from app.accounts.models import Person
from app.db import transaction
from app.exchange.export import rows_of
from app.projects.models import Project
from app.prompts.models import Prompt, Response
from app.rating import leases, service
from app.rating.answers import Answer
from app.rating.models import Ranking
from app.rating.statistics import statistics_of

Make = Callable[..., Any]


@pytest.fixture
def project(make_project: Make) -> Project:
    made: Project = make_project()
    return made


def rank(db: Engine, project: Project, rater: Person, seconds: float) -> Ranking:
    """The next comparison, held for an hour, shown for so many seconds, in which nothing was moved."""
    with transaction(db) as session:
        taken = leases.next_assignment(session, project, rater_id=rater.id)
        assert taken is not None
        taken.leased_at = taken.leased_at - dt.timedelta(hours=1)
        session.flush()
        answer, key = Answer([1, 2], seconds=0.0, shown_seconds=seconds), taken.idempotency_key
        return service.record_ranking(
            session, project, rater, assignment_id=taken.id, idempotency_key=key, answer=answer
        ).ranking


def write(db: Engine, prompt: str, response: str) -> None:
    with transaction(db) as session:
        session.execute(update(Prompt).values(messages=[{"role": "user", "content": prompt}]))
        session.execute(update(Response).values(text=response))


@pytest.mark.parametrize(
    ("words", "seconds", "is_too_fast"),
    [
        ((1, 1), 1.9, True),
        ((1, 1), 2.0, False),
        ((100, 100), 19.9, True),  # 300 words in all, and 15 of them a second.
        ((100, 100), 20.1, False),
        ((298, 1), 19.9, True),
    ],
)
def test_it_is_too_fast_under_two_seconds_or_above_fifteen_words_a_second(
    words: tuple[int, int], seconds: float, is_too_fast: bool,
    db: Engine, project: Project, make_comparisons: Make, make_person: Make,
) -> None:  # fmt: skip
    make_comparisons(project, 1)
    write(db, "word " * words[0], "other\n" * words[1])
    ranking = rank(db, project, make_person(), seconds)
    assert (ranking.is_too_fast, ranking.standing) == (is_too_fast, "counted")


def test_simulated_raters_are_not_measured_and_a_correction_keeps_the_mark(
    db: Engine, project: Project, make_comparisons: Make, make_person: Make
) -> None:
    make_comparisons(project, 1, wanted=2)
    simulated, rater = make_person(is_simulated=True), make_person()
    assert not rank(db, project, simulated, 0.0).is_too_fast
    assert rank(db, project, rater, 0.0).is_too_fast
    with transaction(db) as session:
        service.undo_last(session, project, rater_id=rater.id)
    assert rank(db, project, rater, 3000.0).is_too_fast


def test_the_rater_the_export_and_the_admin_see_it(
    db: Engine, project: Project, make_comparisons: Make, make_person: Make, join: Make, sign_in: Callable[[Person], TestClient]
) -> None:  # fmt: skip
    make_comparisons(project, 2)
    rater = make_person()
    rank(db, project, rater, 0.5)
    rank(db, project, rater, 60.0)
    with transaction(db) as session:
        assert statistics_of(session, project, rater_id=rater.id).num_too_fast == 1
        rows = list(rows_of(session, project, "rankings"))
    assert [row["is_too_fast"] for row in rows] == [True, False]
    pages = [
        sign_in(join(make_person(), project, "admin")).get(f"/projects/{project.slug}/comparisons/{row['comparison_id']}").text
        for row in rows
    ]  # fmt: skip
    assert ["faster than it can be read" in page for page in pages] == [True, False]
    mine = sign_in(join(rater, project, "rater")).get(f"/projects/{project.slug}/my-statistics").text
    assert "Of all, 1 was sent sooner than they can be read." in mine
