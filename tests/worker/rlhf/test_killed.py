"""kill -9 at random moments: what goes on ends with the same bits as what was never disturbed."""

import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.worker.rlhf.worlds import PROMPTS, make_policy, make_reward_model

KILLS = 20
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "PATH": "/usr/bin:/bin"}


def commands(folder: Path) -> dict[str, list[str]]:
    """Command lines of a few seconds each, checkpointed at each step."""
    policy = make_policy(folder / "policy")
    reward = make_reward_model(policy, folder / "reward")
    answers = [{"prompt": p, "response": "No idea.", "responses": ["No idea.", "Hi"], "ranks": [1, 2]} for p in PROMPTS]
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in answers))
    often = ["--checkpoint-seconds", "0", "--batch-size", "4"]
    few = ["--eval", str(rows), "--num-updates", "25", "--max-new-tokens", "8"]
    return {
        "sft": ["sft", "--model", str(policy), "--data", str(rows), "--epochs", "40", *often],
        "reward": ["reward", "--model", str(policy), "--data", str(rows), "--epochs", "40", *often],
        "ppo": ["ppo", "--policy", str(policy), "--reward", str(reward), "--prompts", str(rows), *few, *often],
    }


def start(arguments: list[str], out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "worker.rlhf", *arguments, "--out", str(out), "--resume"]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sft", "reward", "ppo"])
def test_a_run_killed_at_random_moments_ends_with_the_same_bits(tmp_path: Path, kind: str) -> None:
    arguments, moments = commands(tmp_path)[kind], random.Random(7)
    began = time.monotonic()
    assert start(arguments, tmp_path / "whole").wait() == 0
    whole_seconds = time.monotonic() - began
    expected, kills, ends = (tmp_path / "whole" / "model.safetensors").read_bytes(), 0, 0
    while kills < KILLS or not ends:
        run = start(arguments, tmp_path / "parts")
        try:
            # From the first moment of the process to the last of its work; loading alone takes half of it.
            patience = moments.uniform(0.3, 1.0) * whole_seconds if kills < KILLS else None
            assert run.wait(patience) == 0
        except subprocess.TimeoutExpired:
            run.kill()
            run.wait()
            kills += 1
            continue
        assert (tmp_path / "parts" / "model.safetensors").read_bytes() == expected
        shutil.rmtree(tmp_path / "parts")  # Begin again, until it was killed often enough.
        ends += 1
