"""The learning library beside TRL, alternating on one machine; the table and the picture go into this folder's README.

    python -m benchmarks.learning [--only rm-k4 ppo] [--seeds 3] [--quick] [--peers FOLDER] [--work FOLDER] [--gpu]

On the processor all runs use one thread, and processor seconds are compared, so that others may use the machine too.
"""

import argparse
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.learning import report
from benchmarks.learning.cases import CPU_CASES, CTX, TINY, Case, Reward
from benchmarks.learning.gpu import GPU_CASES, GPU_SIZE
from benchmarks.learning.peers import HERE, BenchError, has_bf16_units, python_of, run_line
from benchmarks.learning.tasks import Prepared, prepare, with_tokenizer

ROOT = HERE.parent.parent
SOURCE = "data/hh_rlhf/harmless_base_dev.jsonl.gz"


def main() -> int:
    options = _options()
    if is_without_peers(options):
        return 0
    try:
        _measure_all(options)
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def is_without_peers(options: argparse.Namespace) -> bool:
    """Whether there is nobody to be measured beside; says so."""
    is_without = not (options.peers / "trl_reward.py").exists()
    if is_without:
        print(f"Skipped: {options.peers} does not hold the peers' scripts; name their folder with --peers.")
    return is_without


def _measure_all(options: argparse.Namespace) -> None:
    if options.gpu:
        _need_gpu()
    known = GPU_CASES if options.gpu else CPU_CASES
    cases = [case.quick() if options.quick else case for case in _chosen(known, options.only)]
    work = options.work / ("gpu" if options.gpu else "cpu")
    data = options.data or options.peers.parent / SOURCE
    ready = prepare(options.peers, options.work, work, data, size=GPU_SIZE if options.gpu else TINY)
    sitting = datetime.now(UTC).isoformat(timespec="seconds")
    for case in cases:
        if getattr(case, "is_bf16", False) and not (options.gpu or has_bf16_units()):
            print(f"{case.name} is skipped: without bf16 units in the processor, float32 is TRL's fastest.")
            continue
        for seed in range(1 if options.quick else min(options.seeds, case.num_seeds)):
            for side in options.side:
                if options.missing and seed in report.latest(ready.work / "results", case.name, side):
                    continue
                line = _measure(case, side, seed, ready, options)
                if line:
                    _keep(ready, line | {"case": case.name, "side": side, "seed": seed, "sitting": sitting})
    if options.quick:
        report.show(ready, cases)
    else:
        report.write(ready, known, is_gpu=options.gpu)


def _measure(case: Case, side: str, seed: int, ready: Prepared, options: argparse.Namespace) -> dict:
    if side == "trl" and getattr(case, "peer", ""):
        return {}  # It is put beside the TRL runs of another case.
    print(f"{case.name}, seed {seed}: {side} ... ", end="", flush=True)
    run = (train_peer if side == "trl" else train_ours)(case, seed, ready, options)
    rate = "rankings_per_cpu_s" if isinstance(case, Reward) else "episodes_per_cpu_s"
    print(f"{run['cpu_s']} s, {run[rate]} {rate.partition('_')[0]}/s, {run['peak_rss_mb']} MB", flush=True)
    return run


def train_peer(
    case: Case, seed: int, ready: Prepared, options: argparse.Namespace, *, keep: Path | None = None
) -> dict:
    """TRL's line of results; `keep` is a folder for the policy that PPO ends with."""
    tiny = ready.tiny
    is_reward = isinstance(case, Reward)
    python = python_of(options.work, "trl-rm" if is_reward else "trl-ppo")
    extra: list[object] = ["--gpu"] if options.gpu else []
    shared = ["--threads", 1, "--tokenizer", tiny / "tokenizer", *case.peer_arguments(seed)]
    if isinstance(case, Reward):
        keep = ["--save", ready.trained(case.name)] if seed == 0 else []
        work = ["--model", tiny / "reward", "--data", ready.task(case.task), *keep]
        return run_line([python, HERE / "peer_run.py", ready.peers, "reward", *extra, "--", *work, *shared])
    extra += ["--order", _order(ready, case.name, seed), *(["--keep", keep] if keep else [])]
    work = ["--policy", tiny / "policy", "--reward", _judge(ready), "--data", ready.source]
    return run_line([python, HERE / "peer_run.py", ready.peers, "ppo", *extra, "--", *work, *shared])


def train_ours(
    case: Case, seed: int, ready: Prepared, options: argparse.Namespace, *, keep: Path | None = None
) -> dict:
    """Our line of results; `keep` is a folder for the policy that PPO ends with."""
    given: dict[str, object] = {"seed": seed, "settings": case.our_settings(seed)}
    if isinstance(case, Reward):
        given |= {"data": str(ready.task(case.task)), "model": str(ready.model("reward")), "ctx": CTX}
        given |= {"limit": case.num_rankings, "eval_limit": case.eval_limit}
    else:
        given |= {"data": str(ready.source), "policy": str(ready.model("policy"))}
        order = _order(ready, case.peer or case.name, seed)
        if not order.exists():
            raise BenchError(
                f"{case.name} follows TRL's prompts; measure TRL's side of {case.peer or case.name} first."
            )
        given |= {"reward": str(our_judge(ready)), "order": str(order), "keep": str(keep or "")}
    kind = "reward" if isinstance(case, Reward) else "ppo"
    script = [sys.executable, HERE / "ours_run.py", ready.peers, kind, json.dumps(given)]
    return run_line(script, tree=options.tree)


def _order(ready: Prepared, case: str, seed: int) -> Path:
    """TRL's prompts, update by update; written by its run, followed by ours."""
    folder = ready.work / "orders"
    folder.mkdir(exist_ok=True)
    return folder / f"{case}-{seed}.json"


def _judge(ready: Prepared) -> Path:
    """The reward model that PPO learns from, on both sides: TRL's of the K=4 case."""
    for name in ("rm-k4", "rm-k4-quick"):
        if ready.trained(name).exists():
            return ready.trained(name)
    raise BenchError("PPO needs TRL's reward model of the case rm-k4; measure that one first.")


def our_judge(ready: Prepared) -> Path:
    """The same, with the tokenizer beside it."""
    return with_tokenizer(_judge(ready), ready.tiny / "tokenizer", ready.model("reward-k4"))


def _keep(ready: Prepared, line: dict) -> None:
    folder = ready.work / "results"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{line['case']}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _chosen(cases: list[Case], names: list[str]) -> list[Case]:
    unknown = sorted(set(names) - {case.name for case in cases})
    if unknown:
        raise BenchError(f"There is no case {unknown[0]}; there are {', '.join(case.name for case in cases)}.")
    return [case for case in cases if not names or case.name in names]


def _need_gpu() -> None:
    import torch

    if not torch.cuda.is_available():
        raise BenchError("There is no GPU that torch can use here; `make bench` measures on the processor.")


def add_folders(parser: argparse.ArgumentParser) -> None:
    """Where things are: the peers' scripts, the data, the work, the tree."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "attune-bench"
    parser.add_argument("--peers", type=Path, default=ROOT.parent / "shared" / "peers", help="the peers' scripts")
    parser.add_argument("--data", type=Path, help="HH pairs; beside the peers' scripts when not given")
    parser.add_argument("--work", type=Path, default=cache, help="environments, models and results")
    parser.add_argument("--tree", type=Path, default=ROOT, help="the working tree whose worker.rlhf is measured")
    parser.set_defaults(gpu=False)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning", description=__doc__)
    add_folders(parser)
    parser.add_argument("--only", nargs="+", default=[], help="names of cases")
    parser.add_argument("--side", nargs="+", choices=["trl", "ours"], default=["trl", "ours"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a fifth of each case, for a look; writes no report")
    parser.add_argument("--missing", action="store_true", help="only what was not measured before")
    parser.add_argument("--gpu", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
