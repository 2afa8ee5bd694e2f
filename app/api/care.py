"""A rater's own figures and wishes, for programs."""

import datetime as dt

from fastapi import APIRouter
from pydantic import Field

from app.api.shapes import Answer, Body
from app.projects.deps import Rater
from app.rating import care, statistics, warnings
from app.web import SessionDep

router = APIRouter(prefix="/projects/{slug}", tags=["rating"])


class DayAnswer(Answer):
    """One day, UTC."""

    day: dt.date
    seconds: float
    num_ranked: int


class AgreementAnswer(Answer):
    """How often the caller and others order a pair alike, with a 95 % interval over comparisons."""

    share: float
    low: float
    high: float
    num_comparisons: int


class StatisticsAnswer(Answer):
    """What the caller has done in this project. `agreement` comes with enough comparisons that others ranked too."""

    num_today: int
    num_ranked: int
    num_corrected: int
    num_skipped: int
    num_reported: int
    active_seconds: float
    days: list[DayAnswer]
    num_shared: int
    agreement: AgreementAnswer | None
    rest: str


@router.get("/me/statistics")
def mine(member: Rater, session: SessionDep) -> StatisticsAnswer:
    """One's own figures; `rest` says why there is nothing more today, where a limit is reached."""
    found = statistics.statistics_of(session, member.project, rater_id=member.person.id)
    rest = care.why_rest(session, member.project, rater_id=member.person.id)
    fields = {name: getattr(found, name) for name in StatisticsAnswer.model_fields if name != "rest"}
    return StatisticsAnswer.model_validate({**fields, "rest": rest}, from_attributes=True)


class Wishes(Body):
    """Categories of content (keys of the project's `warnings`) that the caller is never given."""

    opted_out: list[str] = Field(max_length=50)


class WishesAnswer(Answer):
    """Categories of content that the caller is never given."""

    opted_out: list[str]


@router.get("/me/care")
def wishes(member: Rater, session: SessionDep) -> WishesAnswer:
    """What one is never given."""
    return WishesAnswer(opted_out=warnings.opted_out(session, member.project, rater_id=member.person.id))


@router.put("/me/care")
def change_wishes(member: Rater, body: Wishes, session: SessionDep) -> WishesAnswer:
    """Choose it; what is in hand of such content is given back."""
    warnings.opt_out(session, member.project, body.opted_out, rater_id=member.person.id)
    return wishes(member, session)
