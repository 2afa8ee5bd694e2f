"""Writing replies while people watch: from the sampler into memory and the database, and from there to the browser.

No database session is open while anything streams: each look and each note is a short transaction of its own. What is
in memory serves the browsers of this process; those of another process read what was noted, once a second.
"""

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, func, select, update
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from app.chat.endpoints import target_of
from app.chat.models import Chat, ChatEndpoint, ChatReply, ChatTurn
from app.chat.protocol import Piece, SamplerError, Target, stream_reply
from app.chat.reading import history_of, replies_of
from app.config import Settings
from app.db import transaction
from app.errors import AppError

log = logging.getLogger(__name__)
BROKE_OFF = "This reply broke off. Nothing else is lost: have it written again."
NOTE_SECONDS = 1.0
TICK_SECONDS = 0.05
LOOK_SECONDS = 0.5
KEEP_ALIVE_SECONDS = 15.0
MOST_SECONDS = 1200.0
SLOWEST, FASTEST = 60.0, 1500.0  # Characters a second of what is still to be shown once all is written.

_texts: dict[int, str] = {}
"""What this process has of the replies that it is writing now, by reply."""


@dataclass
class Job:
    """One reply to write. `tries` is its fence."""

    reply_id: int
    tries: int
    target: Target | None
    sampling: dict[str, Any]
    messages: list[dict[str, str]]
    why_not: str = ""


@dataclass
class View:
    """How far a browser has been shown each reply."""

    shown: list[int] = field(default_factory=list)
    broken: set[int] = field(default_factory=set)
    of: list[tuple[int, int]] = field(default_factory=list)
    began_at: float = 0.0


async def write_replies(engine: Engine, settings: Settings, turn_id: int) -> None:
    """Write all replies of a turn that wait, at once. Never raises: each reply tells how it ended."""
    try:
        jobs = await run_in_threadpool(_claim, engine, settings, turn_id)
        ended = await asyncio.gather(*(_write(engine, job) for job in jobs), return_exceptions=True)
    except SQLAlchemyError as away:
        ended = [away]
    for failure in filter(None, ended):
        log.warning("A reply to turn %s was not kept: %s.", turn_id, type(failure).__name__)


async def events_of(engine: Engine, turn_id: int) -> AsyncIterator[str]:
    """Server-sent events for one browser: `add` (place, text), `broke` (place), and `end` when all are final.

    All replies advance together, at the pace of the slowest, so that speed tells nothing of who writes.
    """
    view, began, last_sent = View(), time.monotonic(), time.monotonic()
    looked_at, replies = 0.0, list[ChatReply]()
    while time.monotonic() - began < MOST_SECONDS:
        if time.monotonic() - looked_at >= LOOK_SECONDS:
            replies, looked_at = await run_in_threadpool(_look, engine, turn_id), time.monotonic()
        if view.of != [(reply.round, reply.tries) for reply in replies]:
            if view.of:
                yield "event: end\ndata: {}\n\n"  # They are written anew; the page shows that when it asks.
                return
            view.of = [(reply.round, reply.tries) for reply in replies]
        events = _advance(view, [(_state(reply), _text(reply)) for reply in replies])
        for name, data in events:
            yield f"event: {name}\ndata: {json.dumps(data)}\n\n"
            last_sent = time.monotonic()
        if events and events[-1][0] == "end":
            return
        if time.monotonic() - last_sent > KEEP_ALIVE_SECONDS:
            yield ": still writing\n\n"
            last_sent = time.monotonic()
        await asyncio.sleep(TICK_SECONDS)


def _advance(view: View, replies: list[tuple[str, str]]) -> list[tuple[str, dict[str, Any]]]:
    """What to show next, of each reply's (state, text)."""
    now = time.monotonic()
    view.shown = view.shown or [0] * len(replies)
    is_over = all(state in {"done", "failed"} for state, _ in replies)
    writing = [len(text) for state, text in replies if state in {"waiting", "writing"}]
    front = max(view.shown, default=0)
    if not view.began_at and writing and min(writing):
        view.began_at = now
    if is_over:
        pace = front / (now - view.began_at) if view.began_at and now > view.began_at else FASTEST
        bound = front + max(int(min(max(pace, SLOWEST), FASTEST) * TICK_SECONDS), 1)
    else:
        bound = min(writing)
    events: list[tuple[str, dict[str, Any]]] = []
    for place, (state, text) in enumerate(replies):
        if len(text) > view.shown[place] and bound > view.shown[place]:
            events.append(("add", {"place": place, "text": text[view.shown[place] : bound]}))
            view.shown[place] = min(len(text), bound)
        if state == "failed" and place not in view.broken:
            view.broken.add(place)
            events.append(("broke", {"place": place, "text": BROKE_OFF}))
    if is_over and all(view.shown[place] >= len(text) for place, (_, text) in enumerate(replies)):
        events.append(("end", {}))
    return events


async def _write(engine: Engine, job: Job) -> None:
    """One reply, from its first piece to its end."""
    piece, error = Piece(""), ""
    _texts[job.reply_id] = ""
    beating = asyncio.create_task(_beat(engine, job))
    try:
        async with aclosing(_stream(job)) as pieces:
            async for piece in pieces:
                _texts[job.reply_id] += piece.text
                if beating.done():
                    return  # Another writer has taken over.
    except SamplerError as broken:
        error = broken.reason
        log.warning("Reply %s broke off: %s.", job.reply_id, error)
    finally:
        beating.cancel()
        text = _texts.pop(job.reply_id)
    await run_in_threadpool(_finish, engine, job, text, None if error else piece.finish_reason or "stop", error)


def _stream(job: Job) -> AsyncGenerator[Piece, None]:
    if job.target is None:
        raise SamplerError(job.why_not)
    return stream_reply(job.target, job.messages, sampling=job.sampling)


async def _beat(engine: Engine, job: Job) -> None:
    """Note once a second what is there, until it may not be noted any more."""
    while True:
        await asyncio.sleep(NOTE_SECONDS)
        mine = update(ChatReply).where(*_mine(job)).values(text=_texts.get(job.reply_id, ""), beat_at=func.now())
        try:
            if not await run_in_threadpool(_execute, engine, mine):
                return
        except SQLAlchemyError as error:
            log.warning("Reply %s could not be noted (%s); trying again.", job.reply_id, type(error).__name__)


def _claim(engine: Engine, settings: Settings, turn_id: int) -> list[Job]:
    """Take the replies that wait, by compare-and-set: two that ask for the same turn do not both write."""
    with transaction(engine) as session:
        turn = session.get_one(ChatTurn, turn_id)
        messages = history_of(session, session.get_one(Chat, turn.chat_id))
        take = update(ChatReply).where(
            ChatReply.turn_id == turn_id, ChatReply.round == turn.round, ChatReply.state == "waiting"
        )
        taken = session.scalars(take.values(state="writing", beat_at=func.now()).returning(ChatReply)).all()
        jobs = []
        for reply in taken:
            job = Job(reply.id, reply.tries, None, _openai(reply.sampling), messages)
            try:
                job.target = _target(settings, reply, session.get(ChatEndpoint, reply.endpoint_id or 0))
            except SamplerError as error:
                job.why_not = error.reason
            except AppError as error:
                job.why_not = error.message
            jobs.append(job)
        return jobs


def _target(settings: Settings, reply: ChatReply, endpoint: ChatEndpoint | None) -> Target:
    if endpoint is not None:
        return target_of(settings, endpoint)
    if not settings.sampler_url:
        raise SamplerError("no sampler is set: ATTUNE_SAMPLER_URL is empty")
    return Target(settings.sampler_url.rstrip("/"), f"attune-{reply.model_version_id}", settings.sampler_key)


def _openai(sampling: dict[str, Any]) -> dict[str, Any]:
    """Our settings under the protocol's names; those that it does not know only where they are in use."""
    sent = {"temperature": sampling["temperature"], "max_tokens": sampling["max_new_tokens"]}
    if sampling.get("top_p", 1) < 1:
        sent["top_p"] = sampling["top_p"]
    if sampling.get("top_k"):
        sent["top_k"] = sampling["top_k"]
    return sent


def _finish(engine: Engine, job: Job, text: str, finish_reason: str | None, error: str) -> None:
    end = (
        update(ChatReply)
        .where(*_mine(job))
        .values(
            state="failed" if finish_reason is None else "done",
            text=text.strip(),
            finish_reason=finish_reason,
            error=error[:500],
            beat_at=func.now(),
            finished_at=func.now(),
        )
    )
    _execute(engine, end)


def _mine(job: Job) -> tuple[Any, ...]:
    return ChatReply.id == job.reply_id, ChatReply.tries == job.tries, ChatReply.state == "writing"


def _execute(engine: Engine, statement: Any) -> bool:
    with transaction(engine) as session:
        return bool(session.execute(statement).rowcount)  # type: ignore[attr-defined]


def _look(engine: Engine, turn_id: int) -> list[ChatReply]:
    with transaction(engine) as session:
        replies = replies_of(session, session.scalars(select(ChatTurn).where(ChatTurn.id == turn_id)).one())
        session.expunge_all()
        return replies


def _state(reply: ChatReply) -> str:
    """As it was noted; what this process is writing still goes on, however long ago it was noted."""
    return "writing" if reply.id in _texts else reply.state


def _text(reply: ChatReply) -> str:
    return _texts.get(reply.id, reply.text)
