"""What a person has in front of them when they read the guidelines: the newest edition, and what is new in it for them."""

from dataclasses import dataclass
from functools import lru_cache

from markupsafe import Markup
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.guidelines.models import Acknowledgement, Guideline
from app.guidelines.service import DiffLine, diff
from app.projects.models import Project
from app.texts import markdown, markdown_with_changes


@dataclass(frozen=True)
class Reading:
    """The newest edition. `last_read` is the newest one before it that this person has acknowledged, if any."""

    guideline: Guideline
    is_read: bool
    last_read: Guideline | None

    @property
    def changes(self) -> list[DiffLine]:
        """Line by line from the edition last read; empty for who has read none before."""
        return list(_diff(self.last_read.body, self.guideline.body)) if self.last_read else []

    @property
    def num_removed(self) -> int:
        """Lines that are there no more."""
        return sum(line.kind == "removed" and bool(line.text.strip()) for line in self.changes)

    @property
    def html(self) -> Markup:
        """The edition, with what was added since the one last read as insertions."""
        changed = added_lines(self.changes)
        return markdown_with_changes(self.guideline.body, changed) if changed else markdown(self.guideline.body)


def reading_of(session: Session, project: Project, *, person_id: int) -> Reading | None:
    """What this person reads; None while nothing is published."""
    published = select(Guideline).where(Guideline.project_id == project.id, Guideline.published_at.is_not(None))
    newest = session.scalar(published.order_by(Guideline.edition.desc()).limit(1))
    if newest is None:
        return None
    known = (
        published.join(Acknowledgement, Acknowledgement.guideline_id == Guideline.id)
        .where(Acknowledgement.person_id == person_id)
        .order_by(Guideline.edition.desc())
        .limit(2)
    )
    read = list(session.scalars(known))
    return Reading(newest, newest in read, next((edition for edition in read if edition is not newest), None))


def added_lines(changes: list[DiffLine]) -> frozenset[int]:
    """Places, from 0, of lines of the newer text that are not in the older one; empty lines are nothing new."""
    after = [line for line in changes if line.kind != "removed"]
    return frozenset(place for place, line in enumerate(after) if line.kind == "added" and line.text.strip())


@lru_cache(maxsize=64)
def _diff(before: str, after: str) -> tuple[DiffLine, ...]:
    """Kept, because editions never change and each page asks again."""
    return tuple(diff(before, after))
