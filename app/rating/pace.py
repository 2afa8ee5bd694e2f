"""Faster than anybody reads: said to the rater, kept with the ranking, and nothing else. Nothing is ever refused for it."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.prompts.models import Comparison, ComparisonResponse, Prompt, Response

WORDS_PER_SECOND = 15
LEAST_SECONDS = 2.0


def least_seconds(messages: Iterable[dict[str, Any]], responses: Iterable[str]) -> float:
    """Seconds under which nobody has read all of this: a second for 15 words, and never under two."""
    texts = [*(message["content"] for message in messages), *responses]
    return max(LEAST_SECONDS, sum(len(text.split()) for text in texts) / WORDS_PER_SECOND)


def is_too_fast(session: Session, comparison_id: int, *, seconds: float) -> bool:
    """Whether a comparison was ranked sooner than it could be read. In a chat the replies are read as they come: never."""
    texts = select(func.array_agg(Response.text)).join(
        ComparisonResponse, ComparisonResponse.response_id == Response.id
    )
    responses = texts.where(ComparisonResponse.comparison_id == Comparison.id).scalar_subquery()
    shown = select(Comparison.origin, Prompt.messages, responses).join(Prompt, Prompt.id == Comparison.prompt_id)
    origin, messages, replies = session.execute(shown.where(Comparison.id == comparison_id)).one()
    return origin != "chat" and seconds < least_seconds(messages, replies)
