"""What people do here, from sign-in to approval, in a real browser."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import Engine, func, select

from app.accounts import service as accounts
from app.accounts.models import Person
from app.db import transaction
from app.exchange.models import ImportJob
from app.exchange.service import run_import
from app.guidelines import service as guidelines
from app.projects.models import Project
from app.prompts.models import ComparisonResponse
from app.rating.models import Assignment, Ranking
from app.training.models import ModelVersion, Run, RunMetric
from tests.browser.desk import begin_rating, press_ranks, rankings

Opener = Callable[..., Page]


def test_a_one_time_link_signs_in_once(db: Engine, make_person: Callable[..., Person], open_page: Opener) -> None:
    with transaction(db) as session:
        token = accounts.create_link(session, "sign_in", person_id=make_person(name="Ada").id)
    page = open_page()
    page.goto(f"/link/{token}")
    expect(page.get_by_role("heading", name="Sign in as Ada")).to_be_visible()
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("You are in no project yet")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in")
    page.goto(f"/link/{token}")
    expect(page.get_by_text("was used already or has expired")).to_be_visible()


def test_four_responses_are_ranked_by_keyboard_alone(
    db: Engine, project: Project, make_comparisons: Callable[..., list[int]], enter: Callable[..., Page]
) -> None:
    make_comparisons(project, 2, k=4)
    page = enter("rater")
    begin_rating(page, project)
    for key in "2113":
        page.keyboard.press(key)
    expect(page.locator("[data-order]")).to_have_text("B = C > A > D")
    first = page.locator('input[name="idempotency_key"]').input_value()
    page.keyboard.press("Enter")
    expect(page.locator('input[name="idempotency_key"]')).not_to_have_value(first)
    expect(page.locator("[data-order]")).to_have_text("Nothing is ranked yet.")
    expect(page.locator(".desk__bar")).to_contain_text("Saved.")
    stored = rankings(db)
    assert len(stored) == 1
    with transaction(db) as session:
        shown = session.scalars(select(Assignment.shown_order).where(Assignment.id == stored[0].assignment_id)).one()
    by_position = [stored[0].ranks[key] for key in sorted(stored[0].ranks, key=int)]
    assert [by_position[position] for position in shown] == [2, 1, 1, 3]


def test_nine_responses_can_be_ranked_by_letters_and_digits(
    db: Engine,
    make_project: Callable[..., Project],
    make_comparisons: Callable[..., list[int]],
    project: Project,
    enter: Callable[..., Page],
) -> None:
    make_comparisons(project, 1, k=9)
    page = enter("rater")
    begin_rating(page, project)
    press_ranks(page, "ihgfedcba", "123456789")
    expect(page.locator("[data-order]")).to_have_text("I > H > G > F > E > D > C > B > A")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Nothing left to rank just now")).to_be_visible()
    assert sorted(rankings(db)[0].ranks.values()) == list(range(1, 10))


def test_eight_real_responses_are_imported_and_ranked_by_keyboard_alone(
    db: Engine, project: Project, enter: Callable[..., Page], shared_data: Path, tmp_path: Path
) -> None:
    path = shared_data / "responses" / "user_oriented_8way_dev.jsonl.gz"
    shutil.copy(path, tmp_path / "stored")
    with transaction(db) as session:
        job = ImportJob(
            project_id=project.id, file_name=path.name, stored_name="stored", bytes_total=path.stat().st_size
        )
        session.add(job)
    run_import(db, job.id, folder=tmp_path)
    page = enter("rater")
    begin_rating(page, project)
    press_ranks(page, "hgfedcba", "12234567")
    expect(page.locator("[data-order]")).to_have_text("H > F = G > E > D > C > B > A")
    page.keyboard.press("Enter")
    expect(page.locator("[data-order]")).to_have_text("Nothing is ranked yet.")
    expect(page.locator(".desk__bar")).to_contain_text("Saved.")
    ranking = rankings(db)[0]
    of_comparison = select(ComparisonResponse).where(ComparisonResponse.comparison_id == ranking.comparison_id)
    with transaction(db) as session:
        ids = {row.position: str(row.response_id) for row in session.scalars(of_comparison)}
    assert [ranking.ranks[ids[position]] for position in ranking.shown_order] == [7, 6, 5, 4, 3, 2, 2, 1]


def test_a_pair_is_judged_with_one_key(
    db: Engine,
    make_project: Callable[..., Project],
    make_comparisons: Callable[..., list[int]],
    enter: Callable[..., Page],
    project: Project,
) -> None:
    with transaction(db) as session:
        session.get_one(Project, project.id).ask_strength = True
    make_comparisons(project, 1, k=2)
    page = enter("rater")
    begin_rating(page, project)
    page.keyboard.press("7")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Nothing left to rank just now")).to_be_visible()
    assert (rankings(db)[0].strength, sorted(rankings(db)[0].ranks.values())) == (3, [1, 2])


def test_undo_brings_the_ranking_back_and_the_correction_supersedes_it(
    db: Engine, project: Project, make_comparisons: Callable[..., list[int]], enter: Callable[..., Page]
) -> None:
    make_comparisons(project, 1, k=2)
    page = enter("rater")
    begin_rating(page, project)
    page.keyboard.press("1")
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    page.get_by_text("Nothing left to rank").wait_for()
    page.keyboard.press("z")
    expect(page.get_by_role("heading", name="Correct your ranking")).to_be_visible()
    expect(page.locator("[data-order]")).to_have_text("A > B")
    for keys in ("a2", "b1"):
        for key in keys:
            page.keyboard.press(key)
    expect(page.locator("[data-order]")).to_have_text("B > A")
    page.keyboard.press("Enter")
    page.get_by_text("Nothing left to rank").wait_for()
    first, second = rankings(db)
    assert (second.supersedes_id, second.revision) == (first.id, 2)
    assert first.ranks != second.ranks


def test_a_draft_survives_a_reload(
    db: Engine, project: Project, make_comparisons: Callable[..., list[int]], enter: Callable[..., Page]
) -> None:
    make_comparisons(project, 1, k=3)
    page = enter("rater")
    begin_rating(page, project)
    page.keyboard.press("2")
    page.keyboard.press("1")
    page.keyboard.press("n")
    page.keyboard.type("close call")
    expect(page.locator("[data-save-state]")).to_have_text("· draft saved")
    page.reload()
    expect(page.locator("[data-order]")).to_have_text("B > A, 1 to go")
    expect(page.locator('textarea[name="note"]')).to_have_value("close call")


def test_a_reload_before_the_server_has_the_draft_loses_nothing(
    project: Project, make_comparisons: Callable[..., list[int]], enter: Callable[..., Page]
) -> None:
    make_comparisons(project, 1, k=3)
    page = enter("rater")
    begin_rating(page, project)
    page.route("**/draft", lambda route: route.abort("internetdisconnected"))
    page.keyboard.press("2")
    page.keyboard.press("1")
    page.keyboard.press("n")
    page.keyboard.type("close call")
    page.reload()
    expect(page.locator("[data-order]")).to_have_text("B > A, 1 to go")
    expect(page.locator('textarea[name="note"]')).to_have_value("close call")
    page.unroute("**/draft")
    page.reload()
    expect(page.locator("[data-save-state]")).to_have_text("· draft saved")
    page.evaluate("sessionStorage.clear()")
    page.reload()  # Now by the server's.
    expect(page.locator("[data-order]")).to_have_text("B > A, 1 to go")
    expect(page.locator('textarea[name="note"]')).to_have_value("close call")
    page.route("**/draft", lambda route: route.abort("internetdisconnected"))
    page.locator('textarea[name="note"]').fill("")
    page.reload()  # What was taken away stays away.
    expect(page.locator("[data-order]")).to_have_text("B > A, 1 to go")
    expect(page.locator('textarea[name="note"]')).to_have_value("")


def test_rating_works_without_scripts(
    db: Engine, project: Project, make_comparisons: Callable[..., list[int]], enter: Callable[..., Page]
) -> None:
    make_comparisons(project, 1, k=2)
    page = enter("rater", java_script_enabled=False)
    page.goto(f"/projects/{project.slug}/rate")
    page.get_by_role("button", name="Show me a comparison").click()
    page.locator('input[name="rank-0"][value="2"]').check(force=True)
    page.locator('input[name="rank-1"][value="1"]').check(force=True)
    page.get_by_role("button", name="Send ranking").click()
    expect(page.get_by_text("Ready when you are")).to_be_visible()
    assert sorted(rankings(db)[0].ranks.values()) == [1, 2]


def test_an_incomplete_ranking_is_refused_in_place_and_nothing_is_lost(
    db: Engine, project: Project, make_comparisons: Callable[..., list[int]], enter: Callable[..., Page]
) -> None:
    make_comparisons(project, 1, k=3)
    page = enter("rater")
    begin_rating(page, project)
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    expect(page.locator("#notices")).to_contain_text("2 have no rank yet")
    expect(page.locator("[data-order]")).to_have_text("A, 2 to go")
    assert rankings(db) == []


def test_guidelines_are_published_and_read_before_rating(
    db: Engine, project: Project, make_comparisons: Callable[..., list[int]], enter: Callable[..., Page]
) -> None:
    make_comparisons(project, 1, k=2)
    admin = enter("admin")
    admin.goto(f"/projects/{project.slug}/guidelines/edit")
    admin.get_by_label("Text, in Markdown").fill("# Be fair\n\nRead *both*. <script>window.pwned = 1</script>")
    expect(admin.locator("#preview em")).to_have_text("both")
    admin.get_by_role("button", name="Publish as the next edition").click()
    expect(admin.get_by_text("Edition 1, published just now")).to_be_visible()
    assert admin.evaluate("window.pwned") is None
    rater = enter("rater")
    rater.goto(f"/projects/{project.slug}/rate")
    rater.get_by_role("button", name="I have read edition 1").click()
    rater.get_by_role("button", name="Show me a comparison").click()
    rater.locator("#comparison").wait_for()
    with transaction(db) as session:
        edition = guidelines.get_edition(session, project, 1)
        assert session.scalars(select(Assignment.guideline_id)).one() == edition.id


def test_a_run_is_started_and_cancelled(db: Engine, project: Project, enter: Callable[..., Page]) -> None:
    page = enter("operator")
    page.goto(f"/projects/{project.slug}/runs")
    page.get_by_role("radio", name="reward Train").check()
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_text("queued")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("cancelled")).to_be_visible()
    with transaction(db) as session:
        assert session.scalars(select(Run.state)).one() == "cancelled"


def test_an_overseer_approves_a_version(db: Engine, project: Project, enter: Callable[..., Page]) -> None:
    with transaction(db) as session:
        session.add(
            ModelVersion(project_id=project.id, kind="policy", number=1, state="candidate", manifest_hash="c" * 64)
        )
    page = enter("overseer")
    page.goto(f"/projects/{project.slug}/versions")
    page.get_by_role("link", name="Policy 1").click()
    page.get_by_label("Why").fill("It is kinder, and as brief.")
    page.get_by_role("button", name="Approve").click()
    expect(page.locator("h1")).to_contain_text("serving")
    expect(page.get_by_text("approved it just now")).to_be_visible()


def test_a_double_enter_stores_one_ranking(
    db: Engine, project: Project, make_comparisons: Callable[..., list[int]], enter: Callable[..., Page]
) -> None:
    make_comparisons(project, 1, k=2)
    page = enter("rater")
    begin_rating(page, project)
    page.keyboard.press("1")
    page.keyboard.press("2")
    page.evaluate("() => { const b = document.querySelector('[data-submit]'); b.click(); b.click(); }")
    page.get_by_text("Nothing left to rank").wait_for()
    with transaction(db) as session:
        assert session.scalar(select(func.count()).select_from(Ranking)) == 1


def test_a_correction_is_left_by_one_key_and_the_next_comparison_waits(
    db: Engine, project: Project, make_comparisons: Callable[..., list[int]], enter: Callable[..., Page]
) -> None:
    make_comparisons(project, 2, k=2)
    page = enter("rater")
    begin_rating(page, project)
    for key in ("1", "2", "Enter"):
        page.keyboard.press(key)
    expect(page.get_by_role("status").filter(has_text="Saved.")).to_be_visible()
    page.keyboard.press("z")
    expect(page.get_by_role("heading", name="Correct your ranking")).to_be_visible()
    expect(page.locator(".skip")).to_have_count(0)
    page.keyboard.press("l")
    expect(page.get_by_role("heading", name="Which response is better?")).to_be_visible()
    assert len(rankings(db)) == 1


def test_digits_go_to_the_response_that_is_marked(
    project: Project, make_comparisons: Callable[..., list[int]], enter: Callable[..., Page]
) -> None:
    make_comparisons(project, 1, k=3)
    page = enter("rater")
    begin_rating(page, project)
    marked = page.locator(".response.is-current")
    expect(marked).to_have_attribute("aria-label", "Response A")
    expect(page.locator("h1")).to_be_focused()
    page.keyboard.press("3")
    expect(marked).to_have_attribute("aria-label", "Response B")
    expect(page.locator("[data-order]")).to_have_text("A, 2 to go")
    page.locator(".response").nth(2).click()
    expect(marked).to_have_attribute("aria-label", "Response C")


def test_the_list_of_keys_opens_on_its_button(
    project: Project, make_comparisons: Callable[..., list[int]], enter: Callable[..., Page]
) -> None:
    make_comparisons(project, 1, k=2)
    page = enter("rater")
    begin_rating(page, project)
    page.keyboard.press("?")
    close = page.get_by_role("button", name="Close")
    expect(close).to_be_focused()
    close.press("Enter")
    expect(page.locator("#keys-help")).to_be_hidden()


@pytest.mark.parametrize("width", [390, 320])
def test_the_prompt_of_a_phone_is_near_the_top_and_send_is_wide(
    width: int, project: Project, make_comparisons: Callable[..., list[int]], enter: Callable[..., Page]
) -> None:
    make_comparisons(project, 1, k=4)
    page = enter("rater", width=width, height=700)
    page.goto(f"/projects/{project.slug}/rate")
    page.get_by_role("button", name="Show me a comparison").click()
    prompt, send = page.locator(".conversation").bounding_box(), page.locator("[data-submit]").bounding_box()
    assert prompt is not None
    assert send is not None
    assert prompt["y"] < 160
    assert send["width"] > width - 40
    assert page.locator(".desk kbd").first.is_hidden()


def test_the_page_in_view_is_marked_in_the_navigation(project: Project, enter: Callable[..., Page]) -> None:
    page = enter("operator", "rater")
    for path, name, current in (
        ("", project.name, "page"),
        ("/runs", "Runs", "page"),
        ("/my-rankings", "Rate", "true"),
    ):
        page.goto(f"/projects/{project.slug}{path}")
        expect(page.locator(".nav [aria-current]")).to_have_text(name)
        expect(page.locator(".nav [aria-current]")).to_have_attribute("aria-current", current)


def test_curves_stand_in_order_of_importance_with_titles(
    db: Engine, project: Project, enter: Callable[..., Page]
) -> None:
    with transaction(db) as session:
        run = Run(project_id=project.id, kind="loop", state="succeeded")
        session.add(run)
        session.flush()
        for phase, values in (("reward", {"loss": 0.5, "learning_rate": 5e-4}), ("ppo", {"kl": 2.0, "score": 1.0})):
            session.add_all(RunMetric(run_id=run.id, phase=phase, step=i, values=values) for i in (1, 2))
    page = enter("operator")
    page.goto(f"/projects/{project.slug}/runs/{run.id}")
    expect(page.locator(".curve__title")).to_have_text(
        ["PPO · score", "PPO · KL", "Reward model · loss", "Reward model · learning rate"]
    )
    expect(page.locator(".curve__last").last).to_have_text("5e-4")
    box, plot = page.locator(".curve").first.bounding_box(), page.locator(".curve canvas").first.bounding_box()
    assert box is not None
    assert plot is not None
    assert plot["width"] > box["width"] - 40
