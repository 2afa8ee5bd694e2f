"""Reports and questions: what raters say reaches the admins, and what they answer reaches the raters."""

import datetime as dt
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, func, select
from starlette.testclient import TestClient

from app.accounts.models import Person
from app.audit import AuditEvent
from app.db import transaction
from app.errors import Conflict, Invalid, NotFound
from app.projects.models import Project
from app.prompts.models import Comparison
from app.rating import leases, questions, reports
from app.rating.contact_models import Report, Thread, ThreadMessage
from app.rating.models import Assignment
from app.rating.statistics import statistics_of

SignIn = Callable[[Person], TestClient]
Make = Callable[..., Person]


@pytest.fixture
def project(make_project: Callable[..., Project], make_comparisons: Callable[..., list[int]]) -> Project:
    made = make_project()
    make_comparisons(made, 2, wanted=3)
    return made


def take(db: Engine, project: Project, rater: Person) -> int | None:
    with transaction(db) as session:
        taken = leases.next_assignment(session, project, rater_id=rater.id)
        return None if taken is None else taken.id


def test_a_report_takes_the_comparison_away_and_a_decision_settles_all_reports_of_it(
    db: Engine, project: Project, make_person: Make
) -> None:
    admin, raters = make_person(), [make_person() for _ in range(3)]
    for rater in raters[:2]:
        held = take(db, project, rater)
        assert held is not None
        for _ in range(2):
            with transaction(db) as session:
                reports.file_report(session, project, held, rater_id=rater.id, reason="personal", words="A name.")
        assert take(db, project, rater) != held
    with transaction(db) as session:
        first, second = reports.reports_of(session, project, is_open=True)
        assert first.comparison_id == second.comparison_id
        assert reports.decide(session, project, first.id, person_id=admin.id, decision="withdraw", note="Gone.") == 2
        assert reports.decide(session, project, second.id, person_id=admin.id, decision="withdraw") == 0
        with pytest.raises(Conflict, match="the comparison was withdrawn"):
            reports.decide(session, project, second.id, person_id=admin.id, decision="keep")
        assert session.get_one(Comparison, first.comparison_id).state == "withdrawn"
        told = session.scalars(select(AuditEvent.action).order_by(AuditEvent.seq)).all()
        assert told.count("comparison.reported") == 2
        assert told.count("comparison.withdrawn") == 1
        assert "A name." not in str(session.scalars(select(AuditEvent.details)).all())
    third = take(db, project, raters[2])
    with transaction(db) as session:
        assert third is not None
        given = leases.get_assignment(session, project, third, rater_id=raters[2].id)
        assert given.comparison_id != first.comparison_id  # Nobody is given it any more.


def test_what_is_withdrawn_leaves_the_hands_of_others(db: Engine, project: Project, make_person: Make) -> None:
    rater, other, admin = make_person(), make_person(), make_person()
    held, in_other_hands = take(db, project, rater), take(db, project, other)
    assert held is not None
    with transaction(db) as session:
        filed = reports.file_report(session, project, held, rater_id=rater.id, reason="illegal")
    assert take(db, project, other) == in_other_hands  # Until somebody decides.
    with transaction(db) as session:
        reports.decide(session, project, filed.id, person_id=admin.id, decision="withdraw")
    assert take(db, project, other) not in {None, in_other_hands}


def test_what_ran_out_of_time_can_be_reported_and_is_no_skip(db: Engine, project: Project, make_person: Make) -> None:
    rater = make_person()
    for is_late in (True, False):
        held = take(db, project, rater)
        assert held is not None
        with transaction(db) as session:
            if is_late:
                session.get_one(Assignment, held).lease_until = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
                session.flush()
                assert leases.expire_leases(session) == 1
            reports.file_report(session, project, held, rater_id=rater.id, reason="illegal")
    with transaction(db) as session:
        found = statistics_of(session, project, rater_id=rater.id)
        assert (found.num_reported, found.num_skipped) == (2, 0)
        assert set(session.scalars(select(Comparison.leased))) == {0}


def test_what_is_kept_goes_on_to_others(db: Engine, project: Project, make_person: Make) -> None:
    rater, other = make_person(), make_person()
    held = take(db, project, rater)
    assert held is not None
    with transaction(db) as session:
        filed = reports.file_report(session, project, held, rater_id=rater.id, reason="other")
        reports.decide(session, project, filed.id, person_id=other.id, decision="keep")
    seen = take(db, project, other)
    with transaction(db) as session:
        assert seen is not None
        assert leases.get_assignment(session, project, seen, rater_id=other.id).comparison_id == filed.comparison_id
        assert reports.my_reports(session, project, rater_id=rater.id)[0].state == "kept"


def test_nobody_reports_or_asks_about_what_was_given_to_others(db: Engine, project: Project, make_person: Make) -> None:
    rater, other = make_person(), make_person()
    held = take(db, project, rater)
    assert held is not None
    with transaction(db) as session:
        with pytest.raises(NotFound):
            reports.file_report(session, project, held, rater_id=other.id, reason="unsafe")
        with pytest.raises(NotFound):
            questions.ask(session, project, held, rater_id=other.id, text="What is it?")
        with pytest.raises(Invalid, match="reasons"):
            reports.file_report(session, project, held, rater_id=rater.id, reason="boring")
        with pytest.raises(Invalid, match="Write something"):
            questions.ask(session, project, held, rater_id=rater.id, text="  ")
        assert session.scalar(select(func.count()).select_from(Report)) == 0


def test_a_question_goes_to_and_fro(db: Engine, project: Project, make_person: Make) -> None:
    rater, admin = make_person(), make_person()
    held = take(db, project, rater)
    assert held is not None
    with transaction(db) as session:
        for _ in range(2):
            thread = questions.ask(session, project, held, rater_id=rater.id, text="Which pool?")
        assert session.scalar(select(func.count()).select_from(ThreadMessage)) == 1  # Sent twice, asked once.
        assert (
            questions.num_waiting(session, project),
            questions.num_answers(session, project, rater_id=rater.id),
        ) == (1, 0)
        questions.answer(session, project, thread.id, person_id=admin.id, text="The one on the roof.")
        assert (
            questions.num_waiting(session, project),
            questions.num_answers(session, project, rater_id=rater.id),
        ) == (0, 1)
        (shown,) = questions.threads_of(session, project, rater_id=rater.id)
        assert [(said.is_answer, said.text) for said in shown.messages] == [
            (False, "Which pool?"),
            (True, "The one on the roof."),
        ]
        questions.mark_read(session, project, rater_id=rater.id)
        assert questions.num_answers(session, project, rater_id=rater.id) == 0
        questions.go_on(session, project, thread.id, rater_id=rater.id, text="Thanks.")
        assert questions.num_waiting(session, project) == 1
        with pytest.raises(NotFound):
            questions.go_on(session, project, thread.id, rater_id=admin.id, text="Not mine.")
    assert take(db, project, rater) == held  # It stayed in hand.


def test_the_question_that_waits_longest_comes_first(db: Engine, project: Project, make_person: Make) -> None:
    admin, asked = make_person(), []
    for name in ("first", "second", "third"):
        rater = make_person()
        held = take(db, project, rater)
        assert held is not None
        with transaction(db) as session:
            asked.append(questions.ask(session, project, held, rater_id=rater.id, text=name).id)
    with transaction(db) as session:
        questions.answer(session, project, asked[0], person_id=admin.id, text="So.")
        assert [shown.thread.id for shown in questions.threads_of(session, project)] == [asked[1], asked[2], asked[0]]


def test_both_see_it_on_their_pages(
    db: Engine, project: Project, join: Make, make_person: Make, sign_in: SignIn
) -> None:
    rater, admin = join(make_person(), project, "rater"), join(make_person(), project, "admin")
    held = take(db, project, rater)
    at, desk, inbox = f"/projects/{project.slug}", sign_in(rater), sign_in(admin)
    asked = desk.post(f"{at}/rate/{held}/ask", data={"text": "<b>Why?</b>"}, headers={"HX-Request": "true"})
    assert "Your question is with the admins" in asked.text
    assert "1 report or question waits" in inbox.get(at).text
    page = inbox.get(f"{at}/inbox").text
    assert "&lt;b&gt;Why?&lt;/b&gt;" in page
    with transaction(db) as session:
        thread = session.scalars(select(Thread.id)).one()
    assert inbox.post(f"{at}/inbox/questions/{thread}", data={"text": "Because."}).status_code == 303
    assert "An answer for you" in desk.get(f"{at}/rate").text
    assert "Because." in desk.get(f"{at}/my-questions").text
    gone = desk.post(f"{at}/rate/{held}/report", data={"reason": "unsafe"}, headers={"HX-Request": "true"})
    assert "Reported." in gone.text
    assert "Show what was reported" in inbox.get(f"{at}/inbox").text
    told = inbox.get(f"/api/v1{at}/reports").json()
    assert [report["reason"] for report in told] == ["unsafe"]
    decision = {"decision": "withdraw", "note": "Thank you."}
    assert inbox.post(f"/api/v1{at}/reports/{told[0]['id']}/decision", json=decision).status_code == 204
    assert "Thank you." in desk.get(f"{at}/my-questions").text
