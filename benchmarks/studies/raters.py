"""Several workers a pair: is their majority the best label, or the share of them, or the share of the reliable ones?"""

from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean

from benchmarks.studies.arguments import Pair, by_majority, by_worker, load, worker_weights
from benchmarks.studies.learned import Judged, once, settings
from worker.rlhf.types import Ranking

LABELS: dict[str, tuple[str, Callable[[list[Pair]], list[Ranking]]]] = {
    "majority": ("separate", by_majority),
    "share of workers (`labels soft`)": ("soft", by_worker),
    "share, workers weighted by agreement": ("soft", lambda pairs: by_worker(pairs, worker_weights(pairs))),
}


def study(data: Path, model: Path, *, seeds: int) -> Iterator[str]:
    """A table; a fifth of the pairs is never learned from."""
    pairs = load(data)
    held_out, learned = pairs[: len(pairs) // 5], pairs[len(pairs) // 5 :]
    yield f"{len(learned):,} pairs learned from, {len(held_out):,} unseen; {seeds} seeds each."
    yield ""
    yield "| labels | accuracy against the majority | mean | nats per judgement of one worker |"
    yield "| --- | --- | ---: | ---: |"
    for name, (labels, rankings_of) in LABELS.items():
        runs = [once(model, rankings_of(learned), settings(seed, labels=labels), held_out) for seed in range(seeds)]
        yield _row(name, runs)


def _row(name: str, runs: list[Judged]) -> str:
    each = " ".join(f"{run.accuracy:.3f}" for run in runs)
    return f"| {name} | {each} | {mean(r.accuracy for r in runs):.3f} | {mean(r.log_loss for r in runs):.3f} |"
