"""Projects, their settings and members as JSON."""

import datetime as dt
from typing import Any

from fastapi import APIRouter
from pydantic import Field

from app.accounts.deps import SignedIn, SiteAdmin
from app.api.shapes import Answer, Body
from app.projects import service
from app.projects.deps import Admin, AnyMember
from app.projects.models import Project
from app.projects.settings import sampling_of, training_of
from app.web import SessionDep, SettingsDep

router = APIRouter(prefix="/projects", tags=["projects"])


class Brief(Answer):
    """A project of the caller's."""

    slug: str
    name: str
    roles: list[str]


class ProjectAnswer(Answer):
    """A project with all its settings, defaults filled in."""

    slug: str
    name: str
    description: str
    template: str
    responses_per_comparison: int
    raters_per_comparison: int
    allow_ties: bool
    allow_all_bad: bool
    allow_partial: bool
    ask_strength: bool
    attributes: list[dict[str, Any]]
    flags: list[dict[str, Any]]
    rules: list[dict[str, Any]]
    warnings: list[dict[str, Any]]
    reasons: list[dict[str, Any]]
    require_reason: bool
    ask_likert: bool
    allow_edit: bool
    lease_minutes: int
    allow_chat: bool
    chat_replies: int
    max_rankings_per_day: int
    max_hours_per_day: int
    break_minutes: int
    chat_min_turns: int
    red_team: bool
    threshold: int
    auto_train: bool
    include_simulated: bool
    base_model: str
    sampling: dict[str, Any]
    training: dict[str, Any]
    created_at: dt.datetime


class NewProject(Body):
    """A project to be made from a template."""

    slug: str = Field(max_length=60, description="Its address: lower-case letters, digits and hyphens.")
    name: str = Field(max_length=100)
    template: str = "ranking"


class Entry(Body):
    """An attribute or a flag."""

    key: str
    label: str
    help: str = ""


class Changes(Body):
    """Settings to change; what is left out stays. `sampling` and `training` are replaced as a whole."""

    name: str | None = None
    description: str | None = None
    responses_per_comparison: int | None = None
    raters_per_comparison: int | None = None
    allow_ties: bool | None = None
    allow_all_bad: bool | None = None
    allow_partial: bool | None = None
    ask_strength: bool | None = None
    attributes: list[Entry] | None = None
    flags: list[Entry] | None = None
    rules: list[Entry] | None = None
    warnings: list[Entry] | None = None
    reasons: list[Entry] | None = None
    require_reason: bool | None = None
    ask_likert: bool | None = None
    allow_edit: bool | None = None
    lease_minutes: int | None = None
    allow_chat: bool | None = None
    chat_replies: int | None = None
    max_rankings_per_day: int | None = None
    max_hours_per_day: int | None = None
    break_minutes: int | None = None
    chat_min_turns: int | None = None
    red_team: bool | None = None
    threshold: int | None = None
    practice_comparisons: int | None = None
    quiz_required: bool | None = None
    quiz_pass_percent: int | None = None
    quiz_tries: int | None = None
    demonstrations_per_prompt: int | None = None
    auto_train: bool | None = None
    include_simulated: bool | None = None
    base_model: str | None = None
    sampling: dict[str, Any] | None = None
    training: dict[str, Any] | None = None


class MemberAnswer(Answer):
    """Somebody in the project."""

    id: int
    name: str
    pseudonym: str
    is_simulated: bool
    roles: list[str]


class Roles(Body):
    """Roles in a project: rater, admin, operator, overseer."""

    roles: list[str] = Field(max_length=4)


class Invitation(Answer):
    """A one-time link, shown this once."""

    link: str
    roles: list[str]
    hours: int = 24


class SignInLink(Answer):
    """A one-time link that signs a member in, shown this once."""

    link: str
    hours: int = 24


@router.get("")
def mine(caller: SignedIn, session: SessionDep) -> list[Brief]:
    """The caller's projects, with the roles held there."""
    found = service.projects_of(session, caller.person)
    return [Brief(slug=project.slug, name=project.name, roles=roles) for project, roles in found]


@router.post("", status_code=201)
def create(caller: SiteAdmin, body: NewProject, session: SessionDep) -> ProjectAnswer:
    """Make a project; the caller becomes its admin and operator."""
    made = service.create_project(session, caller.person, slug=body.slug, name=body.name, template=body.template)
    session.refresh(made)
    return _answer(made)


@router.get("/{slug}")
def show(member: AnyMember) -> ProjectAnswer:
    """One project with its settings."""
    return _answer(member.project)


@router.patch("/{slug}")
def change(member: Admin, body: Changes, session: SessionDep) -> ProjectAnswer:
    """Change settings: all that are sent, or none."""
    changes = {name: value for name, value in body.model_dump(exclude_unset=True).items() if value is not None}
    return _answer(service.change_settings(session, member.project, person_id=member.person.id, changes=changes))


@router.get("/{slug}/members")
def members(member: Admin, session: SessionDep) -> list[MemberAnswer]:
    """Who is in the project."""
    return [
        MemberAnswer(
            id=person.id, name=person.name, pseudonym=person.pseudonym, is_simulated=person.is_simulated, roles=roles
        )
        for person, roles in service.members_of(session, member.project)
    ]


@router.put("/{slug}/members/{person_id}", status_code=204)
def set_roles(member: Admin, person_id: int, body: Roles, session: SessionDep) -> None:
    """Give a member exactly these roles; none removes them. The last admin stays."""
    service.set_roles(session, member.project, person_id, roles=body.roles, person_id=member.person.id)


@router.post("/{slug}/members/{person_id}/link", status_code=201)
def sign_in_link(member: Admin, person_id: int, session: SessionDep, settings: SettingsDep) -> SignInLink:
    """A one-time sign-in link for a member with a lost password; never for oneself, nor beyond what one administers."""
    token = service.sign_in_link(session, member.project, person_id, person_id=member.person.id)
    return SignInLink(link=f"{settings.public_url.rstrip('/')}/link/{token}")


@router.post("/{slug}/invitations", status_code=201)
def invite(member: Admin, body: Roles, session: SessionDep, settings: SettingsDep) -> Invitation:
    """A one-time link for one person, who gets these roles."""
    token = service.invite(session, member.project, roles=body.roles, person_id=member.person.id)
    return Invitation(link=f"{settings.public_url.rstrip('/')}/link/{token}", roles=sorted(set(body.roles)))


def _answer(project: Project) -> ProjectAnswer:
    filled = {
        "sampling": sampling_of(project.sampling).model_dump(),
        "training": training_of(project.training).model_dump(),
    }
    columns = {name: getattr(project, name) for name in ProjectAnswer.model_fields if name not in filled}
    return ProjectAnswer(**columns, **filled)
