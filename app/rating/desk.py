"""What the rating page and the API show of an assignment: blind, nothing about where a response came from."""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.guidelines.models import Acknowledgement, Guideline
from app.projects.models import Project
from app.prompts.models import Comparison, ComparisonResponse, Prompt, Response
from app.rating.models import Assignment
from app.rating.pace import least_seconds

LETTERS = "ABCDEFGHI"


@dataclass(frozen=True)
class Card:
    """One response as shown: a letter, its place, its text, and whether it was cut at the length limit."""

    letter: str
    place: int
    text: str
    was_cut: bool


@dataclass(frozen=True)
class Desk:
    """All that a rater sees of one comparison."""

    assignment: Assignment
    messages: list[dict[str, Any]]
    cards: list[Card]
    draft: dict[str, Any]
    warnings: list[str] = field(default_factory=list)

    @property
    def least_seconds(self) -> float:
        """Under which nobody has read it all."""
        return least_seconds(self.messages, (card.text for card in self.cards))

    @property
    def is_correction(self) -> bool:
        """Whether a ranking of this rater stands and is being corrected."""
        return self.assignment.state == "reopened"


def desk_of(session: Session, assignment: Assignment) -> Desk:
    """Two statements: the prompt, and the responses in shown order."""
    prompt = select(Prompt.messages, Prompt.warnings).join(Comparison, Comparison.prompt_id == Prompt.id)
    messages, warnings = session.execute(prompt.where(Comparison.id == assignment.comparison_id)).one()
    rows = session.execute(
        select(Response.text, Response.finish_reason)
        .join(ComparisonResponse, ComparisonResponse.response_id == Response.id)
        .where(ComparisonResponse.comparison_id == assignment.comparison_id)
        .order_by(ComparisonResponse.position)
    ).all()
    cards = [
        Card(LETTERS[place], place, rows[position].text, rows[position].finish_reason == "length")
        for place, position in enumerate(assignment.shown_order)
    ]
    return Desk(assignment, messages, cards, filled_draft(assignment.draft or {}, len(cards)), warnings)


def filled_draft(draft: dict[str, Any], k: int) -> dict[str, Any]:
    """A draft with every part there, and one entry for each of the `k` responses."""

    def one_each(values: list[Any]) -> list[Any]:
        return [*values, *[None] * k][:k]

    return {
        "ranks": one_each(draft.get("ranks") or []),
        "all_bad": bool(draft.get("all_bad")),
        "strength": draft.get("strength"),
        "attributes": {name: one_each(values) for name, values in (draft.get("attributes") or {}).items()},
        "flags": draft.get("flags") or {},
        "note": draft.get("note") or "",
        "edit": draft.get("edit") or "",
        "reasons": draft.get("reasons") or [],
        "likert": one_each(draft.get("likert") or []),
    }


def newest_guideline(session: Session, project: Project, *, rater_id: int) -> tuple[Guideline | None, bool]:
    """The newest published edition, and whether this rater may go on: there is none, or it is acknowledged."""
    known = select(Acknowledgement.person_id).where(
        Acknowledgement.guideline_id == Guideline.id, Acknowledgement.person_id == rater_id
    )
    published = (Guideline.project_id == project.id, Guideline.published_at.is_not(None))
    query = select(Guideline, known.exists()).where(*published).order_by(Guideline.edition.desc()).limit(1)
    row = session.execute(query).first()
    return (None, True) if row is None else (row[0], row[1])


def unread_guideline(session: Session, project: Project, *, rater_id: int) -> Guideline | None:
    """The newest published edition, if this rater has not acknowledged it."""
    newest, is_read = newest_guideline(session, project, rater_id=rater_id)
    return None if is_read else newest


def guideline_of(session: Session, assignment: Assignment) -> Guideline | None:
    """The edition that is shown with this assignment."""
    return session.get(Guideline, assignment.guideline_id) if assignment.guideline_id else None
