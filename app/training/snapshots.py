"""The frozen set of rankings that a run learns from, and its hash."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased

from app.projects.models import Project
from app.prompts.models import Comparison, ComparisonResponse, Prompt, Response
from app.training.models import Snapshot, SnapshotRanking

_ranking = sa.table(
    "ranking",
    sa.column("id", sa.BigInteger),
    sa.column("project_id", sa.BigInteger),
    sa.column("comparison_id", sa.BigInteger),
    sa.column("rater_id", sa.BigInteger),
    sa.column("guideline_id", sa.BigInteger),
    sa.column("revision", sa.BigInteger),
    sa.column("supersedes_id", sa.BigInteger),
    sa.column("standing", sa.String),
    sa.column("ranks", sa.dialects.postgresql.JSONB),
    sa.column("all_bad", sa.Boolean),
    sa.column("strength", sa.BigInteger),
    sa.column("attributes", sa.dialects.postgresql.JSONB),
    sa.column("is_simulated", sa.Boolean),
    sa.column("edited_id", sa.BigInteger),
)


@dataclass(frozen=True)
class RankedComparison:
    """One ranking with what it ranked; `ranks[i]` belongs to `responses[i]`, and so in `attributes`. `strength`: of pairs, 1 to 4."""

    ranking_id: int
    rater_id: int
    messages: list[dict[str, Any]]
    topic: str | None
    split: str
    responses: list[str]
    ranks: list[int | None]
    strength: int | None = None
    attributes: dict[str, list[int | None]] = field(default_factory=dict)


def take_snapshot(session: Session, project: Project) -> Snapshot:
    """Freeze all rankings that count now: current, counted and, where the project says so, not simulated."""
    newer = _ranking.alias("newer")
    current = (
        select(_ranking.c.id, _ranking.c.revision, _ranking.c.guideline_id, _ranking.c.ranks)
        .where(_ranking.c.project_id == project.id, _ranking.c.standing == "counted")
        .where(~select(newer.c.id).where(newer.c.supersedes_id == _ranking.c.id).exists())
        .order_by(_ranking.c.id)
    )
    if not project.include_simulated:
        current = current.where(_ranking.c.is_simulated.is_(False))
    rows = session.execute(current).all()
    snapshot = Snapshot(
        project_id=project.id,
        content_hash=content_hash([tuple(row) for row in rows]),
        num_rankings=len(rows),
        num_preferences=sum(num_preferences(row.ranks) for row in rows),
        last_ranking_id=rows[-1].id if rows else 0,
    )
    session.add(snapshot)
    session.flush()
    members = [{"snapshot_id": snapshot.id, "ranking_id": row.id} for row in rows]
    for start in range(0, len(members), 5000):
        session.execute(insert(SnapshotRanking), members[start : start + 5000])
    return snapshot


def check_snapshot(session: Session, snapshot_id: int) -> None:
    """Refuse a snapshot whose rankings are not the ones it was made of.

    Raises:
        ValueError: they are others, or say something else.
    """
    snapshot = session.get_one(Snapshot, snapshot_id)
    members = (
        select(_ranking.c.id, _ranking.c.revision, _ranking.c.guideline_id, _ranking.c.ranks)
        .join(SnapshotRanking, SnapshotRanking.ranking_id == _ranking.c.id)
        .where(SnapshotRanking.snapshot_id == snapshot_id)
    )
    if content_hash([tuple(row) for row in session.execute(members)]) != snapshot.content_hash:
        raise ValueError(f"Snapshot {snapshot_id} is not what it was when it was taken. Start a new run.")


def content_hash(rows: list[tuple[Any, ...]]) -> bytes:
    """sha256 over the sorted members: ranking id, revision, guideline and ranks of each."""
    digest = hashlib.sha256()
    for row in sorted(rows, key=lambda row: row[0]):
        digest.update(json.dumps(list(row), sort_keys=True, separators=(",", ":")).encode() + b"\n")
    return digest.digest()


def _above(
    edited: str, shown: Sequence[str], ranks: list[int | None], said: dict[str, list[int | None]]
) -> tuple[list[str], list[int | None], dict[str, list[int | None]]]:
    """With the best as the rater edited it: a response more, better than all that are ranked; of attributes it says nothing."""
    below = [None if rank is None else rank + 1 for rank in ranks]
    return [*shown, edited], [*below, 1], {name: [*values, None] for name, values in said.items()}


def members_of(session: Session, snapshot_id: int) -> set[int]:
    """Ids of its rankings."""
    query = select(SnapshotRanking.ranking_id).where(SnapshotRanking.snapshot_id == snapshot_id)
    return set(session.scalars(query))


def num_preferences(ranks: dict[str, int | None]) -> int:
    """Pairs of responses that a ranking orders strictly."""
    given = [rank for rank in ranks.values() if rank is not None]
    return sum(a != b for i, a in enumerate(given) for b in given[i + 1 :])


def read_snapshot(session: Session, snapshot_id: int) -> Iterator[RankedComparison]:
    """What the snapshot's rankings say, in order of their ids."""
    member, part, edited = aliased(SnapshotRanking), aliased(ComparisonResponse), aliased(Response)
    texts = (
        select(part.comparison_id, part.position, Response.id, Response.text)
        .join(Response, Response.id == part.response_id)
        .where(
            part.comparison_id.in_(
                select(_ranking.c.comparison_id)
                .join(member, member.ranking_id == _ranking.c.id)
                .where(member.snapshot_id == snapshot_id)
            )
        )
        .order_by(part.comparison_id, part.position)
    )
    responses: dict[int, list[tuple[str, str]]] = {}
    for comparison_id, _, response_id, text in session.execute(texts):
        responses.setdefault(comparison_id, []).append((str(response_id), text))
    rows = (
        select(
            _ranking.c.id,
            _ranking.c.rater_id,
            _ranking.c.comparison_id,
            _ranking.c.ranks,
            _ranking.c.strength,
            _ranking.c.attributes,
            edited.text.label("edited"),
            Prompt.messages,
            Prompt.topic,
            Prompt.split,
        )
        .join(member, member.ranking_id == _ranking.c.id)
        .join(Comparison, Comparison.id == _ranking.c.comparison_id)
        .join(Prompt, Prompt.id == Comparison.prompt_id)
        .outerjoin(edited, edited.id == _ranking.c.edited_id)
        .where(member.snapshot_id == snapshot_id)
        .order_by(_ranking.c.id)
    )
    for row in session.execute(rows):
        members = responses[row.comparison_id]
        ids, shown = [response_id for response_id, _ in members], [text for _, text in members]
        ranks = [row.ranks.get(response_id) for response_id in ids]
        said = {name: [values.get(response_id) for response_id in ids] for name, values in row.attributes.items()}
        if row.edited is not None:
            shown, ranks, said = _above(row.edited, shown, ranks, said)
        strength = row.strength if row.edited is None else None  # Said of two responses, not of three.
        head = (row.id, row.rater_id, row.messages, row.topic, row.split)
        yield RankedComparison(*head, shown, ranks, strength, said)
