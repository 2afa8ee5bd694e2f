"""The learning library from the command line: sft, reward, ppo, sample, score.

Each command takes a Hugging Face folder and JSONL files, shows its progress on a terminal, and ends with one JSON
line of results. Bad input ends with exit status 2 and a sentence that names the file, the line and what was expected.
"""

import argparse
import dataclasses
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from worker.rlhf import processes
from worker.rlhf.checkpoint import CheckpointStore
from worker.rlhf.limits import check_limits
from worker.rlhf.ppo import PPOSettings, train_ppo
from worker.rlhf.remote import RemoteSampler
from worker.rlhf.reward_model import PRESETS, RewardSettings, preset, train_reward_model
from worker.rlhf.rollout import SamplingSettings
from worker.rlhf.sft import SFTSettings, train_sft
from worker.rlhf.types import DataError, NotANumberError, Stats, read_demonstrations, read_prompts, read_rankings

RESULT = "result.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    processes.start()
    try:
        check_limits(vars(options))
        _check_out(options)
        _hush_libraries()
        result = _finished(options) or options.command(options)
    except NotANumberError as error:
        return _refuse(f"{error} Lower --learning-rate, or continue from the last checkpoint with --resume.", status=1)
    except OSError as error:
        return _refuse(f"{error.filename}: {error.strerror}." if error.filename else str(error), status=2)
    except ValueError as error:
        return _refuse(str(error), status=2)
    if processes.is_first():
        _keep(options, result)
        print(json.dumps(result))
    return 0


def sft(options: argparse.Namespace) -> Stats:
    """Fine-tune on demonstrations."""
    rows = _some(read_demonstrations, options.data)
    heldout = _some(read_demonstrations, options.eval) if options.eval else []
    steps = train_sft(
        _model(options.model),
        rows,
        _settings(SFTSettings, options),
        out=_fresh(options),
        checkpoints=_store(options),
        heldout=heldout,
    )
    return _run(steps, counted="demonstrations", num_items=len(rows) * options.epochs)


def reward(options: argparse.Namespace) -> Stats:
    """Train a reward model on rankings."""
    rows = _some(read_rankings, options.data)
    heldout = _some(read_rankings, options.eval) if options.eval else []
    calibration = _some(read_demonstrations, options.calibration) if options.calibration else []
    replay = _some(read_rankings, options.replay) if options.replay else None
    _refuse_shared_prompts({options.data: rows, options.replay: replay or []}, heldout, options)
    settings = _settings(RewardSettings, options)
    steps = train_reward_model(
        _model(options.model),
        rows,
        preset(settings, options.preset),
        replay=replay,
        out=_fresh(options),
        checkpoints=_store(options),
        heldout=heldout,
        calibration=[(row.prompt, row.response) for row in calibration],
    )
    result = _run(steps, counted="rankings", num_items=len(rows) * options.epochs)
    if "accuracy_low" in result:
        interval = [result.pop("accuracy_low"), result.pop("accuracy_high")]
        return {**result, "accuracy_interval": interval}  # type: ignore[dict-item]
    return result


def ppo(options: argparse.Namespace) -> Stats:
    """Train a policy against a reward model."""
    steps = train_ppo(
        _model(options.policy),
        _model(options.reward),
        _some(read_prompts, options.prompts),
        _settings(PPOSettings, options),
        out=_fresh(options),
        checkpoints=_store(options),
        reference_dir=_model(options.reference) if options.reference else None,
        eval_prompts=_some(read_prompts, options.eval) if options.eval else [],
        demonstrations=_some(read_demonstrations, options.demonstrations) if options.demonstrations else [],
        sampler=RemoteSampler(options.sampler_url, options.out / "adapters") if options.sampler_url else None,
    )
    num_episodes = options.num_updates * options.batch_size
    result = _run(steps, counted="episodes", num_items=num_episodes)
    learning = float(result.get("score_cpu_seconds", 0)) + float(result.get("optimise_cpu_seconds", 0))
    return {**result, "episodes_per_cpu_second_after_sampling": round(num_episodes / max(learning, 1e-9), 3)}


def sample(options: argparse.Namespace) -> Stats:
    """Write `--num-responses` responses for each prompt."""
    from worker.rlhf.modeling import load_policy
    from worker.rlhf.rollout import sample_responses
    from worker.rlhf.tokens import load_tokenizer

    prompts = _some(read_prompts, options.prompts)
    tokenizer = load_tokenizer(_model(options.policy))
    policy = load_policy(options.policy, tokenizer=tokenizer)
    settings = _settings(SamplingSettings, options)
    grouped: list[list[Any]] = [[] for _ in prompts]
    batches = sample_responses(policy, tokenizer, prompts, settings, num_responses=options.num_responses)
    for batch in _progress(batches, unit="batches"):
        for sampled in batch:
            grouped[sampled.prompt_index].append(sampled)
    rows = [
        {"prompt": prompt, "responses": [s.text for s in ours], "finish_reasons": [s.finish_reason for s in ours]}
        for prompt, ours in zip(prompts, grouped, strict=True)
    ]
    _write(options.out, rows)
    return {"phase": "sample_done", "num_prompts": len(prompts), "num_responses": sum(map(len, grouped))}


def score(options: argparse.Namespace) -> Stats:
    """Write the reward model's score beside each prompt and response."""
    from worker.rlhf.attributes import attribute_scores, load_attribute_heads
    from worker.rlhf.modeling import load_reward_model
    from worker.rlhf.modeling import score as scores_of
    from worker.rlhf.tokens import load_tokenizer

    pairs = _some(read_demonstrations, options.data)
    tokenizer = load_tokenizer(_model(options.reward))
    model = load_reward_model(options.reward, tokenizer=tokenizer)
    prompts, responses = [pair.prompt for pair in pairs], [pair.response for pair in pairs]
    scores = scores_of(model, tokenizer, prompts, responses, max_length=options.max_length)
    columns = zip(prompts, responses, scores, strict=True)
    rows: list[dict[str, Any]] = [{"prompt": p, "response": r, "score": s} for p, r, s in columns]
    if heads := load_attribute_heads(options.reward):
        found = attribute_scores(model, heads, tokenizer, prompts, responses, max_length=options.max_length)
        for row, values in zip(rows, found.tolist(), strict=True):
            row["attributes"] = dict(zip(heads.names, values, strict=True))
    _write(options.out, rows)
    return {"phase": "score_done", "num_responses": len(scores), "mean_score": sum(scores) / len(scores)}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m worker.rlhf", description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _trainer(commands, sft, SFTSettings, files=("model", "data"), optional=("eval",))
    _trainer(
        commands, reward, RewardSettings, files=("model", "data"), optional=("eval", "calibration", "replay")
    ).add_argument("--preset", choices=list(PRESETS), default="small", help="defaults for a kind of trunk")
    policy = _trainer(
        commands,
        ppo,
        PPOSettings,
        files=("policy", "reward", "prompts"),
        optional=("eval", "reference", "demonstrations"),
    )
    policy.add_argument("--sampler-url", default="", help="an OpenAI server that samples, such as http://HOST:8000/v1")
    sampler = _command(commands, sample, files=("policy", "prompts", "out"))
    sampler.add_argument("--num-responses", type=int, default=4)
    _add_settings(sampler, SamplingSettings)
    _command(commands, score, files=("reward", "data", "out")).add_argument("--max-length", type=int, default=1024)
    return parser


def _trainer(
    commands: Any, run: Callable[..., Stats], settings: type, *, files: Sequence[str], optional: Sequence[str]
) -> argparse.ArgumentParser:
    parser = _command(commands, run, files=[*files, "out"])
    for name in optional:
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--resume", action="store_true", help="continue from the last whole checkpoint in --out")
    _add_settings(parser, settings)
    return parser


def _command(commands: Any, run: Callable[..., Stats], *, files: Sequence[str]) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(run.__name__, help=run.__doc__, description=run.__doc__)
    parser.set_defaults(command=run)
    for name in files:
        parser.add_argument(f"--{name}", type=Path, required=True)
    return parser


def _add_settings(parser: argparse.ArgumentParser, kind: type) -> None:
    """An option for each setting; what it means is written beside its declaration."""
    for field in dataclasses.fields(kind):
        flag = "--" + field.name.replace("_", "-")
        if isinstance(field.default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=field.default)
        else:
            parser.add_argument(flag, type=type(field.default), default=field.default, help=f"{field.default}")


def _settings(kind: Any, options: argparse.Namespace) -> Any:
    return kind(**{field.name: getattr(options, field.name) for field in dataclasses.fields(kind)})


def _model(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} is not a model folder: expected config.json, safetensors and a tokenizer in it.")
    return folder


def _some(read: Callable[[Path], list[Any]], path: Path) -> list[Any]:
    rows = read(path)
    if not rows:
        raise DataError(f"{path}: the file is empty. Expected JSONL, one object a line.")
    return rows


def _refuse_shared_prompts(
    rows_of: Mapping[Path, Sequence[Any]], heldout: Sequence[Any], options: argparse.Namespace
) -> None:
    """Held-out accuracy means nothing on prompts that were learned from, in this training or in one before."""
    learned = {json.dumps(row.prompt): path for path, rows in rows_of.items() for row in rows}
    for number, row in enumerate(heldout, start=1):
        if path := learned.get(json.dumps(row.prompt)):
            raise DataError(
                f"{options.eval}, line {number}: this prompt is in {path} too. Split by prompt, not by pair."
            )


def _check_out(options: argparse.Namespace) -> None:
    """Say it now, and not after hours of training."""
    out, is_file = options.out, options.command in {sample, score}
    parent = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    if (is_file and out.is_dir()) or (not is_file and out.is_file()):
        raise ValueError(f"{out}: --out must be a {'file' if is_file else 'folder'}, and this is none.")
    if not parent.is_dir() and parent != out.absolute():
        raise ValueError(f"{out}: {parent} is not a folder. Choose another --out.")
    if not os.access(parent, os.W_OK):
        raise ValueError(f"{out}: {parent} cannot be written. Choose another --out.")


def _hush_libraries() -> None:
    """No progress bars of the libraries where nobody watches; what they raise is told in a sentence."""
    from transformers.utils import logging

    if not sys.stderr.isatty():
        logging.disable_progress_bar()


def _fresh(options: argparse.Namespace) -> Path:
    """A folder for a model; with `--resume` it may hold one that a crash left half written."""
    out: Path = options.out
    is_half_done = options.resume and any((out / "checkpoints").glob("step-*"))
    if (out / "config.json").exists() and not is_half_done:
        raise ValueError(f"{out} holds a model already. Choose another --out, or move that model away.")
    return out


def _finished(options: argparse.Namespace) -> Stats | None:
    """What a trainer that is resumed had told already, if a crash came after its end."""
    told = options.out / RESULT
    return json.loads(told.read_text()) if getattr(options, "resume", False) and told.is_file() else None


def _keep(options: argparse.Namespace, result: Stats) -> None:
    """A trainer's result beside its model; with that, nothing is left to resume."""
    if not hasattr(options, "resume"):
        return
    aside = options.out / f"{RESULT}.tmp"
    aside.write_text(json.dumps(result))
    aside.rename(options.out / RESULT)
    CheckpointStore(options.out / "checkpoints").clear()


def _store(options: argparse.Namespace) -> CheckpointStore:
    store = CheckpointStore(options.out / "checkpoints")
    if not options.resume and processes.is_first():
        store.clear()
    processes.wait_for_all()  # So that none looks for a checkpoint before the old ones are gone.
    return store


def _run(steps: Iterator[Stats], *, counted: str, num_items: int) -> Stats:
    """Drive a trainer to its end; the rate counts processor seconds of all threads, loading included."""
    started, last = time.process_time(), Stats()
    phases: dict[str, float] = {}
    for stats in _progress(steps, unit="steps"):
        last = stats
        for name in stats:
            if name.endswith("_seconds"):
                phases[name] = round(phases.get(name, 0.0) + float(stats[name]), 3)
    seconds = max(time.process_time() - started, 1e-9)
    return {
        **last,
        **phases,
        "cpu_seconds": round(seconds, 2),
        f"{counted}_per_cpu_second": round(num_items / seconds, 3),
        "peak_rss_mb": _peak_rss_mb(),
    }


def _progress(items: Iterable[Any], *, unit: str) -> Iterable[Any]:
    from rich.console import Console
    from rich.progress import track

    return track(items, unit, console=Console(stderr=True), disable=not (sys.stderr.isatty() and processes.is_first()))


def _peak_rss_mb() -> int:
    """Linux counts kilobytes, macOS bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak // (1024 * 1024 if sys.platform == "darwin" else 1024))


def _write(out: Path, rows: Iterable[dict[str, Any]]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _refuse(sentence: str, *, status: int) -> int:
    print(sentence, file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
