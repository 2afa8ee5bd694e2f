"""The start page, new projects, settings and members."""

from typing import Annotated, Any, get_args

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel

from app.accounts.deps import Anyone, SiteAdmin
from app.errors import Invalid
from app.projects import service
from app.projects.deps import Admin
from app.projects.settings import Sampling, Training, sampling_of, training_of
from app.projects.templates import TEMPLATES
from app.web import FormFields, SessionDep, redirect, render, settings_of

router = APIRouter(tags=["projects"])
Text = Annotated[str, Form()]
GROUPS = ("sft", "reward", "ppo", "tiny")


@router.get("/", response_class=HTMLResponse)
def start(caller: Anyone, request: Request, session: SessionDep) -> Response:
    """One's projects; with a single one, that one."""
    if caller is None:
        return redirect("/sign-in")
    projects = service.projects_of(session, caller.person)
    if len(projects) == 1 and not caller.person.is_site_admin:
        return redirect(f"/projects/{projects[0][0].slug}")
    return render(request, "projects/list.html", projects=projects)


@router.get("/projects/new", response_class=HTMLResponse)
def new(_caller: SiteAdmin, request: Request) -> HTMLResponse:
    """The form for a new project."""
    return render(request, "projects/new.html", templates=TEMPLATES)


@router.post("/projects/new")
def create(
    caller: SiteAdmin, session: SessionDep, name: Text = "", address: Text = "", template: Text = ""
) -> Response:
    """Make it."""
    project = service.create_project(session, caller.person, slug=address.strip(), name=name, template=template)
    return redirect(f"/projects/{project.slug}")


@router.get("/projects/{slug}/settings", response_class=HTMLResponse)
def settings(member: Admin, request: Request) -> HTMLResponse:
    """Every setting, with what it means."""
    project = member.project
    return render(
        request,
        "projects/settings.html",
        project=project,
        numbers=service.NUMBERS,
        switches=service.SWITCHES,
        sampling=_fields(sampling_of(project.sampling), "sampling"),
        training=_fields(training_of(project.training), "training"),
        groups=[
            (group, _doc(group), _fields(getattr(training_of(project.training), group), f"training.{group}"))
            for group in GROUPS
        ],
    )


@router.post("/projects/{slug}/settings")
def save_settings(member: Admin, session: SessionDep, fields: FormFields) -> Response:
    """Check all and store all, or none."""
    service.change_settings(session, member.project, person_id=member.person.id, changes=_changes(fields))
    return redirect(f"/projects/{member.project.slug}/settings?saved=yes")


@router.get("/projects/{slug}/members", response_class=HTMLResponse)
def members(member: Admin, request: Request, session: SessionDep) -> HTMLResponse:
    """Who is here, and in which roles."""
    return _members(request, session, member)


@router.post("/projects/{slug}/invitations", response_class=HTMLResponse)
def invite(
    member: Admin, request: Request, session: SessionDep, roles: Annotated[list[str] | None, Form()] = None
) -> HTMLResponse:
    """A one-time link; this answer is the only time it is shown."""
    token = service.invite(session, member.project, roles=roles or [], person_id=member.person.id)
    return _members(request, session, member, token=token)


@router.post("/projects/{slug}/members/{person_id}/link", response_class=HTMLResponse)
def sign_in_link(member: Admin, person_id: int, request: Request, session: SessionDep) -> HTMLResponse:
    """A one-time sign-in link for a member; this answer is the only time it is shown."""
    token = service.sign_in_link(session, member.project, person_id, person_id=member.person.id)
    return _members(request, session, member, token=token, link_for=person_id)


@router.post("/projects/{slug}/members/{person_id}")
def set_roles(
    member: Admin, person_id: int, session: SessionDep, roles: Annotated[list[str] | None, Form()] = None
) -> Response:
    """Change somebody's roles, or remove them."""
    service.set_roles(session, member.project, person_id, roles=roles or [], person_id=member.person.id)
    return redirect(f"/projects/{member.project.slug}/members")


def _members(
    request: Request, session: SessionDep, member: Any, *, token: str = "", link_for: int | None = None
) -> HTMLResponse:
    people = service.members_of(session, member.project)
    return render(
        request,
        "projects/members.html",
        project=member.project,
        people=people,
        link=f"{settings_of(request).public_url.rstrip('/')}/link/{token}" if token else "",
        link_for=next((person.name for person, _ in people if person.id == link_for), ""),
        linkable=service.may_get_link(session, member.project, person_id=member.person.id),
    )


def _doc(group: str) -> str:
    kind = Training.model_fields[group].annotation
    return (kind.__doc__ or "").strip() if kind else ""


def _fields(values: BaseModel, prefix: str) -> list[dict[str, Any]]:
    """Key, title, value, help and limits of each number in a group of settings."""
    rows = []
    for name, field in type(values).model_fields.items():
        value = getattr(values, name)
        if isinstance(value, BaseModel):
            continue
        limits = {type(item).__name__.lower(): getattr(item, type(item).__name__.lower()) for item in field.metadata}
        rows.append({"key": f"{prefix}.{name}", "title": field.title, "value": value, "help": field.description,
            "low": limits.get("ge", limits.get("gt")), "high": limits.get("le", limits.get("lt")),
            "is_whole": field.annotation is int, "choices": get_args(field.annotation)
        })  # fmt: skip
    return rows


def _changes(fields: dict[str, list[str]]) -> dict[str, Any]:
    """The settings form as changes of columns."""

    def one(name: str) -> str:
        return fields.get(name, [""])[-1]

    changes: dict[str, Any] = {name: _whole(one(name), name) for name in service.NUMBERS if name in fields}
    changes |= {name: one(name) == "on" for name in service.SWITCHES}
    changes |= {name: one(name) for name in ("name", "description", "base_model") if name in fields}
    changes["sampling"] = _nested(fields, "sampling", Sampling)
    changes["training"] = _nested(fields, "training", Training)
    for name in ("attributes", "flags", "rules", "warnings", "reasons"):
        changes[name] = [_entry(line) for line in one(name).splitlines() if line.strip()]
    return changes


def _nested(fields: dict[str, list[str]], prefix: str, kind: type[BaseModel]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            values[name] = _nested(fields, f"{prefix}.{name}", inner)
        elif (text := fields.get(f"{prefix}.{name}", [""])[-1].strip()) != "":
            values[name] = _value(text, inner, f"{prefix}.{name}")
    return values


def _value(text: str, kind: Any, name: str) -> int | float | str:
    """What a field of the form says, as its setting wants it; a choice is checked with the settings."""
    if get_args(kind):
        return text
    return _whole(text, name) if kind is int else _decimal(text, name)


def _entry(line: str) -> dict[str, str]:
    """`key | label | help`."""
    key, _, rest = line.partition("|")
    label, _, help_text = rest.partition("|")
    return {"key": key.strip(), "label": label.strip(), "help": help_text.strip()}


def _whole(text: str, name: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise Invalid(f"{name}: a whole number is expected, not {text[:40]!r}.", field=name) from None


def _decimal(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise Invalid(f"{name}: a number is expected, not {text[:40]!r}.", field=name) from None
