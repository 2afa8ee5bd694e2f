"""Supervised fine-tuning: response tokens only, exact micro batches, exact resume."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.worker.rlhf.conftest import ask
from worker.rlhf import packed
from worker.rlhf.checkpoint import CheckpointStore
from worker.rlhf.modeling import load_policy
from worker.rlhf.sft import SFTSettings, evaluate_sft, response_logprobs, train_sft
from worker.rlhf.tokens import encode_prompt, encode_response
from worker.rlhf.types import Demonstration, NotANumberError, Stats

DEMONSTRATIONS = [
    Demonstration(ask(f"Count to {number}"), " ".join(["one", "two", "three"][: number % 3 + 1]) + ".")
    for number in range(10)
]


def run(base: Path, data: Sequence[Demonstration], out: Path, **changes: Any) -> list[Stats]:
    given = {name: changes.pop(name) for name in ("checkpoints", "heldout") if name in changes}
    settings = SFTSettings(**{"batch_size": 4, "micro_batch_size": 4, "max_length": 48, **changes})
    return list(train_sft(base, data, settings, out=out, **given))


@torch.no_grad()
def test_logprobs_are_those_of_a_loop_over_single_tokens(policy: Any, tokenizer: Any) -> None:
    pairs = [
        (encode_prompt(tokenizer, item.prompt), encode_response(tokenizer, item.response))
        for item in DEMONSTRATIONS[:3]
    ]
    slow = []
    for prompt, response in pairs:
        for place, token in enumerate(response):
            logits = policy(torch.tensor([prompt + response[:place]])).logits[0, -1]
            slow.append(float(logits.log_softmax(-1)[token]))
    fast = response_logprobs(policy, pairs, pad=tokenizer.pad_token_id, is_packed=False)
    assert fast.tolist() == pytest.approx(slow, abs=1e-4)


def test_the_loss_starts_at_that_of_a_uniform_guess_and_falls(tiny_base: Path, tokenizer: Any, tmp_path: Path) -> None:
    stats = run(tiny_base, DEMONSTRATIONS, tmp_path / "out", epochs=12, learning_rate=1e-2)
    assert float(stats[0]["loss"]) == pytest.approx(math.log(len(tokenizer)), abs=0.3)
    assert float(stats[-2]["loss"]) < 1.0


def test_prompt_tokens_are_not_learned(tiny_base: Path, tokenizer: Any, tmp_path: Path) -> None:
    pairs = [(encode_prompt(tokenizer, ask("Why?")), encode_response(tokenizer, "rain"))]
    model = load_policy(tiny_base, tokenizer=tokenizer)
    found = response_logprobs(model, pairs, pad=tokenizer.pad_token_id, is_packed=packed.can_pack(model))
    assert len(found) == len(pairs[0][1]) > 0


def test_micro_batches_give_the_same_losses(tiny_base: Path, tmp_path: Path) -> None:
    losses = []
    for size in (4, 1):
        stats = run(tiny_base, DEMONSTRATIONS, tmp_path / str(size), micro_batch_size=size, epochs=2)
        losses.append([float(step["loss"]) for step in stats[:-1]])
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


@pytest.mark.parametrize("stop_after", [1, 3, 5])
def test_a_run_that_was_stopped_resumes_to_the_same_weights(tiny_base: Path, tmp_path: Path, stop_after: int) -> None:
    run(tiny_base, DEMONSTRATIONS, tmp_path / "whole", epochs=2)
    store = CheckpointStore(tmp_path / "checkpoints")
    settings = SFTSettings(batch_size=4, micro_batch_size=4, max_length=48, epochs=2, checkpoint_seconds=0)
    steps = train_sft(tiny_base, DEMONSTRATIONS, settings, out=tmp_path / "parts", checkpoints=store)
    for _ in range(stop_after):
        next(steps)
    steps.close()
    assert not (tmp_path / "parts").exists()
    torch.manual_seed(stop_after)  # Global randomness must not matter.
    rest = list(train_sft(tiny_base, DEMONSTRATIONS, settings, out=tmp_path / "parts", checkpoints=store))
    assert rest[0]["step"] == stop_after + 1
    whole, parts = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "parts"))
    assert parts == whole


def test_a_damaged_checkpoint_costs_steps_but_not_the_result(tiny_base: Path, tmp_path: Path) -> None:
    run(tiny_base, DEMONSTRATIONS, tmp_path / "whole")
    store = CheckpointStore(tmp_path / "checkpoints")
    settings = SFTSettings(batch_size=4, micro_batch_size=4, max_length=48, checkpoint_seconds=0)
    steps = train_sft(tiny_base, DEMONSTRATIONS, settings, out=tmp_path / "parts", checkpoints=store)
    next(steps), next(steps)
    steps.close()
    damaged = tmp_path / "checkpoints" / "step-000000002" / "tensors.safetensors"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 4
    damaged.write_bytes(content)
    rest = list(train_sft(tiny_base, DEMONSTRATIONS, settings, out=tmp_path / "parts", checkpoints=store))
    assert [stats["step"] for stats in rest] == [2, 3, 3]
    whole, parts = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "parts"))
    assert parts == whole


def test_max_steps_ends_it_sooner(tiny_base: Path, tmp_path: Path) -> None:
    stats = run(tiny_base, DEMONSTRATIONS, tmp_path / "out", epochs=9, max_steps=2)
    assert [step["phase"] for step in stats] == ["sft", "sft", "sft_done"]
    assert all(step["total_steps"] == 2 for step in stats)


def test_heldout_loss_is_the_mean_over_tokens(tiny_base: Path, policy: Any, tokenizer: Any, tmp_path: Path) -> None:
    done = run(tiny_base, DEMONSTRATIONS, tmp_path / "out", learning_rate=0.0, heldout=DEMONSTRATIONS[:3])[-1]
    losses, count = 0.0, 0
    for item in DEMONSTRATIONS[:3]:
        ids = encode_prompt(tokenizer, item.prompt), encode_response(tokenizer, item.response)
        losses -= float(response_logprobs(policy, [ids], pad=tokenizer.pad_token_id, is_packed=False).detach().sum())
        count += len(ids[1])
    assert done["heldout_loss"] == pytest.approx(losses / count, abs=1e-4)
    assert evaluate_sft(policy, tokenizer, DEMONSTRATIONS[:3], max_length=48) == pytest.approx(losses / count, abs=1e-4)


def test_no_demonstrations_are_refused_with_a_sentence(tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no demonstrations to learn from"):
        run(tiny_base, [], tmp_path / "out")


def test_a_loss_that_is_not_a_number_ends_the_run_by_name(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CheckpointStore(tmp_path / "checkpoints")
    settings = SFTSettings(batch_size=4, micro_batch_size=4, max_length=48, checkpoint_seconds=0)
    steps = train_sft(tiny_base, DEMONSTRATIONS, settings, out=tmp_path / "out", checkpoints=store)
    next(steps)
    logprobs = response_logprobs
    monkeypatch.setattr(
        "worker.rlhf.sft.response_logprobs", lambda *given, **named: logprobs(*given, **named) * float("nan")
    )
    with pytest.raises(NotANumberError, match="fine-tuning stopped being a number at step 2"):
        next(steps)
    found = store.latest()
    assert found is not None
    assert found.step == 1
