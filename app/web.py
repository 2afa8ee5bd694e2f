"""What every route needs: the session, the templates, and answers for htmx and for plain browsers."""

import datetime as dt
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import jinja2
from fastapi import Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.orm import Session

from app import assets, texts
from app.config import Settings
from app.keys import keymap_of

ROOT = Path(__file__).resolve().parent.parent


def open_session(request: Request) -> Iterator[Session]:
    """One transaction for one request, committed before the answer is sent (see `SessionDep`)."""
    with Session(request.app.state.engine, expire_on_commit=False) as session, session.begin():
        yield session


SessionDep = Annotated[Session, Depends(open_session, scope="function")]
"""The request's session. Function scope: FastAPI would otherwise commit after the response was sent."""


def settings_of(request: Request) -> Settings:
    """The settings of this application."""
    settings: Settings = request.app.state.settings
    return settings


SettingsDep = Annotated[Settings, Depends(settings_of)]


async def form_fields(request: Request) -> dict[str, list[str]]:
    """All text fields of the form, for forms whose fields depend on the project."""
    form = await request.form()
    return {name: [value for value in form.getlist(name) if isinstance(value, str)] for name in form}


FormFields = Annotated[dict[str, list[str]], Depends(form_fields)]


@jinja2.pass_context
def _kbd(context: jinja2.runtime.Context, command: str, num_responses: int = 0) -> str:
    """`{{ kbd("skip") }}`: the reader's key for a command, as a hint."""
    return texts.kbd(context["keymap"].hint(command, num_responses=num_responses))


@lru_cache
def templates() -> jinja2.Environment:
    """The template environment: autoescaping, and undefined variables are errors."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROOT / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals.update(asset=assets.url, now=lambda: dt.datetime.now(dt.UTC), kbd=_kbd)
    environment.filters.update(markdown=texts.markdown, ticked=texts.ticked)
    environment.filters.update(ago=texts.ago, number=texts.number, percent=texts.percent)
    return environment


def render(request: Request, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
    """A page or fragment. Every template also sees `request`, `caller` (or None), `keymap`, `csrf_token` and `is_htmx`."""
    caller = getattr(request.state, "caller", None)
    keymap = keymap_of(caller.person.preferences if caller else None)
    context = {"member": getattr(request.state, "member", None), "keymap": keymap, **context}
    html = (
        templates()
        .get_template(template)
        .render(
            request=request,
            caller=caller,
            csrf_token=caller.csrf_token if caller else "",
            is_htmx=is_htmx(request),
            **context,
        )
    )
    return HTMLResponse(html, status_code=status, headers={"Vary": "HX-Request", "Cache-Control": "no-store"})


def is_htmx(request: Request) -> bool:
    """Whether htmx asked, and a fragment will do."""
    return request.headers.get("HX-Request") == "true"


def redirect(url: str) -> Response:
    """See Other, to a path of ours."""
    return RedirectResponse(safe_path(url), status_code=303)


def safe_path(url: str, *, otherwise: str = "/") -> str:
    """`url` when it is a path on this site, else `otherwise`; browsers read `//host` and backslashes as hosts."""
    is_path = url.startswith("/") and not url.startswith(("//", "/\\")) and url.isprintable() and "\\" not in url
    return url if is_path else otherwise
