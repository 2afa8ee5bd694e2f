"""Everything that writes, sent twice and sent by many at once: one act, and a sentence for whoever came second."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from httpx2 import Response
from sqlalchemy import Engine, select, text
from starlette.testclient import TestClient

from app.db import transaction
from app.guidelines.models import Guideline
from app.oversight.models import Approval
from app.projects.models import Project
from app.prompts.models import Comparison
from app.rating.models import Ranking
from app.training.models import ModelVersion, Run
from tests.app.hostile import sentence
from tests.app.world import Good, World, enter

Worlds = list[tuple[World, list[Good]]]
ONCE = {
    "POST /projects/{slug}/runs",
    "POST /projects/{slug}/runs/{run_id}/retry",
    "POST /projects/{slug}/versions/{version_id}/decision",
    "POST /projects/{slug}/versions/{version_id}/rollback",
    "POST /projects/{slug}/endpoints",
    "POST /projects/{slug}/teaching/lessons",
    "POST /projects/{slug}/teaching/lessons/{lesson_id}",
    "POST /projects/{slug}/teaching/quiz/{question_id}",
    "POST /api/v1/projects/{slug}/teaching/lessons",
    "PUT /api/v1/projects/{slug}/teaching/lessons/{lesson_id}",
    "PUT /api/v1/projects/{slug}/teaching/questions/{question_id}",
    "POST /projects/new",
    "POST /link/{token}",
    "POST /account/sessions/{session_id}/end",
    "POST /api/v1/projects/{slug}/runs",
    "POST /api/v1/projects/{slug}/runs/{run_id}/retry",
    "POST /api/v1/projects/{slug}/versions/{version_id}/decision",
    "POST /api/v1/projects/{slug}/versions/{version_id}/rollback",
    "POST /api/v1/projects/{slug}/guidelines/publish",
    "POST /api/v1/projects/{slug}/endpoints",
    "POST /api/v1/projects",
    "POST /api/v1/people",
}
"""Only one of many may succeed; all other routes may answer each with success, as twice is harmless there."""
ENDS_THE_SESSION = "POST /account/password"


def at_once(browser: TestClient, good: Good, n: int) -> list[Response]:
    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(lambda _: good.send(browser), range(n)))


@pytest.mark.parametrize("n", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_many_at_once_do_one_act(browser: TestClient, worlds: Worlds, db: Engine, n: int) -> None:
    wrong = []
    for world, requests in worlds:
        enter(browser, world)
        for good in requests:
            if str(good) == ENDS_THE_SESSION:
                continue
            answers = at_once(browser, good, n)
            wrong += [f"{good}: {answer.status_code} {answer.text[-300:]}" for answer in answers if is_bad(answer)]
            succeeded = sum(answer.status_code < 400 for answer in answers)
            if not 1 <= succeeded <= (1 if str(good) in ONCE else n):
                wrong.append(f"{good}: {succeeded} of {n} succeeded: {[a.status_code for a in answers]}")
    assert wrong == []
    check_invariants(db)


def is_bad(answer: Response) -> bool:
    """A bug, or a refusal without a sentence. 503 says: try again."""
    if answer.status_code >= 400 and answer.status_code != 503:
        return answer.status_code >= 500 or len(sentence(answer)) < 15
    return False


def check_invariants(db: Engine) -> None:
    """What must hold whatever came when."""
    with transaction(db) as session:
        for comparison in session.scalars(select(Comparison)):
            assert comparison.counted + comparison.leased <= comparison.wanted
        keys = session.scalars(select(Ranking.idempotency_key)).all()
        assert len(keys) == len(set(keys))
        for project in session.scalars(select(Project)):
            editions = session.scalars(select(Guideline.edition).where(Guideline.project_id == project.id)).all()
            published = sorted(edition for edition in editions if edition is not None)
            assert published == list(range(1, len(published) + 1))
            states = session.scalars(select(ModelVersion.state).where(ModelVersion.project_id == project.id)).all()
            assert states.count("serving") <= 1
        decided = session.scalars(select(Approval.model_version_id)).all()
        assert len(decided) == len(set(decided))
        active = session.execute(select(Run.project_id, Run.kind).where(Run.state.in_(["queued", "running"]))).all()
        assert len(active) == len(set(active))
        assert session.scalar(text("SELECT count(*) - count(DISTINCT email) FROM person")) == 0


LATE: list[tuple[str, dict[str, Any], int, str]] = [
    ("runs/{failed}/cancel", {}, 409, "nothing to cancel"),
    ("runs/{queued}/retry", {}, 409, "only failed and cancelled runs"),
    ("runs", {"kind": "sft"}, 409, "already under way"),
    ("runs", {"kind": "all"}, 422, "Choose a kind of run"),
    ("versions/{serving}/decision", {"decision": "approve", "reason": "Good."}, 409, "nothing to decide"),
    ("versions/{candidate}/decision", {"decision": "maybe", "reason": "Good."}, 422, "approve or refuse"),
    ("versions/{candidate}/decision", {"decision": "approve", "reason": " "}, 422, "Say why"),
    ("versions/{candidate}/rollback", {}, 409, "Only a policy that served before"),
    ("versions/{serving}/rollback", {}, 409, "Only a policy that served before"),
    ("guidelines/9/acknowledge", {}, 404, "no edition 9"),
    ("guidelines/edit", {"body": "x", "revision": "7"}, 409, "Somebody else has saved this draft"),
    ("guidelines/edit", {"body": " ", "publish": "yes"}, 422, ""),
    ("rate/{held}/skip", {"reason": "bored"}, 422, "Choose one of the reasons"),
    ("rate/{held}", {"rank-0": "1", "rank-1": "2"}, 422, "This form is incomplete"),
    ("rate/{held}", {"rank-0": "1", "rank-1": "2", "idempotency_key": "x" * 10_000}, 422, "This form is incomplete"),
    (
        "rate/{held}",
        {"rank-0": "1", "rank-1": "2", "idempotency_key": "{other_key}"},
        409,
        "dealt with this comparison",
    ),
    ("rate/{held}", {"rank-0": "1", "idempotency_key": "{key}"}, 422, "has"),
    ("rate-undo", {"assignment_id": "{held}"}, 404, "no ranking to undo"),
    ("members/{person_id}", {"roles": "emperor"}, 422, "Choose among the roles"),
    ("members/999999", {"roles": "rater"}, 404, "no such member"),
    ("invitations", {}, 422, "Choose among the roles"),
    ("imports/999999/again", {}, 404, "no such import"),
    ("settings", {"threshold": "0"}, 422, "threshold"),
    ("settings", {"training.ppo.learning_rate": "nan"}, 422, "training.ppo.learning_rate"),
    ("settings", {"training.ppo.learning_rate": "-1"}, 422, "training.ppo.learning_rate"),
    ("settings", {"training.ppo.learning_rate": "1e9"}, 422, "training.ppo.learning_rate"),
    ("settings", {"training.sft.max_steps": "1000000000000"}, 422, "training.sft.max_steps"),
    ("settings", {"training.ppo.num_updates": "0"}, 422, "training.ppo.num_updates"),
    ("settings", {"training.tiny.hidden": "1000000000000"}, 422, "training.tiny.hidden"),
    ("settings", {"sampling.temperature": "inf"}, 422, "sampling.temperature"),
    ("settings", {"attributes": "no label"}, 422, "attributes"),
]


@pytest.mark.parametrize(("path", "form", "status", "said"), LATE)
def test_what_comes_too_late_or_too_early_or_out_of_bounds_is_told(
    browser: TestClient, worlds: Worlds, path: str, form: dict[str, Any], status: int, said: str
) -> None:
    world, _ = worlds[0]
    names = {**world.ids, "held": world.ids["held"][2], "key": world.ids["keys"][2], "other_key": world.ids["keys"][3]}
    fields = {name: value.format(**names) if isinstance(value, str) else value for name, value in form.items()}
    enter(browser, world)
    answer = browser.post(f"/projects/{world.project.slug}/{path.format(**names)}", data=fields)
    assert answer.status_code == status, answer.text
    assert said in sentence(answer)
