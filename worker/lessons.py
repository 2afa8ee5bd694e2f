"""What a run learns from, read from the database: rankings of its snapshot, demonstrations, calibration samples."""

import random
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.projects.models import Project
from app.prompts.models import Prompt, Response
from app.prompts.service import is_demonstration
from app.training import snapshots, versions
from app.training.models import ModelVersion
from worker.rlhf.types import Demonstration, Ranking
from worker.rlhf.types import Prompt as Conversation
from worker.work import Work

MAX_CALIBRATION = 200


def to_learn(
    session: Session, work: Work, snapshot_id: int
) -> tuple[ModelVersion | None, list[Ranking], list[Ranking], list[Ranking]]:
    """The reward model to train further, where the project wants that; rankings to learn from, those it knows, and held-out ones.

    Where nothing is new, or there is no reward model yet, all is learned anew.
    """
    before = None
    if work.training.reward.retrain == "further":
        before = versions.reward_model_before(session, work.project.id, snapshot_id=snapshot_id)
    known = snapshots.members_of(session, before.snapshot_id) if before is not None and before.snapshot_id else set()
    new, old, heldout = rankings_of(session, snapshot_id, known=known)
    return (before, new, old, heldout) if new and old else (None, new + old, [], heldout)


def rankings_of(
    session: Session, snapshot_id: int, *, known: Collection[int] = ()
) -> tuple[list[Ranking], list[Ranking], list[Ranking]]:
    """(to learn from, known before, held out), the last split off by prompt."""
    snapshots.check_snapshot(session, snapshot_id)
    new: list[Ranking] = []
    old: list[Ranking] = []
    heldout: list[Ranking] = []
    for row in snapshots.read_snapshot(session, snapshot_id):
        part = heldout if row.split == "heldout" else old if row.ranking_id in known else new
        part.append(_ranking(row))
    return new, old, heldout


def _ranking(row: snapshots.RankedComparison) -> Ranking:
    prompt: Conversation = [{"role": m["role"], "content": m["content"]} for m in row.messages]
    return Ranking(
        prompt,
        tuple(row.responses),
        tuple(row.ranks),
        rater=str(row.rater_id),
        topic=row.topic,
        strength=float(row.strength or 0),
        attributes={name: tuple(ranks) for name, ranks in row.attributes.items()},
    )


def demonstrations_of(session: Session, project: Project) -> tuple[list[Demonstration], list[Demonstration]]:
    """(to learn from, at most 500 held out), split by prompt; where all prompts are held out, they are learned from."""
    query = (
        select(Prompt.messages, Prompt.split, Response.text)
        .join(Response, Response.prompt_id == Prompt.id)
        .where(Prompt.project_id == project.id, *is_demonstration())
        .order_by(Response.id)
    )
    parts: dict[str, list[Demonstration]] = {"train": [], "heldout": []}
    for messages, split, text in session.execute(query):
        parts[split].append(Demonstration(messages, text))
    return (parts["train"], parts["heldout"][:500]) if parts["train"] else (parts["heldout"], [])


def calibration_samples(rankings: Sequence[Ranking], *, seed: int) -> list[tuple[Any, str]]:
    """Responses on which the scores get mean 0 and deviation 1."""
    pairs = [(ranking.prompt, text) for ranking in rankings for text in ranking.responses]
    return random.Random(seed).sample(pairs, min(MAX_CALIBRATION, len(pairs)))
