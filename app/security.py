"""Headers, body limits and the cross-origin check: what holds for every request, whatever the route."""

import hmac
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.accounts.deps import MaybeCaller
from app.config import Settings
from app.errors import Forbidden
from app.web import settings_of

CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "manifest-src 'self'",
    ]
)
SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}


async def check_csrf(request: Request, caller: MaybeCaller) -> None:
    """Refuse a state change that another site, or a form of another session, asks for.

    An application-wide dependency. Requests with an API token are not a browser's doing and need no check.
    """
    if request.method in SAFE_METHODS or (caller is not None and caller.scopes is not None):
        return
    if not is_same_origin(request):
        raise Forbidden("This request came from another site, so nothing was done. Open the page here and try again.")
    if caller is None:
        return  # No session, nothing to ride on: signing in is guarded by the origin alone.
    sent = request.headers.get("X-CSRF-Token") or str((await request.form()).get("csrf_token", ""))
    if not hmac.compare_digest(sent.encode(), caller.csrf_token.encode()):
        raise Forbidden("This form was made for another session. Nothing was stored; reload the page and send again.")


def is_same_origin(request: Request) -> bool:
    """By `Sec-Fetch-Site` where the browser says it, else by `Origin`; a client that sends neither is no browser."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = request.headers.get("Origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("Host")


def security_headers(settings: Settings) -> dict[str, str]:
    """What every response carries."""
    headers = {
        "Content-Security-Policy": CONTENT_SECURITY_POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    if settings.secure_cookies:
        headers["Strict-Transport-Security"] = "max-age=63072000; includeSubDomains"
    return headers


class SecurityHeaders:
    """Adds the security headers to every response but that of a bug, which is made outside of all middleware."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.headers = security_headers(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self.headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_with_headers)


class BodyLimit:
    """Counts a body's bytes as they come and refuses it past the limit; import uploads have their own."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.limit = settings.max_body_bytes
        self.import_limit = settings.max_import_bytes + 1_048_576

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in SAFE_METHODS:
            await self.app(scope, receive, send)
            return
        limit = self.import_limit if scope["path"].endswith("/imports") else self.limit
        seen = 0

        async def receive_counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                # As an HTTPException, because FastAPI turns any other failure to read a body into a bare 400.
                raise HTTPException(
                    413, f"This is larger than the {limit:,} bytes that are accepted here. Send less at a time."
                )
            return message

        await self.app(scope, receive_counted, send)


def client_address(request: Request) -> str:
    """Whom to count attempts against. Proxy headers are honoured by uvicorn, and only from listed proxies."""
    return request.client.host if request.client else "unknown"


__all__ = ["BodyLimit", "SecurityHeaders", "check_csrf", "client_address", "settings_of"]
