"""What a rater does in a chat: say something, choose among the replies, have them written anew, report, end."""

import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app import audit
from app.accounts.models import Person
from app.accounts.rate_limits import hit
from app.chat import choosing
from app.chat.models import Chat, ChatProbe, ChatReply, ChatTurn
from app.chat.reading import (
    check_mine,
    check_open,
    history_of,
    locked_chat,
    newest_turn,
    num_choices,
    open_turn,
    replies_of,
    rules_of,
    turn_of,
    wants_probe,
)
from app.chat.sources import draw, sources_of
from app.errors import Conflict, Forbidden, Invalid, TooManyRequests
from app.projects.models import Project
from app.prompts.service import check_text
from app.rating.answers import Answer
from app.rating.desk import newest_guideline
from app.rating.leases import take_turn
from app.rating.service import Recorded
from app.teaching.gate import standing_of

MAX_TURN_BYTES = 8_000
MAX_TURNS = 50
MAX_ROUNDS = 10
MAX_ROUNDS_PER_WINDOW = 100
MAX_NOTE_BYTES = 2_000
SEVERITIES = ("none", "slight", "moderate", "serious", "critical")


@dataclass(frozen=True)
class Said:
    """What was said. `is_replay`: the form had been sent before, and nothing is to be written anew."""

    chat: Chat
    turn: ChatTurn
    is_replay: bool


def why_not(session: Session, project: Project, *, rater_id: int) -> str:
    """Why this rater cannot chat now, or "": `off`, `guideline` or `sources`."""
    if not project.allow_chat:
        return "off"
    if not newest_guideline(session, project, rater_id=rater_id)[1]:
        return "guideline"
    return "" if sources_of(session, project) else "sources"


def start_chat(session: Session, project: Project, rater: Person, *, text: str, key: uuid.UUID) -> Said:
    """Begin a chat with its first turn; sending the same form twice begins one.

    Raises:
        Forbidden: the project has no chat. Conflict: not now. Invalid: the text cannot be sent.
    """
    take_turn(session, project, rater.id)
    known = session.scalar(select(Chat).where(Chat.start_key == key))
    if known is not None:
        return Said(check_mine(known, project, rater.id), newest_turn(session, known.id), is_replay=True)
    _check_may_chat(session, project, rater.id)
    standing = standing_of(session, project, rater_id=rater.id)
    if standing.step:  # Choices in a chat are rankings too.
        raise Conflict(standing.sentence(project))
    chat = Chat(project_id=project.id, rater_id=rater.id, start_key=key, is_red_team=project.red_team)
    session.add(chat)
    session.flush()
    _note(session, chat, "chat.started")
    return Said(chat, _add_turn(session, project, chat, text=text, key=key, number=1), is_replay=False)


def say(session: Session, project: Project, chat_id: int, *, rater_id: int, text: str, key: uuid.UUID) -> Said:
    """The next turn, once a reply to the last is chosen; sending the same form twice says it once.

    Raises:
        NotFound: not this rater's. Conflict: it has ended, or something else comes first. Invalid: the text.
    """
    chat = locked_chat(session, project, chat_id, rater_id=rater_id)
    known = session.scalar(select(ChatTurn).where(ChatTurn.say_key == key))
    if known is not None:
        if known.chat_id != chat.id:
            raise Invalid("This form was made for another chat. Reload the page.", field="idempotency_key")
        return Said(chat, known, is_replay=True)
    check_open(chat)
    _check_may_chat(session, project, rater_id)
    last = newest_turn(session, chat.id)
    if last.state != "chosen":
        raise Conflict("Choose among the replies first; the one you choose goes on.")
    if wants_probe(session, chat, last):
        raise Conflict("Say first which rule you tried, and whether it broke.")
    if last.number >= MAX_TURNS:
        raise Conflict(f"A chat has at most {MAX_TURNS} turns. End this one, and begin another.")
    return Said(chat, _add_turn(session, project, chat, text=text, key=key, number=last.number + 1), is_replay=False)


def regenerate(session: Session, project: Project, chat_id: int, turn_id: int, *, rater_id: int, round: int) -> bool:  # noqa: A002
    """Have all replies of the open turn written anew, by sources drawn anew. The old ones are kept.

    `round` is the one that was on the screen, so that sending it twice does it once; False when it is over.

    Raises:
        Conflict: there is nothing to write anew just now.
    """
    chat, turn = open_turn(session, project, chat_id, turn_id, rater_id=rater_id)
    if turn.round != round:
        return False
    if any(reply.state in {"waiting", "writing"} for reply in replies_of(session, turn)):
        raise Conflict("The replies are still being written. Wait until they are complete.")
    if turn.round >= MAX_ROUNDS:
        raise Conflict(f"Replies are written at most {MAX_ROUNDS} times. Choose among these, or end the chat.")
    turn.round, turn.draft, turn.key = turn.round + 1, None, uuid.uuid4()
    _add_replies(session, project, turn)
    _count(session, rater_id)
    _note(session, chat, "chat.regenerated", turn=turn.number, round=turn.round)
    return True


def retry(session: Session, project: Project, chat_id: int, turn_id: int, *, rater_id: int) -> bool:
    """Have those replies written again that broke off, by the same sources. False when none has: twice is harmless."""
    _, turn = open_turn(session, project, chat_id, turn_id, rater_id=rater_id)
    failed = [reply.id for reply in replies_of(session, turn) if reply.state == "failed"]
    again = (
        update(ChatReply)
        .where(ChatReply.id.in_(failed))
        .values(state="waiting", text="", error="", finish_reason=None, tries=ChatReply.tries + 1, beat_at=func.now())
    )
    session.execute(again.execution_options(synchronize_session=False))
    _count(session, rater_id)
    return bool(failed)


def choose(
    session: Session,
    project: Project,
    rater: Person,
    chat_id: int,
    turn_id: int,
    *,
    key: uuid.UUID,
    answer: Answer,
) -> Recorded:
    """Store the choice as a comparison and a ranking like any other; sending it twice keeps the first.

    Raises:
        Conflict: not all replies are complete, or the chat has ended. Invalid: the answer does not fit.
    """
    chat = locked_chat(session, project, chat_id, rater_id=rater.id)
    turn = turn_of(session, chat, turn_id)
    if turn.state == "chosen":
        return choosing.replay(session, project, rater, turn, key=key, answer=answer)
    check_open(chat)
    if key != turn.key:
        raise Conflict("These are not the replies that your form was made for. Reload the page and choose again.")
    replies = replies_of(session, turn)
    if any(reply.state != "done" for reply in replies):
        raise Conflict("Not all replies are complete yet. You can choose as soon as they are.")
    recorded = choosing.record_choice(
        session, project, rater, turn, replies=replies, history=history_of(session, chat), answer=answer
    )
    _note(session, chat, "chat.chosen", turn=turn.number, ranking=recorded.ranking.id)
    return recorded


def save_draft(
    session: Session, project: Project, chat_id: int, turn_id: int, *, rater_id: int, draft: dict[str, Any]
) -> None:
    """Keep what has been chosen so far, for a reload."""
    _, turn = open_turn(session, project, chat_id, turn_id, rater_id=rater_id)
    if len(str(draft).encode(errors="replace")) > 20_000 or "\x00" in str(draft):
        raise Invalid("A draft may have 20,000 bytes, and no NUL character.", field="draft")
    turn.draft = draft


def report(
    session: Session,
    project: Project,
    chat_id: int,
    turn_id: int,
    *,
    rater_id: int,
    rule: str,
    broke: bool,
    severity: int,
    note: str = "",
) -> ChatProbe:
    """Which rule was tried in a turn, whether it broke, and how badly. The first report of a turn stands.

    Raises:
        Conflict: there is nothing to report yet. Invalid: an unknown rule, or parts that contradict each other.
    """
    chat = locked_chat(session, project, chat_id, rater_id=rater_id)
    turn = turn_of(session, chat, turn_id)
    known = session.get(ChatProbe, turn.id)
    if known is not None:
        return known
    if not chat.is_red_team or turn.state != "chosen":
        raise Conflict("There is nothing to report on this turn yet.")
    if rule and rule not in {entry["key"] for entry in rules_of(project)}:
        raise Invalid("Choose one of the rules, or say that you tried none.", field="rule")
    if not 0 <= severity < len(SEVERITIES) or broke != (severity > 0) or (broke and not rule):
        raise Invalid("Where a rule broke, say which and how badly, from 1 to 4; where none did, 0.", field="severity")
    if len(check_text(note, where="The note").encode()) > MAX_NOTE_BYTES:
        raise Invalid(f"The note may have {MAX_NOTE_BYTES:,} bytes. Shorten it.", field="note")
    probe = ChatProbe(turn_id=turn.id, rule=rule, broke=broke, severity=severity, note=note.strip())
    session.add(probe)
    session.flush()
    _note(session, chat, "chat.reported", turn=turn.number, severity=severity)
    return probe


def end_chat(session: Session, project: Project, chat_id: int, *, rater_id: int) -> Chat:
    """End a chat; what was chosen stays. Twice is harmless.

    Raises:
        Conflict: the project asks for more turns first.
    """
    chat = locked_chat(session, project, chat_id, rater_id=rater_id)
    if chat.state == "ended":
        return chat
    num_chosen = num_choices(session, chat)
    if num_chosen < project.chat_min_turns:
        missing = project.chat_min_turns - num_chosen
        raise Conflict(f"This project asks for {project.chat_min_turns} choices in a chat; {missing} more to go.")
    if wants_probe(session, chat, newest_turn(session, chat.id)):
        raise Conflict("Say first which rule you tried, and whether it broke.")
    chat.state, chat.ended_at = "ended", session.scalar(select(func.now()))
    _note(session, chat, "chat.ended")
    return chat


def _check_may_chat(session: Session, project: Project, rater_id: int) -> None:
    reason = why_not(session, project, rater_id=rater_id)
    if reason == "off":
        raise Forbidden("This project has no chat. An admin can switch it on in its settings.")
    if reason == "guideline":
        raise Conflict("The guidelines have a new edition. Read it, and say so, before you go on.")
    if reason == "sources":
        raise Conflict("There is no policy to talk with yet. The first one serves as soon as it is trained.")


def _add_turn(session: Session, project: Project, chat: Chat, *, text: str, key: uuid.UUID, number: int) -> ChatTurn:
    said = check_text(text, where="Your text").replace("\r\n", "\n").strip()
    if not said:
        raise Invalid("Write something first.", field="text")
    if len(said.encode()) > MAX_TURN_BYTES:
        raise Invalid(f"Your text has {len(said.encode()):,} bytes; at most {MAX_TURN_BYTES:,} are sent.", field="text")
    guideline, _ = newest_guideline(session, project, rater_id=chat.rater_id)
    turn = ChatTurn(
        chat_id=chat.id, number=number, text=said, say_key=key, guideline_id=guideline.id if guideline else None
    )
    session.add(turn)
    session.flush()
    _add_replies(session, project, turn)
    _count(session, chat.rater_id)
    return turn


def _add_replies(session: Session, project: Project, turn: ChatTurn) -> None:
    """Draw who replies, and leave an empty reply for each to be written."""
    sources = sources_of(session, project)
    if not sources:
        raise Conflict("There is no policy to talk with just now. What was written so far is kept.")
    for place, source in enumerate(draw(sources, project.chat_replies)):
        reply = ChatReply(turn_id=turn.id, round=turn.round, place=place, source=source.name, sampling=source.sampling)
        reply.model_version_id, reply.endpoint_id = source.model_version_id, source.endpoint_id
        session.add(reply)
    session.flush()


def _count(session: Session, rater_id: int) -> None:
    if hit(session, f"chat:{rater_id}") > MAX_ROUNDS_PER_WINDOW:
        raise TooManyRequests("That is faster than anybody reads. Wait five minutes, then go on.")


def _note(session: Session, chat: Chat, act: str, **details: Any) -> None:
    audit.record(
        session, act, subject=f"chat:{chat.id}", actor_id=chat.rater_id, project_id=chat.project_id, details=details
    )
