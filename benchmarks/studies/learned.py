"""One reward model trained and judged: what every study repeats."""

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.studies.arguments import Pair
from worker.rlhf.modeling import load_reward_model, score
from worker.rlhf.reward_model import RewardSettings, preset, train_reward_model
from worker.rlhf.tokens import load_tokenizer
from worker.rlhf.types import Ranking, Stats

MAX_LENGTH = 192  # Tokens of prompt and argument; the longest arguments have about that.


@dataclass(frozen=True)
class Judged:
    """On pairs not learned from: accuracy against the majority, and nats per judgement of single workers."""

    accuracy: float
    log_loss: float


def fastest_precision() -> str:
    """Of this processor."""
    from benchmarks.learning.peers import has_bf16_units

    return "bfloat16" if has_bf16_units() else "float32"


def settings(seed: int, **changes: object) -> RewardSettings:
    """The preset for sentence encoders, with one epoch: the arguments are short, and there are many pairs."""
    fixed: dict = {"seed": seed, "epochs": 1, "max_length": MAX_LENGTH, "precision": fastest_precision()}
    chosen = preset(RewardSettings(**fixed, **changes), "encoder")  # type: ignore[arg-type]
    return replace(chosen, epochs=1)


def train(
    model: Path, rankings: Sequence[Ranking], chosen: RewardSettings, out: Path, **more: Sequence[Ranking] | None
) -> tuple[Stats, float]:
    """The last stats, and the processor seconds that it took."""
    began = time.process_time()
    stats = list(train_reward_model(model, rankings, chosen, out=out, **more))  # type: ignore[arg-type]
    return stats[-1], time.process_time() - began


def judge(folder: Path, pairs: Sequence[Pair]) -> Judged:
    """Score each text once."""
    tokenizer = load_tokenizer(folder)
    model = load_reward_model(folder, tokenizer=tokenizer)
    texts = sorted({(pair.topic, text): pair.prompt for pair in pairs for text in pair.texts}.items())
    values = score(
        model, tokenizer, [prompt for _, prompt in texts], [key[1] for key, _ in texts], max_length=MAX_LENGTH
    )
    known = {key: value for (key, _), value in zip(texts, values, strict=True)}
    differences = [known[p.topic, p.texts[0]] - known[p.topic, p.texts[1]] for p in pairs]
    firm = [(d > 0) == (p.majority == (1, 2)) for d, p in zip(differences, pairs, strict=True) if p.majority]
    nats = [
        math.log1p(math.exp(-d if ranks[0] < ranks[1] else d))
        for d, p in zip(differences, pairs, strict=True)
        for _, ranks in p.votes
        if ranks[0] != ranks[1]
    ]
    return Judged(sum(firm) / len(firm), sum(nats) / len(nats))


def once(model: Path, rankings: Sequence[Ranking], chosen: RewardSettings, pairs: Sequence[Pair]) -> Judged:
    """Train, judge, throw away."""
    with tempfile.TemporaryDirectory() as folder:
        train(model, rankings, chosen, Path(folder))
        return judge(Path(folder), pairs)
