"""The audit trail speaks in names and words, and leads to what it speaks of."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from app import audit
from app.db import transaction
from app.oversight.trail import ACTS
from app.projects.models import Project
from app.training import runs
from app.training.models import ModelVersion

Make = Callable[..., Any]


@pytest.fixture
def project(make_project: Make) -> Project:
    made: Project = make_project()
    return made


def test_an_event_says_who_did_what_to_what(
    db: Engine, project: Project, sign_in: Make, make_person: Make, join: Make
) -> None:
    ada, bob = make_person(name="Ada <b>"), make_person(name="Bob")
    with transaction(db) as session:
        version = ModelVersion(
            project_id=project.id, kind="reward_model", number=3, state="registered", manifest_hash="c"
        )
        session.add(version)
        session.flush()
        run = runs.request_run(session, project, "loop", trigger="manual", started_by_id=ada.id)
        runs.request_run(session, project, "sample", trigger="threshold")
        for action, subject in (
            ("version.approved", f"model_version:{version.id}"),
            ("member.roles", f"person:{bob.id}"),
            ("import.started", "import:5"),
            ("something.new", "thing:1"),
        ):
            audit.record(session, action, subject=subject, actor_id=bob.id, project_id=project.id)
    page = sign_in(join(make_person(), project, "overseer")).get(f"/projects/{project.slug}/audit").text
    assert "Ada &lt;b&gt;" in page
    assert "asked for a run" in page
    assert "run.requested" in page
    assert "Attune itself" in page
    assert f'<a href="/projects/{project.slug}/runs/{run.id}">run {run.id}</a>' in page
    assert f'<a href="/projects/{project.slug}/versions/{version.id}">reward model 3</a>' in page
    assert "changed the roles of a member" in page
    assert "something new" in page
    assert "/imports/5" not in page, "an overseer may not open imports"


def test_every_act_that_is_recorded_has_words() -> None:
    app = Path(audit.__file__).parent
    recorded = {word for file in app.rglob("*.py") if file.name != "trail.py" for word in _words_in(file.read_text())}
    assert {"run.requested", "member.joined"} <= recorded
    own = {"password.changed", "token.created", "token.revoked"}  # Of an account, so on no project's page.
    assert recorded - own <= set(ACTS)


def _words_in(source: str) -> set[str]:
    import re

    calls = re.findall(r"audit\.record\(\s*session,\s*\"([a-z_.]+)\"", source)
    return set(calls)
