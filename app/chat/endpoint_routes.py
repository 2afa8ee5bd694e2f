"""The operators' page of endpoints."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse

from app.chat import endpoints
from app.chat.protocol import SamplerError, Target
from app.errors import Invalid
from app.projects.deps import Operator
from app.web import SessionDep, SettingsDep, is_htmx, redirect, render

router = APIRouter(prefix="/projects/{slug}/endpoints", tags=["chat"])
Text = Annotated[str, Form()]
TRY_SECONDS = 60


@router.get("", response_class=HTMLResponse)
def show(member: Operator, request: Request, session: SessionDep, settings: SettingsDep) -> HTMLResponse:
    """What is registered, and a form for more."""
    return render(
        request,
        "chat/endpoints.html",
        project=member.project,
        endpoints=endpoints.list_endpoints(session, member.project),
        origins=settings.endpoint_origins,
    )


@router.post("")
def add(
    member: Operator,
    session: SessionDep,
    settings: SettingsDep,
    name: Text = "",
    base_url: Text = "",
    model: Text = "",
    key: Text = "",
    temperature: Text = "1",
    weight: Text = "1",
    is_enabled: Text = "",
) -> Response:
    """Register one."""
    values = {"name": name, "base_url": base_url, "model": model, **_numbers(temperature, weight)}
    endpoints.save_endpoint(
        session,
        settings,
        member.project,
        person_id=member.person.id,
        key=key.strip(),
        is_enabled=is_enabled == "on",
        **values,
    )
    return redirect(f"/projects/{member.project.slug}/endpoints")


@router.post("/{endpoint_id}")
def change(
    member: Operator,
    endpoint_id: int,
    session: SessionDep,
    settings: SettingsDep,
    name: Text = "",
    base_url: Text = "",
    model: Text = "",
    key: Text = "",
    temperature: Text = "1",
    weight: Text = "1",
    is_enabled: Text = "",
) -> Response:
    """Change one; an empty key keeps the old one."""
    values = {"name": name, "base_url": base_url, "model": model, **_numbers(temperature, weight)}
    endpoints.save_endpoint(
        session,
        settings,
        member.project,
        person_id=member.person.id,
        endpoint_id=endpoint_id,
        key=key.strip(),
        is_enabled=is_enabled == "on",
        **values,
    )
    return redirect(f"/projects/{member.project.slug}/endpoints")


@router.post("/{endpoint_id}/remove")
def remove(member: Operator, endpoint_id: int, session: SessionDep) -> Response:
    """Draw from it no more."""
    endpoints.remove_endpoint(session, member.project, endpoint_id, person_id=member.person.id)
    return redirect(f"/projects/{member.project.slug}/endpoints")


@router.post("/{endpoint_id}/try", response_class=HTMLResponse)
def attempt(
    member: Operator, endpoint_id: int, request: Request, session: SessionDep, settings: SettingsDep
) -> StreamingResponse:
    """Ask it for one sentence. The answer is awaited while it streams, when no database session is open any more."""
    endpoint = endpoints.begin_try(session, member.project, endpoint_id, person_id=member.person.id)
    template = "chat/_tried.html" if is_htmx(request) else "chat/tried.html"
    context: dict[str, Any] = {"project": member.project, "endpoint": endpoint}
    asked = ask(settings, endpoint)

    async def page() -> AsyncIterator[bytes]:
        answers, words = await asked
        yield bytes(render(request, template, answers=answers, words=words, **context).body)

    return StreamingResponse(
        page(), media_type="text/html", headers={"Cache-Control": "no-store", "Vary": "HX-Request"}
    )


async def ask(settings: Any, endpoint: Any) -> tuple[bool, str]:
    """Whether an endpoint answers within a minute, and what it said or why it did not."""
    try:
        target: Target = endpoints.target_of(settings, endpoint)
        async with asyncio.timeout(TRY_SECONDS):
            return await endpoints.try_endpoint(target, endpoint.temperature)
    except TimeoutError:
        return False, f"no answer within {TRY_SECONDS} seconds"
    except SamplerError as error:
        return False, error.reason


def _numbers(temperature: str, weight: str) -> dict[str, Any]:
    try:
        value = float(temperature) if len(temperature) <= 20 else float("nan")
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 5:
        raise Invalid("A temperature from 0 to 5 is expected.", field="temperature")
    if not (weight.isascii() and weight.isdigit() and len(weight) <= 3):
        raise Invalid("A weight from 0 to 100 is expected.", field="weight")
    return {"temperature": value, "weight": int(weight)}
