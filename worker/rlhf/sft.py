"""Supervised fine-tuning on demonstrations: the cross-entropy of response tokens, and of those only."""

import math
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from worker.rlhf import optim, packed, processes, sharding
from worker.rlhf.checkpoint import CheckpointStore, module_tensors, optimizer_tensors, restore_module, restore_optimizer
from worker.rlhf.masked import selected_logprobs
from worker.rlhf.modeling import load_policy, save_policy, softcap_of, trunk_of
from worker.rlhf.tokens import encode_demonstration, load_tokenizer
from worker.rlhf.types import Demonstration, NotANumberError, Stats

Pair = tuple[list[int], list[int]]


@dataclass(frozen=True)
class SFTSettings:
    """Each default is for small models; large ones want a learning rate near 1e-5."""

    learning_rate: float = 1e-3  # Peak; two to three epochs at this rate fit a model of a million parameters.
    batch_size: int = 64  # Demonstrations per optimizer step.
    micro_batch_size: int = (
        64  # Demonstrations per forward at most; smaller needs less memory, and changes nothing else.
    )
    micro_batch_tokens: int = 2048  # Tokens per forward at most, 0 for no bound.
    epochs: int = 1  # Passes over the demonstrations, where `max_steps` does not end it sooner.
    max_steps: int = 0  # 0 is no limit.
    max_length: int = 256  # Prompt and response together, in tokens.
    warmup_ratio: float = 0.05  # Share of steps in which the rate rises.
    weight_decay: float = 0.01  # As in AdamW's paper for short runs (arXiv:1711.05101).
    max_grad_norm: float = 1.0  # The usual bound for transformers (GPT-3, arXiv:2005.14165, appendix B).
    recompute_activations: bool = False  # Activation checkpointing: less memory, about a third more time.
    seed: int = 0
    checkpoint_seconds: float = 60.0  # At most this much work is lost in a crash; also saved at the end.


def train_sft(
    model_dir: str | Path,
    demonstrations: Sequence[Demonstration],
    settings: SFTSettings,
    *,
    out: Path,
    checkpoints: CheckpointStore | None = None,
    heldout: Sequence[Demonstration] = (),
) -> Generator[Stats, None, None]:
    """Fine-tune and save to `out`; yields after each optimizer step, `loss` in nats per response token.

    Continues from the newest checkpoint in `checkpoints`, where there is one, to the same weights bit for bit.
    """
    if not demonstrations:
        raise ValueError("There are no demonstrations to learn from; import some, or write some.")
    tokenizer = load_tokenizer(model_dir)
    model = load_policy(model_dir, tokenizer=tokenizer).to(optim.device())
    packing = packed.can_pack(model)
    sharding.shard(model)
    optimizer = optim.adamw(model, learning_rate=settings.learning_rate, weight_decay=settings.weight_decay)
    if settings.recompute_activations:
        packed.recompute_activations(model)
    pairs = [encode_demonstration(tokenizer, item, settings.max_length) for item in demonstrations]
    total = _total_steps(len(pairs), settings)
    first = _resume(model, optimizer, checkpoints)
    saved_at = time.monotonic()
    for step in range(first, total):
        rate = optim.warmup_then_linear(step, total, peak=settings.learning_rate, warmup_ratio=settings.warmup_ratio)
        optim.set_learning_rate(optimizer, rate)
        rows = optim.batch_of_step(pairs, step, batch_size=settings.batch_size, seed=settings.seed)
        loss = _step(model, optimizer, rows, settings, pad=tokenizer.pad_token_id, is_packed=packing)
        if not math.isfinite(loss):
            raise NotANumberError(f"The loss of fine-tuning stopped being a number at step {step + 1}.")
        is_due = time.monotonic() - saved_at >= settings.checkpoint_seconds
        if checkpoints is not None and processes.first_says(is_due):
            _save(checkpoints, step + 1, model, optimizer)
            saved_at = time.monotonic()
        yield {"phase": "sft", "step": step + 1, "total_steps": total, "loss": loss, "learning_rate": rate}
    done: Stats = {"phase": "sft_done", "step": total, "total_steps": total, "num_demonstrations": len(pairs)}
    with sharding.whole(model):
        if processes.is_first():
            save_policy(model, tokenizer, out)
        processes.wait_for_all()
        if heldout:
            done["heldout_loss"] = evaluate_sft(model, tokenizer, heldout, max_length=settings.max_length)
    yield done


@torch.no_grad()
def evaluate_sft(model: Any, tokenizer: Any, heldout: Sequence[Demonstration], *, max_length: int) -> float:
    """Mean cross-entropy per response token, in nats, over demonstrations not learned from."""
    pairs = [encode_demonstration(tokenizer, item, max_length) for item in heldout]
    total, count, packing = 0.0, 0, packed.can_pack(model)
    for rows in optim.micro_batches(pairs, 16):
        logprobs = response_logprobs(model, rows, pad=tokenizer.pad_token_id, is_packed=packing)
        total, count = total - float(logprobs.sum()), count + len(logprobs)
    return total / max(count, 1)


def response_logprobs(model: Any, pairs: Sequence[Pair], *, pad: int, is_packed: bool) -> Tensor:
    """(num response tokens,) log-probabilities, row by row: logits at t - 1 score the token at t."""
    before, chosen = packed.states_before(trunk_of(model), pairs, pad=pad, is_packed=is_packed)
    head = model.get_output_embeddings()
    return selected_logprobs(before, head, chosen, softcap=softcap_of(model), with_entropy=False)[0]


def _step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    rows: Sequence[Pair],
    settings: SFTSettings,
    *,
    pad: int,
    is_packed: bool,
) -> float:
    """One optimizer step; micro batches give the gradient of the whole batch, because all divide by its tokens."""
    num_tokens, mine = sum(len(response) for _, response in rows), processes.share(rows)
    lengths = [len(prompt) + len(response) for prompt, response in mine]
    optimizer.zero_grad(set_to_none=True)
    total = 0.0
    at_most = {"max_rows": settings.micro_batch_size, "max_tokens": settings.micro_batch_tokens}
    for part in sharding.parts_alike(list(packed.token_batches(lengths, **at_most))):
        logprobs = response_logprobs(model, [mine[i] for i in part] or rows[:1], pad=pad, is_packed=is_packed)
        loss = -logprobs.sum() / num_tokens * bool(part)
        loss.backward()
        total += float(loss.detach())
    processes.sum_gradients([model])
    optim.clip_gradients(model, settings.max_grad_norm)
    optimizer.step()
    return processes.summed({"loss": total})["loss"]


def _total_steps(num_items: int, settings: SFTSettings) -> int:
    steps = settings.epochs * optim.num_batches(num_items, settings.batch_size)
    return min(steps, settings.max_steps) if settings.max_steps else steps


def _save(store: CheckpointStore, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    store.save(step, module_tensors(model, "model") | optimizer_tensors(optimizer, "optimizer"), {})


def _resume(model: nn.Module, optimizer: torch.optim.Optimizer, store: CheckpointStore | None) -> int:
    found = store.latest() if store is not None else None
    if found is None:
        return 0
    restore_module(model, found.tensors, "model")
    restore_optimizer(optimizer, found.tensors, "optimizer")
    return found.step
