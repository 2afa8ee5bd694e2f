"""What the page and the API show of a chat: blind, letters and texts, nothing about where a reply came from."""

import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from app.chat.models import Chat, ChatProbe, ChatReply, ChatTurn
from app.chat.reading import num_choices, replies_of, turns_of, wants_probe
from app.projects.models import Project
from app.rating.desk import LETTERS, filled_draft


@dataclass(frozen=True)
class Tile:
    """One reply as shown. `state` is writing, done or failed; the text of one that is being written streams apart."""

    letter: str
    place: int
    state: str
    text: str
    was_cut: bool


@dataclass(frozen=True)
class ShownTurn:
    """What was said, and the replies to it."""

    id: int
    number: int
    text: str
    state: str
    round: int
    key: uuid.UUID
    tiles: list[Tile]
    draft: dict[str, Any]
    chosen: Tile | None

    @property
    def is_writing(self) -> bool:
        """Whether a reply is still being written."""
        return any(tile.state == "writing" for tile in self.tiles)

    @property
    def is_broken(self) -> bool:
        """Whether a reply broke off."""
        return any(tile.state == "failed" for tile in self.tiles)

    @property
    def is_ready(self) -> bool:
        """Whether all replies are complete."""
        return all(tile.state == "done" for tile in self.tiles)


@dataclass(frozen=True)
class Talk:
    """All that a rater sees of one chat."""

    chat: Chat
    turns: list[ShownTurn]
    wants_probe: bool
    num_missing: int

    @property
    def last(self) -> ShownTurn:
        """What was said last."""
        return self.turns[-1]


def talk_of(session: Session, project: Project, chat: Chat) -> Talk:
    """A chat with its turns."""
    turns = turns_of(session, chat)
    missing = max(project.chat_min_turns - num_choices(session, chat), 0)
    shown = [_shown(session, turn) for turn in turns]
    return Talk(chat, shown, wants_probe(session, chat, turns[-1]), missing)


def probe_of(session: Session, turn: ShownTurn) -> ChatProbe | None:
    """The report on a turn, if there is one."""
    return session.get(ChatProbe, turn.id)


def _shown(session: Session, turn: ChatTurn) -> ShownTurn:
    tiles = [_tile(reply) for reply in replies_of(session, turn)]
    chosen = None if turn.chosen_place is None else tiles[turn.chosen_place]
    draft = filled_draft(turn.draft or {}, len(tiles))
    return ShownTurn(turn.id, turn.number, turn.text, turn.state, turn.round, turn.key, tiles, draft, chosen)


def _tile(reply: ChatReply) -> Tile:
    """A reply is shown once it is final: until then the stream shows all of a turn at one pace."""
    is_final = reply.state in {"done", "failed"}
    return Tile(
        LETTERS[reply.place],
        reply.place,
        reply.state if is_final else "writing",
        reply.text if is_final else "",
        reply.state == "done" and reply.finish_reason == "length",
    )
