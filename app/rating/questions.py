"""Questions about a comparison: the rater asks from the desk, an admin answers, and both may go on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, case, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app import audit
from app.accounts.models import Person
from app.errors import Conflict, Invalid, NotFound
from app.projects.models import Project
from app.prompts.models import Comparison, Prompt
from app.prompts.service import check_text
from app.rating import leases
from app.rating.contact_models import Thread, ThreadMessage

MAX_TEXT = 2000
MAX_MESSAGES = 50


@dataclass(frozen=True)
class Said:
    """One message as both sides see it: raters see "Admin" for whoever answered."""

    is_answer: bool
    text: str
    created_at: object


@dataclass(frozen=True)
class Shown:
    """A thread with what it is about."""

    thread: Thread
    prompt: str
    who: str
    messages: list[Said]


def ask(session: Session, project: Project, assignment_id: int, *, rater_id: int, text: str) -> Thread:
    """Ask about a comparison that one has, or had, in hand. The comparison stays where it is.

    Raises:
        NotFound: not this rater's. Invalid: the text. Conflict: the thread is full.
    """
    assignment = leases.get_assignment(session, project, assignment_id, rater_id=rater_id)
    values = {"project_id": project.id, "comparison_id": assignment.comparison_id, "rater_id": rater_id}
    session.execute(insert(Thread).values(**values, waits_for="admin").on_conflict_do_nothing())
    mine = select(Thread).where(Thread.comparison_id == assignment.comparison_id, Thread.rater_id == rater_id)
    thread = session.scalars(mine.with_for_update()).one()
    _say(session, thread, author_id=rater_id, text=text, is_answer=False)
    return thread


def go_on(session: Session, project: Project, thread_id: int, *, rater_id: int, text: str) -> Thread:
    """The rater says more.

    Raises:
        NotFound: not this rater's. Invalid: the text. Conflict: the thread is full.
    """
    thread = _locked(session, project, thread_id)
    if thread.rater_id != rater_id:
        raise NotFound("This project has no such question of yours.")
    _say(session, thread, author_id=rater_id, text=text, is_answer=False)
    return thread


def answer(session: Session, project: Project, thread_id: int, *, person_id: int, text: str) -> Thread:
    """An admin answers.

    Raises:
        NotFound: no such question. Invalid: the text. Conflict: the thread is full.
    """
    thread = _locked(session, project, thread_id)
    _say(session, thread, author_id=person_id, text=text, is_answer=True)
    audit.record(session, "question.answered", subject=f"thread:{thread.id}", actor_id=person_id, project_id=project.id)
    return thread


def mark_read(session: Session, project: Project, *, rater_id: int) -> None:
    """The rater has seen all answers."""
    unread = _threads(project).where(Thread.rater_id == rater_id, Thread.waits_for == "rater")
    for thread in session.scalars(unread.with_for_update()):
        thread.waits_for = "nobody"


def threads_of(session: Session, project: Project, *, rater_id: int | None = None, limit: int = 100) -> list[Shown]:
    """A rater's own, the newest first; or all of the project, those that wait for an answer first, the oldest of them before the others."""
    query = _threads(project)
    if rater_id is not None:
        query = query.where(Thread.rater_id == rater_id).order_by(Thread.id.desc())
    else:
        is_waiting = Thread.waits_for == "admin"
        query = query.order_by(is_waiting.desc(), case((is_waiting, Thread.id), else_=-Thread.id))
    threads = session.scalars(query.limit(limit)).all()
    return _shown(session, threads)


def num_waiting(session: Session, project: Project) -> int:
    """How many questions wait for an answer."""
    return _count(session, project, "admin")


def num_answers(session: Session, project: Project, *, rater_id: int) -> int:
    """How many of a rater's questions have an answer that they have not seen."""
    return _count(session, project, "rater", rater_id=rater_id)


def _count(session: Session, project: Project, waits_for: str, *, rater_id: int | None = None) -> int:
    query = select(func.count()).where(Thread.project_id == project.id, Thread.waits_for == waits_for)
    return session.scalar(query if rater_id is None else query.where(Thread.rater_id == rater_id)) or 0


def _threads(project: Project) -> "Select[Any]":
    return select(Thread).where(Thread.project_id == project.id)


def _locked(session: Session, project: Project, thread_id: int) -> Thread:
    thread: Thread | None = session.scalar(_threads(project).where(Thread.id == thread_id).with_for_update())
    if thread is None:
        raise NotFound("This project has no such question.")
    return thread


def _say(session: Session, thread: Thread, *, author_id: int, text: str, is_answer: bool) -> None:
    said = check_text(text, where="Your text").replace("\r\n", "\n").strip()
    if not 1 <= len(said) <= MAX_TEXT:
        raise Invalid(f"Write something, of at most {MAX_TEXT:,} characters.", field="text")
    last = session.scalars(
        select(ThreadMessage).where(ThreadMessage.thread_id == thread.id).order_by(ThreadMessage.id.desc())
    ).all()
    if last and (last[0].author_id, last[0].text) == (author_id, said):
        return  # The same form, sent twice.
    if len(last) >= MAX_MESSAGES:
        raise Conflict(f"There are {MAX_MESSAGES} messages here already. Talk about it in another way.")
    session.add(ThreadMessage(thread_id=thread.id, author_id=author_id, text=said, is_answer=is_answer))
    thread.waits_for = "rater" if is_answer else "admin"
    session.flush()


def _shown(session: Session, threads: Sequence[Thread]) -> list[Shown]:
    ids = [thread.id for thread in threads]
    messages: dict[int, list[Said]] = {}
    for row in session.scalars(
        select(ThreadMessage).where(ThreadMessage.thread_id.in_(ids)).order_by(ThreadMessage.id)
    ):
        messages.setdefault(row.thread_id, []).append(Said(row.is_answer, row.text, row.created_at))
    about = select(Comparison.id, Prompt.messages).join(Prompt, Prompt.id == Comparison.prompt_id)
    about = about.where(Comparison.id.in_([thread.comparison_id for thread in threads]))
    prompts = {row.id: str(row.messages[-1]["content"]) for row in session.execute(about)}
    names = select(Person.id, Person.pseudonym).where(Person.id.in_([thread.rater_id for thread in threads]))
    people = {row.id: row.pseudonym for row in session.execute(names)}
    return [Shown(t, prompts[t.comparison_id], people[t.rater_id], messages.get(t.id, [])) for t in threads]
