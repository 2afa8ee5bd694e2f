"""Every refusal as a page, a fragment for htmx, or JSON; a database that is away as 503; a bug as a plain 500."""

import logging
import uuid
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from app import errors
from app.security import security_headers
from app.web import is_htmx, redirect, render, settings_of

log = logging.getLogger(__name__)
HIDDEN_FIELDS = {"csrf_token", "password", "new_password", "old_password", "idempotency_key", "token"}
RETRY = {"Retry-After": "5"}


def install(app: FastAPI) -> None:
    """Register the handlers."""
    app.add_exception_handler(errors.AppError, _app_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_error)
    for away in (OperationalError, InterfaceError, PoolTimeout):
        app.add_exception_handler(away, _database_away)
    app.add_exception_handler(DBAPIError, _database_refused)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _bug)


async def answer(request: Request, status: int, message: str, *, field: str | None = None) -> Response:
    """The sentence in the shape that the client reads, with what was typed kept for a browser without scripts."""
    headers = RETRY if status in {429, 503} else {}
    if wants_json(request):
        body = {"error": {"status": status, "message": message, "field": field}}
        return JSONResponse(body, status_code=status, headers=headers)
    if is_htmx(request):
        refused = _refused(request, status)
        response: Response = render(request, "_error.html", status=status, message=message, refused=refused)
        response.headers.update({"HX-Retarget": "#notices", "HX-Reswap": "innerHTML", **headers})
        return response
    title = HTTPStatus(status).phrase
    typed = await _typed(request)
    response = render(request, "error.html", status=status, title=title, message=message, typed=typed)
    response.headers.update(headers)
    return response


def _refused(request: Request, status: int) -> str:
    """What `static/js/again.js` can mend: nobody is signed in any more, or the form is perhaps of an earlier session."""
    if status == HTTPStatus.UNAUTHORIZED and getattr(request.state, "caller", None) is None:
        return "signed out"
    return "forbidden" if status == HTTPStatus.FORBIDDEN else ""


def wants_json(request: Request) -> bool:
    """The API speaks JSON; so does a client that asks for it and not for HTML."""
    accept = request.headers.get("Accept", "")
    return request.scope["path"].startswith("/api/") or ("application/json" in accept and "text/html" not in accept)


async def _typed(request: Request) -> dict[str, str]:
    """The text fields of a refused form. A refusal must not cost anybody their words."""
    if "form" not in request.headers.get("Content-Type", "") or getattr(request, "_form", None) is None:
        return {}
    form = await request.form()
    return {k: v for k, v in form.items() if isinstance(v, str) and v and k not in HIDDEN_FIELDS}


async def _app_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.AppError)
    is_browser = request.method == "GET" and not wants_json(request) and "Authorization" not in request.headers
    if isinstance(error, errors.NotSignedIn) and is_browser:
        return redirect(f"/sign-in?next={request.url.path}")
    return await answer(request, error.status, error.message, field=error.field)


async def _invalid_request(request: Request, error: Exception) -> Response:
    """A field is missing or of the wrong type: say which, and what was expected."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = [str(part) for part in first["loc"] if part not in {"body", "query", "path", "header"}]
    status = 404 if first["loc"][:1] == ("path",) else 422
    name = ".".join(where) or "the request"
    return await answer(request, status, f"{name}: {first['msg']}.", field=name)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    sentences = {
        400: f"The body of the request cannot be read ({_lower(error.detail)}). Send JSON in UTF-8, or the form as it is.",
        404: "There is no such page.",
        405: "This page cannot be asked for in that way.",
    }
    return await answer(request, error.status_code, sentences.get(error.status_code, str(error.detail)))


def _lower(detail: object) -> str:
    """A library's remark, to be put in the middle of a sentence."""
    said = str(detail).rstrip(".")
    return said[:1].lower() + said[1:]


async def _database_away(request: Request, error: Exception) -> Response:
    log.warning("The database did not answer: %s: %s", type(error).__name__, getattr(error, "orig", error))
    sentence = "The database does not answer just now. Nothing was stored; what you typed is kept. Try again shortly."
    return await answer(request, 503, sentence)


async def _database_refused(request: Request, error: Exception) -> Response:
    """A value that the database cannot hold, such as a number beyond 64 bits or a NUL, is bad input, not a bug."""
    assert isinstance(error, DBAPIError)
    state = str(getattr(error.orig, "sqlstate", None) or "")
    if state.startswith("22") or isinstance(error.orig, ValueError | OverflowError | UnicodeError):
        return await answer(request, 422, "A value is out of range or holds characters that cannot be stored.")
    if state == "23505":  # Two looked, found nothing, and made the same: one was first.
        return await answer(request, 409, "Somebody else has just made the same. Nothing was stored; look again.")
    if state in {"40001", "40P01", "55P03", "57014"}:
        return await answer(request, 503, "Someone else was changing the same thing. Nothing was stored; try again.")
    return await _bug(request, error)


async def _gone(_request: Request, _error: Exception) -> Response:
    """Who left while still sending reads no answer; the number is for the metrics, and no bug."""
    return Response(status_code=400)


async def _bug(request: Request, error: Exception) -> Response:
    reference = uuid.uuid4().hex[:12]
    log.error("Unhandled error %s on %s", reference, request.scope["path"], exc_info=error)
    response = await answer(request, 500, f"Something broke on our side (reference {reference}). Nothing was stored.")
    response.headers.update(security_headers(settings_of(request)))
    return response
