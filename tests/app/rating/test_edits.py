"""The best response, edited: above all others for the trainer, a demonstration, and superseded with its ranking."""

from collections.abc import Callable

import pytest
from sqlalchemy import Engine, func, select
from starlette.testclient import TestClient

from app.accounts.models import Person
from app.db import transaction
from app.errors import Invalid
from app.exchange.export import rows_of
from app.projects.models import Project
from app.prompts.models import Response
from app.rating import leases, service
from app.rating.answers import Answer, check_answer
from app.rating.models import Ranking
from app.training import snapshots
from worker.lessons import demonstrations_of, rankings_of

SignIn = Callable[[Person], TestClient]


@pytest.fixture
def project(make_project: Callable[..., Project], make_comparisons: Callable[..., list[int]]) -> Project:
    made = make_project(allow_edit=True, responses_per_comparison=3)
    make_comparisons(made, 1, k=3)
    return made


@pytest.fixture
def rater(make_person: Callable[..., Person], join: Callable[..., Person], project: Project) -> Person:
    return join(make_person(), project, "rater")


def rank(db: Engine, project: Project, rater: Person, edit: str, *, is_correction: bool = False) -> int:
    """The first shown is best, then the third; the second is unranked by nobody."""
    with transaction(db) as session:
        take = service.undo_last if is_correction else leases.next_assignment
        taken = take(session, project, rater_id=rater.id)
        assert taken is not None
        answer = Answer([1, 3, 2], edit=edit)
        key = taken.idempotency_key
        done = service.record_ranking(
            session, project, rater, assignment_id=taken.id, idempotency_key=key, answer=answer
        )
        return done.ranking.id


def texts_by_rank(db: Engine, ranking_id: int) -> list[str]:
    with transaction(db) as session:
        ranks = session.get_one(Ranking, ranking_id).ranks
        texts = {str(r.id): r.text for r in session.scalars(select(Response).where(Response.origin == "imported"))}
    return [texts[key] for key in sorted(ranks, key=lambda key: ranks[key])]


def test_an_edit_is_better_than_all_for_the_trainer_and_a_demonstration(
    db: Engine, project: Project, rater: Person
) -> None:
    best, middle, worst = texts_by_rank(db, rank(db, project, rater, "As it should be.\r\nReally."))
    with transaction(db) as session:
        learned, _, heldout = rankings_of(session, snapshots.take_snapshot(session, project).id)
        (ranking,) = [*learned, *heldout]
        shown, held = demonstrations_of(session, project)
        pairs = list(rows_of(session, project, "preferences"))
        (row,) = rows_of(session, project, "rankings")
    order = sorted(zip(ranking.ranks, ranking.responses, strict=True), key=lambda pair: pair[0] or 0)
    assert [text for _, text in order] == ["As it should be.\nReally.", best, middle, worst]
    assert [demonstration.response for demonstration in [*shown, *held]] == ["As it should be.\nReally."]
    assert {pair["rejected"][0]["content"] for pair in pairs if pair["chosen"][0]["content"].startswith("As it")} == {
        best,
        middle,
        worst,
    }
    assert len(pairs) == 6
    assert row["edited"] == "As it should be.\nReally."


@pytest.mark.parametrize(("edit", "learned"), [("", 4.0), ("Better still.", 0.0)])
def test_strength_is_of_the_two_that_were_shown(
    db: Engine,
    make_project: Callable[..., Project],
    make_comparisons: Callable[..., list[int]],
    make_person: Callable[..., Person],
    join: Callable[..., Person],
    edit: str,
    learned: float,
) -> None:
    """As a margin it would ask the edited response to be as far above the best as that is above the other."""
    project = make_project(allow_edit=True, ask_strength=True, responses_per_comparison=2)
    make_comparisons(project, 1, k=2)
    rater = join(make_person(), project, "rater")
    with transaction(db) as session:
        taken = leases.next_assignment(session, project, rater_id=rater.id)
        assert taken is not None
        answer, key = Answer([1, 2], strength=4, edit=edit), taken.idempotency_key
        service.record_ranking(session, project, rater, assignment_id=taken.id, idempotency_key=key, answer=answer)
        new, _, heldout = rankings_of(session, snapshots.take_snapshot(session, project).id)
        (ranking,) = [*new, *heldout]
    assert ranking.strength == learned
    assert len(ranking.responses) == (3 if edit else 2)


def test_a_correction_supersedes_the_edit(db: Engine, project: Project, rater: Person) -> None:
    rank(db, project, rater, "First try.")
    with transaction(db) as session:
        opened = service.undo_last(session, project, rater_id=rater.id)
        assert opened.draft is not None
        assert opened.draft["edit"] == "First try."
        service.leave_as_it_was(session, project, opened.id, rater_id=rater.id)
    rank(db, project, rater, "Second try.", is_correction=True)
    with transaction(db) as session:
        told = [d.response for part in demonstrations_of(session, project) for d in part]
        assert told == ["Second try."]
    rank(db, project, rater, "", is_correction=True)
    with transaction(db) as session:
        assert [d for part in demonstrations_of(session, project) for d in part] == []
        (row,) = rows_of(session, project, "rankings")
        assert row["edited"] is None


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_response_as_it_was_is_no_edit(db: Engine, project: Project, rater: Person, place: int, end: str) -> None:
    """Not of another either: it would be better than itself. A form sends line ends of its own kind."""
    with transaction(db) as session:
        taken = leases.next_assignment(session, project, rater_id=rater.id)
        assert taken is not None
        shown = session.scalars(select(Response).order_by(Response.id)).all()[taken.shown_order[place]]
        shown.text = f"First {place}.{end}Second.{end}"
    rank(db, project, rater, f"  First {place}.\r\nSecond.")
    with transaction(db) as session:
        assert session.scalar(select(func.count()).where(Response.origin == "edited")) == 0


def test_a_long_edit_fits_into_a_draft_and_one_that_is_too_long_does_not(
    db: Engine, project: Project, rater: Person
) -> None:
    with transaction(db) as session:
        taken = leases.next_assignment(session, project, rater_id=rater.id)
        assert taken is not None
        service.save_draft(session, project, taken.id, rater_id=rater.id, draft={"edit": "ä" * 10_000})
        with pytest.raises(Invalid, match="20,000 bytes"):
            service.save_draft(session, project, taken.id, rater_id=rater.id, draft={"edit": "ä" * 10_001})


def test_edits_are_bounded_and_asked_for() -> None:
    asked = Project(allow_edit=True, allow_ties=True, attributes=[], flags=[], reasons=[])
    with pytest.raises(Invalid, match="20,000 bytes"):
        check_answer(Answer([1, 2], edit="ä" * 10_001), asked, k=2)
    with pytest.raises(Invalid, match="NUL"):
        check_answer(Answer([1, 2], edit="a\x00"), asked, k=2)
    asked.allow_edit = False
    with pytest.raises(Invalid, match="does not ask for edited"):
        check_answer(Answer([1, 2], edit="Better."), asked, k=2)
    assert check_answer(Answer([1, 2], edit=" \n"), asked, k=2).edit == ""
