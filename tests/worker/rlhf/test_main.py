"""The command line: each command on tiny models, and the sentences for bad input."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from worker.rlhf import __main__ as command_line
from worker.rlhf.checkpoint import CheckpointStore
from worker.rlhf.reward_model import train_reward_model
from worker.rlhf.types import Stats

SMALL = ["--batch-size", "4", "--max-length", "48"]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Ten rankings, three held out, prompts and demonstrations."""
    rankings = [
        {"prompt": f"Why {n}?", "responses": ["rain", "one two", "three"], "ranks": [n % 3 + 1, 2, 2]}
        for n in range(13)
    ]
    demonstrations = [{"prompt": f"Count to {n}", "response": "one two"} for n in range(6)]
    for name, rows in (
        ("rankings", rankings[:10]),
        ("heldout", rankings[10:]),
        ("demonstrations", demonstrations),
        ("empty", []),
    ):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any, str]:
    capsys.readouterr()
    status = command_line.main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return status, json.loads(said.out) if said.out else None, said.err


def test_reward_prints_one_line_with_accuracy_interval_and_cost(
    tiny_base: Path, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--model", tiny_base, "--data", files / "rankings.jsonl", "--eval", files / "heldout.jsonl"]
    calibration = ["--calibration", files / "demonstrations.jsonl"]
    status, result, _ = call(capsys, "reward", *given, *calibration, "--out", files / "reward", *SMALL)
    assert status == 0
    low, high = result["accuracy_interval"]
    assert low <= result["accuracy"] <= high
    for name in ("accuracy_longer", "accuracy_shorter", "rankings_per_cpu_second", "peak_rss_mb"):
        assert result[name] >= 0
    assert not (files / "reward" / "checkpoints").exists()
    data = ["--data", files / "demonstrations.jsonl", "--out", files / "scores.jsonl"]
    status, result, _ = call(capsys, "score", "--reward", files / "reward", *data)
    rows = [json.loads(line) for line in (files / "scores.jsonl").read_text().splitlines()]
    assert status == 0
    assert sum(row["score"] for row in rows) == pytest.approx(0, abs=1e-3)


def test_sft_then_sample(tiny_base: Path, files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--data", files / "demonstrations.jsonl"]
    status, result, _ = call(capsys, "sft", "--model", tiny_base, *data, "--out", files / "sft", *SMALL)
    assert status == 0
    assert result["phase"] == "sft_done"
    prompts = ["--prompts", files / "heldout.jsonl", "--out", files / "samples.jsonl"]
    few = ["--num-responses", 2, "--max-new-tokens", 5]
    status, result, _ = call(capsys, "sample", "--policy", files / "sft", *prompts, *few)
    rows = [json.loads(line) for line in (files / "samples.jsonl").read_text().splitlines()]
    assert status == 0
    assert [len(row["responses"]) for row in rows] == [2, 2, 2]
    assert {reason for row in rows for reason in row["finish_reasons"]} <= {"stop", "length"}


def test_ppo_prints_scores_and_kl(
    tiny_base: Path, reward_dir: Path, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--policy", tiny_base, "--reward", reward_dir, "--prompts", files / "rankings.jsonl"]
    few = ["--num-updates", 2, "--batch-size", 4, "--max-new-tokens", 5, "--eval", files / "heldout.jsonl"]
    status, result, _ = call(capsys, "ppo", *given, *few, "--out", files / "ppo")
    assert status == 0
    for name in ("score_start", "score_end", "kl", "episodes_per_cpu_second", "peak_rss_mb"):
        assert name in result
    assert (files / "ppo" / "model.safetensors").exists()


def test_resume_continues_where_a_crash_left_it(
    tiny_base: Path, files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["reward", "--model", tiny_base, "--data", files / "rankings.jsonl", *SMALL, "--checkpoint-seconds", 0]
    call(capsys, *given, "--out", files / "whole")
    trainer, seen = train_reward_model, []

    def crashing(*arguments: Any, **options: Any) -> Iterator[Stats]:
        steps = trainer(*arguments, **options)
        yield next(steps)
        raise OSError("the machine went away")

    def watched(*arguments: Any, **options: Any) -> Iterator[Stats]:
        for stats in trainer(*arguments, **options):
            seen.append(stats["step"])
            yield stats

    monkeypatch.setattr(command_line, "train_reward_model", crashing)
    assert call(capsys, *given, "--out", files / "parts")[0] == 2
    found = CheckpointStore(files / "parts" / "checkpoints").latest()
    assert found is not None
    monkeypatch.setattr(command_line, "train_reward_model", watched)
    assert call(capsys, *given, "--out", files / "parts", "--resume")[0] == 0
    assert seen[0] == 2
    whole, parts = ((files / name / "model.safetensors").read_bytes() for name in ("whole", "parts"))
    assert parts == whole


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("missing.jsonl", "there is no such file"),
        ("empty.jsonl", "the file is empty"),
        ("demonstrations.jsonl", "line 1: expected `responses`"),
        (".", "there is no such file"),
    ],
)
def test_bad_data_gets_a_sentence(
    tiny_base: Path, files: Path, capsys: pytest.CaptureFixture[str], data: str, sentence: str
) -> None:
    status, result, said = call(capsys, "reward", "--model", tiny_base, "--data", files / data, "--out", files / "o")
    assert (status, result) == (2, None)
    assert sentence in said
    assert "Traceback" not in said


def test_data_that_is_not_text_gets_a_sentence(
    tiny_base: Path, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    given = ["--model", tiny_base, "--data", files / "binary.jsonl", "--out", files / "o"]
    status, _, said = call(capsys, "reward", *given)
    assert status == 2
    assert "not UTF-8" in said


def test_a_folder_without_a_model_gets_a_sentence(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--model", files, "--data", files / "rankings.jsonl", "--out", files / "o"]
    status, _, said = call(capsys, "reward", *given)
    assert status == 2
    assert "is not a model folder" in said


@pytest.mark.parametrize("learned", ["data", "replay"])
def test_heldout_prompts_that_were_learned_from_are_refused(
    tiny_base: Path, files: Path, capsys: pytest.CaptureFixture[str], learned: str
) -> None:
    rows = (files / "rankings.jsonl").read_text().splitlines(keepends=True)
    for name, part in (("data", rows[:4]), ("replay", rows[4:8])):
        (files / f"{name}.jsonl").write_text("".join(part))
    shared = rows[2] if learned == "data" else rows[6]  # Neither the first row of its file nor the last.
    (files / "eval.jsonl").write_text(rows[9] + shared)
    given = [part for name in ("data", "replay", "eval") for part in (f"--{name}", files / f"{name}.jsonl")]
    status, _, said = call(capsys, "reward", "--model", tiny_base, *given, "--out", files / "o")
    assert status == 2
    assert f"eval.jsonl, line 2: this prompt is in {files / learned}.jsonl too. Split by prompt" in said


def test_a_model_is_never_overwritten(tiny_base: Path, files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--model", tiny_base, "--data", files / "demonstrations.jsonl", "--out", tiny_base]
    status, _, said = call(capsys, "sft", *given)
    assert status == 2
    assert "holds a model already" in said


def test_it_runs_as_a_module_without_the_website() -> None:
    code = (
        "import sys, worker.rlhf.__main__ as m\n"
        "print(sorted({'app', 'celery', 'redis', 'sqlalchemy', 'fastapi'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_finished_run_that_is_resumed_tells_its_result_again(
    tiny_base: Path, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [
        "sft",
        *SMALL,
        "--model",
        tiny_base,
        "--data",
        files / "demonstrations.jsonl",
        "--out",
        files / "out",
        "--resume",
    ]
    first = call(capsys, *given)
    assert first[0] == 0
    assert call(capsys, *given) == first
