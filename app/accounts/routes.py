"""Signing in and out, one-time links, and the account page."""

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from app import audit
from app.accounts import rate_limits, service
from app.accounts.deps import Anyone, InPerson, SignedIn, cookie_name
from app.accounts.models import ApiToken, OneTimeLink, Person, SignInSession
from app.db import Base
from app.errors import NotFound
from app.keys import BY_NAME, GROUPS, Keymap, clean_keymap, keymap_of
from app.security import client_address
from app.web import FormFields, SessionDep, is_htmx, redirect, render, safe_path, settings_of

router = APIRouter(tags=["accounts"])
Text = Annotated[str, Form()]


@router.get("/sign-in", response_class=HTMLResponse)
def sign_in_page(caller: Anyone, request: Request, next: str = "/") -> Response:  # noqa: A002 - the usual name
    """The form; those who are signed in already go on."""
    if caller is not None:
        return redirect(next)
    return render(request, "accounts/sign_in.html", next=safe_path(next))


@router.post("/sign-in")
def sign_in(
    _caller: Anyone,
    request: Request,
    session: SessionDep,
    email: Text = "",
    password: Text = "",
    next: Text = "/",  # noqa: A002
) -> Response:
    """With email and password."""
    rate_limits.count_sign_in(request, email=email.strip().lower(), address=client_address(request))
    person = service.authenticate(session, email, password=password)
    return _signed_in(request, session, person, to=next)


@router.post("/sign-out")
def sign_out(_caller: SignedIn, request: Request, session: SessionDep) -> Response:
    """End this session; the browser forgets its pages, and `static/js/attune.js` what it kept but unsent rankings."""
    service.end_session(session, request.cookies.get(cookie_name(request), ""))
    response = redirect("/sign-in")
    response.delete_cookie(cookie_name(request), path="/", secure=settings_of(request).secure_cookies, httponly=True)
    response.headers["Clear-Site-Data"] = '"cache"'
    return response


@router.get("/link/{token}", response_class=HTMLResponse)
def link_page(_caller: Anyone, token: str, request: Request, session: SessionDep) -> Response:
    """What the link is for, with a button: a preview that fetches the address does not spend it."""
    link = service.peek_link(session, token)
    project = _project_name(session, link)
    person = session.get(Person, link.person_id) if link.person_id else None
    return render(request, "accounts/link.html", link=link, token=token, project=project, person=person)


@router.post("/link/{token}")
def use_link(
    caller: Anyone,
    token: str,
    request: Request,
    session: SessionDep,
    email: Text = "",
    name: Text = "",
    password: Text = "",
) -> Response:
    """Spend the link: sign in, or make the account that it invites to."""
    link = service.use_link(session, token)
    if link.purpose == "sign_in":
        person = session.get(Person, link.person_id)
        if person is None or not person.is_active:
            raise NotFound("This account is closed.")
        return _signed_in(request, session, person, to="/")
    if caller is not None:
        person = session.get_one(Person, caller.person.id)
    else:
        person = service.create_person(session, email, name=name, password=password)
    if link.purpose == "first_admin":
        person.is_site_admin = True
    if link.project_id is not None:
        _join(session, link, person)
    return redirect("/") if caller else _signed_in(request, session, person, to="/")


@router.get("/account", response_class=HTMLResponse)
def account(caller: InPerson, request: Request, session: SessionDep) -> Response:
    """One's own name, password, tokens and sessions."""
    return _account_page(request, session, caller.person, current=caller.session_id)


@router.post("/account/password")
def change_password(
    caller: InPerson, request: Request, session: SessionDep, new_password: Text = "", old_password: Text = ""
) -> Response:
    """Choose a password; the old one is needed where there is one. All other sessions end."""
    person = session.get_one(Person, caller.person.id)
    if person.password_hash:
        rate_limits.count_sign_in(request, email=person.email, address=client_address(request))
        service.authenticate(session, person.email, password=old_password)
    person.password_hash = service.hash_password(new_password, email=person.email)
    service.end_all_sessions(session, person.id)
    audit.record(session, "password.changed", subject=f"person:{person.id}", actor_id=person.id)
    return _signed_in(request, session, person, to="/account")


@router.post("/account/name")
def change_name(caller: InPerson, session: SessionDep, name: Text = "") -> Response:
    """Be called something else."""
    session.get_one(Person, caller.person.id).name = service.clean_name(name)
    return redirect("/account")


@router.get("/account/keys", response_class=HTMLResponse)
def keys_page(_caller: InPerson, request: Request) -> Response:
    """Which key does what at the desk."""
    return render(request, "accounts/keys.html", groups=GROUPS)


@router.post("/account/keys")
def change_keys(caller: InPerson, session: SessionDep, fields: FormFields) -> Response:
    """Have these keys; a command that the form does not name gets its usual ones."""
    wanted = {name: fields[name][-1].split() for name in BY_NAME if name in fields}
    single_keys = keymap_of(caller.person.preferences).single_keys
    service.set_keymap(session, caller.person.id, clean_keymap(wanted, single_keys=single_keys))
    return redirect("/account/keys")


@router.post("/account/keys/reset")
def reset_keys(caller: InPerson, session: SessionDep) -> Response:
    """Have the usual keys again."""
    service.set_keymap(session, caller.person.id, Keymap())
    return redirect("/account/keys")


@router.post("/account/keys/single", response_class=HTMLResponse)
def switch_single_keys(caller: InPerson, request: Request, session: SessionDep, single_keys: Text = "") -> Response:
    """Switch all keys that are single characters on or off."""
    keymap = replace(keymap_of(caller.person.preferences), single_keys=single_keys == "on")
    service.set_keymap(session, caller.person.id, keymap)
    if is_htmx(request):
        return render(request, "accounts/_single_keys.html", keymap=keymap)
    return redirect("/account/keys")


@router.post("/account/tokens", response_class=HTMLResponse)
def create_token(
    caller: InPerson,
    request: Request,
    session: SessionDep,
    name: Text = "",
    scopes: Annotated[list[str] | None, Form()] = None,
) -> Response:
    """A token for programs; this answer is the only time it is shown."""
    _, token = service.create_api_token(session, caller.person, name=name, scopes=scopes or [])
    return _account_page(request, session, caller.person, current=caller.session_id, new_token=token)


@router.post("/account/tokens/{token_id}/revoke")
def revoke_token(caller: InPerson, token_id: int, session: SessionDep) -> Response:
    """End a token."""
    service.revoke_api_token(session, caller.person, token_id=token_id)
    return redirect("/account")


@router.post("/account/sessions/{session_id}/end")
def end_session(caller: InPerson, session_id: int, session: SessionDep) -> Response:
    """Sign out another browser of one's own."""
    mine = delete(SignInSession).where(SignInSession.id == session_id, SignInSession.person_id == caller.person.id)
    if session.scalar(mine.returning(SignInSession.id)) is None:
        raise NotFound("You have no such session.")
    return redirect("/account")


def _signed_in(request: Request, session: SessionDep, person: Person, *, to: str) -> Response:
    """A fresh session, whatever session there was before."""
    service.end_session(session, request.cookies.get(cookie_name(request), ""))
    token = service.start_session(session, person, user_agent=request.headers.get("User-Agent", ""))
    settings = settings_of(request)
    response = redirect(to)
    response.set_cookie(
        cookie_name(request),
        token,
        max_age=settings.session_absolute_hours * 3600,
        path="/",
        secure=settings.secure_cookies,
        httponly=True,
        samesite="lax",
    )
    return response


def _join(session: SessionDep, link: OneTimeLink, person: Person) -> None:
    membership = Base.metadata.tables["membership"]  # By name: projects stand above accounts.
    rows = [{"project_id": link.project_id, "person_id": person.id, "role": role} for role in link.roles]
    session.execute(insert(membership).values(rows).on_conflict_do_nothing())
    audit.record(
        session,
        "member.joined",
        subject=f"person:{person.id}",
        actor_id=person.id,
        project_id=link.project_id,
        details={"roles": link.roles},
    )


def _project_name(session: SessionDep, link: OneTimeLink) -> str:
    if link.project_id is None:
        return ""
    project = Base.metadata.tables["project"]
    return session.scalar(select(project.c.name).where(project.c.id == link.project_id)) or ""


def _account_page(
    request: Request, session: SessionDep, person: Person, *, current: int | None, new_token: str = ""
) -> HTMLResponse:
    tokens = select(ApiToken).where(ApiToken.person_id == person.id, ApiToken.revoked_at.is_(None))
    sessions = select(SignInSession).where(SignInSession.person_id == person.id)
    return render(
        request,
        "accounts/account.html",
        person=person,
        tokens=session.scalars(tokens.order_by(ApiToken.id)).all(),
        sessions=session.scalars(sessions.order_by(SignInSession.last_seen_at.desc())).all(),
        current=current,
        new_token=new_token,
        scopes=service.SCOPES,
    )
