"""Content that not everybody wants to see: opted out of by category, by each rater for each project."""

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.errors import Invalid
from app.projects.models import Project
from app.prompts.models import Comparison, Prompt, RaterCare
from app.rating import leases
from app.rating.models import Assignment


def opted_out(session: Session, project: Project, *, rater_id: int) -> list[str]:
    """Categories that this rater is never given."""
    mine = (RaterCare.project_id == project.id, RaterCare.rater_id == rater_id)
    found: list[str] | None = session.scalar(select(RaterCare.opted_out).where(*mine))
    return found or []


def opt_out(session: Session, project: Project, categories: list[str], *, rater_id: int) -> None:
    """Never be given these categories from now on, and others again; what is in hand of them is given back.

    Raises:
        Invalid: a category that the project does not have.
    """
    chosen = sorted(set(categories))
    known = {row["key"] for row in project.warnings}
    if unknown := set(chosen) - known:
        raise Invalid(f"This project has no category {min(unknown)!r:.60}.", field="categories")
    leases.take_turn(session, project, rater_id)
    place = insert(RaterCare).values(project_id=project.id, rater_id=rater_id, opted_out=chosen)
    keep = {"opted_out": place.excluded.opted_out, "changed_at": func.now()}
    session.execute(place.on_conflict_do_update(index_elements=["project_id", "rater_id"], set_=keep))
    held = (
        select(Assignment.id, Prompt.warnings)
        .join(Comparison, Comparison.id == Assignment.comparison_id)
        .join(Prompt, Prompt.id == Comparison.prompt_id)
        .where(Assignment.rater_id == rater_id, Assignment.project_id == project.id, Assignment.state == "leased")
    )
    for assignment_id, warnings in session.execute(held).all():
        if set(warnings) & set(chosen):
            leases.skip(session, project, assignment_id, rater_id=rater_id, reason="disturbing", note="Opted out of.")


def labels_of(project: Project, warnings: list[str]) -> list[str]:
    """Categories in words; one that the project has no longer is told by its key."""
    words = {row["key"]: row["label"] for row in project.warnings}
    return [words.get(key, key.replace("_", " ")) for key in warnings]
