"""A choice among replies becomes a prompt, its responses, a comparison and a ranking, as those of the desk are."""

import random
import uuid
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.accounts.models import Person
from app.chat.models import ChatReply, ChatTurn
from app.errors import Conflict
from app.projects.models import Project
from app.projects.settings import training_of
from app.prompts import service as prompts
from app.prompts.models import Comparison, Response
from app.rating.answers import Answer, check_answer
from app.rating.models import Assignment
from app.rating.service import Recorded, record_ranking

_lot = random.SystemRandom()


def record_choice(
    session: Session,
    project: Project,
    rater: Person,
    turn: ChatTurn,
    *,
    replies: list[ChatReply],
    history: list[dict[str, Any]],
    answer: Answer,
) -> Recorded:
    """Store the choice, and with it which reply goes on: the best, or one of the best by lot.

    Raises:
        Invalid: the answer does not fit.
    """
    checked = check_answer(answer, project, k=len(replies))
    assignment = _assignment(session, project, rater, turn, replies=replies, history=history)
    recorded = record_ranking(
        session, project, rater, assignment_id=assignment.id, idempotency_key=turn.key, answer=answer
    )
    best = [place for place, rank in enumerate(checked.ranks) if rank == 1] or list(range(len(replies)))
    turn.chosen_place = _lot.choice(best)
    turn.state, turn.assignment_id, turn.draft, turn.chosen_at = "chosen", assignment.id, None, func.now()
    session.flush()
    return recorded


def replay(
    session: Session, project: Project, rater: Person, turn: ChatTurn, *, key: uuid.UUID, answer: Answer
) -> Recorded:
    """What was stored when this form came first.

    Raises:
        Conflict: it is another form. Invalid: it is the same form with another answer.
    """
    if key != turn.key or turn.assignment_id is None:
        raise Conflict("You have chosen in this turn already, in another window perhaps. Nothing was changed.")
    return record_ranking(session, project, rater, assignment_id=turn.assignment_id, idempotency_key=key, answer=answer)


def _assignment(
    session: Session,
    project: Project,
    rater: Person,
    turn: ChatTurn,
    *,
    replies: list[ChatReply],
    history: list[dict[str, Any]],
) -> Assignment:
    """The comparison in this rater's hands: wanted once, and shown in the order in which it was drawn."""
    share = training_of(project.training).heldout_share
    whole_chat = prompts.split_of(share, prompts.digest("chat", turn.chat_id))  # Its turns share their beginning.
    prompt_id, _ = prompts.add_prompt(session, project, history, split=whole_chat, written_by_id=rater.id)
    response_ids = [_response(session, prompt_id, reply) for reply in replies]
    comparison_id, _ = prompts.add_comparison(session, project, prompt_id, response_ids, origin="chat", wanted=1)
    session.execute(update(Comparison).where(Comparison.id == comparison_id).values(leased=1))
    assignment = Assignment(
        project_id=project.id,
        comparison_id=comparison_id,
        rater_id=rater.id,
        shown_order=list(range(len(replies))),
        guideline_id=turn.guideline_id,
        idempotency_key=turn.key,
        leased_at=max(reply.finished_at or turn.created_at for reply in replies),
        lease_until=session.scalar(select(func.now() + func.make_interval(0, 0, 0, 1))),
    )
    session.add(assignment)
    session.flush()
    return assignment


def _response(session: Session, prompt_id: int, reply: ChatReply) -> int:
    """The reply as a response with its lineage. Two that say the same stay two: each was an act of its own."""
    response = Response(
        prompt_id=prompt_id,
        content_hash=prompts.digest("chat", reply.id, reply.tries),
        text=reply.text,
        origin="sampled",
        source=reply.source,
        model_version_id=reply.model_version_id,
        finish_reason=reply.finish_reason,
        sampling=reply.sampling,
    )
    session.add(response)
    session.flush()
    reply.response_id = response.id
    return response.id
