"""Every page, wide and narrow, light and dark: nothing serious for axe, nothing wider than the screen."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.accounts import service as accounts
from app.accounts.models import Person
from app.db import transaction
from app.exchange.models import ImportJob, ImportProblem
from app.guidelines import service as guidelines
from app.projects.models import Project
from app.rating import lessons as practice
from app.teaching import lessons, quiz, rulings
from app.training.models import ModelVersion, Run, RunLog, RunMetric
from app.writing import service as writing
from tests.browser.access import small_targets, violations
from tests.browser.desk import takes_keys

LOOKS = [(1280, 900, "light"), (1280, 900, "dark"), (390, 844, "light"), (390, 844, "dark"), (320, 640, "light")]
PAGES = [
    "/",
    "/projects/new",
    "/account",
    "/account/keys",
    "/help",
    "/help/raters",
    "/help/admins",
    "/help/operators",
    "/help/overseers",
    "/projects/{slug}",
    "/projects/{slug}/rate",
    "/projects/{slug}/my-rankings",
    "/projects/{slug}/my-statistics",
    "/projects/{slug}/my-care",
    "/projects/{slug}/my-questions",
    "/projects/{slug}/inbox",
    "/projects/{slug}/guidelines",
    "/projects/{slug}/guidelines/edit",
    "/projects/{slug}/guidelines/1",
    "/projects/{slug}/guidelines/2?against=1",
    "/projects/{slug}/runs",
    "/projects/{slug}/runs/{run}",
    "/projects/{slug}/versions",
    "/projects/{slug}/versions/{version}",
    "/projects/{slug}/audit",
    "/projects/{slug}/data",
    "/projects/{slug}/imports/{job}",
    "/projects/{slug}/comparisons",
    "/projects/{slug}/comparisons/{comparison}",
    "/projects/{slug}/teaching",
    "/projects/{slug}/teaching/lessons/{lesson}",
    "/projects/{slug}/teaching/lessons/new?comparison={comparison}",
    "/projects/{slug}/teaching/quiz",
    "/projects/{slug}/teaching/quiz/new?kind=choice",
    "/projects/{slug}/teaching/quiz/new?kind=pair",
    "/projects/{slug}/teaching/quiz/{question}",
    "/projects/{slug}/teaching/raters",
    "/projects/{slug}/practice",
    "/projects/{slug}/practice/{lesson}",
    "/projects/{slug}/practice/answers/{practised}",
    "/projects/{slug}/quiz",
    "/projects/{slug}/write",
    "/projects/{slug}/demonstrations",
    "/projects/{slug}/my-demonstrations",
    "/projects/{slug}/my-demonstrations/{written}",
    "/projects/{slug}/quiz/{attempt}",
    "/projects/{slug}/members",
    "/projects/{slug}/settings",
    "/projects/absent",
]


@pytest.fixture
def world(
    db: Engine,
    make_person: Callable[..., Person],
    make_project: Callable[..., Project],
    join: Callable[..., Person],
    make_comparisons: Callable[..., list[int]],
) -> dict[str, Any]:
    """A project with one of everything, and somebody who may see all of it."""
    project = make_project(
        name="Answers",
        attributes=[{"key": "warmth", "label": "Warmth", "help": "Is it kind?"}],
        flags=[{"key": "harmful", "label": "Harmful"}],
    )
    person = join(make_person(is_site_admin=True), project, "rater", "admin", "operator", "overseer")
    comparison, practised_on = make_comparisons(project, 2, k=3)[0], make_comparisons(project, 1, k=3)[0]
    with transaction(db) as session:
        for body in ("# First\n\n- one", "# Second\n\n- one\n- two"):
            guidelines.save_draft(session, project, body=body, person_id=person.id)
            edition = guidelines.publish(session, project, person_id=person.id)
        assert edition.edition is not None
        guidelines.acknowledge(session, project, edition.edition, person_id=person.id)
        run = Run(
            project_id=project.id, kind="loop", state="failed", error="The disk is full. Free some space.", progress=0.4
        )
        session.add(run)
        session.flush()
        session.add_all(
            RunMetric(run_id=run.id, phase="ppo", step=i, values={"score": i / 3, "kl": i / 9}) for i in range(9)
        )
        session.add(RunLog(run_id=run.id, line="Learning from 200 rankings."))
        metrics = {
            "win_rate": 0.8, "win_rate_low": 0.7, "win_rate_high": 0.9, "num_prompts": 100, "kl": 4.2, "mean_length": 20.0,
            "mean_length_before": 24.0, "cut_share": 0.0, "distinct_2": 0.3,
        }  # fmt: skip
        version = ModelVersion(
            project_id=project.id,
            kind="policy",
            number=1,
            state="candidate",
            manifest_hash="c" * 64,
            metrics=metrics,
            run_id=run.id,
        )
        job = ImportJob(
            project_id=project.id,
            file_name="<b>x</b>.jsonl",
            stored_name="x",
            state="refused",
            num_lines=5,
            num_bad_lines=1,
            error="1 line is bad.",
        )
        session.add_all([version, job])
        session.flush()
        session.add(ImportProblem(import_id=job.id, line=3, reason="it is not JSON."))
        token = accounts.start_session(session, person)
        names: dict[str, Any] = teach(session, project, person, practised_on)
        names |= {"slug": project.slug, "run": run.id, "version": version.id, "job": job.id, "comparison": comparison}
    return {"token": token, "names": names, "rater": (project, person.id)}


def teach(session: Session, project: Project, person: Person, comparison_id: int) -> dict[str, int]:
    """A lesson that was answered, and a quiz that was not passed and is still open."""
    kept = session.get_one(Project, project.id)
    kept.quiz_required = True
    lesson = lessons.write_lesson(
        session, project, comparison_id=comparison_id, ranks=[1, 2, 3], explanation="**So.**", person_id=person.id
    )
    practised = practice.answer_lesson(
        session, project, lesson.id, rater_id=person.id, ranks=[1, 3, 2], idempotency_key=uuid.uuid4()
    )
    asked = [
        quiz.write_question(
            session, project, kind=kind, body="Which?", options=["One", "Two"], correct=0, explanation="So.",
            person_id=person.id,
        ).id
        for kind in quiz.KINDS
    ]  # fmt: skip
    answers = {question_id: place for place, question_id in enumerate(asked)}
    attempt = quiz.attempt(session, kept, rater_id=person.id, answers=answers, idempotency_key=uuid.uuid4())
    kept.demonstrations_per_prompt = 2
    written = writing.next_task(session, kept, writer_id=person.id)
    assert written is not None
    writing.submit(session, kept, person, task_id=written.id, text="**So.**", idempotency_key=uuid.uuid4())
    writing.next_task(session, kept, writer_id=person.id)
    return {
        "written": written.id,
        "lesson": lesson.id,
        "practised": practised.id,
        "question": asked[0],
        "attempt": attempt.id,
    }


@pytest.mark.parametrize(("width", "height", "scheme"), LOOKS)
def test_every_page_is_usable_by_everybody(
    world: dict[str, Any], open_page: Callable[..., Page], site: str, width: int, height: int, scheme: str
) -> None:
    page = open_page(width=width, height=height, color_scheme=scheme)
    page.context.add_cookies([{"name": "attune_session", "value": world["token"], "url": site}])
    wrong: list[str] = []
    for pattern in PAGES:
        path = pattern.format(**world["names"])
        answer = page.goto(path)
        assert answer is not None
        assert answer.status == (404 if "absent" in path else 200), path
        wrong += [f"{path}: {violation}" for violation in violations(page)]
        if page.evaluate("document.documentElement.scrollWidth") > width:
            wrong.append(f"{path}: wider than {width} px")
        wrong += [f"{path}: small target {target}" for target in small_targets(page)]
    assert wrong == []


@pytest.mark.parametrize(("width", "height", "scheme"), LOOKS)
def test_the_desk_with_a_comparison_is_usable_by_everybody(
    db: Engine, world: dict[str, Any], open_page: Callable[..., Page], site: str, width: int, height: int, scheme: str
) -> None:
    page = open_page(width=width, height=height, color_scheme=scheme)
    page.context.add_cookies([{"name": "attune_session", "value": world["token"], "url": site}])
    page.goto(f"/projects/{world['names']['slug']}/rate")
    assert violations(page) == []  # The quiz comes first.
    with transaction(db) as session:
        rulings.rule(session, world["rater"][0], world["rater"][1], kind="pass", person_id=world["rater"][1])
    page.reload()
    page.get_by_role("button", name="Show me a comparison").click()
    page.locator("#comparison").wait_for()
    takes_keys(page)
    page.keyboard.press("1")
    assert violations(page) == []
    for key in ("d", "m", "m"):  # Differences, the raw text, and back.
        page.keyboard.press(key)
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.keyboard.press("?")
    assert page.locator("#keys-help").is_visible()
    assert violations(page) == []


def test_sign_in_is_usable_by_everybody(open_page: Callable[..., Page]) -> None:
    page = open_page()
    page.goto("/sign-in")
    assert violations(page) == []
