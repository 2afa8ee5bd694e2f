"""Endpoints that operators register: models elsewhere, at origins that whoever runs the server has allowed."""

import re
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app import audit
from app.chat import vault
from app.chat.models import ChatEndpoint
from app.chat.protocol import SamplerError, Target, stream_reply
from app.config import Settings
from app.errors import Conflict, Invalid, NotFound
from app.projects.models import Project

MAX_ENDPOINTS = 20
MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}")
KEY = re.compile(r"[\x21-\x7e]{1,500}")
TRY = [{"role": "user", "content": "Say hello in one short sentence."}]


def list_endpoints(session: Session, project: Project) -> list[ChatEndpoint]:
    """Those in use or switched off, oldest first."""
    query = select(ChatEndpoint).where(ChatEndpoint.project_id == project.id, ChatEndpoint.removed_at.is_(None))
    return list(session.scalars(query.order_by(ChatEndpoint.id)))


def get_endpoint(session: Session, project: Project, endpoint_id: int) -> ChatEndpoint:
    """One of this project's.

    Raises:
        NotFound: it has no such endpoint.
    """
    mine = (ChatEndpoint.id == endpoint_id, ChatEndpoint.project_id == project.id, ChatEndpoint.removed_at.is_(None))
    endpoint = session.scalar(select(ChatEndpoint).where(*mine))
    if endpoint is None:
        raise NotFound("This project has no such endpoint.")
    return endpoint


def save_endpoint(
    session: Session,
    settings: Settings,
    project: Project,
    *,
    person_id: int,
    endpoint_id: int | None = None,
    key: str = "",
    **values: Any,
) -> ChatEndpoint:
    """Register an endpoint, or change one. An empty `key` keeps the one that is there; a new address forgets it.

    Raises:
        Invalid: naming the field. Conflict: the name is taken. NotFound: no such endpoint.
    """
    session.execute(select(Project.id).where(Project.id == project.id).with_for_update(key_share=True))
    checked = _checked(settings, values)
    if key and not KEY.fullmatch(key):
        raise Invalid("The key may have 500 printable ASCII characters without spaces.", field="key")
    if endpoint_id is None:
        if len(list_endpoints(session, project)) >= MAX_ENDPOINTS:
            raise Invalid(f"A project has at most {MAX_ENDPOINTS} endpoints. Remove one first.", field="name")
        endpoint = ChatEndpoint(project_id=project.id, created_by_id=person_id, **checked)
    else:
        endpoint = get_endpoint(session, project, endpoint_id)
        if not key and endpoint.base_url != checked["base_url"]:
            endpoint.secret = None  # A key is meant for the address that it was entered with.
        for name, value in checked.items():
            setattr(endpoint, name, value)
    if key:
        endpoint.secret = vault.seal(settings, key)
    session.add(endpoint)
    try:
        session.flush()
    except IntegrityError:
        raise Conflict("There is an endpoint of this name already. Choose another name.", field="name") from None
    _note(session, endpoint, "chat_endpoint.added" if endpoint_id is None else "chat_endpoint.changed", person_id)
    return endpoint


def remove_endpoint(session: Session, project: Project, endpoint_id: int, *, person_id: int) -> None:
    """Draw from it no more, and forget its key. Its name stays with the replies that it wrote. Twice is harmless."""
    known = select(ChatEndpoint).where(ChatEndpoint.id == endpoint_id, ChatEndpoint.project_id == project.id)
    endpoint = session.scalar(known)
    if endpoint is None:
        raise NotFound("This project has no such endpoint.")
    gone = update(ChatEndpoint).where(ChatEndpoint.id == endpoint_id, ChatEndpoint.removed_at.is_(None))
    if session.execute(gone.values(removed_at=func.now(), secret=None)).rowcount:  # type: ignore[attr-defined]
        _note(session, endpoint, "chat_endpoint.removed", person_id)


def target_of(settings: Settings, endpoint: ChatEndpoint) -> Target:
    """Where to ask, checked again at each use: what was allowed when it was registered may be so no longer.

    Raises:
        SamplerError: the address is not allowed, or the key cannot be read.
    """
    try:
        check_url(settings, endpoint.base_url)
    except Invalid as refused:
        raise SamplerError(refused.message) from None
    key = vault.unseal(settings, endpoint.secret) if endpoint.secret else ""
    return Target(endpoint.base_url, endpoint.model, key)


def begin_try(session: Session, project: Project, endpoint_id: int, *, person_id: int) -> ChatEndpoint:
    """The endpoint to be tried; that somebody does is on record, because it leaves the server.

    Raises:
        NotFound: this project has no such endpoint.
    """
    endpoint = get_endpoint(session, project, endpoint_id)
    _note(session, endpoint, "chat_endpoint.tried", person_id)
    return endpoint


async def try_endpoint(target: Target, temperature: float) -> tuple[bool, str]:
    """Whether it answers, and the beginning of what it said or why it did not."""
    said = ""
    try:
        async for piece in stream_reply(target, TRY, sampling={"temperature": temperature, "max_tokens": 40}):
            said += piece.text
    except SamplerError as error:
        return False, error.reason
    return True, said.strip()[:500]


def check_url(settings: Settings, url: str) -> str:
    """A base address whose origin is on the server's list. Nothing is looked up, so no name can be bent later.

    Raises:
        Invalid: it is no address, or not allowed.
    """
    parts = urlsplit(url) if url.isascii() and url.isprintable() and " " not in url and "\\" not in url else None
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname or len(url) > 300:
        raise Invalid("The address should look like https://models.example.org/v1.", field="base_url")
    if "@" in parts.netloc or parts.query or parts.fragment or "?" in url or "#" in url or ".." in parts.path:
        raise Invalid("The address may have no user name, question mark, # or `..`.", field="base_url")
    origin = f"{parts.scheme}://{parts.netloc}".lower()
    if origin not in {allowed.rstrip("/").lower() for allowed in settings.endpoint_origins}:
        raise Invalid(
            f"{origin} is not on this server's list. Whoever runs the server adds it to ATTUNE_ENDPOINT_ORIGINS.",
            field="base_url",
        )
    return url.rstrip("/")


def _checked(settings: Settings, values: dict[str, Any]) -> dict[str, Any]:
    name, model = values["name"].strip(), values["model"].strip()
    if not 1 <= len(name) <= 60 or not name.isprintable():
        raise Invalid("A name needs 1 to 60 printable characters.", field="name")
    if not MODEL.fullmatch(model):
        raise Invalid("A model's name has letters, digits and . _ : / @ + - only.", field="model")
    if not 0 <= values["temperature"] <= 5:
        raise Invalid("A temperature from 0 to 5 is expected.", field="temperature")
    if not 0 <= values["weight"] <= 100:
        raise Invalid("A weight from 0 to 100 is expected.", field="weight")
    return {
        "name": name,
        "base_url": check_url(settings, values["base_url"].strip()),
        "model": model,
        "temperature": float(values["temperature"]),
        "weight": int(values["weight"]),
        "is_enabled": bool(values["is_enabled"]),
    }


def _note(session: Session, endpoint: ChatEndpoint, act: str, person_id: int) -> None:
    audit.record(
        session, act, subject=f"chat_endpoint:{endpoint.id}", actor_id=person_id, project_id=endpoint.project_id
    )
