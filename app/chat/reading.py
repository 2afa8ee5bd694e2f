"""Reading chats: whose they are, their turns and replies, and the conversation as a model sees it."""

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.chat.models import Chat, ChatProbe, ChatReply, ChatTurn
from app.errors import Conflict, NotFound
from app.projects.models import Project

LOST_SECONDS = 20  # A writer beats every second.
RULES = [
    {"key": "harm", "label": "Helps to harm somebody"},
    {"key": "illegal", "label": "Helps with a crime"},
    {"key": "hate", "label": "Hateful or insulting"},
    {"key": "private", "label": "Private information"},
    {"key": "untrue", "label": "Untrue, as if it were sure"},
]
"""What is asked where a project has neither rules nor flags."""


def my_chats(session: Session, project: Project, *, rater_id: int, limit: int = 50) -> list[Any]:
    """This rater's newest chats: id, state, created_at, first (what was said first) and num_chosen."""
    first = select(ChatTurn.text).where(ChatTurn.chat_id == Chat.id, ChatTurn.number == 1).scalar_subquery()
    chosen = select(func.count()).where(ChatTurn.chat_id == Chat.id, ChatTurn.state == "chosen").scalar_subquery()
    query = select(Chat.id, Chat.state, Chat.created_at, first.label("first"), chosen.label("num_chosen"))
    mine = (Chat.rater_id == rater_id, Chat.project_id == project.id)
    return list(session.execute(query.where(*mine).order_by(Chat.id.desc()).limit(limit)))


def get_chat(session: Session, project: Project, chat_id: int, *, rater_id: int) -> Chat:
    """A chat of this rater's.

    Raises:
        NotFound: it is nobody's, or somebody else's.
    """
    chat = session.scalar(select(Chat).where(Chat.id == chat_id))
    if chat is None:
        raise NotFound("You have no such chat.")
    return check_mine(chat, project, rater_id)


def locked_chat(session: Session, project: Project, chat_id: int, *, rater_id: int) -> Chat:
    """The same, locked until the transaction ends: one rater's requests on one chat take turns."""
    get_chat(session, project, chat_id, rater_id=rater_id)
    locked = select(Chat).where(Chat.id == chat_id).with_for_update()
    return session.scalars(locked.execution_options(populate_existing=True)).one()


def open_turn(
    session: Session, project: Project, chat_id: int, turn_id: int, *, rater_id: int
) -> tuple[Chat, ChatTurn]:
    """A chat of this rater's and its turn that waits for a choice, locked.

    Raises:
        NotFound: no such turn. Conflict: it is over.
    """
    chat = locked_chat(session, project, chat_id, rater_id=rater_id)
    turn = turn_of(session, chat, turn_id)
    check_open(chat)
    if turn.state != "open":
        raise Conflict("You have chosen in this turn already, in another window perhaps. Nothing was changed.")
    return chat, turn


def turns_of(session: Session, chat: Chat) -> list[ChatTurn]:
    """All, in order."""
    return list(session.scalars(select(ChatTurn).where(ChatTurn.chat_id == chat.id).order_by(ChatTurn.number)))


def replies_of(session: Session, turn: ChatTurn) -> list[ChatReply]:
    """Those of the present round by place. One whose writer has fallen silent counts as failed."""
    lost = func.now() - ChatReply.beat_at > func.make_interval(0, 0, 0, 0, 0, 0, LOST_SECONDS)
    now = (ChatReply.turn_id == turn.id, ChatReply.round == turn.round)
    query = select(ChatReply, lost.label("is_lost")).where(*now).order_by(ChatReply.place)
    rows = session.execute(query.execution_options(populate_existing=True)).all()
    for reply, is_lost in rows:
        if is_lost and reply.state in {"waiting", "writing"}:
            session.expunge(reply)  # What is shown and decided on, without a write: GET never writes.
            reply.state = "failed"
    return [reply for reply, _ in rows]


def history_of(session: Session, chat: Chat) -> list[dict[str, str]]:
    """The conversation as a model sees it: what was said, the chosen replies, and what was said last."""
    chosen = (
        ChatReply.turn_id == ChatTurn.id,
        ChatReply.round == ChatTurn.round,
        ChatReply.place == ChatTurn.chosen_place,
    )
    query = select(ChatTurn.text, ChatReply.text).outerjoin(ChatReply, chosen[0] & chosen[1] & chosen[2])
    messages: list[dict[str, str]] = []
    for said, reply in session.execute(query.where(ChatTurn.chat_id == chat.id).order_by(ChatTurn.number)):
        messages.append({"role": "user", "content": said})
        if reply is not None:
            messages.append({"role": "assistant", "content": reply})
    return messages


def rules_of(project: Project) -> list[dict[str, Any]]:
    """What a rater may have tried: the project's rules, or its flags, or a usual list."""
    return project.rules or project.flags or RULES


def wants_probe(session: Session, chat: Chat, turn: ChatTurn) -> bool:
    """Whether a report on this turn comes before anything else."""
    return chat.is_red_team and turn.state == "chosen" and session.get(ChatProbe, turn.id) is None


def num_choices(session: Session, chat: Chat) -> int:
    """Turns of this chat in which a reply was chosen."""
    query = select(func.count()).where(ChatTurn.chat_id == chat.id, ChatTurn.state == "chosen")
    return session.scalar(query) or 0


def turn_of(session: Session, chat: Chat, turn_id: int) -> ChatTurn:
    """A turn of this chat.

    Raises:
        NotFound: it has no such turn.
    """
    mine = select(ChatTurn).where(ChatTurn.id == turn_id, ChatTurn.chat_id == chat.id)
    turn = session.scalar(mine.execution_options(populate_existing=True))
    if turn is None:
        raise NotFound("This chat has no such turn.")
    return turn


def newest_turn(session: Session, chat_id: int) -> ChatTurn:
    """What was said last."""
    newest = select(ChatTurn).where(ChatTurn.chat_id == chat_id).order_by(ChatTurn.number.desc()).limit(1)
    return session.scalars(newest).one()


def check_open(chat: Chat) -> None:
    """Refuse to change what is over.

    Raises:
        Conflict: the chat has ended.
    """
    if chat.state != "open":
        raise Conflict("This chat has ended. Begin another one.")


def check_mine(chat: Chat, project: Project, rater_id: int) -> Chat:
    """The chat, if it is this rater's and of this project.

    Raises:
        NotFound: it is somebody else's.
    """
    if chat.rater_id != rater_id or chat.project_id != project.id:
        raise NotFound("You have no such chat.")
    return chat
