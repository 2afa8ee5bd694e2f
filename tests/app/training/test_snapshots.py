"""What a run learns from is what raters said."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine

from app.db import transaction
from app.projects.models import Project
from app.rating import leases, service
from app.rating.answers import Answer
from app.training import snapshots
from worker.lessons import rankings_of


@pytest.fixture
def snapshot_id(
    db: Engine,
    make_project: Callable[..., Project],
    make_person: Callable[..., Any],
    make_comparisons: Callable[..., list[int]],
) -> int:
    """Of two pairs, one ranked "B better" (strength 3), one "equally good"."""
    warm = [{"key": "warm", "label": "Warm", "help": ""}]
    project, rater = make_project(ask_strength=True, attributes=warm), make_person()
    make_comparisons(project, 2)
    for answer in (Answer([2, 1], strength=3, attributes={"warm": [1, 2]}), Answer([1, 1])):
        with transaction(db) as session:
            taken = leases.next_assignment(session, project, rater_id=rater.id)
            assert taken is not None
            key = taken.idempotency_key
            service.record_ranking(session, project, rater, assignment_id=taken.id, idempotency_key=key, answer=answer)
    with transaction(db) as session:
        return snapshots.take_snapshot(session, project).id


def test_ranks_and_strength_reach_the_trainer_as_they_were_said(db: Engine, snapshot_id: int) -> None:
    with transaction(db) as session:
        learned, known, heldout = rankings_of(session, snapshot_id)
    assert known == []
    said = {(tuple(sorted(str(rank) for rank in r.ranks)), r.strength) for r in [*learned, *heldout]}
    assert said == {(("1", "2"), 3.0), (("1", "1"), 0.0)}
    assert all(ranking.rater for ranking in [*learned, *heldout])


def test_attributes_reach_the_trainer_in_the_order_of_the_responses(db: Engine, snapshot_id: int) -> None:
    """The rater called the worse response the warmer one; shown order and canonical order may differ."""
    with transaction(db) as session:
        learned, _, heldout = rankings_of(session, snapshot_id)
    said = [(r.ranks, r.attributes["warm"]) for r in [*learned, *heldout] if r.attributes]
    assert len(said) == 1
    ranks, warm = said[0]
    assert warm == tuple(reversed(ranks))
