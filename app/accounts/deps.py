"""Permissions that need no project: anyone, signed in, site admin. Every route carries one as a parameter."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security.utils import get_authorization_scheme_param

from app.accounts import service
from app.accounts.service import Caller
from app.errors import NotSignedIn
from app.web import SessionDep, settings_of

COOKIE, SECURE_COOKIE = "attune_session", "__Host-attune_session"


def cookie_name(request: Request) -> str:
    """The `__Host-` prefix ties the cookie to this host, and browsers allow it over HTTPS only."""
    return SECURE_COOKIE if settings_of(request).secure_cookies else COOKIE


def find_caller(request: Request, session: SessionDep) -> Caller | None:
    """Who asks: by API token in the Authorization header, else by session cookie, else nobody."""
    scheme, credential = get_authorization_scheme_param(request.headers.get("Authorization"))
    if scheme:
        caller = service.caller_of_api_token(session, credential) if scheme.lower() == "bearer" else None
        if caller is None:
            raise NotSignedIn("This API token is unknown, revoked or expired. Make a new one under Account.")
    else:
        token = request.cookies.get(cookie_name(request))
        caller = service.caller_of_session(session, token, settings=settings_of(request)) if token else None
    if caller is not None:
        session.expunge(caller.person)  # A rollback would empty it, and the page that tells why shows the name.
    request.state.caller = caller
    return caller


MaybeCaller = Annotated[Caller | None, Depends(find_caller)]


class Permission:
    """What a route demands of its caller. A test lists all routes and refuses one without."""

    name = "?"


class AnyonePermission(Permission):
    """Nobody needs to be signed in."""

    name = "anyone"

    def __call__(self, caller: MaybeCaller) -> Caller | None:
        return caller


class SignedInPermission(Permission):
    """Somebody is signed in."""

    name = "signed in"

    def __call__(self, caller: MaybeCaller) -> Caller:
        if caller is None:
            raise NotSignedIn("Sign in first.")
        return caller


class InPersonPermission(Permission):
    """Somebody is signed in with a browser: a token must not change passwords or make stronger tokens."""

    name = "signed in, in person"

    def __call__(self, caller: MaybeCaller) -> Caller:
        if caller is None:
            raise NotSignedIn("Sign in first.")
        service.demand_in_person(caller)
        return caller


class SiteAdminPermission(Permission):
    """A site admin is signed in."""

    name = "site admin"

    def __call__(self, caller: MaybeCaller) -> Caller:
        if caller is None:
            raise NotSignedIn("Sign in first.")
        service.demand_site_admin(caller)
        return caller


Anyone = Annotated[Caller | None, Depends(AnyonePermission())]
SignedIn = Annotated[Caller, Depends(SignedInPermission())]
InPerson = Annotated[Caller, Depends(InPersonPermission())]
SiteAdmin = Annotated[Caller, Depends(SiteAdminPermission())]
