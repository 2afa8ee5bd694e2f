"""UKPConvArg: which of two arguments is more convincing, judged by several workers a pair (data/ukpconvarg)."""

import gzip
import hashlib
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from worker.rlhf.types import Prompt, Ranking

CHOICES = {"a1": (1, 2), "a2": (2, 1), "equal": (1, 1)}


@dataclass(frozen=True)
class Pair:
    """Two arguments of one debate, and what each worker said of them: ranks, (1, 2) where the first convinced more."""

    id: str
    topic: str
    prompt: Prompt
    texts: tuple[str, str]
    votes: tuple[tuple[str, tuple[int, int]], ...]

    @property
    def share(self) -> float:
        """Of the workers who said one was better, those who preferred the first; 0.5 where none did."""
        firm = [ranks[0] < ranks[1] for _, ranks in self.votes if ranks[0] != ranks[1]]
        return sum(firm) / len(firm) if firm else 0.5

    @property
    def majority(self) -> tuple[int, int] | None:
        """The ranks that most workers with an opinion gave; None where they are evenly split."""
        return None if self.share == 0.5 else (1, 2) if self.share > 0.5 else (2, 1)


def load(data: Path) -> list[Pair]:
    """All pairs, in the order of a hash of their ids, so that any part is a fair sample."""
    folder = data / "ukpconvarg"
    lines = (folder / "arguments_dev.jsonl").read_text(encoding="utf-8").splitlines()
    arguments = {row["arg_id"]: row for row in map(json.loads, lines)}
    votes = defaultdict(list)
    with gzip.open(folder / "comparisons_dev.jsonl.gz", "rt", encoding="utf-8") as file:
        for row in map(json.loads, file):
            votes[row["pair_id"], row["topic"], row["a1"], row["a2"]].append((row["worker"], CHOICES[row["choice"]]))
    pairs = [_pair(key, given, arguments) for key, given in votes.items()]
    return sorted(pairs, key=lambda pair: hashlib.sha256(pair.id.encode()).hexdigest())


def _pair(key: tuple[str, ...], votes: list, arguments: dict[str, dict]) -> Pair:
    pair_id, topic, first, second = key
    prompt: Prompt = [{"role": "user", "content": arguments[first]["debate"]}]
    return Pair(pair_id, topic, prompt, (arguments[first]["text"], arguments[second]["text"]), tuple(votes))


def by_majority(pairs: list[Pair]) -> list[Ranking]:
    """One ranking a pair; evenly split ones say nothing."""
    return [Ranking(p.prompt, p.texts, p.majority, topic=p.topic) for p in pairs if p.majority]


def by_worker(pairs: list[Pair], weights: dict[str, float] | None = None) -> list[Ranking]:
    """Every worker's judgement; `labels="soft"` makes shares of them."""
    return [
        Ranking(p.prompt, p.texts, ranks, (weights or {}).get(worker, 1.0), topic=p.topic, rater=worker)
        for p in pairs
        for worker, ranks in p.votes
    ]


def worker_weights(pairs: list[Pair], *, prior: float = 5.0) -> dict[str, float]:
    """How much more often than by chance each worker agrees with the majority of the others: 0 to 1.

    Shrunk towards the mean over all workers by `prior` judgements, because many workers gave few.
    """
    agreed: dict[str, list[float]] = defaultdict(list)
    for pair in pairs:
        for worker, ranks in pair.votes:
            others = [other for name, other in pair.votes if name != worker]
            lead = sum((a < b) - (a > b) for a, b in others)
            if lead and ranks[0] != ranks[1]:
                agreed[worker].append(float((ranks[0] < ranks[1]) == (lead > 0)))
    everyone = [value for values in agreed.values() for value in values]
    mean = sum(everyone) / len(everyone)
    workers = {worker for pair in pairs for worker, _ in pair.votes}
    shares = {w: (sum(agreed[w]) + prior * mean) / (len(agreed[w]) + prior) for w in workers}
    return {worker: max(2 * share - 1, 0.0) for worker, share in shares.items()}
