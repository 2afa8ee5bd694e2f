"""Practice: what an expert said is told after the answer, and nothing of it is ever a ranking."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, func, select
from starlette.testclient import TestClient

from app.accounts.models import Person
from app.db import transaction
from app.errors import Conflict
from app.projects.models import Project
from app.prompts.models import Comparison, Prompt
from app.prompts.service import responses_of
from app.rating import leases
from app.rating import lessons as practice
from app.rating.models import Assignment, Ranking
from app.teaching import lessons, rulings
from app.teaching.lessons import agreement
from app.teaching.models import Lesson, LessonAnswer
from app.training.snapshots import take_snapshot

Make = Callable[..., Any]


@pytest.fixture
def project(make_project: Make) -> Project:
    made: Project = make_project(practice_comparisons=2, auto_train=False)
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
def make_lesson(db: Engine, admin: Person, project: Project, make_comparisons: Make) -> Callable[..., int]:
    """A lesson on a new comparison; the expert has the ranks given, in canonical order."""

    def made(*ranks: int, explanation: str = "The first is **true**.") -> int:
        (comparison,) = make_comparisons(project, 1, k=len(ranks))
        with transaction(db) as session:
            return lessons.write_lesson(
                session, project, comparison_id=comparison, ranks=ranks, explanation=explanation, person_id=admin.id
            ).id

    return made


def in_shown_order(db: Engine, project: Project, rater: Person, lesson_id: int, *canonical: int) -> list[int]:
    """Ranks by canonical place, put as this rater sees the responses."""
    with transaction(db) as session:
        shown = practice.shown_lesson(session, project, lesson_id, rater_id=rater.id)
        ids = [r.id for r in responses_of(session, [shown.lesson.comparison_id])[shown.lesson.comparison_id]]
    return [canonical[ids.index(response_id)] for response_id in shown.response_ids]


def answer(browser: TestClient, project: Project, lesson_id: int, ranks: list[int], key: str = "") -> Any:
    form = {"num_responses": str(len(ranks)), "idempotency_key": key or str(uuid.uuid4())}
    form |= {f"rank-{place}": str(rank) for place, rank in enumerate(ranks)}
    return browser.post(f"/projects/{project.slug}/practice/{lesson_id}", data=form)


def test_practice_warns_of_its_content_and_goes_on_without_what_a_rater_opted_out_of(
    db: Engine,
    project: Project,
    rater: Person,
    make_lesson: Callable[..., int],
    sign_in: Make,
    make_person: Make,
    join: Make,
) -> None:
    mild, harsh, hard = (make_lesson(1, 2) for _ in range(3))
    with transaction(db) as session:
        session.get_one(Project, project.id).warnings = [{"key": "hate", "label": "Hateful words"}]
        for lesson_id in (harsh, hard):
            comparison = session.get_one(Comparison, session.get_one(Lesson, lesson_id).comparison_id)
            session.get_one(Prompt, comparison.prompt_id).warnings = ["hate"]
    browser, base = sign_in(rater), f"/projects/{project.slug}"
    page = browser.get(f"{base}/practice/{harsh}").text
    assert page.index("hateful words") > page.index("Show it")
    assert "This one carries" not in browser.get(f"{base}/practice/{mild}").text
    over_api = f"/api/v1{base}/practice"
    assert browser.get(f"{over_api}/{harsh}").json()["warnings"] == ["hate"]
    assert browser.get(over_api).json()["standing"]["lessons_needed"] == 2
    browser.post(f"{base}/my-care", data={"categories": "hate"})
    told = browser.get(over_api).json()
    assert (told["lesson_ids"], told["standing"]["lessons_needed"]) == ([mild], 1)
    other = sign_in(join(make_person(), project, "rater"))
    assert other.get(over_api).json()["standing"]["lessons_needed"] == 2
    answer(browser, project, mild, in_shown_order(db, project, rater, mild, 1, 2))
    assert browser.get(over_api).json()["standing"]["step"] == ""


@pytest.mark.parametrize(
    ("expert", "given", "agreed"),
    [
        ([1, 2], [1, 2], 1),
        ([1, 2], [2, 1], 0),
        ([1, 2], [1, 1], 0),
        ([1, 1], [1, 1], 1),
        ([1, 2, 3], [1, 3, 2], 2),
        ([1, 2, 3], [3, 2, 1], 0),
        ([1, 1, 2], [1, 2, 2], 1),  # a before c; not a = b, not b before c.
        ([1, 2, 3, 4], [1, 2, 4, 3], 5),
    ],
)
def test_agreement_counts_pairs_in_the_same_relation(expert: list[int], given: list[int], agreed: int) -> None:
    named = [dict(zip("abcd", ranks, strict=False)) for ranks in (expert, given)]
    assert agreement(named[0], named[1]) == (len(expert) * (len(expert) - 1) // 2, agreed)


def test_no_comparison_is_handed_out_before_practice_is_done(
    db: Engine, project: Project, rater: Person, make_lesson: Callable[..., int], make_comparisons: Make, sign_in: Make
) -> None:
    ids = [make_lesson(1, 2, 3), make_lesson(2, 1)]
    make_comparisons(project, 3)
    browser, base = sign_in(rater), f"/projects/{project.slug}"
    refused = browser.post(f"/api/v1{base}/next", json={})
    assert refused.status_code == 409
    said = refused.json()["error"]["message"]
    assert "0 of 2 practice comparisons are done" in said
    assert f"{base}/practice" in said
    assert "Practise first" in browser.post(f"{base}/rate/next", headers={"HX-Request": "true"}).text
    assert "Practise first" in browser.get(f"{base}/rate").text
    first = answer(browser, project, ids[0], in_shown_order(db, project, rater, ids[0], 1, 2, 3))
    page = browser.get(first.headers["Location"]).text
    assert "You and the expert agree<" in page
    assert "<strong>true</strong>" in page
    assert "1 of 2 done" in page
    assert browser.post(f"/api/v1{base}/next", json={}).status_code == 409, "the same one twice is not two"
    answer(browser, project, ids[0], in_shown_order(db, project, rater, ids[0], 1, 2, 3))
    assert browser.post(f"/api/v1{base}/next", json={}).status_code == 409
    second = answer(browser, project, ids[1], in_shown_order(db, project, rater, ids[1], 1, 2))
    assert "The expert saw it the other way" in browser.get(second.headers["Location"]).text
    assert browser.post(f"/api/v1{base}/next", json={}).status_code == 200


def test_practice_is_never_a_ranking_and_never_in_a_snapshot(
    db: Engine, project: Project, rater: Person, make_lesson: Callable[..., int], sign_in: Make
) -> None:
    lesson_id = make_lesson(1, 2)
    assert answer(sign_in(rater), project, lesson_id, [1, 2]).status_code == 303
    with transaction(db) as session:
        assert session.scalar(select(func.count()).select_from(LessonAnswer)) == 1
        assert session.scalar(select(func.count()).select_from(Ranking)) == 0
        assert session.scalar(select(func.count()).select_from(Assignment)) == 0
        assert take_snapshot(session, project).num_rankings == 0


def test_a_practice_comparison_is_not_handed_out_to_be_ranked(
    db: Engine, make_project: Make, make_person: Make, join: Make, make_comparisons: Make, sign_in: Make
) -> None:
    project = make_project(auto_train=False)  # Practice is offered here, and not asked for.
    admin, ada, bob = (make_person() for _ in range(3))
    join(ada, project, "rater")
    (comparison,) = make_comparisons(project, 1, wanted=5)
    with transaction(db) as session:
        lesson = lessons.write_lesson(
            session, project, comparison_id=comparison, ranks=[1, 2], explanation="So.", person_id=admin.id
        )
        assert leases.next_assignment(session, project, rater_id=ada.id) is None
    answer(sign_in(ada), project, lesson.id, [1, 2])
    with transaction(db) as session:
        lessons.remove_lesson(session, project, lesson.id, person_id=admin.id)
    with transaction(db) as session:
        assert leases.next_assignment(session, project, rater_id=ada.id) is None, "ada knows what the expert said"
        assert leases.next_assignment(session, project, rater_id=bob.id) is not None


def test_what_was_answered_stays_with_the_edition_that_was_seen(
    db: Engine, project: Project, admin: Person, rater: Person, make_lesson: Callable[..., int], sign_in: Make
) -> None:
    lesson_id = make_lesson(1, 2, explanation="The old reason.")
    browser = sign_in(rater)
    told = answer(browser, project, lesson_id, in_shown_order(db, project, rater, lesson_id, 1, 2)).headers["Location"]
    with transaction(db) as session:
        changed = lessons.write_lesson(
            session, project, lesson_id=lesson_id, ranks=[2, 1], explanation="The new reason.", person_id=admin.id
        )
        assert session.get_one(Lesson, changed.id).replaces_id == lesson_id
    page = browser.get(told).text
    assert "The old reason." in page
    assert "You and the expert agree<" in page
    assert answer(browser, project, lesson_id, [1, 2]).status_code == 409, "the old edition takes no answers"
    assert answer(browser, project, changed.id, [1, 2]).status_code == 303
    with transaction(db) as session, pytest.raises(Conflict):
        lessons.write_lesson(
            session, project, lesson_id=lesson_id, ranks=[1, 2], explanation="Late.", person_id=admin.id
        )


def test_the_expert_is_not_told_before_the_answer(
    project: Project, rater: Person, make_lesson: Callable[..., int], sign_in: Make
) -> None:
    """Lessons that differ only in what the expert said look the same."""
    pages = set()
    browser = sign_in(rater)
    for ranks, why in (((1, 2), "Because A."), ((2, 1), "Because B.")):
        lesson_id = make_lesson(*ranks, explanation=why)
        page = browser.get(f"/projects/{project.slug}/practice/{lesson_id}").text
        said = browser.get(f"/api/v1/projects/{project.slug}/practice/{lesson_id}").json()
        assert why not in page
        assert "checked" not in page
        assert set(said) == {"id", "messages", "warnings", "responses"}
        pages.add(len(page))
    assert len(pages) == 1


def test_the_explanation_names_responses_by_the_letters_that_the_rater_saw(
    db: Engine, project: Project, rater: Person, make_lesson: Callable[..., int], sign_in: Make
) -> None:
    lesson_id = make_lesson(3, 1, 2, explanation="[2] is best, [1] is worst. See [9], and [1](https://example.org).")
    browser = sign_in(rater)
    letters = in_shown_order(db, project, rater, lesson_id, 1, 2, 3)  # At each letter's place, the canonical number.
    page = browser.get(answer(browser, project, lesson_id, [1, 2, 3]).headers["Location"]).text
    best, worst = ("ABC"[letters.index(number)] for number in (2, 1))
    assert f"<strong>{best}</strong> is best, <strong>{worst}</strong> is worst. See [9], and <a" in page


def test_programs_practise_too(
    db: Engine, project: Project, rater: Person, make_lesson: Callable[..., int], sign_in: Make
) -> None:
    lesson_id = make_lesson(1, 2, 2)
    browser, base = sign_in(rater), f"/api/v1/projects/{project.slug}/practice"
    assert browser.get(base).json()["next_lesson_id"] == lesson_id
    ranks = in_shown_order(db, project, rater, lesson_id, 1, 2, 3)
    body = {"ranks": ranks, "idempotency_key": str(uuid.uuid4())}
    told = browser.post(f"{base}/{lesson_id}", json=body).json()
    assert (told["num_pairs"], told["num_agreed"]) == (3, 2)
    assert sorted(told["expert_ranks"]) == [1, 2, 2]
    assert told["explanation"] == "The first is **true**."
    assert browser.post(f"{base}/{lesson_id}", json=body).json()["answer_id"] == told["answer_id"]
    assert browser.get(base).json()["next_lesson_id"] is None


def test_admins_see_how_raters_do_and_have_them_begin_anew(
    db: Engine, project: Project, admin: Person, rater: Person, make_lesson: Callable[..., int], sign_in: Make
) -> None:
    ids = [make_lesson(1, 2), make_lesson(1, 2)]
    browser = sign_in(rater)
    for lesson_id, ranks in zip(ids, ((1, 2), (2, 1)), strict=True):
        answer(browser, project, lesson_id, in_shown_order(db, project, rater, lesson_id, *ranks))
    with transaction(db) as session:
        (row,) = rulings.raters_of(session, project)
        assert (row.standing.step, row.agreement) == ("", 0.5)
        assert [r.agreement for r in lessons.lesson_rows(session, project)] == [1.0, 0.0]
    done = sign_in(admin).post(f"/projects/{project.slug}/teaching/raters/{rater.id}", data={"kind": "reset"})
    assert done.status_code == 303
    assert "0 of 2" in browser.post(f"/api/v1/projects/{project.slug}/next", json={}).text
    page = browser.get(f"/projects/{project.slug}/practice").text
    assert "2 more before your first comparison" in page


def test_to_begin_anew_is_one_raters_alone(
    db: Engine, project: Project, admin: Person, rater: Person, make_lesson: Callable[..., int], make_person: Make,
    join: Make, sign_in: Make,
) -> None:  # fmt: skip
    ids, other = [make_lesson(1, 2), make_lesson(1, 2)], join(make_person(), project, "rater")
    for person in (rater, other):
        for lesson_id in ids:
            answer(sign_in(person), project, lesson_id, in_shown_order(db, project, person, lesson_id, 1, 2))
    with transaction(db) as session:
        rulings.rule(session, project, rater.id, kind="reset", person_id=admin.id)
    with transaction(db) as session:
        stands = {row.person.id: row.standing for row in rulings.raters_of(session, project)}
    assert (stands[rater.id].lessons_done, stands[rater.id].step) == (0, "practice")
    assert (stands[other.id].lessons_done, stands[other.id].step) == (2, "")


def test_simulated_raters_and_those_let_through_need_no_practice(
    db: Engine, project: Project, admin: Person, rater: Person, make_person: Make, make_lesson: Callable[..., int],
    make_comparisons: Make,
) -> None:  # fmt: skip
    make_lesson(1, 2)
    make_comparisons(project, 3, wanted=2)
    simulated = make_person(is_simulated=True)
    with transaction(db) as session:
        assert leases.next_assignment(session, project, rater_id=simulated.id) is not None
        assert leases.take_ahead(session, project, rater_id=simulated.id) is not None
        assert leases.next_assignment(session, project, rater_id=rater.id) is None
        rulings.rule(session, project, rater.id, kind="pass", person_id=admin.id)
        assert leases.next_assignment(session, project, rater_id=rater.id) is not None


def test_who_has_a_comparison_in_hand_finishes_it(
    db: Engine, project: Project, rater: Person, make_lesson: Callable[..., int], make_comparisons: Make
) -> None:
    make_comparisons(project, 2)
    with transaction(db) as session:
        taken = leases.next_assignment(session, project, rater_id=rater.id)
    make_lesson(1, 2)
    with transaction(db) as session:
        assert taken is not None
        held = leases.next_assignment(session, project, rater_id=rater.id)
        assert held is not None
        assert held.id == taken.id
        assert leases.take_ahead(session, project, rater_id=rater.id) is None


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"rank-0": "1", "explanation": "Why."}, "Give each of the 2 responses a rank"),
        ({"rank-0": "1", "rank-1": "2", "explanation": "  "}, "Explain the order"),
        ({"rank-0": "1", "rank-1": "x", "explanation": "Why."}, "Give each of the 2 responses a rank"),
    ],
)
def test_an_incomplete_lesson_is_refused(
    project: Project, admin: Person, make_comparisons: Make, sign_in: Make, form: dict[str, str], said: str
) -> None:
    (comparison,) = make_comparisons(project, 1)
    refused = sign_in(admin).post(
        f"/projects/{project.slug}/teaching/lessons", data=form | {"comparison_id": str(comparison)}
    )
    assert refused.status_code == 422
    assert said in refused.text


def test_a_comparison_is_one_lesson_at_most(
    db: Engine, project: Project, admin: Person, make_lesson: Callable[..., int], sign_in: Make
) -> None:
    lesson_id = make_lesson(1, 2)
    with transaction(db) as session:
        comparison = session.get_one(Lesson, lesson_id).comparison_id
    again = {"comparison_id": comparison, "ranks": [2, 1], "explanation": "Twice."}
    refused = sign_in(admin).post(f"/api/v1/projects/{project.slug}/teaching/lessons", json=again)
    assert refused.status_code == 409
    assert "already" in refused.json()["error"]["message"]
