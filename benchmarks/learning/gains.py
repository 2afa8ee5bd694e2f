"""What PPO gained, judged alike: both sides' policies write to the same held-out prompts, and one judge scores all of it.

    python -m benchmarks.learning.gains [--seeds 3] [--samples 600] [--peers FOLDER] [--work FOLDER]

The scores of an update's own 32 samples, which each side notes while it trains, say little of so short a run. Here each
policy, and the one that all of them start from, is kept and sampled from afterwards by the same program. Run the case
`rm-k4` of `python -m benchmarks.learning` before: its reward model is the judge.
"""

import argparse
import json
import sys
from datetime import UTC, datetime
from math import sqrt
from pathlib import Path
from statistics import mean, stdev

from benchmarks.learning import __main__ as learning
from benchmarks.learning import report
from benchmarks.learning.cases import CPU_CASES, PPO, TINY
from benchmarks.learning.peers import HERE, BenchError, run_line
from benchmarks.learning.tasks import Prepared, prepare, with_tokenizer

CASES = {case.name: case for case in CPU_CASES if isinstance(case, PPO)}
TITLES = {
    "trl": "TRL, one step an epoch",
    "ppo": "ours, one step an epoch",
    "ppo-steps": "ours, four steps an epoch",
    "ppo-shared": "ours, shared trunk, one step an epoch",
}
Judged = dict[str, float]


def main() -> int:
    options = _options()
    if learning.is_without_peers(options):
        return 0
    data = options.data or options.peers.parent / learning.SOURCE
    try:
        ready = prepare(options.peers, options.work, options.work / "cpu", data, size=TINY)
        rows = [row for seed in range(options.seeds) for row in _seed(seed, ready, options)]
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    start = _judged(ready.model("policy"), ready, options)
    report.write_part("gains", _text(start, rows, options))
    return 0


def _seed(seed: int, ready: Prepared, options: argparse.Namespace) -> list[dict]:
    """TRL's policy and ours of one seed, each trained unless it lies there already."""
    rows = []
    for name in TITLES:
        kept = ready.work / "kept" / f"{name}-{seed}"
        if not kept.exists():
            _train(name, seed, ready, options, kept)
        row = {"seed": seed, "side": name, **_once(kept, ready, options)}
        print(json.dumps(row), flush=True)
        rows.append(row)
    return rows


def _train(name: str, seed: int, ready: Prepared, options: argparse.Namespace, kept: Path) -> None:
    if name != "trl":
        learning.train_ours(CASES[name], seed, ready, options, keep=kept)
        return
    bare = ready.work / "kept" / f"bare-{seed}"
    learning.train_peer(CASES["ppo"], seed, ready, options, keep=bare)
    with_tokenizer(bare, ready.tiny / "tokenizer", kept)


def _once(kept: Path, ready: Prepared, options: argparse.Namespace) -> Judged:
    """What was judged before is read again."""
    file = kept / f"judged-{options.samples}.json"
    if not file.exists():
        file.write_text(json.dumps(_judged(kept, ready, options)), encoding="utf-8")
    return json.loads(file.read_text(encoding="utf-8"))


def _judged(policy: Path, ready: Prepared, options: argparse.Namespace) -> Judged:
    """Mean score of the policy's responses to held-out prompts, its standard error, and the KL from the start."""
    given = {
        "policy": str(policy),
        "reference": str(ready.model("policy")),
        "reward": str(learning.our_judge(ready)),
        "data": str(ready.source),
        "samples": options.samples,
        "settings": CASES["ppo"].our_settings(seed=20_000),
    }
    return run_line([sys.executable, HERE / "ours_run.py", ready.peers, "judge", json.dumps(given)], tree=options.tree)


def _text(start: Judged, rows: list[dict], options: argparse.Namespace) -> str:
    intro = (
        f"Measured {datetime.now(UTC):%Y-%m-%d}. Each policy wrote {options.samples} responses to held-out prompts, the same "
        f"for all, and TRL's reward model scored them. The policy that all start from has {start['score']:.2f} ± "
        f"{start['se']:.2f}.\n"
    )
    by_side = {name: [row for row in rows if row["side"] == name] for name in TITLES}
    lines = [
        intro,
        "| after 8 updates | gained, by seed | mean | less TRL's, seed by seed | KL from the start |",
        "| --- | --- | ---: | ---: | --- |",
    ]
    for name, title in TITLES.items():
        gains = [row["score"] - start["score"] for row in by_side[name]]
        kls = " ".join(f"{row['kl']:.1f}" for row in by_side[name])
        less = "" if name == "trl" else _difference(by_side[name], by_side["trl"])
        lines.append(f"| {title} | {' '.join(f'{gain:.2f}' for gain in gains)} | {mean(gains):.2f} | {less} | {kls} |")
    return "\n".join(lines)


def _difference(ours: list[dict], theirs: list[dict]) -> str:
    """Mean and standard error over the seeds."""
    each = [our["score"] - their["score"] for our, their in zip(ours, theirs, strict=True)]
    error = f" ± {stdev(each) / sqrt(len(each)):.2f}" if len(each) > 1 else ""
    return f"{mean(each):+.2f}{error}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning.gains", description=__doc__)
    learning.add_folders(parser)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=600)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
