"""The first page says what is so: the trigger's own count, a run that waits, and a loop that has a direction."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, text
from starlette.testclient import TestClient

from app.accounts.models import Person
from app.db import transaction
from app.overview import picture
from app.overview.service import loop_of
from app.projects.models import Project
from app.training import runs, triggers
from app.training.models import Kind, Run, Snapshot

Make = Callable[..., Any]


@pytest.fixture
def project(make_project: Make) -> Project:
    made: Project = make_project(threshold=2, auto_train=False)
    return made


@pytest.fixture
def operator(sign_in: Make, make_person: Make, join: Make, project: Project) -> TestClient:
    browser: TestClient = sign_in(join(make_person(), project, "operator"))
    return browser


def rank(db: Engine, project: Project, rater: Person, comparisons: list[int]) -> None:
    insert = text(
        "INSERT INTO ranking (project_id, comparison_id, rater_id, idempotency_key, request_hash, revision, standing, "
        "ranks, all_bad, attributes, flags, note, shown_order, seconds, is_simulated, is_imported, is_late) "
        "VALUES (:project, :comparison, :rater, gen_random_uuid(), '', 1, 'counted', '{}', false, '{}', '{}', '', "
        "'[0, 1]', 1, false, false, false)"
    )
    with db.begin() as link:
        for comparison in comparisons:
            link.execute(insert, {"project": project.id, "comparison": comparison, "rater": rater.id})


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled", "running"])
def test_page_and_trigger_count_new_rankings_alike(
    db: Engine, project: Project, make_person: Make, make_comparisons: Make, state: str
) -> None:
    rank(db, project, make_person(), make_comparisons(project, 3))
    with transaction(db) as session:
        newest = session.execute(text("SELECT max(id) FROM ranking")).scalar_one()
        snapshot = Snapshot(
            project_id=project.id, content_hash=b"x", num_rankings=3, num_preferences=3, last_ranking_id=newest
        )
        session.add(snapshot)
        session.flush()
        session.add(Run(project_id=project.id, kind=Kind.LOOP, state=state, snapshot_id=snapshot.id))
    rank(db, project, make_person(), make_comparisons(project, 1))
    expected = 4 if state in {"failed", "cancelled"} else 1
    with transaction(db) as session:
        assert loop_of(session, project).num_new_rankings == expected
        assert triggers.count_new_rankings(session, project, at_most=10) == expected


def test_more_rankings_than_needed_do_not_read_like_a_fraction(
    db: Engine, project: Project, operator: TestClient, make_person: Make, make_comparisons: Make
) -> None:
    rank(db, project, make_person(), make_comparisons(project, 3))
    page = operator.get(f"/projects/{project.slug}").text
    assert "3 rankings, 2 needed" in page
    assert "3 of 2" not in page


@pytest.mark.parametrize("kind", [Kind.LOOP, Kind.SAMPLE, Kind.SFT])
def test_a_queued_run_is_said_to_wait(db: Engine, project: Project, operator: TestClient, kind: Kind) -> None:
    with transaction(db) as session:
        run = runs.request_run(session, project, kind, trigger="test")
    page = operator.get(f"/projects/{project.slug}").text
    assert "wait" in page.split("Next:")[1].split("</p>")[0]
    with transaction(db) as session:
        runs.claim_run(session, run.id, worker="w")
    page = operator.get(f"/projects/{project.slug}").text
    assert "waits for a worker" not in page


def test_each_arrow_points_from_one_stage_to_the_next() -> None:
    places = [picture._place(index) for index in range(picture.NUM_STAGES)]
    assert places[0] == (picture.CENTRE_X, picture.CENTRE_Y - picture.RADIUS_Y), "the first stage is on top"
    assert places[1][0] > picture.CENTRE_X, "and the second to its right"
    for index, (x, y, degrees) in enumerate(picture.arrows()):
        (x0, y0), (x1, y1) = places[index], places[(index + 1) % picture.NUM_STAGES]
        along = (x1 - x0) * math.cos(math.radians(degrees)) + (y1 - y0) * math.sin(math.radians(degrees))
        assert along > 0.95 * math.hypot(x1 - x0, y1 - y0)
        assert math.hypot(x - x0, y - y0) == pytest.approx(math.hypot(x - x1, y - y1), rel=0.6)
