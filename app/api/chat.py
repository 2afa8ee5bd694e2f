"""Chat for programs: begin, stream, choose, go on, end. Blind, as the page is."""

import datetime as dt
import uuid
from typing import Any

from fastapi import APIRouter, BackgroundTasks, Request
from fastapi.responses import StreamingResponse
from pydantic import Field
from sqlalchemy.orm import Session

from app.api.rating import AnswerBody, RankingAnswer, RankingBody, ranking_answer
from app.api.shapes import Answer as Shape
from app.api.shapes import Body
from app.chat import desk, live, reading, service
from app.chat.models import Chat
from app.chat.routes import STREAM_HEADERS, key_of, write
from app.projects.deps import Rater
from app.projects.models import Project
from app.rating.answers import Answer
from app.web import SessionDep

router = APIRouter(prefix="/projects/{slug}/chats", tags=["chat"])


class SayBody(Body):
    """What is said. `idempotency_key` is a UUID of your own: sending it twice says it once."""

    text: str
    idempotency_key: str = Field(default_factory=lambda: str(uuid.uuid4()))


class RegenerateBody(Body):
    """Which round's replies are to be written anew."""

    round: int


class ReportBody(Body):
    """A red-team report. `rule` is empty where none was tried; `severity` is 0 where none broke, else 1 to 4."""

    rule: str = ""
    severity: int = 0
    note: str = ""


class ReplyShape(Shape):
    """A reply: writing, done or failed. Its text is here once it is final."""

    letter: str
    state: str
    text: str
    was_cut: bool


class TurnShape(Shape):
    """A turn. `idempotency_key` goes back with the choice; `chosen` is the letter of the reply that goes on."""

    id: int
    number: int
    text: str
    state: str
    round: int
    idempotency_key: uuid.UUID
    replies: list[ReplyShape]
    chosen: str | None


class ChatShape(Shape):
    """A chat with all its turns."""

    id: int
    state: str
    is_red_team: bool
    wants_report: bool
    num_missing: int
    turns: list[TurnShape]


class ChatRow(Shape):
    """A chat in the list."""

    id: int
    state: str
    created_at: dt.datetime
    first: str
    num_chosen: int


@router.get("", response_model=list[ChatRow])
def list_chats(member: Rater, session: SessionDep) -> Any:
    """One's newest chats."""
    return reading.my_chats(session, member.project, rater_id=member.person.id)


@router.post("", status_code=201)
def start(
    member: Rater, body: SayBody, request: Request, session: SessionDep, background: BackgroundTasks
) -> ChatShape:
    """Begin a chat; the replies are being written when the answer comes."""
    said = service.start_chat(session, member.project, member.person, text=body.text, key=key_of(body.idempotency_key))
    write(request, background, said.turn.id)
    return _shown(session, member.project, said.chat)


@router.get("/{chat_id}")
def show(member: Rater, chat_id: int, session: SessionDep) -> ChatShape:
    """A chat as it stands."""
    chat = reading.get_chat(session, member.project, chat_id, rater_id=member.person.id)
    return _shown(session, member.project, chat)


@router.get("/{chat_id}/stream")
def stream(member: Rater, chat_id: int, request: Request, session: SessionDep) -> StreamingResponse:
    """Server-sent events `add` (place, text), `broke` (place) and `end`, when the replies are final."""
    chat = reading.get_chat(session, member.project, chat_id, rater_id=member.person.id)
    events = live.events_of(request.app.state.engine, reading.newest_turn(session, chat.id).id)
    return StreamingResponse(events, media_type="text/event-stream", headers=STREAM_HEADERS)


@router.post("/{chat_id}/turns", status_code=201)
def say(
    member: Rater, chat_id: int, body: SayBody, request: Request, session: SessionDep, background: BackgroundTasks
) -> ChatShape:
    """Say the next thing, once a reply is chosen."""
    key = key_of(body.idempotency_key)
    said = service.say(session, member.project, chat_id, rater_id=member.person.id, text=body.text, key=key)
    write(request, background, said.turn.id)
    return _shown(session, member.project, said.chat)


@router.post("/{chat_id}/turns/{turn_id}/choice")
def choose(member: Rater, chat_id: int, turn_id: int, body: RankingBody, session: SessionDep) -> RankingAnswer:
    """Store the choice as a ranking. The answer comes after it is safe."""
    stored = service.choose(
        session,
        member.project,
        member.person,
        chat_id,
        turn_id,
        key=key_of(body.idempotency_key),
        answer=Answer(**body.model_dump(exclude={"idempotency_key"})),
    )
    return ranking_answer(stored.ranking, is_replay=stored.is_replay)


@router.post("/{chat_id}/turns/{turn_id}/draft", status_code=204)
def draft(member: Rater, chat_id: int, turn_id: int, body: AnswerBody, session: SessionDep) -> None:
    """Keep what has been chosen so far."""
    values = body.model_dump(mode="json")
    service.save_draft(session, member.project, chat_id, turn_id, rater_id=member.person.id, draft=values)


@router.post("/{chat_id}/turns/{turn_id}/regenerate")
def regenerate(
    member: Rater,
    chat_id: int,
    turn_id: int,
    body: RegenerateBody,
    request: Request,
    session: SessionDep,
    background: BackgroundTasks,
) -> ChatShape:
    """Have all replies of the open turn written anew; the old ones are kept."""
    service.regenerate(session, member.project, chat_id, turn_id, rater_id=member.person.id, round=body.round)
    write(request, background, turn_id)
    return show(member, chat_id, session)


@router.post("/{chat_id}/turns/{turn_id}/retry")
def retry(
    member: Rater, chat_id: int, turn_id: int, request: Request, session: SessionDep, background: BackgroundTasks
) -> ChatShape:
    """Have those replies written again that broke off."""
    service.retry(session, member.project, chat_id, turn_id, rater_id=member.person.id)
    write(request, background, turn_id)
    return show(member, chat_id, session)


@router.post("/{chat_id}/turns/{turn_id}/report")
def report(member: Rater, chat_id: int, turn_id: int, body: ReportBody, session: SessionDep) -> ChatShape:
    """Which rule was tried, whether it broke, how badly; the first report stands."""
    service.report(
        session,
        member.project,
        chat_id,
        turn_id,
        rater_id=member.person.id,
        broke=body.severity > 0,
        **body.model_dump(),
    )
    return show(member, chat_id, session)


@router.post("/{chat_id}/end")
def end(member: Rater, chat_id: int, session: SessionDep) -> ChatShape:
    """End a chat; twice is harmless."""
    return _shown(
        session, member.project, service.end_chat(session, member.project, chat_id, rater_id=member.person.id)
    )


def _shown(session: Session, project: Project, chat: Chat) -> ChatShape:
    talk = desk.talk_of(session, project, chat)
    return ChatShape(
        id=chat.id,
        state=chat.state,
        is_red_team=chat.is_red_team,
        wants_report=talk.wants_probe,
        num_missing=talk.num_missing,
        turns=[_turn(turn) for turn in talk.turns],
    )


def _turn(turn: desk.ShownTurn) -> TurnShape:
    return TurnShape(
        id=turn.id,
        number=turn.number,
        text=turn.text,
        state=turn.state,
        round=turn.round,
        idempotency_key=turn.key,
        replies=[ReplyShape.model_validate(tile) for tile in turn.tiles],
        chosen=turn.chosen.letter if turn.chosen else None,
    )
