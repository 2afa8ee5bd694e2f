"""The quiz: written and changed by admins, taken a few times at most, and the gate before the first comparison."""

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine, func, select
from starlette.testclient import TestClient

from app.accounts.models import Person
from app.db import transaction
from app.projects.models import Project
from app.teaching import quiz
from app.teaching.models import QuizAttempt, QuizQuestion
from app.training.models import ModelVersion

Make = Callable[..., Any]


@pytest.fixture
def project(make_project: Make, make_comparisons: Make) -> Project:
    made: Project = make_project(quiz_required=True, quiz_tries=2, quiz_pass_percent=67, auto_train=False)
    make_comparisons(made, 2)
    return made


@pytest.fixture
def admin(make_person: Make, project: Project, join: Make) -> Person:
    person: Person = join(make_person(), project, "admin")
    return person


@pytest.fixture
def rater(make_person: Make, project: Project, join: Make) -> Person:
    person: Person = join(make_person(), project, "rater")
    return person


@pytest.fixture
def questions(db: Engine, admin: Person, project: Project) -> list[int]:
    """Three, of which the second option is always right."""
    with transaction(db) as session:
        return [
            quiz.write_question(
                session, project, kind=kind, body=f"Question {i}?", options=["Wrong", "Right"], correct=1,
                explanation=f"Reason {i}.", person_id=admin.id,
            ).id
            for i, kind in enumerate(("choice", "pair", "choice"))
        ]  # fmt: skip


def take(browser: TestClient, project: Project, questions: list[int], options: str, key: str = "") -> Any:
    form = {f"question-{number}": option for number, option in zip(questions, options, strict=True)}
    return browser.post(f"/projects/{project.slug}/quiz", data=form | {"idempotency_key": key or str(uuid.uuid4())})


def may_rank(browser: TestClient, project: Project) -> bool:
    status = browser.post(f"/api/v1/projects/{project.slug}/next", json={}).status_code
    assert status in {200, 409}
    return status == 200


def test_two_of_three_right_is_not_67_percent(
    project: Project, rater: Person, questions: list[int], sign_in: Make
) -> None:
    """66.7 % is below the mark of 67 %: it is never rounded up."""
    browser = sign_in(rater)
    result = browser.get(take(browser, project, questions, "110").headers["Location"]).text
    assert "Not passed" in result
    assert "2 of 3 right; 67 % is needed" in result
    assert not may_rank(browser, project)
    assert "Passed" in browser.get(take(browser, project, questions, "111").headers["Location"]).text
    assert may_rank(browser, project)


def test_the_gate_says_what_to_do_in_each_state(
    project: Project, rater: Person, questions: list[int], sign_in: Make
) -> None:
    browser, base = sign_in(rater), f"/projects/{project.slug}"
    said = browser.post(f"/api/v1{base}/next", json={}).json()["error"]["message"]
    assert "67 % of the answers right, 2 of 2 tries left" in said
    assert f"{base}/quiz" in said
    assert "Take the quiz" in browser.get(f"{base}/rate").text
    take(browser, project, questions, "000")
    assert "1 of 2 tries left" in browser.post(f"/api/v1{base}/next", json={}).text
    take(browser, project, questions, "000")
    said = browser.post(f"/api/v1{base}/next", json={}).json()["error"]["message"]
    assert "used all 2 tries" in said
    assert "An admin has to let you through" in browser.get(f"{base}/rate").text
    refused = take(browser, project, questions, "111")
    assert refused.status_code == 409
    assert "used all 2 tries" in refused.text


def test_what_was_wrong_is_told_only_when_no_try_is_left_to_use_it(
    project: Project, rater: Person, questions: list[int], sign_in: Make
) -> None:
    browser = sign_in(rater)
    first = take(browser, project, questions, "100").headers["Location"]
    page = browser.get(first).text
    assert "Reason 0." in page
    assert "Reason 1." not in page
    assert "the right answer" not in page
    take(browser, project, questions, "100")
    page = browser.get(first).text
    assert "Reason 1." in page
    assert "the right answer" in page


def test_the_questions_do_not_tell_which_option_is_right(
    project: Project, rater: Person, questions: list[int], sign_in: Make
) -> None:
    browser = sign_in(rater)
    page = browser.get(f"/projects/{project.slug}/quiz").text
    assert "Reason" not in page
    assert "checked" not in page
    for question in browser.get(f"/api/v1/projects/{project.slug}/quiz").json()["questions"]:
        assert set(question) == {"id", "kind", "body", "options"}


def test_no_chat_begins_before_the_quiz(
    db: Engine, project: Project, rater: Person, questions: list[int], sign_in: Make
) -> None:
    with transaction(db) as session:
        session.get_one(Project, project.id).allow_chat = True
        policy = ModelVersion(project_id=project.id, kind="policy", number=1, state="serving", manifest_hash="a" * 64)
        session.add(policy)
    browser, path = sign_in(rater), f"/api/v1/projects/{project.slug}/chats"
    refused = browser.post(path, json={"text": "Hello?", "idempotency_key": str(uuid.uuid4())})
    assert refused.status_code == 409
    assert "pass its quiz first" in refused.json()["error"]["message"]
    take(browser, project, questions, "111")
    assert browser.post(path, json={"text": "Hello?", "idempotency_key": str(uuid.uuid4())}).status_code < 300


def test_admins_give_new_tries_or_let_through(
    project: Project, admin: Person, rater: Person, questions: list[int], sign_in: Make
) -> None:
    browser, office = sign_in(rater), sign_in(admin)
    for _ in range(2):
        take(browser, project, questions, "000")
    path = f"/projects/{project.slug}/teaching/raters"
    assert "no tries left" in office.get(path).text
    assert office.post(f"{path}/{rater.id}", data={"kind": "reset"}).status_code == 303
    assert take(browser, project, questions, "000").status_code == 303
    assert not may_rank(browser, project)
    assert office.post(f"/api/v1{path}/{rater.id}", json={"kind": "pass", "reason": "An expert."}).status_code == 204
    assert may_rank(browser, project)
    assert "let through" in office.get(path).text
    assert office.post(f"{path}/{admin.id}", data={"kind": "pass"}).status_code == 404, "no rater"


def test_a_try_is_marked_by_the_questions_that_were_asked(
    db: Engine, project: Project, admin: Person, rater: Person, questions: list[int], sign_in: Make
) -> None:
    browser = sign_in(rater)
    first = take(browser, project, questions, "011").headers["Location"]
    with transaction(db) as session:
        changed = quiz.write_question(
            session, project, kind="choice", body="Now?", options=["Right", "Wrong"], correct=0, explanation="New.",
            person_id=admin.id, question_id=questions[0],
        )  # fmt: skip
        assert [q.id for q in quiz.questions_of(session, project)] == [changed.id, *questions[1:]], "in its place"
    assert "Question 0?" in browser.get(first).text
    stale = take(browser, project, questions, "111")
    assert stale.status_code == 409
    assert "did not cost a try" in stale.text
    with transaction(db) as session:
        assert session.scalar(select(func.count()).select_from(QuizAttempt)) == 1
    assert take(browser, project, [changed.id, *questions[1:]], "011").status_code == 303
    assert may_rank(browser, project)


def test_an_unanswered_question_costs_nothing(
    db: Engine, project: Project, rater: Person, questions: list[int], sign_in: Make
) -> None:
    refused = take(sign_in(rater), project, questions[:2], "11")
    assert refused.status_code == 422
    assert "Question 3 has no answer yet" in refused.text
    with transaction(db) as session:
        assert session.scalar(select(func.count()).select_from(QuizAttempt)) == 0


def test_no_more_tries_than_given_however_many_come_at_once(
    db: Engine, project: Project, rater: Person, questions: list[int], sign_in: Make
) -> None:
    browser, gate = sign_in(rater), threading.Barrier(6)

    def try_it(_: int) -> int:
        gate.wait()
        return int(take(browser, project, questions, "000").status_code)

    with ThreadPoolExecutor(6) as pool:
        statuses = sorted(pool.map(try_it, range(6)))
    assert statuses == [303, 303, 409, 409, 409, 409]
    with transaction(db) as session:
        assert session.scalar(select(func.count()).select_from(QuizAttempt)) == 2


def test_a_form_sent_twice_is_one_try(
    db: Engine, project: Project, rater: Person, questions: list[int], sign_in: Make
) -> None:
    browser, key = sign_in(rater), str(uuid.uuid4())
    answers = [take(browser, project, questions, "000", key) for _ in range(2)]
    assert answers[0].headers["Location"] == answers[1].headers["Location"]
    with transaction(db) as session:
        assert session.scalar(select(func.count()).select_from(QuizAttempt)) == 1


def test_nobody_else_sees_a_try(
    project: Project, rater: Person, make_person: Make, join: Make, questions: list[int], sign_in: Make
) -> None:
    path = take(sign_in(rater), project, questions, "000").headers["Location"]
    assert sign_in(join(make_person(), project, "rater")).get(path).status_code == 404


def test_without_questions_the_gate_is_open(project: Project, rater: Person, sign_in: Make) -> None:
    browser = sign_in(rater)
    assert may_rank(browser, project)
    assert browser.get(f"/api/v1/projects/{project.slug}/quiz").status_code == 409
    assert "no quiz at present" in browser.get(f"/projects/{project.slug}/quiz").text


def test_practice_comes_before_the_quiz(
    db: Engine, project: Project, admin: Person, rater: Person, questions: list[int], sign_in: Make,
    make_comparisons: Make,
) -> None:  # fmt: skip
    office, base = sign_in(admin), f"/api/v1/projects/{project.slug}"
    (comparison,) = make_comparisons(project, 1)
    lesson = {"comparison_id": comparison, "ranks": [1, 2], "explanation": "So."}
    assert office.post(f"{base}/teaching/lessons", json=lesson).status_code == 201
    assert office.patch(base, json={"practice_comparisons": 1}).status_code == 200
    refused = take(sign_in(rater), project, questions, "111")
    assert refused.status_code == 409
    assert "0 of 1 practice comparisons are done" in refused.text


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"options": ["One", ""]}, "2 to 8 different options"),
        ({"options": ["One", "One"]}, "2 to 8 different options"),
        ({"kind": "pair", "options": ["One", "Two", "Three"]}, "two different responses"),
        ({"kind": "essay"}, "Choose a kind of question"),
        ({"correct": 5}, "Say which of the options is right"),
        ({"options": ["One", "", "Two"], "correct": 1}, "Say which of the options is right"),
        ({"body": " "}, "Write the question"),
        ({"explanation": ""}, "Write why"),
    ],
)
def test_an_incomplete_question_is_refused(
    db: Engine, project: Project, admin: Person, sign_in: Make, changed: dict[str, Any], said: str
) -> None:
    good = {"kind": "choice", "body": "What?", "options": ["One", "Two"], "correct": 0, "explanation": "Why."}
    refused = sign_in(admin).post(f"/api/v1/projects/{project.slug}/teaching/questions", json=good | changed)
    assert refused.status_code == 422
    assert said in refused.json()["error"]["message"]
    with transaction(db) as session:
        assert session.scalar(select(func.count()).select_from(QuizQuestion)) == 0
