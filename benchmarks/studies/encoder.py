"""A sentence encoder as trunk: accuracy on HH pairs whose prompts were not learned from."""

import gzip
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

from benchmarks.studies.learned import fastest_precision, train
from worker.rlhf.reward_model import RewardSettings, preset
from worker.rlhf.types import Ranking, read_rankings

SOURCE = "hh_rlhf/harmless_base_dev.jsonl.gz"
NUM_HELD_OUT = 300


def split(data: Path) -> tuple[list[Ranking], list[Ranking]]:
    """(learned from, held out): the pairs of the 300 prompts whose hashes come first are held out.

    Pairs with an empty reply are left out, as the importer does.
    """
    with gzip.open(data / SOURCE, "rt", encoding="utf-8") as lines:
        prompts = [_digest(json.loads(line)) for line in lines]
    pairs = [(p, r) for p, r in zip(prompts, read_rankings(data / SOURCE), strict=True) if all(r.responses)]
    first = set(sorted({prompt for prompt, _ in pairs})[:NUM_HELD_OUT])
    return [r for prompt, r in pairs if prompt not in first], [r for prompt, r in pairs if prompt in first]


def _digest(row: dict[str, str]) -> str:
    texts = [row["chosen"], row["rejected"]]
    shared, mark, _ = os.path.commonprefix(texts).rpartition("\n\nAssistant:")  # noqa: RUF071  Characters are meant.
    return hashlib.sha256((shared + mark).encode()).hexdigest()


def study(data: Path, model: Path, *, seeds: int) -> Iterator[str]:
    """A table of held-out accuracy, seed by seed, with the preset for encoders; bfloat16 where the processor has units for it."""
    learned, held_out = split(data)
    yield f"{len(learned):,} pairs learned from, {len(held_out):,} pairs of {NUM_HELD_OUT} other prompts."
    yield ""
    yield "| seed | accuracy | 95 % interval | shorter wins | processor s |"
    yield "| ---: | ---: | ---: | ---: | ---: |"
    runs = []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            chosen = preset(RewardSettings(seed=seed, precision=fastest_precision()), "encoder")
            done, seconds = train(model, learned, chosen, Path(folder), heldout=held_out)
        runs.append(float(done["accuracy"]))
        interval = f"{done['accuracy_low']:.3f} to {done['accuracy_high']:.3f}"
        yield f"| {seed} | {runs[-1]:.3f} | {interval} | {done['accuracy_shorter']:.3f} | {seconds:.0f} |"
    yield f"| mean | **{mean(runs):.3f}** | | | |"
