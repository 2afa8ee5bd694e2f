"""The loop itself, small: simulated raters over HTTP, real workers, an approval, a better policy, nothing lost."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SMALL = {
    "sft": {"max_steps": 110},
    "reward": {"epochs": 3},
    "ppo": {"num_updates": 12, "batch_size": 32, "minibatch_size": 16},
}


def loop(*options: str) -> dict[str, object]:
    """Run the loop from an empty folder; its JSON line."""
    command = [sys.executable, "-m", "benchmarks.demo_loop", "--threshold", "100", "--prompts", "100"]
    done = subprocess.run(
        [*command, "--settings", json.dumps(SMALL), *options], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, object] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


@pytest.mark.slow
def test_a_preference_changes_the_policy_and_no_ranking_is_lost_though_all_is_killed() -> None:
    result = loop("--rounds", "1", "--chaos", "--kill-every", "8")
    assert (result["lost"], result["doubled"], result["rounds"]) == (0, 0, 1)
    assert isinstance(result["killed"], list)
    assert {name.split()[0] for name in result["killed"]} >= {"web", "light", "clock", "valkey", "postgres"}
    assert isinstance(result["win_rate"], float)
    assert result["win_rate"] > 0.5
