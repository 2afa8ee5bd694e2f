"""Content warnings: seen first, and never given to who has opted out."""

from collections.abc import Callable

import pytest
from sqlalchemy import Engine, select, update
from starlette.testclient import TestClient

from app.accounts.models import Person
from app.audit import AuditEvent
from app.db import transaction
from app.errors import Invalid
from app.exchange.rows import recognise
from app.projects.models import Project
from app.prompts.models import Comparison, Prompt
from app.rating import leases, warnings
from app.rating.models import Assignment

SignIn = Callable[[Person], TestClient]


@pytest.fixture
def project(make_project: Callable[..., Project]) -> Project:
    return make_project()


def mark(db: Engine, comparison_id: int, *keys: str) -> None:
    with transaction(db) as session:
        prompt = select(Comparison.prompt_id).where(Comparison.id == comparison_id).scalar_subquery()
        session.execute(update(Prompt).where(Prompt.id == prompt).values(warnings=list(keys)))


def given(db: Engine, project: Project, rater: Person) -> list[int]:
    """All that this rater is given, skipping each."""
    found = []
    with transaction(db) as session:
        while (taken := leases.next_assignment(session, project, rater_id=rater.id)) is not None:
            found.append(taken.comparison_id)
            leases.skip(session, project, taken.id, rater_id=rater.id, reason="other")
    return found


def test_who_has_opted_out_is_never_given_it_and_others_are(
    db: Engine, project: Project, make_comparisons: Callable[..., list[int]], make_person: Callable[..., Person]
) -> None:
    plain, violent, both = make_comparisons(project, 3)
    mark(db, violent, "violence")
    mark(db, both, "hate", "violence")
    sensitive, robust = make_person(), make_person()
    with transaction(db) as session:
        warnings.opt_out(session, project, ["hate"], rater_id=sensitive.id)
        assert warnings.opted_out(session, project, rater_id=sensitive.id) == ["hate"]
        assert leases.num_left(session, project, rater_id=sensitive.id) == 2
    assert given(db, project, sensitive) == [plain, violent]
    assert given(db, project, robust) == [plain, violent, both]
    with transaction(db) as session:
        warnings.opt_out(session, project, [], rater_id=sensitive.id)
    assert given(db, project, sensitive) == [both]


def test_what_is_in_hand_and_taken_ahead_is_given_back(
    db: Engine, project: Project, make_comparisons: Callable[..., list[int]], make_person: Callable[..., Person]
) -> None:
    for comparison_id in make_comparisons(project, 2):
        mark(db, comparison_id, "violence")
    rater = make_person()
    with transaction(db) as session:
        assert leases.next_assignment(session, project, rater_id=rater.id) is not None
        assert leases.take_ahead(session, project, rater_id=rater.id) is not None
    with transaction(db) as session:
        warnings.opt_out(session, project, ["violence"], rater_id=rater.id)
        assert set(session.scalars(select(Assignment.state))) == {"skipped"}
        assert set(session.scalars(select(Comparison.leased))) == {0}
        assert leases.next_assignment(session, project, rater_id=rater.id) is None


@pytest.mark.parametrize("is_ahead", [False, True])
def test_what_is_marked_while_in_hand_is_not_shown_to_who_has_opted_out(
    db: Engine,
    project: Project,
    make_comparisons: Callable[..., list[int]],
    make_person: Callable[..., Person],
    is_ahead: bool,
) -> None:
    first, second = make_comparisons(project, 2)
    rater = make_person()
    with transaction(db) as session:
        warnings.opt_out(session, project, ["violence"], rater_id=rater.id)
        assert leases.next_assignment(session, project, rater_id=rater.id) is not None
        assert leases.take_ahead(session, project, rater_id=rater.id) is not None
    mark(db, second if is_ahead else first, "violence")
    assert given(db, project, rater) == [first if is_ahead else second]


def test_the_kind_is_shown_first_and_by_the_api(
    db: Engine,
    project: Project,
    make_comparisons: Callable[..., list[int]],
    join: Callable[..., Person],
    make_person: Callable[..., Person],
    sign_in: SignIn,
) -> None:
    (comparison_id,) = make_comparisons(project, 1)
    mark(db, comparison_id, "self_harm", "gone")
    browser = sign_in(join(make_person(), project, "rater"))
    page = browser.post(f"/projects/{project.slug}/rate/next", headers={"HX-Request": "true"}).text
    assert "self-harm or suicide, gone" in page
    assert page.index("<details>") < page.index("Answer 0 to")
    assert page.index("Answer 0 to") < page.index('</details>\n  <div class="warned__words"')
    told = browser.post(f"/api/v1/projects/{project.slug}/next").json()
    assert told["warnings"] == ["self_harm", "gone"]


def test_admins_mark_prompts_and_it_is_on_record(
    db: Engine,
    project: Project,
    make_comparisons: Callable[..., list[int]],
    join: Callable[..., Person],
    make_person: Callable[..., Person],
    sign_in: SignIn,
) -> None:
    (comparison_id,) = make_comparisons(project, 1)
    browser = sign_in(join(make_person(), project, "admin"))
    place = f"/projects/{project.slug}/comparisons/{comparison_id}"
    assert "Violence" in browser.get(place).text
    assert browser.post(f"{place}/warnings", data={"warnings": ["violence"]}, follow_redirects=False).status_code == 303
    refused = browser.post(f"{place}/warnings", data={"warnings": ["boredom"]})
    assert refused.status_code == 422
    assert "no category" in refused.text
    with transaction(db) as session:
        assert session.scalars(select(Prompt.warnings)).one() == ["violence"]
        assert session.scalars(select(AuditEvent.details).where(AuditEvent.action == "prompt.warnings")).all() == [
            {"warnings": ["violence"]}
        ]


def test_files_may_hold_warnings() -> None:
    (row,) = recognise({"prompt": "Why?", "responses": ["a", "b"], "warnings": ["Violence", "self-harm"]})
    assert row.warnings == ["self_harm", "violence"]
    (row,) = recognise({"prompt": "Why?", "responses": ["a", "b"], "warnings": "hate, violence"})
    assert row.warnings == ["hate", "violence"]
    for bad in (7, ["<b>"], ["x"] * 13):
        with pytest.raises(Invalid, match="warnings"):
            recognise({"prompt": "Why?", "responses": ["a", "b"], "warnings": bad})
