"""The audit trail in words: who did what to what, with a link where there is a page to see."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.models import Person
from app.audit import AuditEvent
from app.guidelines.models import Guideline
from app.projects.deps import Member
from app.training.models import ModelVersion

ACTS = {
    "project.created": "made the project",
    "project.changed": "changed the settings",
    "member.invited": "invited somebody",
    "member.joined": "joined the project",
    "member.roles": "changed the roles of a member",
    "member.sign_in_link": "made a sign-in link for a member",
    "guideline.published": "published guidelines",
    "import.started": "imported a file",
    "comparison.reported": "reported a comparison",
    "comparison.kept": "kept a comparison that was reported",
    "comparison.withdrawn": "withdrew a comparison that was reported",
    "question.written": "wrote a question of the quiz",
    "question.removed": "took a question out of the quiz",
    "question.answered": "answered a question",
    "prompt.warnings": "marked the content of a prompt",
    "run.requested": "asked for a run",
    "run.cancelled": "cancelled a run",
    "run.retried": "retried a run",
    "version.approved": "approved a policy",
    "version.refused": "refused a policy",
    "version.rolled_back": "let an earlier policy serve again",
}


@dataclass(frozen=True)
class Entry:
    """One event as the page shows it. `page` is empty where there is nothing to open for this reader."""

    seq: int
    at: dt.datetime
    who: str
    words: str
    action: str
    subject: str
    page: str


def entries(session: Session, member: Member, events: Sequence[AuditEvent]) -> list[Entry]:
    """These events, as this member may see them."""
    known = _look_up(session, member, events)
    return [_entry(event, known) for event in events]


@dataclass(frozen=True)
class _Known:
    """What the events' ids stand for."""

    base: str
    names: dict[int, str]
    versions: dict[int, str]
    editions: dict[int, int]
    sees_imports: bool


def _look_up(session: Session, member: Member, events: Sequence[AuditEvent]) -> _Known:
    ids: dict[str, set[int]] = {"person": {event.actor_id for event in events if event.actor_id is not None}}
    for event in events:
        kind, number = _subject(event)
        ids.setdefault(kind, set()).add(number)
    people = session.execute(select(Person.id, Person.name).where(Person.id.in_(ids["person"])))
    versions = session.scalars(select(ModelVersion).where(ModelVersion.id.in_(ids.get("model_version", ()))))
    editions = select(Guideline.id, Guideline.edition).where(Guideline.id.in_(ids.get("guideline", ())))
    return _Known(
        base=f"/projects/{member.project.slug}",
        names={row.id: row.name for row in people},
        versions={version.id: f"{version.kind.replace('_', ' ')} {version.number}" for version in versions},
        editions={row.id: row.edition for row in session.execute(editions) if row.edition is not None},
        sees_imports=member.has("admin"),
    )


def _entry(event: AuditEvent, known: _Known) -> Entry:
    subject, page = _told(*_subject(event), known)
    who = "Attune itself" if event.actor_id is None else known.names.get(event.actor_id, f"person {event.actor_id}")
    words = ACTS.get(event.action, event.action.replace(".", " ").replace("_", " "))
    return Entry(event.seq, event.at, who, words, event.action, subject, f"{known.base}/{page}" if page else "")


def _told(kind: str, number: int, known: _Known) -> tuple[str, str]:
    """A subject in words, and the page below the project's that shows it."""
    if kind == "project":
        return "", ""
    if kind == "person":
        return known.names.get(number, f"person {number}"), ""
    if kind == "run":
        return f"run {number}", f"runs/{number}"
    if kind == "import":
        return f"import {number}", f"imports/{number}" if known.sees_imports else ""
    if number in known.versions and kind == "model_version":
        return known.versions[number], f"versions/{number}"
    if number in known.editions and kind == "guideline":
        return f"edition {known.editions[number]}", f"guidelines/{known.editions[number]}"
    return f"{kind.replace('_', ' ')} {number}", ""


def _subject(event: AuditEvent) -> tuple[str, int]:
    """`run:4` as kind and number."""
    kind, _, number = event.subject.partition(":")
    return kind, int(number) if number.isdigit() else 0
