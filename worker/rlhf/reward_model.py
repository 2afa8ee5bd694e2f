"""The reward model: a score per response, learned from every preference pair of every ranking.

Each ranking is one batch element and each of its K responses is forwarded once, whatever the number of pairs
(InstructGPT, arXiv:2203.02155, section 3.5). Where the model allows it, the prompt is forwarded once too.
"""

import math
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from worker.rlhf import optim
from worker.rlhf.checkpoint import CheckpointStore, module_tensors, optimizer_tensors, restore_module, restore_optimizer
from worker.rlhf.modeling import RewardModel, new_reward_model, save_reward_model, score_ids
from worker.rlhf.tokens import collate, encode_prompt, encode_response, fit, load_tokenizer
from worker.rlhf.types import NotANumberError, Prompt, Ranking, Stats

SHARED_TOLERANCE = 1e-4


@dataclass(frozen=True)
class RewardSettings:
    """Defaults for small models; a large one wants about 1e-5 and one epoch."""

    learning_rate: float = 3e-4  # Peak, for models of 1 to 10 million parameters.
    batch_size: int = 16  # Rankings per optimizer step.
    micro_batch_size: int = 8  # Rankings per forward; smaller needs less memory and changes nothing else.
    epochs: int = 1  # InstructGPT: more than one overfits.
    max_length: int = 256  # Prompt and one response together, in tokens.
    warmup_ratio: float = 0.05  # Share of steps in which the rate rises.
    weight_decay: float = 0.0  # As in summarize_from_feedback.
    label_smoothing: float = 0.0  # Share of preferences assumed to be mistaken.
    max_grad_norm: float = 1.0
    seed: int = 0
    checkpoint_seconds: float = 60.0


@dataclass(frozen=True)
class Encoded:
    """A ranking as token ids: the prompt once, the responses, and pairs (better, worse) of response indices."""

    prompt: list[int]
    responses: list[list[int]]
    pairs: list[tuple[int, int]]
    weight: float


def preference_pairs(ranks: Sequence[int | None]) -> list[tuple[int, int]]:
    """(better, worse) indices of all responses ranked strictly: a tie, or an unranked response, prefers nothing."""
    ranked = [(index, rank) for index, rank in enumerate(ranks) if rank is not None]
    pairs = []
    for (a, rank_a), (b, rank_b) in combinations(ranked, 2):
        if rank_a != rank_b:
            pairs.append((a, b) if rank_a < rank_b else (b, a))
    return pairs


def ranking_loss(scores: Tensor, pairs: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Bradley-Terry over the pairs of one ranking, averaged, so that a ranking of nine outweighs no other.

    -mean over pairs of (1 - e) log sigmoid(d) + e log sigmoid(-d), with d = score of better - score of worse.

    Args:
        scores: (K,) float32.
        pairs: (P, 2) int64 indices (better, worse); P may be 0, and the loss is then 0 with zero gradient.
    """
    if len(pairs) == 0:
        return scores.sum() * 0.0
    difference = scores[pairs[:, 0]] - scores[pairs[:, 1]]
    agreed, smoothed = logsigmoid(difference), logsigmoid(-difference)
    return -((1 - label_smoothing) * agreed + label_smoothing * smoothed).mean()


def train_reward_model(
    model_dir: str | Path,
    rankings: Sequence[Ranking],
    settings: RewardSettings,
    *,
    out: Path,
    checkpoints: CheckpointStore | None = None,
    heldout: Sequence[Ranking] = (),
    calibration: Sequence[tuple[Prompt, str]] = (),
) -> Generator[Stats, None, None]:
    """Train on the trunk of `model_dir` and save to `out`; yields after each optimizer step.

    Args:
        heldout: rankings of prompts that are in no ranking learned from; the last stats evaluate on them.
        calibration: (prompt, response) samples of the reference policy; scores are shifted to mean 0 and scaled
            to deviation 1 on them, so that the KL coefficient keeps its meaning from one retraining to the next.
    """
    from worker.rlhf.evaluate import reward_report

    tokenizer = load_tokenizer(model_dir)
    model = new_reward_model(model_dir, tokenizer=tokenizer, seed=settings.seed).to(optim.device())
    weighted = [ranking for ranking in rankings if ranking.weight > 0]
    items = [item for ranking in weighted if (item := encode_ranking(tokenizer, ranking, settings.max_length)).pairs]
    if not items:
        raise ValueError("No ranking prefers one response to another, so there is nothing to learn from.")
    is_shared = can_share_prompts(model, items[: settings.micro_batch_size], pad=tokenizer.pad_token_id)
    optimizer = optim.adamw(model, learning_rate=settings.learning_rate, weight_decay=settings.weight_decay)
    total = settings.epochs * optim.num_batches(len(items), settings.batch_size)
    first = _resume(model, optimizer, checkpoints)
    saved_at = time.monotonic()
    for step in range(first, total):
        rate = optim.warmup_then_linear(step, total, peak=settings.learning_rate, warmup_ratio=settings.warmup_ratio)
        optim.set_learning_rate(optimizer, rate)
        rows = optim.batch_of_step(items, step, batch_size=settings.batch_size, seed=settings.seed)
        stats = _step(model, optimizer, rows, settings, pad=tokenizer.pad_token_id, is_shared=is_shared)
        if not math.isfinite(stats["loss"]):
            raise NotANumberError(f"The loss of the reward model stopped being a number at step {step + 1}.")
        if checkpoints is not None and time.monotonic() - saved_at >= settings.checkpoint_seconds:
            _save(checkpoints, step + 1, model, optimizer)
            saved_at = time.monotonic()
        yield {"phase": "reward", "step": step + 1, "total_steps": total, "learning_rate": rate, **stats}
    normalise(model, tokenizer, calibration, max_length=settings.max_length)
    save_reward_model(model, tokenizer, out)
    report = reward_report(model, tokenizer, heldout, max_length=settings.max_length)
    yield {"phase": "reward_done", "step": total, "total_steps": total, "num_rankings": len(items), **report}


def encode_ranking(tokenizer: Any, ranking: Ranking, max_length: int) -> Encoded:
    """Token ids; all responses share identical prompt ids, cut alike so that the longest fits."""
    prompt = encode_prompt(tokenizer, ranking.prompt)
    room = max(max_length // 2, max_length - len(prompt))  # As `fit` gives it, so that scoring cuts alike.
    responses = [encode_response(tokenizer, text, max_length=room) for text in ranking.responses]
    prompt, _ = fit(prompt, max(responses, key=len), max_length=max_length, eos=tokenizer.eos_token_id)
    return Encoded(prompt, responses, preference_pairs(ranking.ranks), ranking.weight)


def separate_scores(model: RewardModel, items: Sequence[Encoded], *, pad: int) -> list[Tensor]:
    """Raw scores, one forward per response: a (K,) tensor for each ranking."""
    pairs = [(item.prompt, response) for item in items for response in item.responses]
    batch = collate(pairs, pad=pad)
    place = model.head.weight.device
    scores = (score_ids(model, batch.ids.to(place), batch.attention_mask.to(place)) - model.bias) / model.gain
    return list(scores.split([len(item.responses) for item in items]))


def shared_scores(model: RewardModel, items: Sequence[Encoded], *, pad: int) -> list[Tensor]:
    """Raw scores with the prompt forwarded once per ranking: a (K,) tensor for each.

    Row: prompt, response 1, ..., response K, padding. Segment 0 is the prompt, k the k-th response. A token sees
    its own response and the prompt, up to itself; positions restart after the prompt.
    """
    place = model.head.weight.device
    width = max(len(item.prompt) + sum(map(len, item.responses)) for item in items)
    ids = torch.full((len(items), width), pad)
    segments = torch.full((len(items), width), -1)
    positions = torch.zeros((len(items), width), dtype=torch.long)
    ends: list[Tensor] = []
    for row, item in enumerate(items):
        ends.append(_lay_out(item, ids[row], segments[row], positions[row]))
    causal = torch.ones(width, width, dtype=torch.bool).tril()
    same = (segments[:, None, :] == segments[:, :, None]) | (segments[:, None, :] == 0)
    visible = (same & causal) | torch.eye(width, dtype=torch.bool)  # The diagonal keeps padded rows finite.
    mask = torch.zeros(visible.shape).masked_fill(~visible, torch.finfo(torch.float32).min)[:, None]
    states = model.trunk(
        input_ids=ids.to(place),
        attention_mask=mask.to(place, model.head.weight.dtype),
        position_ids=positions.to(place),
        use_cache=False,
    ).last_hidden_state
    return [model.raw(states[row, last.to(place)]) for row, last in enumerate(ends)]


def _lay_out(item: Encoded, ids: Tensor, segments: Tensor, positions: Tensor) -> Tensor:
    """Fill one row in place; returns where each response ends, (K,)."""
    start = len(item.prompt)
    ids[:start], segments[:start], positions[:start] = torch.tensor(item.prompt), 0, torch.arange(start)
    ends = []
    for k, response in enumerate(item.responses, start=1):
        end = start + len(response)
        ids[start:end], segments[start:end] = torch.tensor(response), k
        positions[start:end] = torch.arange(len(item.prompt), len(item.prompt) + len(response))
        ends.append(end - 1)
        start = end
    return torch.tensor(ends)


@torch.no_grad()
def can_share_prompts(model: RewardModel, items: Sequence[Encoded], *, pad: int) -> bool:
    """Whether this model gives the same scores with shared prompts, found by trying.

    Sliding windows do not, and short samples would not show it: our mask replaces theirs.
    """
    if getattr(model.config, "sliding_window", None) and getattr(model.config, "use_sliding_window", True):
        return False
    try:
        shared, separate = shared_scores(model, items, pad=pad), separate_scores(model, items, pad=pad)
    except (RuntimeError, ValueError, TypeError, IndexError):
        return False
    return all((a - b).abs().max() < SHARED_TOLERANCE for a, b in zip(shared, separate, strict=True))


def batch_loss(scores: Sequence[Tensor], items: Sequence[Encoded], *, label_smoothing: float) -> Tensor:
    """Weighted sum of the rankings' losses; the caller divides by the whole batch's weights."""
    losses = [
        item.weight
        * ranking_loss(values, torch.tensor(item.pairs, device=values.device), label_smoothing=label_smoothing)
        for values, item in zip(scores, items, strict=True)
    ]
    return torch.stack(losses).sum()


def _step(
    model: RewardModel,
    optimizer: torch.optim.Optimizer,
    rows: Sequence[Encoded],
    settings: RewardSettings,
    *,
    pad: int,
    is_shared: bool,
) -> dict[str, float]:
    optimizer.zero_grad(set_to_none=True)
    total_weight = max(sum(item.weight for item in rows), 1e-9)
    loss_sum, right, pairs = 0.0, 0, 0
    for part in optim.micro_batches(rows, settings.micro_batch_size):
        scores = (shared_scores if is_shared else separate_scores)(model, part, pad=pad)
        loss = batch_loss(scores, part, label_smoothing=settings.label_smoothing) / total_weight
        loss.backward()
        loss_sum += float(loss.detach())
        for values, item in zip(scores, part, strict=True):
            right += sum(bool(values[better] > values[worse]) for better, worse in item.pairs)
            pairs += len(item.pairs)
    norm = optim.clip_gradients(model, settings.max_grad_norm)
    optimizer.step()
    return {"loss": loss_sum, "train_accuracy": right / max(pairs, 1), "gradient_norm": norm}


def normalise(
    model: RewardModel, tokenizer: Any, calibration: Sequence[tuple[Prompt, str]], *, max_length: int
) -> None:
    """Set gain and bias so that scores on the calibration samples have mean 0 and deviation 1.

    Source: lm_human_preferences, `train_reward.py`, `normalize_after`, on samples of the reference policy.
    """
    from worker.rlhf.modeling import score

    if len(calibration) < 2:
        return
    model.gain, model.bias = 1.0, 0.0
    prompts, responses = zip(*calibration, strict=True)
    raw = torch.tensor(score(model, tokenizer, prompts, responses, max_length=max_length))
    deviation = float(raw.std())
    model.gain = 1 / deviation if deviation > 1e-6 else 1.0
    model.bias = -float(raw.mean()) * model.gain


def _save(store: CheckpointStore, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    store.save(step, module_tensors(model, "model") | optimizer_tensors(optimizer, "optimizer"), {})


def _resume(model: nn.Module, optimizer: torch.optim.Optimizer, store: CheckpointStore | None) -> int:
    found = store.latest() if store is not None else None
    if found is None:
        return 0
    restore_module(model, found.tensors, "model")
    restore_optimizer(optimizer, found.tensors, "optimizer")
    return found.step
