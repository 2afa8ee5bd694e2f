"""Two processes under `accelerate launch` end where one ends."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.worker.rlhf.worlds import PHRASES, PROMPTS, make_policy, make_reward_model
from worker.rlhf import processes, sharding
from worker.rlhf.modeling import load_policy
from worker.rlhf.tokens import load_tokenizer

# Seed 0 draws a number 2e-9 from the border between two tokens, where the rounding of some processors decides; see README.
PPO = ["--num-updates", "2", "--batch-size", "8", "--minibatch-size", "5", "--max-new-tokens", "8", "--seed", "1"]


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


def launch(arguments: list[str], *, count: int, how: str, module: str = "worker.rlhf") -> dict[str, object]:
    """The command on `count` processes of one thread each; its JSON line."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(count)]
    # `--multi_gpu`, or `--use_fsdp`, is what starts several processes; without a GPU they join by gloo on the processor.
    many = [*how.split(), "--mixed_precision", "no", "--dynamo_backend", "no", "--num_machines", "1"]
    port = ["--main_process_port", "0", "--num_cpu_threads_per_process", "1"]
    started = [*launcher, *many, *port] if count > 1 else [sys.executable]
    done = subprocess.run([*started, "-m", module, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(lines) == 1  # Only one of them speaks.
    found: dict[str, object] = json.loads(lines[0])
    return found


def write(path: Path, rows: list[dict[str, object]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def command(kind: str, folder: Path) -> list[str]:
    """What is learned, from a policy and files made for it."""
    policy = make_policy(folder / "policy")
    data = write(folder / "rows.jsonl", [{"prompt": p, "response": "The pool is on the top floor."} for p in PROMPTS])
    if kind == "sft":
        return ["sft", "--model", str(policy), "--data", data, "--batch-size", "4", "--epochs", "2"]
    if kind == "reward":
        orders = [(1, 2, 3), (2, 1, 3), (3, 1, 1), (2, None, 1)]
        rows: list[dict[str, object]] = [
            {"prompt": p, "responses": list(PHRASES[:3]), "ranks": orders[i % 4]} for i, p in enumerate(PROMPTS)
        ]
        ranked = write(folder / "ranked.jsonl", rows)
        return ["reward", "--model", str(policy), "--data", ranked, "--batch-size", "5", "--epochs", "3"]
    reward = make_reward_model(policy, folder / "reward")
    given = ["ppo", "--policy", str(policy), "--reward", str(reward), "--prompts", data, "--eval", data, *PPO]
    return [*given, "--critic", "shared"] if kind == "shared" else given


SUMMED, SHARDED = "--multi_gpu", "--use_fsdp --fsdp_version 2"


def reproduces(given: list[str], folder: Path, *, how: str) -> None:
    """Two processes and one end with the same weights and the same figures."""
    results = [launch([*given, "--out", str(folder / str(count))], count=count, how=how) for count in (1, 2)]
    one, two = (load_file(folder / str(count) / "model.safetensors") for count in (1, 2))
    assert max((one[name] - two[name]).abs().max().item() for name in one) < 1e-6
    for name in ("score", "score_end", "kl", "loss"):
        if name in results[0]:
            assert results[0][name] == pytest.approx(results[1][name], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("how", [SUMMED, SHARDED])
@pytest.mark.parametrize("kind", ["sft", "reward", "ppo", "shared"])
def test_two_processes_reproduce_one(tmp_path: Path, kind: str, how: str) -> None:
    reproduces(command(kind, tmp_path), tmp_path, how=how)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["reward", "ppo"])
def test_two_processes_reproduce_one_with_adapters_in_uneven_parts(tmp_path: Path, kind: str) -> None:
    extra = ["--lora-rank", "2", "--micro-batch-size", "1"]
    reproduces([*command(kind, tmp_path), *extra], tmp_path, how=SHARDED)


@pytest.mark.slow
def test_sharded_processes_go_on_from_a_checkpoint(tmp_path: Path) -> None:
    given = command("ppo", tmp_path)
    launch([*given, "--out", str(tmp_path / "whole")], count=1, how=SUMMED)
    places = [str(tmp_path / name) for name in ("policy", "reward", "rows.jsonl", "stopped")]
    told = launch(places, count=2, how=SHARDED, module="tests.worker.rlhf.stopped")
    assert told["steps"] == [2, 2]  # Of the second run: its only update, and the end.
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "stopped"))
    assert max((one[name] - two[name]).abs().max().item() for name in one) < 1e-6


def test_what_a_launcher_may_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "size", lambda: 2)
    assert not sharding.is_wanted()
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="--fsdp_version 2"):
        sharding.is_wanted()
    monkeypatch.setenv("FSDP_VERSION", "2")
    assert sharding.is_wanted()
    monkeypatch.setattr(processes, "size", lambda: 1)
    assert not sharding.is_wanted()
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(ValueError, match="FSDP2 does what its ZeRO stage 3 does"):
        sharding.is_wanted()


def test_blocks_are_spread_and_the_rest_stays_whole(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_base: Path
) -> None:
    monkeypatch.setattr(sharding, "is_wanted", lambda: True)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        model = load_policy(tiny_base, tokenizer=load_tokenizer(tiny_base))
        sharding.shard(model, None)
        spread = {name for name, weight in model.named_parameters() if processes.is_shard(weight)}
        with sharding.whole(model):
            assert not any(processes.is_shard(weight) for weight in model.parameters())
        assert {name for name, weight in model.named_parameters() if processes.is_shard(weight)} == spread
    finally:
        torch.distributed.destroy_process_group()
    assert spread
    assert spread == {name for name, _ in model.named_parameters() if ".layers." in name}


def test_processes_call_a_sharded_model_equally_often(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [["a"], ["b"]]
    assert sharding.parts_alike(parts) == parts
    monkeypatch.setattr(sharding, "is_wanted", lambda: True)
    monkeypatch.setattr(processes, "gathered_from_all", lambda count: [count, 4])
    assert sharding.parts_alike(parts) == [["a"], ["b"], [], []]
