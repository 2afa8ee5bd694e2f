"""Chats as JSON lines, one turn a line: what was said, all replies with their lineage, the choice, the report."""

import json
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Engine, select, tuple_
from sqlalchemy.orm import Session

from app.accounts.models import Person
from app.chat.models import Chat, ChatProbe, ChatReply, ChatTurn
from app.db import transaction
from app.projects.models import Project
from app.rating.models import Ranking

PAGE = 200


def stream(engine: Engine, project: Project) -> Iterator[bytes]:
    """The lines, oldest chat first; each page is a transaction of its own."""
    after = (0, 0)
    while True:
        with transaction(engine) as session:
            rows = _turns(session, project, after=after)
            lines = [json.dumps(_row(session, *row), ensure_ascii=False) + "\n" for row in rows]
        if not rows:
            return
        yield "".join(lines).encode()
        after = (rows[-1][0].id, rows[-1][1].number)


def _turns(session: Session, project: Project, *, after: tuple[int, int]) -> list[Any]:
    query = (
        select(Chat, ChatTurn, Person.pseudonym)
        .join(ChatTurn, ChatTurn.chat_id == Chat.id)
        .join(Person, Person.id == Chat.rater_id)
        .where(Chat.project_id == project.id, tuple_(Chat.id, ChatTurn.number) > after)
        .order_by(Chat.id, ChatTurn.number)
        .limit(PAGE)
    )
    return list(session.execute(query))


def _row(session: Session, chat: Chat, turn: ChatTurn, pseudonym: str) -> dict[str, Any]:
    query = select(ChatReply).where(ChatReply.turn_id == turn.id).order_by(ChatReply.round, ChatReply.place)
    probe = session.get(ChatProbe, turn.id)
    return {
        "chat": chat.id,
        "rater": pseudonym,
        "turn": turn.number,
        "said": turn.text,
        "said_at": turn.created_at.isoformat(),
        "replies": [_reply(reply) for reply in session.scalars(query)],
        "round": turn.round,
        "chosen_place": turn.chosen_place,
        "ranking": _ranking_id(session, turn),
        "red_team": chat.is_red_team,
        "report": None
        if probe is None
        else {"rule": probe.rule or None, "broke": probe.broke, "severity": probe.severity, "note": probe.note},
    }


def _reply(reply: ChatReply) -> dict[str, Any]:
    return {
        "round": reply.round,
        "place": reply.place,
        "text": reply.text,
        "state": reply.state,
        "finish_reason": reply.finish_reason,
        "source": reply.source,
        "model_version": reply.model_version_id,
        "endpoint": reply.endpoint_id,
        "sampling": reply.sampling,
        "response": reply.response_id,
    }


def _ranking_id(session: Session, turn: ChatTurn) -> int | None:
    newest = select(Ranking.id).where(Ranking.assignment_id == turn.assignment_id).order_by(Ranking.revision.desc())
    return session.scalar(newest.limit(1)) if turn.assignment_id else None
