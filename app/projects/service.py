"""Making projects, changing their settings, and who is a member."""

import re
from typing import Any, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app import audit
from app.accounts import service as accounts
from app.accounts.models import Person
from app.errors import Conflict, Forbidden, Invalid, NotFound
from app.projects.models import Membership, Project, Role
from app.projects.settings import sampling_of, training_of
from app.projects.templates import TEMPLATES

RESERVED = {"new"}
"""Addresses below /projects that are pages of ours."""
SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,58}[a-z0-9])?")


class Number(NamedTuple):
    """A whole number among a project's settings: title, limits and what it means."""

    title: str
    low: int
    high: int
    help: str


NUMBERS = {
    "responses_per_comparison": Number("Responses per comparison", 2, 9, "Responses that a rater compares at a time."),
    "raters_per_comparison": Number(
        "Raters per comparison",
        1,
        100,
        "Raters that each comparison is given to. Applies to comparisons made from now on.",
    ),
    "lease_minutes": Number(
        "Minutes in hand",
        1,
        1440,
        "How long a comparison stays in a rater's hands before somebody else may have it.",
    ),
    "chat_replies": Number("Replies in a chat", 2, 4, "Replies that stream side by side to each turn of a chat."),
    "chat_min_turns": Number("Turns of a chat", 0, 50, "Choices that a rater makes before a chat may be ended."),
    "max_rankings_per_day": Number(
        "Most rankings a day", 0, 100_000, "Comparisons that one rater is given a day, by UTC; 0 for no limit."
    ),
    "max_hours_per_day": Number(
        "Most hours a day", 0, 24, "Active hours after which a rater is given no more that day; 0 for no limit."
    ),
    "break_minutes": Number(
        "Minutes to a break", 0, 240, "Active minutes after which a rater is reminded of a break; 0 for never."
    ),
    "practice_comparisons": Number(
        "Practice comparisons first",
        0,
        100,
        "How many comparisons with an expert's ranking a rater practises on before the first real one. 0 asks for none.",
    ),
    "quiz_pass_percent": Number(
        "Pass mark of the quiz", 1, 100, "The share of answers that must be right, in percent."
    ),
    "quiz_tries": Number("Tries at the quiz", 1, 20, "How often a rater may take the quiz before an admin decides."),
    "demonstrations_per_prompt": Number(
        "Demonstrations per prompt",
        0,
        20,
        "How many responses to each prompt raters write, under Write, for fine-tuning; 0 for none.",
    ),
    "threshold": Number("Threshold", 1, 10_000_000, "New rankings that start the next training run."),
}
SWITCHES = {
    "allow_ties": "Raters may give two responses the same rank.",
    "allow_all_bad": "Raters may say that all responses are bad.",
    "allow_partial": "Raters may leave responses unranked.",
    "ask_strength": "Pairs: raters say how much better, in four levels each way.",
    "ask_likert": "Raters also give each response a mark of its own, from 1 (poor) to 7 (excellent).",
    "allow_edit": "Raters may edit the best response; models learn from it as better than all, and as a demonstration.",
    "require_reason": "Pairs: whoever says that one is much better gives a reason, or writes a note.",
    "allow_chat": "Raters may chat with sampled policies; each choice among the replies is a ranking.",
    "red_team": "In chats, ask after each choice which rule was tried and whether it broke.",
    "quiz_required": "Raters pass the quiz before their first comparison.",
    "auto_train": "Start a run when the threshold is reached.",
    "include_simulated": "Learn from simulated raters too.",
}


def create_project(
    session: Session, creator: Person, *, slug: str, name: str, template: str = "ranking", **columns: Any
) -> Project:
    """A project from a template; its creator becomes its admin and operator.

    Raises:
        Invalid: a bad slug, name or template. Conflict: the slug is taken.
    """
    if template not in TEMPLATES:
        raise Invalid(f"There is no template {template!r}: choose from {', '.join(TEMPLATES)}.", field="template")
    if not SLUG.fullmatch(slug):
        raise Invalid("The address may have lower-case letters, digits and hyphens, 1 to 60 of them.", field="slug")
    if slug in RESERVED:
        raise Invalid(f"The address {slug!r} is taken by a page of ours. Choose another.", field="slug")
    if session.scalar(select(Project.id).where(Project.slug == slug)):
        raise Conflict(f"There is a project at the address {slug!r} already. Choose another.", field="slug")
    project = Project(
        slug=slug,
        name=clean_title(name),
        template=template,
        created_by_id=creator.id,
        **{**TEMPLATES[template][2], **columns},
    )
    session.add(project)
    session.flush()
    for role in (Role.ADMIN, Role.OPERATOR):
        session.add(Membership(project_id=project.id, person_id=creator.id, role=role))
    audit.record(
        session, "project.created", subject=f"project:{project.id}", actor_id=creator.id, project_id=project.id
    )
    session.flush()
    return project


def clean_title(name: str) -> str:
    """A project's name.

    Raises:
        Invalid: empty, too long, or with control characters.
    """
    cleaned = name.strip()
    if not 1 <= len(cleaned) <= 100 or not cleaned.isprintable():
        raise Invalid("A name needs 1 to 100 printable characters.", field="name")
    return cleaned


def change_settings(session: Session, project: Project, *, person_id: int, changes: dict[str, Any]) -> Project:
    """Apply checked changes of columns; `sampling` and `training` are replaced as a whole.

    Raises:
        Invalid: naming the setting and its limits.
    """
    kept = session.get_one(Project, project.id, with_for_update=True)
    for name, value in changes.items():
        setattr(kept, name, _checked(name, value))
    audit.record(
        session,
        "project.changed",
        subject=f"project:{project.id}",
        actor_id=person_id,
        project_id=project.id,
        details={"settings": sorted(changes)},
    )
    session.flush()
    return kept


def _checked(name: str, value: Any) -> Any:
    if name in NUMBERS:
        low, high = NUMBERS[name].low, NUMBERS[name].high
        if not isinstance(value, int) or not low <= value <= high:
            raise Invalid(f"{name}: a whole number from {low:,} to {high:,} is expected.", field=name)
        return value
    if name in SWITCHES:
        return bool(value)
    if name == "name":
        return clean_title(str(value))
    if name in {"description", "base_model"}:
        return _checked_text(name, str(value))
    if name == "sampling":
        return sampling_of(value).model_dump()
    if name == "training":
        return training_of(value).model_dump()
    if name in {"attributes", "flags", "rules", "warnings", "reasons"}:
        return _checked_entries(name, value)
    raise Invalid(f"There is no setting {name!r}.", field=name)


def _checked_text(name: str, value: str) -> str:
    if len(value) > 2000 or "\x00" in value:
        raise Invalid(f"{name}: at most 2,000 characters, and no NUL.", field=name)
    if name == "base_model" and ".." in value:
        raise Invalid("base_model: a Hugging Face name, an absolute folder, or `tiny`.", field=name)
    return value.strip()


def _checked_entries(name: str, value: Any) -> list[dict[str, str]]:
    """Rows of key, label and help."""
    if not isinstance(value, list) or len(value) > 12:
        raise Invalid(f"{name}: at most 12 rows of key, label and help.", field=name)
    rows = []
    for entry in value:
        key, label = str(entry.get("key", "")), str(entry.get("label", "")).strip()
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,30}", key) or not 1 <= len(label) <= 60:
            raise Invalid(
                f"{name}: a key is lower-case letters and digits; a label has 1 to 60 characters.", field=name
            )
        rows.append({"key": key, "label": label, "help": str(entry.get("help", "")).strip()[:200]})
    if len({row["key"] for row in rows}) < len(rows):
        raise Invalid(f"{name}: two rows have the same key.", field=name)
    return rows


def projects_of(session: Session, person: Person) -> list[tuple[Project, list[str]]]:
    """The projects that a person is a member of, with their roles there."""
    query = (
        select(Project, func.array_agg(Membership.role))
        .join(Membership, Membership.project_id == Project.id)
        .where(Membership.person_id == person.id, Project.archived_at.is_(None))
        .group_by(Project.id)
        .order_by(Project.name)
    )
    return [(project, sorted(roles)) for project, roles in session.execute(query)]


def members_of(session: Session, project: Project) -> list[tuple[Person, list[str]]]:
    """Members and their roles; simulated ones last."""
    query = (
        select(Person, func.array_agg(Membership.role))
        .join(Membership, Membership.person_id == Person.id)
        .where(Membership.project_id == project.id)
        .group_by(Person.id)
        .order_by(Person.is_simulated, Person.name)
        .limit(500)
    )
    return [(person, sorted(roles)) for person, roles in session.execute(query)]


def invite(session: Session, project: Project, *, roles: list[str], person_id: int, label: str = "") -> str:
    """A one-time invitation's token, good for 24 hours."""
    chosen = _checked_roles(roles)
    token = accounts.create_link(
        session, "invitation", project_id=project.id, roles=chosen, label=label[:100], created_by_id=person_id
    )
    audit.record(
        session,
        "member.invited",
        subject=f"project:{project.id}",
        actor_id=person_id,
        project_id=project.id,
        details={"roles": chosen},
    )
    return token


def may_get_link(session: Session, project: Project, *, person_id: int) -> set[int]:
    """Members for whom this admin may make a sign-in link. Whoever holds the link acts as that member, so it must not
    open more than the admin administers: no site admin, nobody with a role where this person is not admin, not oneself.
    """
    mine = select(Membership.project_id).where(Membership.person_id == person_id, Membership.role == Role.ADMIN)
    elsewhere = select(Membership.person_id).where(Membership.project_id.not_in(mine))
    query = (
        select(Person.id)
        .join(Membership, Membership.person_id == Person.id)
        .where(Membership.project_id == project.id, Person.id != person_id, Person.id.not_in(elsewhere))
        .where(Person.is_active, Person.is_site_admin.is_(False), Person.is_simulated.is_(False))
    )
    return set(session.scalars(query))


def sign_in_link(session: Session, project: Project, member_id: int, *, person_id: int) -> str:
    """A one-time sign-in link's token for a member who lost the password, good for 24 hours.

    Raises:
        NotFound: no such member. Forbidden: this person may not act for them.
    """
    of_project = select(Membership.id).where(Membership.project_id == project.id, Membership.person_id == member_id)
    if session.scalar(of_project.limit(1)) is None:
        raise NotFound("This project has no such member.")
    if member_id not in may_get_link(session, project, person_id=person_id):
        raise Forbidden(
            "You cannot make a sign-in link for this person: it would also open what you do not administer. "
            "Whoever runs the server can, with `attune user link`."
        )
    token = accounts.create_link(session, "sign_in", person_id=member_id, created_by_id=person_id)
    audit.record(
        session,
        "member.sign_in_link",
        subject=f"person:{member_id}",
        actor_id=person_id,
        project_id=project.id,
    )
    return token


def set_roles(session: Session, project: Project, member_id: int, *, roles: list[str], person_id: int) -> None:
    """Give a member exactly these roles; none removes them. The last admin stays.

    Raises:
        NotFound: no such member. Conflict: nobody would be admin.
    """
    chosen = set(_checked_roles(roles, may_be_empty=True))
    locked = select(Membership).where(Membership.project_id == project.id).with_for_update()
    memberships = session.scalars(locked).all()
    held = {row.role: row for row in memberships if row.person_id == member_id}
    if not held:
        raise NotFound("This project has no such member.")
    other_admins = any(row.role == Role.ADMIN and row.person_id != member_id for row in memberships)
    if Role.ADMIN in held and Role.ADMIN not in chosen and not other_admins:
        raise Conflict("This is the only admin of the project. Make somebody else admin first.")
    for role, row in held.items():
        if role not in chosen:
            session.delete(row)
    add_roles(session, project, member_id, roles=sorted(chosen - set(held)))
    audit.record(
        session,
        "member.roles",
        subject=f"person:{member_id}",
        actor_id=person_id,
        project_id=project.id,
        details={"roles": sorted(chosen)},
    )


def add_roles(session: Session, project: Project, member_id: int, *, roles: list[str]) -> None:
    """Add roles that are not held yet."""
    rows = [{"project_id": project.id, "person_id": member_id, "role": role} for role in roles]
    if rows:
        session.execute(insert(Membership).values(rows).on_conflict_do_nothing())


def _checked_roles(roles: list[str], *, may_be_empty: bool = False) -> list[str]:
    chosen = sorted(set(roles))
    if set(chosen) - {role.value for role in Role} or (not chosen and not may_be_empty):
        raise Invalid("Choose among the roles: rater, admin, operator, overseer.", field="roles")
    return chosen
