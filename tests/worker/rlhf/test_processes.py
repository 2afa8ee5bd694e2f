"""Two processes under `accelerate launch` end where one ends."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.worker.rlhf.worlds import PROMPTS, make_policy, make_reward_model
from worker.rlhf import processes

APART = pytest.mark.xfail(
    reason="PPO on two processes ends 1e-3 away from one; the cause is not found yet.", strict=False
)
PPO = ["--num-updates", "2", "--batch-size", "8", "--minibatch-size", "5", "--max-new-tokens", "8"]


def test_a_process_alone_shares_with_nobody() -> None:
    module = torch.nn.Linear(2, 2)
    module(torch.ones(1, 2)).sum().backward()
    before = [p.grad.clone() for p in module.parameters() if p.grad is not None]
    processes.sum_gradients([module])
    assert all(torch.equal(a, b.grad) for a, b in zip(before, module.parameters(), strict=True) if b.grad is not None)
    assert processes.share([1, 2, 3]) == processes.gathered([1, 2, 3]) == [1, 2, 3]
    assert processes.summed({"loss": 2.0}) == {"loss": 2.0}
    assert processes.is_first()


@pytest.mark.parametrize("count", [1, 2, 5, 6])
def test_shares_go_back_into_their_order(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    rows, shares = list(range(count)), []
    monkeypatch.setattr(processes, "size", lambda: 3)
    for rank in range(3):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        shares.append(processes.share(rows))
    monkeypatch.setattr(processes, "gathered_from_all", lambda _: shares)
    assert processes.gathered(shares[0]) == rows


def launch(arguments: list[str], *, count: int) -> dict[str, object]:
    """The command on `count` processes of one thread each; its JSON line."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(count)]
    # `--multi_gpu` is what starts several processes; without a GPU they join by gloo on the processor.
    many = ["--multi_gpu", "--mixed_precision", "no", "--dynamo_backend", "no", "--num_machines", "1"]
    port = ["--main_process_port", "0", "--num_cpu_threads_per_process", "1"]
    command = [*launcher, *many, *port, "-m", "worker.rlhf"] if count > 1 else [sys.executable, "-m", "worker.rlhf"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(lines) == 1  # Only one of them speaks.
    found: dict[str, object] = json.loads(lines[0])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sft", *(pytest.param(kind, marks=APART) for kind in ("ppo", "shared"))])
def test_two_processes_reproduce_one(tmp_path: Path, kind: str) -> None:
    policy = make_policy(tmp_path / "policy")
    rows = [{"prompt": prompt, "response": "The pool is on the top floor."} for prompt in PROMPTS]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = str(tmp_path / "rows.jsonl")
    if kind == "sft":
        given = ["sft", "--model", str(policy), "--data", data, "--batch-size", "4", "--epochs", "2"]
    else:
        reward = make_reward_model(policy, tmp_path / "reward")
        given = ["ppo", "--policy", str(policy), "--reward", str(reward), "--prompts", data, "--eval", data, *PPO]
        given += ["--critic", "shared"] if kind == "shared" else []
    results = [launch([*given, "--out", str(tmp_path / str(count))], count=count) for count in (1, 2)]
    one, two = (load_file(tmp_path / str(count) / "model.safetensors") for count in (1, 2))
    assert max((one[name] - two[name]).abs().max().item() for name in one) < 1e-6
    for name in ("score", "score_end", "kl", "loss"):
        if name in results[0]:
            assert results[0][name] == pytest.approx(results[1][name], abs=1e-5)
