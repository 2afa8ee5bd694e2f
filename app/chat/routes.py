"""Live chat in the browser. Each form also works without scripts; the stream only shows what is being written sooner."""

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Form, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse

from app.chat import desk, export, live, reading, service
from app.chat.desk import Talk
from app.errors import Invalid
from app.projects.deps import Admin, Rater
from app.rating.desk import newest_guideline
from app.rating.routes import answer_of
from app.web import FormFields, SessionDep, is_htmx, redirect, render, settings_of

router = APIRouter(prefix="/projects/{slug}", tags=["chat"])
Text = Annotated[str, Form()]
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@router.get("/chat", response_class=HTMLResponse)
def chats(member: Rater, request: Request, session: SessionDep) -> HTMLResponse:
    """One's chats, and a field to begin another."""
    newest, _ = newest_guideline(session, member.project, rater_id=member.person.id)
    return render(
        request,
        "chat/list.html",
        project=member.project,
        chats=reading.my_chats(session, member.project, rater_id=member.person.id),
        why_not=service.why_not(session, member.project, rater_id=member.person.id),
        newest=newest,
        key=uuid.uuid4(),
    )


@router.post("/chat")
def start(
    member: Rater,
    request: Request,
    session: SessionDep,
    background: BackgroundTasks,
    text: Text = "",
    idempotency_key: Text = "",
) -> Response:
    """Begin a chat."""
    said = service.start_chat(session, member.project, member.person, text=text, key=key_of(idempotency_key))
    write(request, background, said.turn.id)
    return redirect(f"/projects/{member.project.slug}/chat/{said.chat.id}")


@router.get("/chat/{chat_id}", response_class=HTMLResponse)
def show(member: Rater, chat_id: int, request: Request, session: SessionDep) -> HTMLResponse:
    """A chat as it stands; for htmx the part that changes."""
    return _desk(request, session, member, chat_id)


@router.get("/chat/{chat_id}/stream")
def stream(member: Rater, chat_id: int, request: Request, session: SessionDep) -> StreamingResponse:
    """The replies to the newest turn as server-sent events."""
    chat = reading.get_chat(session, member.project, chat_id, rater_id=member.person.id)
    events = live.events_of(request.app.state.engine, reading.newest_turn(session, chat.id).id)
    return StreamingResponse(events, media_type="text/event-stream", headers=STREAM_HEADERS)


@router.post("/chat/{chat_id}/turns", response_class=HTMLResponse)
def say(
    member: Rater,
    chat_id: int,
    request: Request,
    session: SessionDep,
    background: BackgroundTasks,
    text: Text = "",
    idempotency_key: Text = "",
) -> Response:
    """Say the next thing."""
    said = service.say(
        session, member.project, chat_id, rater_id=member.person.id, text=text, key=key_of(idempotency_key)
    )
    write(request, background, said.turn.id)
    return _after(request, session, member, chat_id)


@router.post("/chat/{chat_id}/turns/{turn_id}/choice", response_class=HTMLResponse)
def choose(
    member: Rater, chat_id: int, turn_id: int, request: Request, session: SessionDep, fields: FormFields
) -> Response:
    """Store the choice; the best reply goes on."""
    service.choose(
        session,
        member.project,
        member.person,
        chat_id,
        turn_id,
        key=key_of(fields.get("idempotency_key", [""])[-1]),
        answer=answer_of(fields, member.project),
    )
    return _after(request, session, member, chat_id, notice="Saved.")


@router.post("/chat/{chat_id}/turns/{turn_id}/draft", status_code=204)
def draft(member: Rater, chat_id: int, turn_id: int, session: SessionDep, fields: FormFields) -> Response:
    """Keep what has been chosen so far."""
    draft = answer_of(fields, member.project).draft
    service.save_draft(session, member.project, chat_id, turn_id, rater_id=member.person.id, draft=draft)
    return Response(status_code=204)


@router.post("/chat/{chat_id}/turns/{turn_id}/regenerate", response_class=HTMLResponse)
def regenerate(
    member: Rater,
    chat_id: int,
    turn_id: int,
    request: Request,
    session: SessionDep,
    background: BackgroundTasks,
    round: Annotated[int, Form()] = 0,  # noqa: A002
) -> Response:
    """Have all replies written anew."""
    service.regenerate(session, member.project, chat_id, turn_id, rater_id=member.person.id, round=round)
    write(request, background, turn_id)
    return _after(request, session, member, chat_id)


@router.post("/chat/{chat_id}/turns/{turn_id}/retry", response_class=HTMLResponse)
def retry(
    member: Rater, chat_id: int, turn_id: int, request: Request, session: SessionDep, background: BackgroundTasks
) -> Response:
    """Have those written again that broke off."""
    service.retry(session, member.project, chat_id, turn_id, rater_id=member.person.id)
    write(request, background, turn_id)
    return _after(request, session, member, chat_id)


@router.post("/chat/{chat_id}/turns/{turn_id}/report", response_class=HTMLResponse)
def report(
    member: Rater,
    chat_id: int,
    turn_id: int,
    request: Request,
    session: SessionDep,
    rule: Text = "",
    severity: Annotated[int, Form()] = 0,
    note: Text = "",
) -> Response:
    """Which rule was tried, whether it broke, how badly."""
    service.report(
        session,
        member.project,
        chat_id,
        turn_id,
        rater_id=member.person.id,
        rule=rule,
        broke=severity > 0,
        severity=severity,
        note=note,
    )
    return _after(request, session, member, chat_id, notice="Reported.")


@router.post("/chat/{chat_id}/end")
def end(member: Rater, chat_id: int, session: SessionDep) -> Response:
    """End a chat."""
    service.end_chat(session, member.project, chat_id, rater_id=member.person.id)
    return redirect(f"/projects/{member.project.slug}/chat/{chat_id}")


@router.get("/chats.jsonl")
def download(member: Admin, request: Request) -> StreamingResponse:
    """All chats with their lineage and reports, as an attachment: one turn a line."""
    headers = {
        "Content-Disposition": f'attachment; filename="{member.project.slug}-chats.jsonl"',
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }
    content = export.stream(request.app.state.engine, member.project)
    return StreamingResponse(content, media_type="application/x-ndjson", headers=headers)


def write(request: Request, background: BackgroundTasks, turn_id: int) -> None:
    """Begin to write, once this request's transaction is committed and its answer sent."""
    background.add_task(live.write_replies, request.app.state.engine, settings_of(request), turn_id)


def key_of(text: str) -> uuid.UUID:
    """The key that came with a form.

    Raises:
        Invalid: there is none.
    """
    try:
        return uuid.UUID(text)
    except ValueError:
        raise Invalid("This form is incomplete. Reload the page, and send it again.", field="idempotency_key") from None


def _after(request: Request, session: SessionDep, member: Rater, chat_id: int, *, notice: str = "") -> Response:
    if not is_htmx(request):
        return redirect(f"/projects/{member.project.slug}/chat/{chat_id}")
    return _desk(request, session, member, chat_id, notice=notice)


def _desk(request: Request, session: SessionDep, member: Rater, chat_id: int, *, notice: str = "") -> HTMLResponse:
    chat = reading.get_chat(session, member.project, chat_id, rater_id=member.person.id)
    talk = desk.talk_of(session, member.project, chat)
    template = "chat/_desk.html" if is_htmx(request) else "chat/page.html"
    newest, _ = newest_guideline(session, member.project, rater_id=member.person.id)
    return render(
        request, template, project=member.project, talk=talk, notice=notice, newest=newest, **_asked(talk, member)
    )


def _asked(talk: Talk, member: Rater) -> dict[str, Any]:
    """What the forms below the conversation need."""
    why_not = "off" if not member.project.allow_chat else "full" if talk.last.number >= service.MAX_TURNS else ""
    return {
        "key": uuid.uuid4(),
        "rules": reading.rules_of(member.project),
        "severities": service.SEVERITIES,
        "why_not": why_not,
        "max_rounds": service.MAX_ROUNDS,
    }
