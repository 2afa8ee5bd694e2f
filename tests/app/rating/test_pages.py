"""The rater's desk as pages: every form without scripts, fragments for htmx, and what a hostile browser sends."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import Engine, func, select, update
from starlette.testclient import TestClient

from app.accounts.models import Person
from app.db import transaction
from app.guidelines.models import Guideline
from app.projects.models import Project
from app.prompts.models import Comparison, Response
from app.rating.models import Assignment, Ranking

Make = Callable[..., Any]
HTMX = {"HX-Request": "true"}
ATTRIBUTES = [{"key": "tone", "label": "Tone", "help": "Is it kind?"}]
FLAGS = [{"key": "harmful", "label": "Harmful"}, {"key": "private", "label": "Private information"}]


@dataclass
class Desk:
    """A rater's browser on one project."""

    browser: TestClient
    project: Project
    person: Person

    def get(self, path: str = "rate") -> Any:
        return self.browser.get(f"/projects/{self.project.slug}/{path}")

    def post(self, path: str, fields: dict[str, Any] | None = None, *, htmx: bool = False) -> Any:
        headers = HTMX if htmx else {}
        return self.browser.post(f"/projects/{self.project.slug}/{path}", data=fields or {}, headers=headers)

    def take(self) -> tuple[str, str]:
        """The number of the comparison in hand and the key of its form."""
        assert self.post("rate/next").status_code == 303
        page = self.get().text
        number = re.search(r'action="[^"]*/rate/(\d+)"', page)
        key = re.search(r'name="idempotency_key" value="([^"]+)"', page)
        assert number is not None
        assert key is not None
        return number[1], key[1]


@pytest.fixture
def desk(sign_in: Make, make_person: Make, make_project: Make, join: Make) -> Callable[..., Desk]:
    def made(project: Project | None = None, **columns: Any) -> Desk:
        project = project or make_project(auto_train=False, **columns)
        person = join(make_person(), project, "rater")
        return Desk(sign_in(person), project, person)

    return made


def rankings(db: Engine) -> list[Ranking]:
    with transaction(db) as session:
        return list(session.scalars(select(Ranking).order_by(Ranking.id)))


def test_looking_takes_nothing(desk: Make, make_comparisons: Make, db: Engine) -> None:
    rater = desk()
    make_comparisons(rater.project)
    assert "Show me a comparison" in rater.get().text
    with transaction(db) as session:
        assert session.scalar(select(func.count()).select_from(Assignment)) == 0


def test_a_plain_browser_ranks_with_everything_the_form_has(desk: Make, make_comparisons: Make, db: Engine) -> None:
    rater = desk(attributes=ATTRIBUTES, flags=FLAGS)
    make_comparisons(rater.project, k=3)
    number, key = rater.take()
    fields = {
        "idempotency_key": key, "rank-0": "2", "rank-1": "1", "rank-2": "2", "attribute-tone-0": "1",
        "attribute-tone-1": "2", "attribute-tone-2": "2", "flags-2": ["harmful", "private"], "note": "Well.\r\nTwo lines.",
        "seconds": "0.5",
    }  # fmt: skip
    assert rater.post(f"rate/{number}", fields).status_code == 303
    (ranking,) = rankings(db)
    shown = [sorted(map(int, ranking.ranks))[position] for position in ranking.shown_order]
    assert [ranking.ranks[str(response)] for response in shown] == [2, 1, 2]
    assert [ranking.attributes["tone"][str(response)] for response in shown] == [1, 2, 2]
    assert ranking.flags == {str(shown[2]): ["harmful", "private"]}
    assert (ranking.note, ranking.seconds, ranking.is_simulated) == ("Well.\nTwo lines.", 0.5, False)


@pytest.mark.parametrize(
    ("choice", "ranks", "strength", "all_bad"),
    [("a4", [1, 2], 4, False), ("b1", [2, 1], 1, False), ("tie", [1, 1], None, False), ("bad", [1, 1], None, True)],
)
def test_a_pair_is_judged_on_one_scale(
    desk: Make, make_comparisons: Make, db: Engine, choice: str, ranks: list[int], strength: int | None, all_bad: bool
) -> None:
    rater = desk(ask_strength=True)
    make_comparisons(rater.project)
    number, key = rater.take()
    assert rater.post(f"rate/{number}", {"idempotency_key": key, "choice": choice}).status_code == 303
    (ranking,) = rankings(db)
    shown = [sorted(map(int, ranking.ranks))[position] for position in ranking.shown_order]
    assert [ranking.ranks[str(response)] for response in shown] == ranks
    assert (ranking.strength, ranking.all_bad) == (strength, all_bad)


def test_htmx_gets_the_next_comparison_in_the_answer(desk: Make, make_comparisons: Make) -> None:
    rater = desk()
    make_comparisons(rater.project, 2)
    number, key = rater.take()
    answer = rater.post(f"rate/{number}", {"idempotency_key": key, "rank-0": "1", "rank-1": "2"}, htmx=True)
    assert answer.status_code == 200
    assert "<html" not in answer.text
    assert "Saved." in answer.text
    assert f"/rate/{number}" not in answer.text
    assert 'id="comparison"' in answer.text


def test_the_last_one_done_says_what_comes_next(desk: Make, make_comparisons: Make) -> None:
    rater = desk()
    make_comparisons(rater.project)
    number, key = rater.take()
    answer = rater.post(f"rate/{number}", {"idempotency_key": key, "rank-0": "1", "rank-1": "2"}, htmx=True)
    assert "Nothing left to rank" in answer.text


def test_a_reload_finds_the_draft(desk: Make, make_comparisons: Make) -> None:
    rater = desk()
    make_comparisons(rater.project, k=3)
    number, _ = rater.take()
    assert rater.post(f"rate/{number}/draft", {"rank-1": "3", "note": "half <done>"}).status_code == 204
    page = rater.get().text
    assert re.search(r'name="rank-1" value="3" checked', page)
    assert "half &lt;done&gt;" in page


def test_undo_shows_the_answers_again_and_a_correction_supersedes(
    desk: Make, make_comparisons: Make, db: Engine
) -> None:
    rater = desk()
    make_comparisons(rater.project)
    number, key = rater.take()
    rater.post(f"rate/{number}", {"idempotency_key": key, "rank-0": "1", "rank-1": "2"})
    assert rater.post("rate-undo").status_code == 303
    page = rater.get().text
    assert "Correct your ranking" in page
    assert re.search(r'name="rank-0" value="1" checked', page)
    number, key = rater.take()
    rater.post(f"rate/{number}", {"idempotency_key": key, "rank-0": "2", "rank-1": "1"})
    first, second = rankings(db)
    assert (second.revision, second.supersedes_id) == (2, first.id)
    assert "corrected" in rater.get("my-rankings").text


def test_a_correction_can_be_left_and_nothing_is_written(desk: Make, make_comparisons: Make, db: Engine) -> None:
    rater = desk()
    make_comparisons(rater.project, 2)
    number, key = rater.take()
    rater.post(f"rate/{number}", {"idempotency_key": key, "rank-0": "1", "rank-1": "2"})
    rater.post("rate-undo")
    page = rater.get().text
    assert "Leave it as it was" in page
    assert '/skip"' not in page
    assert rater.post(f"rate/{number}/draft", {"rank-0": "2", "rank-1": "1"}).status_code == 204
    answer = rater.post(f"rate/{number}/leave", htmx=True)
    assert "Left as it was." in answer.text
    assert 'id="comparison"' in answer.text
    assert f"/rate/{number}" not in answer.text, "the next comparison is shown"
    with transaction(db) as session:
        left = session.get_one(Assignment, int(number))
        assert (left.state, left.draft) == ("ranked", None)
        assert {c.counted for c in session.scalars(select(Comparison))} == {0, 1}
    assert [ranking.revision for ranking in rankings(db)] == [1]
    assert rater.post(f"rate/{number}/leave").status_code == 303, "twice is harmless"
    assert rater.post("rate-undo").status_code == 303, "and it can be corrected again"
    assert "Correct your ranking" in rater.get().text


def test_what_is_not_being_corrected_cannot_be_left(desk: Make, make_comparisons: Make, db: Engine) -> None:
    rater = desk()
    make_comparisons(rater.project)
    number, _ = rater.take()
    assert rater.post(f"rate/{number}/leave").status_code == 409
    with transaction(db) as session:
        assert session.get_one(Assignment, int(number)).state == "leased"


def test_a_new_edition_comes_before_anything_else(desk: Make, make_comparisons: Make, db: Engine) -> None:
    rater = desk()
    make_comparisons(rater.project)
    with transaction(db) as session:
        session.add(Guideline(project_id=rater.project.id, edition=1, body="Be **kind**.", published_at=func.now()))
    page = rater.post("rate/next", htmx=True).text
    assert "<strong>kind</strong>" in page
    assert 'id="comparison"' not in page
    assert rater.post("guidelines/1/acknowledge").status_code == 303
    assert 'id="comparison"' in rater.post("rate/next", htmx=True).text


def test_hostile_text_is_shown_and_never_run(desk: Make, make_comparisons: Make, db: Engine) -> None:
    rater = desk()
    make_comparisons(rater.project)
    hostile = '<script>alert(1)</script> <b hx-get="/x">b</b> ![x](https://evil.example/x.png) [y](javascript:alert(1))'
    with transaction(db) as session:
        session.execute(update(Response).values(text=hostile))
    page = rater.post("rate/next", htmx=True).text
    assert "<script" not in page
    assert "<img" not in page
    assert 'href="javascript:' not in page
    assert "&lt;b hx-get=" in page


def test_nothing_about_the_source_is_on_the_page(desk: Make, make_comparisons: Make, db: Engine) -> None:
    rater = desk()
    make_comparisons(rater.project, k=4)
    with transaction(db) as session:
        session.execute(update(Response).values(source="secret-policy-7"))
    assert "secret-policy-7" not in rater.post("rate/next", htmx=True).text


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"rank-0": "1"},
        {"rank-0": "1", "rank-1": ""},
        {"rank-0": "one", "rank-1": "2"},
        {"rank-0": "²", "rank-1": "2"},
        {"rank-0": "1", "rank-1": "99"},
        {"rank-0": "1", "rank-1": "-1"},
        {"rank-0": "1", "rank-1": "2", "rank-2": "3"},
        {"rank-²": "1"},
        {"choice": "c9"},
        {"choice": "a²"},
        {"rank-0": "1", "rank-1": "2", "flags-0": "unheard-of"},
        {"rank-0": "1", "rank-1": "2", "note": "x" * 4001},
        {"rank-0": "1", "rank-1": "2", "note": "a\x00b"},
        {"rank-0": "1", "rank-1": "2", "idempotency_key": "nonsense"},
    ],
    ids=repr,
)
def test_a_bad_form_gets_a_sentence_and_keeps_what_was_typed(
    desk: Make, make_comparisons: Make, db: Engine, fields: dict[str, str]
) -> None:
    rater = desk()
    make_comparisons(rater.project)
    number, key = rater.take()
    answer = rater.post(f"rate/{number}", {"idempotency_key": key, **fields}, htmx=True)
    assert answer.status_code == 422, answer.text
    assert answer.headers["HX-Retarget"] == "#notices"
    assert rankings(db) == []


@pytest.mark.parametrize("seconds", ["", "-5", "nan", "inf", "1e9", "²", "9" * 400, "1.2.3"])
def test_an_impossible_time_is_not_believed(desk: Make, make_comparisons: Make, db: Engine, seconds: str) -> None:
    rater = desk()
    make_comparisons(rater.project)
    number, key = rater.take()
    fields = {"idempotency_key": key, "rank-0": "1", "rank-1": "2", "seconds": seconds}
    assert rater.post(f"rate/{number}", fields).status_code == 303
    assert 0 <= rankings(db)[0].seconds < 300


def test_one_rater_cannot_touch_anothers_comparison(desk: Make, make_comparisons: Make, db: Engine) -> None:
    ada = desk()
    bob = desk(ada.project)
    make_comparisons(ada.project, 2)
    number, key = ada.take()
    fields = {"idempotency_key": key, "rank-0": "1", "rank-1": "2"}
    for path in ("", "/draft", "/skip", "/extend", "/leave"):
        assert bob.post(f"rate/{number}{path}", {**fields, "reason": "other"}).status_code == 404
    with transaction(db) as session:
        assert {c.counted for c in session.scalars(select(Comparison))} == {0}


@pytest.mark.parametrize(
    "path", ["rate/next", "rate/1", "rate/1/draft", "rate/1/skip", "rate/1/extend", "rate/1/leave", "rate-undo"]
)
def test_every_form_needs_the_right_person_and_session(
    desk: Make, sign_in: Make, make_person: Make, join: Make, client: TestClient, path: str
) -> None:
    rater = desk()
    admin = Desk(sign_in(join(make_person(), rater.project, "admin")), rater.project, rater.person)
    stranger = Desk(sign_in(make_person()), rater.project, rater.person)
    assert client.post(f"/projects/{rater.project.slug}/{path}").status_code == 401
    assert admin.post(path).status_code == 403
    assert stranger.post(path).status_code == 404
    rater.browser.headers["X-CSRF-Token"] = "0" * 64
    assert rater.post(path).status_code == 403
    rater.browser.headers["X-CSRF-Token"] = ""
    rater.browser.headers["Origin"] = "https://evil.example"
    assert rater.post(path).status_code == 403


@pytest.mark.parametrize("number", ["0", "-1", "9" * 30, "x"])
def test_a_comparison_that_cannot_exist_is_not_found(desk: Make, number: str) -> None:
    rater = desk()
    fields = {"idempotency_key": "00000000-0000-4000-8000-000000000000", "rank-0": "1", "rank-1": "2"}
    for path in ("", "/draft", "/skip", "/extend", "/leave"):
        assert rater.post(f"rate/{number}{path}", {**fields, "reason": "other"}).status_code in {404, 422}


def test_a_double_submit_of_a_plain_form_stores_once(desk: Make, make_comparisons: Make, db: Engine) -> None:
    rater = desk()
    make_comparisons(rater.project)
    number, key = rater.take()
    fields = {"idempotency_key": key, "rank-0": "1", "rank-1": "2"}
    assert [rater.post(f"rate/{number}", fields).status_code for _ in range(2)] == [303, 303]
    assert len(rankings(db)) == 1


def test_skipping_needs_a_reason_and_moves_on(desk: Make, make_comparisons: Make, db: Engine) -> None:
    rater = desk()
    make_comparisons(rater.project, 2)
    number, _ = rater.take()
    assert rater.post(f"rate/{number}/skip", htmx=True).status_code == 422
    answer = rater.post(f"rate/{number}/skip", {"reason": "unclear", "note": "What?"}, htmx=True)
    assert "Skipped." in answer.text
    with transaction(db) as session:
        skipped = session.get_one(Assignment, int(number))
        assert (skipped.state, skipped.skip_reason, skipped.skip_note) == ("skipped", "unclear", "What?")


def test_a_partial_ranking_leaves_the_others_unranked_where_that_is_allowed(
    desk: Make, make_comparisons: Make, db: Engine
) -> None:
    rater = desk(allow_partial=True)
    make_comparisons(rater.project, k=4)
    number, key = rater.take()
    page = rater.get().text
    shown = re.search(r'name="num_responses" value="(\d)"', page)
    assert shown is not None
    fields = {"idempotency_key": key, "num_responses": shown[1], "rank-1": "1", "rank-2": "2"}
    assert rater.post(f"rate/{number}", fields).status_code == 303
    assert sorted(rankings(db)[0].ranks.values(), key=str) == [1, 2, None, None]


def test_an_incomplete_ranking_says_how_many_are_missing(desk: Make, make_comparisons: Make) -> None:
    rater = desk()
    make_comparisons(rater.project, k=4)
    number, key = rater.take()
    fields = {"idempotency_key": key, "num_responses": "4", "rank-1": "1"}
    assert "3 have no rank yet" in rater.post(f"rate/{number}", fields, htmx=True).text
