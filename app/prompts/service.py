"""Adding prompts, responses and comparisons; doing it twice changes nothing."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app import audit
from app.db import Base
from app.errors import Invalid, NotFound
from app.projects.models import Project
from app.projects.settings import training_of
from app.prompts.models import Comparison, ComparisonResponse, Prompt, Response

Messages = list[dict[str, Any]]
ROLES = ("system", "user", "assistant")
MAX_TEXT_BYTES = 200_000
MAX_MESSAGES = 200


def check_text(text: object, *, where: str) -> str:
    """A text that Postgres and UTF-8 can hold, and a person can be shown.

    Raises:
        Invalid: not a text, too long, or with NUL or half a character in it.
    """
    if not isinstance(text, str):
        raise Invalid(f"{where}: expected a text, found {type(text).__name__}.")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise Invalid(f"{where}: it holds half of a character (a lone surrogate).") from None
    if "\x00" in text:
        raise Invalid(f"{where}: it holds a NUL character, which cannot be stored.")
    if size > MAX_TEXT_BYTES:
        raise Invalid(f"{where}: it has {size:,} bytes; at most {MAX_TEXT_BYTES:,} are accepted.")
    return text


def check_messages(messages: object) -> Messages:
    """A conversation that ends with the user's turn; a plain text is one such turn.

    Raises:
        Invalid: with what was expected.
    """
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    if not isinstance(messages, list) or not 1 <= len(messages) <= MAX_MESSAGES:
        raise Invalid("prompt: expected a text, or a list of 1 to 200 messages with role and content.")
    checked = [_message(message) for message in messages]
    if checked[-1]["role"] != "user":
        raise Invalid("prompt: the last message must be the user's; a response answers it.")
    if not any(message["content"].strip() for message in checked):
        raise Invalid("prompt: it is empty.")
    return checked


def _message(message: object) -> dict[str, str]:
    if not isinstance(message, dict) or message.get("role") not in ROLES:
        raise Invalid("prompt: each message needs a role (system, user or assistant) and a content.")
    return {"role": message["role"], "content": check_text(message.get("content"), where="prompt")}


def set_warnings(session: Session, project: Project, prompt_id: int, keys: list[str], *, person_id: int) -> None:
    """Mark a prompt, and with it all comparisons of its responses, with categories of content.

    Raises:
        NotFound: no such prompt. Invalid: a category that neither the project has nor the prompt carries already.
    """
    prompt = session.get(Prompt, prompt_id)
    if prompt is None or prompt.project_id != project.id:
        raise NotFound("This project has no such prompt.")
    chosen = sorted(set(keys))
    if unknown := set(chosen) - {row["key"] for row in project.warnings} - set(prompt.warnings):
        raise Invalid(f"This project has no category {min(unknown)!r:.60}.", field="warnings")
    prompt.warnings = chosen
    session.flush()
    audit.record(
        session,
        "prompt.warnings",
        subject=f"prompt:{prompt.id}",
        actor_id=person_id,
        project_id=project.id,
        details={"warnings": chosen},
    )


def digest(*parts: object) -> bytes:
    """A content hash: sha256 over canonical JSON."""
    return hashlib.sha256(
        json.dumps(parts, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
    ).digest()


def split_of(heldout_share: float, content_hash: bytes) -> str:
    """`heldout` for a fixed share of prompts, decided by their content: no prompt is ever in both parts."""
    return "heldout" if int.from_bytes(content_hash[:4], "big") < heldout_share * 2**32 else "train"


def add_prompt(
    session: Session,
    project: Project,
    messages: Messages,
    *,
    topic: str | None = None,
    external_id: str | None = None,
    split: str | None = None,
    import_id: int | None = None,
    written_by_id: int | None = None,
) -> tuple[int, bool]:
    """The prompt's id, and whether it is new."""
    content_hash = digest(messages)
    values = {
        "project_id": project.id,
        "content_hash": content_hash,
        "messages": messages,
        "topic": topic,
        "external_id": external_id,
        "split": split or split_of(training_of(project.training).heldout_share, content_hash),
        "import_id": import_id,
        "written_by_id": written_by_id,
    }
    made = session.scalar(insert(Prompt).values(values).on_conflict_do_nothing().returning(Prompt.id))
    if made is not None:
        return made, True
    same = select(Prompt.id).where(Prompt.project_id == project.id, Prompt.content_hash == content_hash)
    return session.scalars(same).one(), False


def add_response(
    session: Session, prompt_id: int, text: str, *, origin: str, source: str = "", **details: Any
) -> tuple[int, bool]:
    """The response's id, and whether it is new. The same text of another source is another response."""
    content_hash = digest(origin, source, details.get("model_version_id"), text)
    values = {
        "prompt_id": prompt_id,
        "content_hash": content_hash,
        "text": text,
        "origin": origin,
        "source": source,
        "sampling": {},
        **details,
    }
    made = session.scalar(insert(Response).values(values).on_conflict_do_nothing().returning(Response.id))
    if made is not None:
        return made, True
    same = select(Response.id).where(Response.prompt_id == prompt_id, Response.content_hash == content_hash)
    return session.scalars(same).one(), False


def add_comparison(
    session: Session,
    project: Project,
    prompt_id: int,
    response_ids: Sequence[int],
    *,
    origin: str,
    wanted: int | None = None,
    run_id: int | None = None,
    import_id: int | None = None,
) -> tuple[int, bool]:
    """The comparison's id, and whether it is new. The order of the responses does not make another comparison.

    Raises:
        Invalid: fewer than 2 or more than 9 responses, or one twice.
    """
    members = sorted(set(response_ids))
    if len(members) != len(response_ids) or not 2 <= len(members) <= 9:
        raise Invalid(f"A comparison needs 2 to 9 different responses; {len(members)} were given.")
    content_hash = digest(prompt_id, members)
    next_key = select(func.nextval("comparison_queue_key")).scalar_subquery()
    values = {
        "project_id": project.id,
        "prompt_id": prompt_id,
        "content_hash": content_hash,
        "wanted": project.raters_per_comparison if wanted is None else wanted,
        "queue_key": next_key,
        "origin": origin,
        "state": "open",
        "leased": 0,
        "counted": 0,
        "run_id": run_id,
        "import_id": import_id,
    }
    made = session.scalar(insert(Comparison).values(values).on_conflict_do_nothing().returning(Comparison.id))
    if made is None:
        same = select(Comparison.id).where(Comparison.project_id == project.id, Comparison.content_hash == content_hash)
        return session.scalars(same).one(), False
    rows = [
        {"comparison_id": made, "position": place, "response_id": response_id}
        for place, response_id in enumerate(response_ids)
    ]
    session.execute(insert(ComparisonResponse), rows)
    return made, True


def is_demonstration() -> tuple[sa.ColumnElement[bool]]:
    """Of responses: written or edited by a person, and not what a later revision of theirs has superseded."""
    told = Base.metadata.tables["demonstration"]  # By name: writing stands above prompts.
    newer = told.alias("newer")
    ours = select(told.c.id).where(told.c.response_id == Response.id)
    current = ours.where(~select(newer.c.id).where(newer.c.supersedes_id == told.c.id).exists())
    written = (Response.origin == "written") & (~ours.exists() | current.exists())
    ranking = Base.metadata.tables["ranking"]
    later = ranking.alias("later")
    edits = select(ranking.c.id).where(ranking.c.edited_id == Response.id, ranking.c.standing == "counted")
    stands = edits.where(~select(later.c.id).where(later.c.supersedes_id == ranking.c.id).exists())
    return (written | ((Response.origin == "edited") & stands.exists()),)


def responses_of(session: Session, comparison_ids: Sequence[int]) -> dict[int, list[Response]]:
    """The responses of each comparison, in canonical order."""
    query = (
        select(ComparisonResponse.comparison_id, Response)
        .join(Response, Response.id == ComparisonResponse.response_id)
        .where(ComparisonResponse.comparison_id.in_(comparison_ids))
        .order_by(ComparisonResponse.comparison_id, ComparisonResponse.position)
    )
    found: dict[int, list[Response]] = {}
    for comparison_id, response in session.execute(query):
        found.setdefault(comparison_id, []).append(response)
    return found
