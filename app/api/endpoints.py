"""Endpoints for chat, for programs. A key goes in and never comes out."""

import datetime as dt
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import Field

from app.api.shapes import Answer, Body
from app.chat import endpoints
from app.chat.endpoint_routes import ask
from app.chat.models import ChatEndpoint
from app.projects.deps import Operator
from app.web import SessionDep, SettingsDep

router = APIRouter(prefix="/projects/{slug}/endpoints", tags=["chat"])


class EndpointBody(Body):
    """A model elsewhere that speaks the OpenAI chat protocol."""

    name: str = Field(description="For operators; raters never see it.")
    base_url: str = Field(description="Up to and including `/v1`; its origin must be on the server's list.")
    model: str
    key: str = Field("", description="Sent as a bearer token; empty keeps the one that is there.")
    temperature: float = 1.0
    weight: int = Field(1, description="Share of the lots; a policy has 1, the serving one 3.")
    is_enabled: bool = True


class EndpointShape(Answer):
    """An endpoint, without its key."""

    id: int
    name: str
    base_url: str
    model: str
    has_key: bool
    temperature: float
    weight: int
    is_enabled: bool
    created_at: dt.datetime


class Tried(Answer):
    """Whether it answered, and its words or the reason."""

    answers: bool
    words: str


@router.get("")
def list_endpoints(member: Operator, session: SessionDep) -> list[EndpointShape]:
    """Those that are registered."""
    return [_shape(endpoint) for endpoint in endpoints.list_endpoints(session, member.project)]


@router.post("", status_code=201)
def add(member: Operator, body: EndpointBody, session: SessionDep, settings: SettingsDep) -> EndpointShape:
    """Register one."""
    values = body.model_dump()
    return _shape(endpoints.save_endpoint(session, settings, member.project, person_id=member.person.id, **values))


@router.put("/{endpoint_id}")
def change(
    member: Operator, endpoint_id: int, body: EndpointBody, session: SessionDep, settings: SettingsDep
) -> EndpointShape:
    """Change one. A new address forgets the key, unless a new one comes with it."""
    values = body.model_dump()
    return _shape(
        endpoints.save_endpoint(
            session, settings, member.project, person_id=member.person.id, endpoint_id=endpoint_id, **values
        )
    )


@router.delete("/{endpoint_id}", status_code=204)
def remove(member: Operator, endpoint_id: int, session: SessionDep) -> None:
    """Draw from it no more; twice is harmless."""
    endpoints.remove_endpoint(session, member.project, endpoint_id, person_id=member.person.id)


@router.post("/{endpoint_id}/try", response_model=Tried)
def attempt(member: Operator, endpoint_id: int, session: SessionDep, settings: SettingsDep) -> Any:
    """Ask it for one sentence, for at most a minute."""
    asked = ask(settings, endpoints.begin_try(session, member.project, endpoint_id, person_id=member.person.id))

    async def answer() -> AsyncIterator[str]:
        answers, words = await asked
        yield json.dumps({"answers": answers, "words": words})

    return StreamingResponse(answer(), media_type="application/json", headers={"Cache-Control": "no-store"})


def _shape(endpoint: ChatEndpoint) -> EndpointShape:
    columns = {name: getattr(endpoint, name) for name in EndpointShape.model_fields if name != "has_key"}
    return EndpointShape(**columns, has_key=endpoint.secret is not None)
