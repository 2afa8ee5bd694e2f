"""An ensemble of heads: does their spread tell where the reward model is wrong?"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

from benchmarks.studies.arguments import by_majority, load
from benchmarks.studies.learned import settings, train

HEADS = 8


def study(data: Path, model: Path, *, seeds: int) -> Iterator[str]:
    """A table: accuracy where the heads agree and where they do not."""
    pairs = load(data)
    held_out, learned = by_majority(pairs[: len(pairs) // 5]), by_majority(pairs[len(pairs) // 5 :])
    yield f"{HEADS} heads, {len(learned):,} pairs learned from, {len(held_out):,} unseen; {seeds} seeds."
    yield ""
    yield "| accuracy | quarter of least spread | quarter of most spread | heads were moved apart by |"
    yield "| ---: | ---: | ---: | ---: |"
    runs = []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            done, _ = train(model, learned, settings(seed, num_heads=HEADS), Path(folder), heldout=held_out)
            runs.append(done)
    names = ("accuracy", "accuracy_least_spread", "accuracy_most_spread", "spread_scale")
    yield "| " + " | ".join(f"{mean(float(run[name]) for run in runs):.3f}" for name in names) + " |"
