"""New rankings: train a reward model further on them, with or without old ones beside, or all anew?"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

from benchmarks.studies.arguments import Pair, by_majority, load
from benchmarks.studies.learned import judge, settings, train

NEW = "firefox"  # The debate whose pairs come later.


def study(data: Path, model: Path, *, seeds: int) -> Iterator[str]:
    """A table of accuracy on unseen pairs of the old debates and of the new one, and what each way costs."""
    pairs = load(data)
    held_out, learned = pairs[: len(pairs) // 5], pairs[len(pairs) // 5 :]
    old, new = ([p for p in learned if p.topic.startswith(NEW) == late] for late in (False, True))
    yield f"{len(old):,} pairs of three debates first, then {len(new):,} of another; {seeds} seeds each."
    yield ""
    yield "| reward model | unseen pairs, old debates | new debate | processor s |"
    yield "| --- | ---: | ---: | ---: |"
    rows: dict[str, list[tuple[float, float, float]]] = {}
    for seed in range(seeds):
        for name, figures in _one_seed(model, by_majority(old), by_majority(new), held_out, seed=seed):
            rows.setdefault(name, []).append(figures)
    for name, runs in rows.items():
        before, after, seconds = (mean(column) for column in zip(*runs, strict=True))
        yield f"| {name} | {before:.3f} | {after:.3f} | {seconds:.0f} |"


def _one_seed(
    model: Path, old: list, new: list, held_out: list[Pair], *, seed: int
) -> Iterator[tuple[str, tuple[float, float, float]]]:
    parts = [[p for p in held_out if p.topic.startswith(NEW) == late] for late in (False, True)]
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder) / "first"
        ways = {
            "before the new ones": (model, old, first, None, 0.0),
            "all anew": (model, [*old, *new], Path(folder) / "anew", None, 0.0),
            "further, as many old ones beside (`replay_share 1`)": (first, new, Path(folder) / "replay", old, 1.0),
            "further, new ones alone (`replay_share 0`)": (first, new, Path(folder) / "alone", old, 0.0),
        }
        for name, (start, rankings, out, replay, share) in ways.items():
            _, seconds = train(start, rankings, settings(seed, replay_share=share), out, replay=replay)
            yield name, (*(judge(out, part).accuracy for part in parts), seconds)
