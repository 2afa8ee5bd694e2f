"""Raw lines to a table, a picture and a file of all lines, in the benchmarks folder."""

import importlib.metadata
import json
import os
import platform
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

from benchmarks.learning.cases import PPO, Case, Reward
from benchmarks.learning.peers import ENVIRONMENTS, HERE, has_bf16_units
from benchmarks.learning.picture import picture

FOLDER = HERE.parent
PHASES = {"sample": "sample_cpu_s", "score": "score_cpu_s", "optimise": "optimise_cpu_s"}
Line = dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """The runs of one case, seed by seed: TRL's and ours."""

    case: Case
    trl: list[Line]
    ours: list[Line]

    def ratio(self, seconds: Callable[[Line], float]) -> float:
        """How many times faster ours is; the median of the seeds, each beside its own neighbour in time."""
        return median(seconds(theirs) / seconds(our) for theirs, our in zip(self.trl, self.ours, strict=True))


def write(ready: Any, cases: Sequence[Case], *, is_gpu: bool) -> None:
    """Write what was measured so far, this time or before."""
    measured = [both for case in cases if (both := _read(ready.work / "results", case))]
    if not measured:
        return
    name = "learning-gpu" if is_gpu else "learning"
    (FOLDER / f"{name}.svg").write_text(picture(measured), encoding="utf-8")
    lines = [line for both in measured for line in (*both.trl, *both.ours)]
    distinct = {json.dumps(line): line for line in lines}.values()
    (FOLDER / f"{name}.json").write_text("[\n" + ",\n".join(map(json.dumps, distinct)) + "\n]\n", encoding="utf-8")
    write_part(name, _text(ready, measured, name=name, is_gpu=is_gpu))
    print(f"wrote {name}.svg, {name}.json and the table in README.md")


def show(ready: Any, cases: Sequence[Case]) -> None:
    """The tables alone, on the terminal."""
    measured = [both for case in cases if (both := _read(ready.work / "results", case))]
    print("\n\n".join(_tables(measured, "processor s")))


def _read(folder: Path, case: Case) -> Measured | None:
    """The latest line of each seed that both sides have."""
    trl, ours = latest(folder, getattr(case, "peer", "") or case.name, "trl"), latest(folder, case.name, "ours")
    seeds = sorted(trl.keys() & ours.keys())
    return Measured(case, [trl[seed] for seed in seeds], [ours[seed] for seed in seeds]) if seeds else None


def latest(folder: Path, name: str, side: str) -> dict[int, Line]:
    """The newest line of each seed."""
    file = folder / f"{name}.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return {line["seed"]: line for line in lines if line["side"] == side}


def _text(ready: Any, measured: Sequence[Measured], *, name: str, is_gpu: bool) -> str:
    parts = [_setting(ready, measured, is_gpu=is_gpu), f"![TRL and ours]({name}.svg)"]
    return "\n\n".join([*parts, *_tables(measured, "s (wall)" if is_gpu else "processor s")])


def _tables(measured: Sequence[Measured], unit: str) -> list[str]:
    rewards = [both for both in measured if isinstance(both.case, Reward)]
    policies = [both for both in measured if isinstance(both.case, PPO)]
    tables = [_reward_table(rewards, unit)] if rewards else []
    return tables + ([_phase_table(policies, unit), _gain_table(policies)] if policies else [])


def _setting(ready: Any, measured: Sequence[Measured], *, is_gpu: bool) -> str:
    from benchmarks.learning.tasks import manifest

    made = manifest(ready)
    sittings = sorted({line["sitting"][:10] for both in measured for line in (*both.trl, *both.ours)})
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in ("torch", "transformers"))
    trl = " and ".join(package.replace("==", " ") for package in ENVIRONMENTS.values())
    threads = "" if is_gpu else " One thread; processor seconds."
    size = made["parameters"]["policy"] / 1e6
    return (
        f"{_machine(is_gpu=is_gpu)}; {versions}, Python {platform.python_version()}; {trl} (reward models and PPO). "
        f"Measured {' and '.join(sittings)}, TRL and ours in turn.{threads} Llama-style model of {size:.1f} million "
        f"parameters (tokenizer {made['digest']['tokenizer']}, policy {made['digest']['policy']}). "
        "All single runs: [" + ("learning-gpu" if is_gpu else "learning") + ".json]"
        "(" + ("learning-gpu" if is_gpu else "learning") + ".json)."
    )


def _machine(*, is_gpu: bool) -> str:
    if is_gpu:
        import torch

        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    model = re.search(r"model name\s*: (.*)", text)
    units = "with" if has_bf16_units() else "without"
    return f"{os.cpu_count()} cores of {model[1] if model else platform.processor()}, {units} bf16 units"


def _reward_table(rows: Sequence[Measured], unit: str) -> str:
    head = (
        f"| reward model | seeds | TRL rankings/{unit} | ours | ratio | goal | held-out accuracy, TRL | ours "
        "| peak MB, TRL | ours |\n| --- | ---: | ---: | ---: | ---: | ---: | --- | --- | ---: | ---: |\n"
    )
    return head + "\n".join(_reward_row(both) for both in rows)


def _reward_row(both: Measured) -> str:
    case = both.case
    assert isinstance(case, Reward)
    memory = "peak_gpu_mb" if "peak_gpu_mb" in both.ours[0] else "peak_rss_mb"
    cells = [
        case.title + ("" if _is_same_work(both) else " (not the same ids)"),
        str(len(both.ours)),
        *(f"{median(line['rankings_per_cpu_s'] for line in side):.2f}" for side in (both.trl, both.ours)),
        f"**{both.ratio(lambda line: line['cpu_s']):.2f}**",
        f"{case.goal:g}" if case.goal else "",
        *(" ".join(f"{line['eval_accuracy']:.3f}" for line in side) for side in (both.trl, both.ours)),
        *(f"{max(line[memory] for line in side):,}" for side in (both.trl, both.ours)),
    ]
    return "| " + " | ".join(cells) + " |"


def _is_same_work(both: Measured) -> bool:
    """Whether both sides had the same token ids; the digests are taken by each side of what it was given."""
    key = "ids_digest" if isinstance(both.case, Reward) else "queries_digest"
    return all(theirs[key] == our[key] for theirs, our in zip(both.trl, both.ours, strict=True))


def _phase_table(rows: Sequence[Measured], unit: str) -> str:
    head = (
        f"| PPO, {{}} | phase | TRL episodes/{unit} | ours | ratio | goal | peak MB, TRL | ours |\n"
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n"
    ).replace("{}", "4 epochs, 32 episodes an update" if unit.startswith("proc") else "4 epochs")
    return head + "\n".join(_phase_row(both, phase) for both in rows for phase in (*PHASES, "end to end"))


def _phase_row(both: Measured, phase: str) -> str:
    case = both.case
    assert isinstance(case, PPO)

    def seconds(line: Line) -> float:
        return line["phases"][PHASES[phase]] if phase in PHASES else line["cpu_s"]

    memory = "peak_gpu_mb" if "peak_gpu_mb" in both.ours[0] else "peak_rss_mb"
    is_end = phase == "end to end"
    cells = [
        case.title + ("" if _is_same_work(both) else " (not the same prompts)"),
        phase,
        *(f"{median(line['episodes'] / seconds(line) for line in side):.2f}" for side in (both.trl, both.ours)),
        f"**{both.ratio(seconds):.2f}**",
        f"{case.goals[phase]:g}" if phase in case.goals else "",
        *(f"{max(line[memory] for line in side):,}" if is_end else "" for side in (both.trl, both.ours)),
    ]
    return "| " + " | ".join(cells) + " |"


def _gain_table(rows: Sequence[Measured]) -> str:
    head = (
        "| mean score of an update's samples | TRL, first → last two updates | KL at the end | ours | KL at the end |\n"
        "| --- | --- | --- | --- | --- |\n"
    )
    return head + "\n".join(
        f"| {both.case.title} | {_gains(both.trl)} | {_kls(both.trl)} | {_gains(both.ours)} | {_kls(both.ours)} |"
        for both in rows
    )


def _gains(lines: Sequence[Line]) -> str:
    scores = [[update["score"] for update in line["updates_log"]] for line in lines]
    return ", ".join(f"{row[0]:.2f} → {mean(row[-2:]):.2f}" for row in scores)


def _kls(lines: Sequence[Line]) -> str:
    return ", ".join(f"{line['updates_log'][-1]['kl']:.1f}" for line in lines)


def write_part(name: str, text: str) -> None:
    """Put a text between its markers in the README."""
    _between_markers(FOLDER / "README.md", name, text)


def _between_markers(readme: Path, name: str, text: str) -> None:
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, found, rest = readme.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"{readme.name} lacks the markers {begin} and {end}.")
    readme.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
