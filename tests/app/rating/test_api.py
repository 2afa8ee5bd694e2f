"""Rating over the JSON API: take, draft, rank, skip, undo."""

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, func, select
from starlette.testclient import TestClient

from app.accounts import service as accounts
from app.accounts.models import Person
from app.db import transaction
from app.guidelines.models import Guideline
from app.projects.models import Project
from app.prompts.models import Comparison
from app.rating.models import Assignment, Ranking
from tests.app.conftest import BASE_URL

Make = Callable[..., Any]


@dataclass
class Program:
    """A program with a rater's API token."""

    client: TestClient
    project: Project
    person: Person

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        content = None if body is None else json.dumps(body).encode()  # Escapes what UTF-8 cannot hold.
        headers = {"Content-Type": "application/json"}
        return self.client.post(f"/api/v1/projects/{self.project.slug}{path}", content=content, headers=headers)

    def next(self) -> dict[str, Any]:
        answer = self.post("/next")
        assert answer.status_code == 200, answer.text
        taken: dict[str, Any] = answer.json()
        return taken

    def rank(self, taken: dict[str, Any], ranks: list[int | None], **more: Any) -> Any:
        body = {"idempotency_key": taken["idempotency_key"], "ranks": ranks, **more}
        return self.post(f"/assignments/{taken['id']}/ranking", body)


@pytest.fixture
def program(app: FastAPI, db: Engine, make_person: Make, join: Make) -> Iterator[Callable[[Project], Program]]:
    opened: list[TestClient] = []

    def made(project: Project, *, scopes: tuple[str, ...] = ("rater",), roles: tuple[str, ...] = ("rater",)) -> Program:
        person = join(make_person(), project, *roles)
        with transaction(db) as session:
            _, token = accounts.create_api_token(session, person, name="a program", scopes=list(scopes))
        client = TestClient(app, base_url=BASE_URL)
        client.headers["Authorization"] = f"Bearer {token}"
        opened.append(client)
        return Program(client, project, person)

    yield made
    for client in opened:
        client.close()


def test_a_program_takes_a_comparison_and_ranks_it(
    program: Make, make_project: Make, make_comparisons: Make, db: Engine
) -> None:
    project = make_project()
    make_comparisons(project, 1, k=4)
    rater = program(project)
    taken = rater.next()
    assert [response["letter"] for response in taken["responses"]] == list("ABCD")
    answer = rater.rank(taken, [2, 1, 2, 4])
    assert answer.status_code == 200
    assert answer.json() | {"id": 0} == {
        "id": 0, "revision": 1, "standing": "counted", "is_late": False, "is_too_fast": True,
        "is_replay": False,
    }  # fmt: skip
    with transaction(db) as session:
        ranking = session.scalars(select(Ranking)).one()
        assert sorted(ranking.ranks.values()) == [1, 2, 2, 3], "ranks are made dense"
    assert rater.post("/next").status_code == 204


def test_asking_again_gives_the_same_comparison(program: Make, make_project: Make, make_comparisons: Make) -> None:
    project = make_project()
    make_comparisons(project, 3)
    rater = program(project)
    assert rater.next()["id"] == rater.next()["id"]


def test_the_answer_is_blind(program: Make, make_project: Make, make_comparisons: Make) -> None:
    project = make_project()
    make_comparisons(project, 1, k=3)
    taken = program(project).next()
    assert set(taken["responses"][0]) == {"letter", "text", "was_cut"}
    assert {"source", "origin", "model_version_id", "run_id"}.isdisjoint(str(taken).replace("'", " ").split())


def test_sending_twice_stores_once(program: Make, make_project: Make, make_comparisons: Make, db: Engine) -> None:
    project = make_project()
    make_comparisons(project)
    rater = program(project)
    taken = rater.next()
    first, second = rater.rank(taken, [1, 2]), rater.rank(taken, [1, 2])
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json()["id"] == second.json()["id"]
    assert (first.json()["is_replay"], second.json()["is_replay"]) == (False, True)
    with transaction(db) as session:
        assert session.scalar(select(func.count()).select_from(Ranking)) == 1
        assert session.scalars(select(Comparison)).one().counted == 1


def test_the_same_key_with_another_answer_is_refused(
    program: Make, make_project: Make, make_comparisons: Make, db: Engine
) -> None:
    project = make_project()
    make_comparisons(project)
    rater = program(project)
    taken = rater.next()
    rater.rank(taken, [1, 2])
    assert rater.rank(taken, [2, 1]).status_code == 422
    with transaction(db) as session:
        assert [list(r.ranks.values()) for r in session.scalars(select(Ranking))] == [[1, 2]]


def test_anothers_assignment_is_not_found(program: Make, make_project: Make, make_comparisons: Make) -> None:
    project = make_project()
    make_comparisons(project, 2)
    ada, bob = program(project), program(project)
    taken = ada.next()
    assert bob.rank(taken, [1, 2]).status_code == 404
    assert bob.post(f"/assignments/{taken['id']}/skip", {"reason": "unclear"}).status_code == 404
    assert bob.post(f"/assignments/{taken['id']}/draft", {"ranks": [1, 2]}).status_code == 404
    assert bob.post(f"/assignments/{taken['id']}/extend").status_code == 404
    assert bob.post("/undo", {"assignment_id": taken["id"]}).status_code == 404


def test_a_draft_comes_back_with_the_comparison(program: Make, make_project: Make, make_comparisons: Make) -> None:
    project = make_project()
    make_comparisons(project, 1, k=3)
    rater = program(project)
    taken = rater.next()
    assert rater.post(f"/assignments/{taken['id']}/draft", {"ranks": [None, 1, None], "note": "so far"}).is_success
    draft = rater.next()["draft"]
    assert (draft["ranks"], draft["note"]) == ([None, 1, None], "so far")


def test_a_skipped_comparison_goes_to_somebody_else(program: Make, make_project: Make, make_comparisons: Make) -> None:
    project = make_project()
    make_comparisons(project, 1)
    ada, bob = program(project), program(project)
    taken = ada.next()
    assert bob.post("/next").status_code == 204
    assert ada.post(f"/assignments/{taken['id']}/skip", {"reason": "expertise"}).status_code == 204
    assert ada.post("/next").status_code == 204, "it does not come back"
    assert bob.next()["messages"] == taken["messages"]


def test_undo_reopens_with_the_answers_and_the_old_ranking_stands(
    program: Make, make_project: Make, make_comparisons: Make, db: Engine
) -> None:
    project = make_project()
    make_comparisons(project)
    rater = program(project)
    taken = rater.next()
    first = rater.rank(taken, [1, 2], note="hasty").json()
    opened = rater.post("/undo", {}).json()
    assert opened["is_correction"]
    assert opened["draft"]["ranks"] == [1, 2]
    assert opened["draft"]["note"] == "hasty"
    with transaction(db) as session:
        assert session.scalars(select(Comparison)).one().counted == 1, "the first still stands"
    second = rater.rank(opened, [2, 1]).json()
    assert (second["revision"], second["standing"]) == (2, "counted")
    with transaction(db) as session:
        assert session.get_one(Ranking, second["id"]).supersedes_id == first["id"]
        assert session.scalars(select(Comparison)).one().counted == 1


def test_a_correction_can_be_left(program: Make, make_project: Make, make_comparisons: Make, db: Engine) -> None:
    project = make_project()
    make_comparisons(project)
    rater = program(project)
    taken = rater.next()
    rater.rank(taken, [1, 2])
    opened = rater.post("/undo", {}).json()
    assert rater.post(f"/assignments/{opened['id']}/leave").status_code == 204
    assert rater.rank(opened, [2, 1]).status_code == 409, "the form of the correction is spent"
    assert rater.post("/next").status_code == 204
    with transaction(db) as session:
        assert [list(r.ranks.values()) for r in session.scalars(select(Ranking))] == [[1, 2]]


def test_undo_with_nothing_ranked_says_so(program: Make, make_project: Make) -> None:
    answer = program(make_project()).post("/undo", {})
    assert answer.status_code == 404
    assert "nothing" in answer.text or "no ranking" in answer.text


def test_a_new_edition_is_acknowledged_before_the_next_comparison(
    program: Make, make_project: Make, make_comparisons: Make, db: Engine
) -> None:
    project = make_project()
    make_comparisons(project)
    with transaction(db) as session:
        session.add(Guideline(project_id=project.id, edition=1, body="Be kind.", published_at=func.now()))
    rater = program(project)
    refused = rater.post("/next")
    assert refused.status_code == 409
    assert "Edition 1" in refused.text
    assert rater.post("/guidelines/7/acknowledge").status_code == 404
    assert rater.post("/guidelines/1/acknowledge").status_code == 204
    assert rater.post("/guidelines/1/acknowledge").status_code == 204, "twice is harmless"
    assert rater.next()["guideline_edition"] == 1
    with transaction(db) as session:
        assert session.scalars(select(Assignment)).one().guideline_id is not None


@pytest.mark.parametrize(
    "body",
    [
        {"ranks": [1]},
        {"ranks": [1, 2, 3]},
        {"ranks": [0, 1]},
        {"ranks": [1, 10]},
        {"ranks": [1, None]},
        {"ranks": [None, None]},
        {"ranks": ["1", 2]},
        {"ranks": [1.5, 2]},
        {"ranks": [True, 2]},
        {"ranks": [1, 10**30]},
        {"ranks": [1] * 500},
        {"ranks": [1, 2], "strength": 3},
        {"ranks": [1, 2], "attributes": {"charm": [1, 2]}},
        {"ranks": [1, 2], "flags": {"0": ["unknown"]}},
        {"ranks": [1, 2], "flags": {"²": []}},
        {"ranks": [1, 2], "flags": {"9": []}},
        {"ranks": [1, 2], "flags": {"-1": []}},
        {"ranks": [1, 2], "note": "x\x00y"},
        {"ranks": [1, 2], "note": "\ud800"},
        {"ranks": [1, 2], "note": "é" * 2001},
        {"ranks": [1, 2], "surprise": 1},
        {"ranks": [1, 2], "idempotency_key": "not a key"},
        {},
        {"ranks": None},
    ],
    ids=repr,
)
def test_a_bad_answer_gets_a_sentence_and_changes_nothing(
    program: Make, make_project: Make, make_comparisons: Make, db: Engine, body: dict[str, Any]
) -> None:
    project = make_project()
    make_comparisons(project)
    rater = program(project)
    taken = rater.next()
    answer = rater.post(f"/assignments/{taken['id']}/ranking", {"idempotency_key": taken["idempotency_key"], **body})
    assert answer.status_code == 422, answer.text
    assert answer.json()
    with transaction(db) as session:
        assert session.scalar(select(func.count()).select_from(Ranking)) == 0
        assert session.scalars(select(Comparison)).one().leased == 1


@pytest.mark.parametrize("note", ["x\x00y", "\ud800", "y" * 30_000])
def test_a_bad_draft_or_skip_gets_a_sentence(
    program: Make, make_project: Make, make_comparisons: Make, note: str
) -> None:
    project = make_project()
    make_comparisons(project)
    rater = program(project)
    taken = rater.next()
    assert rater.post(f"/assignments/{taken['id']}/draft", {"ranks": [1, 2], "note": note}).status_code == 422
    assert rater.post(f"/assignments/{taken['id']}/skip", {"reason": "other", "note": note}).status_code == 422
    assert rater.post(f"/assignments/{taken['id']}/skip", {"reason": "boredom"}).status_code == 422


@pytest.mark.parametrize("number", ["0", "-1", "9" * 30, "x", "1e3"])
def test_an_assignment_that_cannot_exist_is_refused(program: Make, make_project: Make, number: str) -> None:
    rater = program(make_project())
    body = {"idempotency_key": str(uuid.uuid4()), "ranks": [1, 2]}
    for path, sent in [("ranking", body), ("draft", {"ranks": [1]}), ("skip", {"reason": "other"}), ("extend", None)]:
        answer = rater.post(f"/assignments/{number}/{path}", sent)
        assert answer.status_code in {404, 422}, (path, answer.text)


@pytest.mark.parametrize("path", ["/next", "/undo", "/assignments/1/ranking", "/assignments/1/skip"])
def test_only_raters_of_the_project_may(program: Make, make_project: Make, client: TestClient, path: str) -> None:
    project, other = make_project(), make_project()
    assert client.post(f"/api/v1/projects/{project.slug}{path}", json={}).status_code == 401
    assert program(project, roles=("admin",), scopes=("admin",)).post(path, {}).status_code == 403
    assert program(project, roles=("rater", "admin"), scopes=("admin",)).post(path, {}).status_code == 403
    stranger = program(other)
    stranger.project = project
    assert stranger.post(path, {}).status_code == 404
