"""Reasons and marks: asked where a project asks, kept with the ranking, brought back to be corrected."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, select
from starlette.testclient import TestClient

from app.accounts.models import Person
from app.db import transaction
from app.errors import Invalid
from app.exchange.export import rows_of
from app.projects.models import Project
from app.rating.answers import Answer, check_answer
from app.rating.models import Ranking

SignIn = Callable[[Person], TestClient]
REASONS = [{"key": "clear", "label": "Clearer", "help": ""}, {"key": "kind", "label": "Kinder", "help": ""}]


def rules(**changed: Any) -> Project:
    asked = {"ask_strength": True, "allow_ties": True, "reasons": REASONS, "attributes": [], "flags": []}
    return Project(**{**asked, "require_reason": True, "ask_likert": True, **changed})


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (Answer([1, 2], strength=4), "Say why one is much better"),
        (Answer([1, 2], strength=4, note=" \n"), "Say why one is much better"),
        (Answer([1, 2], reasons=["long"]), "reasons is unknown"),
        (Answer([1, 2], likert=[0, 3]), "from 1 to 7"),
        (Answer([1, 2], likert=[8, 3]), "from 1 to 7"),
        (Answer([1, 2], likert=[3]), "each of the 2 responses"),
    ],
)
def test_what_does_not_fit_is_refused(answer: Answer, sentence: str) -> None:
    with pytest.raises(Invalid, match=sentence):
        check_answer(answer, rules(), k=2)


def test_what_fits_is_kept() -> None:
    for answer in (
        Answer([1, 2], strength=4, reasons=["kind", "clear", "kind"]),
        Answer([1, 2], strength=4, note="It is true."),
        Answer([1, 2], strength=3),
        Answer([1, 2], likert=[7, None]),
    ):
        checked = check_answer(answer, rules(), k=2)
        assert checked.reasons == sorted(set(answer.reasons))
        assert checked.likert == answer.likert
    assert check_answer(Answer([1, 2], likert=[None, None]), rules(ask_likert=False), k=2).likert == []
    with pytest.raises(Invalid, match="does not ask for marks"):
        check_answer(Answer([1, 2], likert=[1, 2]), rules(ask_likert=False), k=2)


def test_answers_without_them_have_the_fingerprint_that_they_had() -> None:
    """It is stored: a form that is sent again after an upgrade must still be known as the same."""
    plain = Answer([1, 2], strength=2, note="x")
    assert plain.fingerprint().hex().startswith("23c6c23d004ec282")
    assert Answer([1, 2], strength=2, note="x", reasons=["kind"]).fingerprint() != plain.fingerprint()


def test_they_go_from_the_form_into_the_export_and_back_into_the_form(
    db: Engine,
    make_project: Callable[..., Project],
    make_comparisons: Callable[..., list[int]],
    join: Callable[..., Person],
    make_person: Callable[..., Person],
    sign_in: SignIn,
) -> None:
    project = make_project(reasons=REASONS, ask_likert=True)
    make_comparisons(project, 1, k=3)
    browser = sign_in(join(make_person(), project, "rater"))
    at = f"/api/v1/projects/{project.slug}"
    given = browser.post(f"{at}/next").json()
    assert given["rules"]["reasons"] == REASONS
    form = {"idempotency_key": given["idempotency_key"], "num_responses": "3", "reasons": ["kind", "clear"]}
    form |= {f"rank-{place}": str(place + 1) for place in range(3)} | {
        f"likert-{place}": str(7 - place) for place in range(3)
    }
    browser.post(f"/projects/{project.slug}/rate/{given['id']}/draft", data=form)
    assert browser.post(f"{at}/next").json()["draft"]["likert"] == [7, 6, 5]
    assert browser.post(f"/projects/{project.slug}/rate/{given['id']}", data=form).status_code == 303
    with transaction(db) as session:
        ranking = session.scalars(select(Ranking)).one()
        (row,) = rows_of(session, project, "rankings")
    assert ranking.reasons == row["reasons"] == ["clear", "kind"]
    assert [8 - mark for mark in row["likert"]] == row["ranks"]  # Both in the order of the file.
    opened = browser.post(f"{at}/undo", json={}).json()
    assert opened["draft"]["reasons"] == ["clear", "kind"]
    assert opened["draft"]["likert"] == [7, 6, 5]
    page = browser.get(f"/projects/{project.slug}/rate").text
    assert page.count("checked") >= 3 + 3 + 2
