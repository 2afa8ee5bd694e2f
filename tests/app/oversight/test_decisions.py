"""No policy serves before another person has said so."""

from collections.abc import Callable

import pytest
from sqlalchemy import Engine, func, select
from starlette.testclient import TestClient

from app.accounts.models import Person
from app.audit import AuditEvent
from app.db import transaction
from app.projects.models import Project
from app.training.models import Kind, ModelVersion, Run

SignIn = Callable[[Person], TestClient]


@pytest.fixture
def project(make_project: Callable[..., Project]) -> Project:
    return make_project()


@pytest.fixture
def overseer(make_person: Callable[..., Person], join: Callable[..., Person], project: Project) -> Person:
    return join(make_person(), project, "overseer", "operator")


def candidate(db: Engine, project: Project, *, started_by: Person | None = None) -> tuple[int, int]:
    """(serving, candidate) version ids."""
    with transaction(db) as session:
        run = Run(
            project_id=project.id,
            kind=Kind.LOOP,
            state="succeeded",
            started_by_id=started_by.id if started_by else None,
        )
        session.add(run)
        session.flush()
        old = ModelVersion(project_id=project.id, kind="policy", number=0, state="serving", manifest_hash="a")
        new = ModelVersion(
            project_id=project.id, kind="policy", number=1, state="candidate", manifest_hash="b", run_id=run.id
        )
        session.add_all([old, new])
        session.flush()
        return old.id, new.id


def states(db: Engine) -> dict[int, str]:
    with db.connect() as link:
        return {row.id: row.state for row in link.execute(select(ModelVersion.id, ModelVersion.state))}


def decide(browser: TestClient, project: Project, version_id: int, decision: str, reason: str = "Looks good.") -> int:
    path = f"/projects/{project.slug}/versions/{version_id}/decision"
    return browser.post(path, data={"decision": decision, "reason": reason}).status_code


def test_an_approved_policy_serves_the_old_one_retires_and_responses_are_asked_for(
    db: Engine, project: Project, overseer: Person, sign_in: SignIn
) -> None:
    old, new = candidate(db, project)
    assert decide(sign_in(overseer), project, new, "approve") == 303
    assert states(db) == {old: "retired", new: "serving"}
    with transaction(db) as session:
        assert session.scalar(select(func.count()).where(Run.kind == Kind.SAMPLE)) == 1
        assert session.scalar(select(AuditEvent.action).order_by(AuditEvent.seq.desc())) == "version.approved"


def test_a_refused_policy_never_serves(db: Engine, project: Project, overseer: Person, sign_in: SignIn) -> None:
    old, new = candidate(db, project)
    assert decide(sign_in(overseer), project, new, "refuse") == 303
    assert states(db) == {old: "serving", new: "refused"}


def test_whoever_started_the_run_cannot_decide(db: Engine, project: Project, overseer: Person, sign_in: SignIn) -> None:
    old, new = candidate(db, project, started_by=overseer)
    assert decide(sign_in(overseer), project, new, "approve") == 403
    assert states(db) == {old: "serving", new: "candidate"}


@pytest.mark.parametrize(("decision", "reason"), [("approve", ""), ("perhaps", "Because."), ("approve", "x" * 3000)])
def test_a_decision_needs_a_word_and_a_reason(
    db: Engine, project: Project, overseer: Person, sign_in: SignIn, decision: str, reason: str
) -> None:
    old, new = candidate(db, project)
    assert decide(sign_in(overseer), project, new, decision, reason) == 422
    assert states(db) == {old: "serving", new: "candidate"}


def test_deciding_twice_is_a_conflict(db: Engine, project: Project, overseer: Person, sign_in: SignIn) -> None:
    _, new = candidate(db, project)
    browser = sign_in(overseer)
    assert decide(browser, project, new, "approve") == 303
    assert decide(browser, project, new, "refuse") == 409


def test_a_version_of_another_project_is_not_found(
    db: Engine, project: Project, overseer: Person, sign_in: SignIn, make_project: Callable[..., Project]
) -> None:
    _, theirs = candidate(db, make_project())
    assert decide(sign_in(overseer), project, theirs, "approve") == 404


def test_a_retired_policy_can_be_brought_back(db: Engine, project: Project, overseer: Person, sign_in: SignIn) -> None:
    old, new = candidate(db, project)
    browser = sign_in(overseer)
    decide(browser, project, new, "approve")
    assert browser.post(f"/projects/{project.slug}/versions/{old}/rollback").status_code == 303
    assert states(db) == {old: "serving", new: "retired"}


def test_the_trail_shows_who_decided(db: Engine, project: Project, overseer: Person, sign_in: SignIn) -> None:
    _, new = candidate(db, project)
    browser = sign_in(overseer)
    decide(browser, project, new, "approve")
    page = browser.get(f"/projects/{project.slug}/audit").text
    assert "version.approved" in page
    assert overseer.name in page
    assert f'/versions/{new}">policy 1</a>' in page


def test_a_reward_model_shows_what_it_was_trained_further_from_and_how_it_judges_attributes(
    db: Engine,
    make_project: Callable[..., Project],
    join: Callable[..., Person],
    make_person: Callable[..., Person],
    sign_in: SignIn,
) -> None:
    project = make_project(attributes=[{"key": "warm", "label": "Warmth", "help": ""}])
    judged = {"attribute_accuracy.warm": 0.75, "attribute_rankings.warm": 40}
    told = {"accuracy": 0.8, "accuracy_low": 0.7, "accuracy_high": 0.9, "num_heldout_rankings": 50}
    with transaction(db) as session:
        fixed = {"project_id": project.id, "kind": "reward_model", "state": "registered", "manifest_hash": "c" * 64}
        first = ModelVersion(number=0, **fixed)
        session.add(first)
        session.flush()
        metrics = {**told, **judged, "accuracy_shorter": 0.5, "accuracy_longer": 0.5}
        second = ModelVersion(number=1, parent_id=first.id, metrics=metrics, **fixed)
        session.add(second)
        session.flush()
        path = f"/projects/{project.slug}/versions/{second.id}"
    page = sign_in(join(make_person(), project, "overseer")).get(path).text
    assert "Reward model 0</a>" in page
    row = page[page.index("Warmth") :]
    assert row.index("75.0") < row.index("of 40 rankings")
