"""The reward model: a score per response, learned from every preference pair of every ranking.

Each ranking is one batch element and each of its K responses is forwarded once, whatever the number of pairs
(InstructGPT, arXiv:2203.02155, section 3.5). Where the model allows it, the prompt is forwarded once too.
"""

import logging
import math
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from worker.rlhf import optim, processes, sharding
from worker.rlhf.attributes import (
    attribute_loss,
    attribute_pairs,
    judge_attributes,
    new_attribute_heads,
    save_attribute_heads,
)
from worker.rlhf.checkpoint import CheckpointStore, module_tensors, optimizer_tensors, restore_module, restore_optimizer
from worker.rlhf.encoders import linear_head
from worker.rlhf.ensemble import (
    Heads,
    become_the_mean,
    bootstrap_weights,
    head_scores,
    new_heads,
    save_heads,
    spread_report,
    widen,
)
from worker.rlhf.losses import LOSSES, TIES, LossTerms, batch_loss, preference_pairs, tied_pairs
from worker.rlhf.modeling import RewardModel, load_reward_model, longest_input, new_reward_model, save_reward_model
from worker.rlhf.packing import Encoded, by_length
from worker.rlhf.raters import merge_raters
from worker.rlhf.scoring import can_share_prompts, row_tokens, separate_scores, separate_tokens, shared_scores
from worker.rlhf.tokens import encode_prompt, encode_response, first_id, fit, load_tokenizer
from worker.rlhf.types import NotANumberError, Prompt, Ranking, Stats

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RewardSettings:
    """Defaults for small models; a large one wants about 1e-5 and one epoch."""

    learning_rate: float = 3e-4  # Peak, for models of 1 to 10 million parameters.
    batch_size: int = 16  # Rankings per optimizer step.
    micro_batch_size: int = 8  # Rankings per forward; smaller needs less memory and changes nothing else.
    micro_batch_tokens: int = (
        0  # Tokens per forward, padding included; 0 for what suits the device. Changes nothing else.
    )
    epochs: int = 1  # InstructGPT: more than one overfits.
    max_length: int = 256  # Prompt and one response together, in tokens.
    warmup_ratio: float = 0.05  # Share of steps in which the rate rises.
    weight_decay: float = 0.0  # As in summarize_from_feedback.
    label_smoothing: float = 0.0  # Share of preferences assumed to be mistaken.
    max_grad_norm: float = 1.0
    loss: str = "bradley-terry"  # Over pairs; or "plackett-luce", over whole orders, which then ignores soft labels.
    ties: str = "ignore"  # Or "davidson", "rao-kupper": ties are learned from, with the tie share of the data.
    margin: float = 0.0  # Score distance asked for per unit of `strength` (Llama 2, arXiv:2307.09288, 3.2.2).
    labels: str = "separate"  # Or "soft": raters of one comparison merge into the share of them behind each pair.
    num_heads: int = 1  # More: an ensemble, whose spread is the uncertainty of a score.
    lora_rank: int = 0  # Above 0: only adapters of this rank and the head are trained (arXiv:2106.09685).
    precision: str = "float32"  # Or "bfloat16": forward and backward in it; weights, head and loss stay float32.
    attribute_coef: float = 0.0  # Weight of the attributes' losses beside the ranking's; above 0, each gets a head.
    replay_share: float = 1.0  # Old rankings mixed in per new one, where a reward model is trained further.
    seed: int = 0
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(known)}.")
        if self.attribute_coef and self.labels == "soft":
            raise ValueError("attribute_coef needs labels `separate`: attributes of several raters are not merged.")


CHOICES = {
    "loss": LOSSES,
    "ties": TIES,
    "labels": ("separate", "soft"),
    "precision": ("float32", "bfloat16"),
}
PRESETS: dict[str, dict[str, float]] = {
    "small": {},  # The defaults: language models of 1 to 50 million parameters.
    # Pretrained sentence encoders: by cross-validation on 1,196 HH pairs, 3e-5 and 1 epoch gave 0.60, 1e-4 0.61, and 2 epochs 0.63.
    "encoder": {"learning_rate": 1e-4, "epochs": 2, "batch_size": 16},
    "large": {"learning_rate": 1e-5, "batch_size": 64},  # InstructGPT: 9e-6, 64 comparisons.
}
"""Values by name for a kind of trunk, on top of the defaults."""


def preset(settings: RewardSettings, name: str) -> RewardSettings:
    """A preset's values, where the settings still have their defaults."""
    changed = {key: value for key, value in PRESETS[name].items() if getattr(settings, key) == getattr(DEFAULT, key)}
    return replace(settings, **changed)  # type: ignore[arg-type]


DEFAULT = RewardSettings()
TOKENS_ON_PROCESSOR, TOKENS_ON_GPU = 512, 2048  # Per forward: small parts pad little and stay in a processor's caches.


def train_reward_model(
    model_dir: str | Path,
    rankings: Sequence[Ranking],
    settings: RewardSettings,
    *,
    out: Path,
    checkpoints: CheckpointStore | None = None,
    heldout: Sequence[Ranking] = (),
    calibration: Sequence[tuple[Prompt, str]] = (),
    replay: Sequence[Ranking] | None = None,
) -> Generator[Stats, None, None]:
    """Train on the trunk of `model_dir` and save to `out`; yields after each optimizer step.

    Args:
        heldout: rankings of prompts that are in no ranking learned from; the last stats evaluate on them.
        calibration: (prompt, response) samples of the reference policy; scores are shifted to mean 0 and scaled
            to deviation 1 on them, so that the KL coefficient keeps its meaning from one retraining to the next.
        replay: old rankings. Where given, `model_dir` is a reward model that is trained further, head and all, on `rankings`
            and `replay_share` times as many of these, against forgetting.
    """
    from worker.rlhf.evaluate import reward_report

    tokenizer = load_tokenizer(model_dir)
    is_continued = replay is not None
    if replay is not None:
        rankings = [*rankings, *_drawn(replay, round(settings.replay_share * len(rankings)), seed=settings.seed)]
    start = load_reward_model if is_continued else partial(new_reward_model, seed=settings.seed)
    model = start(model_dir, tokenizer=tokenizer).to(optim.device())
    max_length = min(settings.max_length, longest_input(model))
    items = encode_all(tokenizer, rankings, replace(settings, max_length=max_length))
    before = Path(model_dir) if is_continued else None
    job = _Job(model, items, settings, pad=tokenizer.pad_token_id, before=before)
    total = settings.epochs * optim.num_batches(len(items), settings.batch_size)
    first = _resume(job.trained, job.optimizer, checkpoints)
    saved_at = time.monotonic()
    for step in range(first, total):
        rate = optim.warmup_then_linear(step, total, peak=settings.learning_rate, warmup_ratio=settings.warmup_ratio)
        optim.set_learning_rate(job.optimizer, rate)
        stats = job.step(optim.batch_of_step(items, step, batch_size=settings.batch_size, seed=settings.seed))
        if not math.isfinite(stats["loss"]):
            raise NotANumberError(f"The loss of the reward model stopped being a number at step {step + 1}.")
        is_due = time.monotonic() - saved_at >= settings.checkpoint_seconds
        if checkpoints is not None and processes.first_says(is_due):
            _save(checkpoints, step + 1, job.trained, job.optimizer)
            saved_at = time.monotonic()
        yield {"phase": "reward", "step": step + 1, "total_steps": total, "learning_rate": rate, **stats}
    with sharding.whole(model):
        job.finish()
        normalise(model, tokenizer, calibration, max_length=max_length)
        spread = _calibrate_spread(job, tokenizer, heldout, max_length=max_length)
        if job.attributes is not None:
            spread |= judge_attributes(model, job.attributes, tokenizer, heldout, calibration, max_length=max_length)
        if processes.is_first():
            save_reward_model(model, tokenizer, out)
            if job.heads is not None:
                save_heads(model, job.heads, out)
            if job.attributes is not None:
                save_attribute_heads(job.attributes, out)
        processes.wait_for_all()
        details = out / "evaluation.json" if processes.is_first() else None
        report = reward_report(model, tokenizer, heldout, max_length=max_length, details=details)
    told = {"num_rankings": len(items), "is_prompt_shared": int(job.is_shared)}
    yield {"phase": "reward_done", "step": total, "total_steps": total, **told, **report, **spread}


def _calibrate_spread(job: "_Job", tokenizer: Any, heldout: Sequence[Ranking], *, max_length: int) -> dict[str, float]:
    """Let the heads differ as much as they should, judged on held-out rankings; their mean stays."""
    flat = [(ranking.prompt, text) for ranking in heldout for text in ranking.responses]
    if job.heads is None or not flat:
        return {}
    prompts, texts = zip(*flat, strict=True)
    scores = head_scores(job.model, job.heads, tokenizer, prompts, texts, max_length=max_length)
    report = spread_report(heldout, scores)
    widen(job.heads, report.get("spread_scale", 1.0))
    return report


def encode_all(tokenizer: Any, rankings: Sequence[Ranking], settings: RewardSettings) -> list[Encoded]:
    """The rankings that something can be learned from, as the settings want them.

    Raises:
        ValueError: there is none.
    """
    weighted = [ranking for ranking in rankings if ranking.weight > 0]
    if settings.labels == "soft":
        weighted = merge_raters(weighted)
    items = [encode_ranking(tokenizer, ranking, settings.max_length, margin=settings.margin) for ranking in weighted]
    if not any(item.pairs for item in items):
        raise ValueError("No ranking prefers one response to another, so there is nothing to learn from.")
    learns_ties = settings.ties != "ignore"
    kept = [item for item in items if item.pairs or (learns_ties and item.ties)]
    return [replace(item, index=index) for index, item in enumerate(kept)]


def tie_share(items: Sequence[Encoded]) -> float:
    """Share of pairs that were called equal, each ranking weighing the same; what a tie model is told."""
    shares = [len(item.ties) / (len(item.ties) + len(item.pairs)) for item in items if item.ties or item.pairs]
    return min(max(sum(shares) / max(len(shares), 1), 0.01), 0.9)


def _drawn(old: Sequence[Ranking], count: int, *, seed: int) -> list[Ranking]:
    """A sample of old rankings, without repetition."""
    order = torch.randperm(len(old), generator=torch.Generator().manual_seed(seed)).tolist()
    return [old[index] for index in order[:count]]


class _Job:
    """What one step needs: the model, its heads and adapters, the optimizer, and how rows are forwarded."""

    def __init__(
        self,
        model: RewardModel,
        items: Sequence[Encoded],
        settings: RewardSettings,
        *,
        pad: int,
        before: Path | None = None,
    ) -> None:
        self.model, self.settings, self.pad = model, settings, pad
        self.attention = _plain_attention_if_faster(model, settings)
        self.is_shared = can_share_prompts(model, items[: min(settings.micro_batch_size, 4)], pad=pad)
        if not self.is_shared and not model.is_encoder:
            logger.warning("This model scores otherwise when a prompt is shared: each response is forwarded alone.")
        self.adapters = add_adapters(model, settings.lora_rank, seed=settings.seed) if settings.lora_rank else None
        self.heads: Heads | None = None
        if settings.num_heads > 1:
            self.heads = new_heads(model, settings.num_heads, seed=settings.seed, before=before)
            model.head.requires_grad_(requires_grad=False)
        self.attributes = None
        if settings.attribute_coef:
            self.attributes = new_attribute_heads(model, items, seed=settings.seed, before=before)
        others = [heads for heads in (self.heads, self.attributes) if heads is not None]
        self.trained = nn.ModuleList([model, *others]) if others else model
        sharding.shard(model)
        self.optimizer = optim.adamw(
            self.trained, learning_rate=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.terms = LossTerms(settings.label_smoothing, settings.loss, settings.ties, tie_share(items))

    def step(self, rows: Sequence[Encoded]) -> dict[str, float]:
        """One optimizer step; parts give the gradient of the whole batch, because all divide by its weight."""
        self.optimizer.zero_grad(set_to_none=True)
        total_weight = max(sum(item.weight for item in rows), 1e-9)
        sums = dict.fromkeys(("loss", "right", "pairs"), 0.0)
        for part in sharding.parts_alike(list(self._parts(processes.share(rows)))):
            loss, scores = self._loss(part or [replace(rows[0], weight=0.0)])
            (loss / total_weight).backward()
            sums["loss"] += float(loss.detach()) / total_weight
            scores = scores if part else []
            for values, item in zip(scores, part, strict=True):
                sums["right"] += sum(bool(values[better] > values[worse]) for better, worse in item.pairs)
                sums["pairs"] += len(item.pairs)
        processes.sum_gradients([self.trained])
        norm = optim.clip_gradients(self.trained, self.settings.max_grad_norm)
        self.optimizer.step()
        sums = processes.summed(sums)
        return {"loss": sums["loss"], "train_accuracy": sums["right"] / max(sums["pairs"], 1), "gradient_norm": norm}

    def finish(self) -> None:
        """Leave a plain reward model: adapters merged, the mean of the heads as its head."""
        self.model.classifier.set_attn_implementation(self.attention)
        if self.adapters is not None:
            self.model.classifier = self.adapters.merge_and_unload()
        if self.heads is not None:
            become_the_mean(self.model, self.heads)

    def _parts(self, rows: Sequence[Encoded]) -> Iterator[list[Encoded]]:
        is_on_processor = self.model.head.weight.device.type == "cpu"
        tokens = self.settings.micro_batch_tokens or (TOKENS_ON_PROCESSOR if is_on_processor else TOKENS_ON_GPU)
        at_most = {"max_items": self.settings.micro_batch_size, "max_tokens": tokens}
        return by_length(rows, width=row_tokens if self.is_shared else separate_tokens, **at_most)

    def _loss(self, part: Sequence[Encoded]) -> tuple[Tensor, list[Tensor]]:
        """Weighted sum over rankings, and their scores; of an ensemble, the mean over its heads."""
        s, scores_of = self.settings, shared_scores if self.is_shared else separate_scores
        is_plain = self.heads is None and self.attributes is None
        with torch.autocast(self.model.head.weight.device.type, torch.bfloat16, enabled=s.precision == "bfloat16"):
            columns = scores_of(self.model, part, pad=self.pad, read=None if is_plain else self._read)
        if is_plain:
            return batch_loss(columns, part, terms=self.terms), [values.detach() for values in columns]
        own, others = [v[:, : s.num_heads] for v in columns], [v[:, s.num_heads :] for v in columns]
        loss = self._loss_over_heads(own, part)
        if self.attributes is not None:
            extra = attribute_loss(self.attributes, others, part, label_smoothing=s.label_smoothing)
            loss = loss + s.attribute_coef * extra
        return loss, [values.detach().mean(dim=1) for values in own]

    def _read(self, states: Tensor) -> Tensor:
        """(..., heads and attributes) scores of states."""
        own = self.model.raw(states)[..., None] if self.heads is None else self.heads(states)
        return own if self.attributes is None else torch.cat([own, self.attributes(states)], dim=-1)

    def _loss_over_heads(self, columns: Sequence[Tensor], part: Sequence[Encoded]) -> Tensor:
        """The mean over heads; of several, each weighs the rankings in its own way."""
        s = self.settings
        if self.heads is None:
            return batch_loss([values[:, 0] for values in columns], part, terms=self.terms)
        loss = columns[0].sum() * 0.0
        weights = [bootstrap_weights(item.index, s.num_heads, seed=s.seed) for item in part]
        for head in range(s.num_heads):
            weighted = [replace(i, weight=i.weight * float(w[head])) for i, w in zip(part, weights, strict=True)]
            loss = loss + batch_loss([values[:, head] for values in columns], weighted, terms=self.terms) / s.num_heads
        return loss


def _plain_attention_if_faster(model: RewardModel, settings: RewardSettings) -> str:
    """On a processor, PyTorch's fused attention takes three times as long in bfloat16 as three plain products.

    Returns:
        The implementation as it was.
    """
    before: str = model.config._attn_implementation
    if settings.precision == "bfloat16" and model.head.weight.device.type == "cpu":
        model.classifier.set_attn_implementation("eager")
    return before


def add_adapters(model: RewardModel, rank: int, *, seed: int) -> Any:
    """Low-rank adapters on all linear maps of the trunk; they and the head are what is trained."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="SEQ_CLS")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapted = get_peft_model(model.classifier, config)
    model.classifier = adapted.base_model.model
    for parameter in linear_head(model.classifier).parameters():
        parameter.requires_grad = True
    return adapted


def encode_ranking(tokenizer: Any, ranking: Ranking, max_length: int, *, margin: float = 0.0) -> Encoded:
    """Token ids; all responses share identical prompt ids, cut alike so that the longest fits."""
    prompt, eos = encode_prompt(tokenizer, ranking.prompt), tokenizer.eos_token_id
    room = max(max_length // 2, max_length - len(prompt))  # As `fit` gives it, so that scoring cuts alike.
    responses = [encode_response(tokenizer, text, max_length=room) for text in ranking.responses]
    longest = max(responses, key=len)
    prompt, _ = fit(prompt, longest, max_length=max_length, eos=eos, first=first_id(tokenizer))
    if ranking.preferences:
        pairs = [(a, b) for a, b, _ in ranking.preferences]
        targets = [share for _, _, share in ranking.preferences]
        return Encoded(prompt, responses, pairs, ranking.weight, targets=targets, ranks=ranking.ranks)
    pairs = preference_pairs(ranking.ranks)
    margins = [margin * ranking.strength] * len(pairs) if margin and ranking.strength else []
    ties = tied_pairs(ranking.ranks)
    more: dict[str, Any] = {"ranks": ranking.ranks, "attributes": attribute_pairs(ranking)}
    return Encoded(prompt, responses, pairs, ranking.weight, ties=ties, margins=margins, **more)


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
