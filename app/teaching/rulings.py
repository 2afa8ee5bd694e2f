"""How each rater stands, for admins, and their word on it: let through, or begin anew."""

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app import audit
from app.accounts.models import Person
from app.errors import Invalid, NotFound
from app.projects.models import Membership, Project, Role
from app.prompts.service import check_text
from app.teaching.gate import Standing, standings_of
from app.teaching.models import LessonAnswer, QuizAttempt, Ruling

KINDS = {"pass": "Let through", "reset": "Begin anew"}
NUM_RATERS = 500


@dataclass(frozen=True)
class RaterRow:
    """A rater with standing, share of pairs on which practice agreed with the experts, and best try at the quiz."""

    person: Person
    standing: Standing
    agreement: float | None
    best_try: float | None


def raters_of(session: Session, project: Project) -> list[RaterRow]:
    """The people who rate here, with how they stand; simulated raters need no teaching."""
    here = select(Person).join(Membership, Membership.person_id == Person.id)
    here = here.where(Membership.project_id == project.id, Membership.role == Role.RATER, ~Person.is_simulated)
    people = list(session.scalars(here.order_by(Person.name, Person.id).limit(NUM_RATERS)))
    ids = [person.id for person in people]
    agreed = (
        select(LessonAnswer.rater_id, func.sum(LessonAnswer.num_agreed) * 1.0 / func.sum(LessonAnswer.num_pairs))
        .where(LessonAnswer.project_id == project.id, LessonAnswer.rater_id.in_(ids))
        .group_by(LessonAnswer.rater_id)
    )
    share = QuizAttempt.num_right * 1.0 / QuizAttempt.num_questions
    tried = (
        select(QuizAttempt.rater_id, func.max(share))
        .where(QuizAttempt.project_id == project.id, QuizAttempt.rater_id.in_(ids))
        .group_by(QuizAttempt.rater_id)
    )
    agreement = {row[0]: float(row[1]) for row in session.execute(agreed)}
    best = {row[0]: float(row[1]) for row in session.execute(tried)}
    standings = standings_of(session, project, ids)
    return [RaterRow(p, standings[p.id], agreement.get(p.id), best.get(p.id)) for p in people]


def rule(session: Session, project: Project, rater_id: int, *, kind: str, reason: str = "", person_id: int) -> Ruling:
    """Let a rater through without practice and quiz, or have them begin anew with all tries.

    Raises:
        NotFound: no such rater here. Invalid: an unknown ruling, or a reason that is too long.
    """
    if kind not in KINDS:
        raise Invalid(f"Choose one of: {', '.join(KINDS)}.", field="kind")
    if len(check_text(reason, where="reason")) > 500:
        raise Invalid("A reason has at most 500 characters.", field="reason")
    member = (Membership.project_id == project.id, Membership.person_id == rater_id, Membership.role == Role.RATER)
    if session.scalar(select(Membership.id).where(*member)) is None:
        raise NotFound("This project has no such rater.")
    ruling = Ruling(project_id=project.id, rater_id=rater_id, kind=kind, reason=reason.strip(), ruled_by_id=person_id)
    session.add(ruling)
    session.flush()
    audit.record(
        session, f"rater.teaching_{kind}", subject=f"person:{rater_id}", actor_id=person_id, project_id=project.id
    )
    return ruling
