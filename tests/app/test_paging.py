"""A page of a long list leads to older entries where there are any, and only there."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine
from starlette.testclient import TestClient

from app import audit
from app.accounts.models import Person
from app.db import transaction
from app.projects.models import Project

Make = Callable[..., Any]


@pytest.mark.parametrize(("page", "has_older"), [(2, True), (3, False)])
def test_older_entries_are_offered_where_there_are_any(
    page: int, has_older: bool, db: Engine, make_project: Make, make_comparisons: Make, make_person: Make, join: Make,
    sign_in: Callable[[Person], TestClient], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    project: Project = make_project()
    make_comparisons(project, 3)
    with transaction(db) as session:
        for name in ("a", "b", "c"):
            audit.record(session, "project.changed", subject=f"project:{name}", project_id=project.id)
    monkeypatch.setattr("app.exchange.routes.PAGE", page)
    monkeypatch.setattr("app.oversight.routes.PAGE", page)
    browser = sign_in(join(make_person(), project, "admin", "overseer"))
    for path in ("comparisons", "audit"):
        assert ("?before=" in browser.get(f"/projects/{project.slug}/{path}").text) == has_older, path
