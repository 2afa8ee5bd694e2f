"""Episodes: what the policy wrote, how it was scored, and what each token earned. Also evaluation on fixed prompts."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from worker.rlhf import masked, optim, packed, processes, sharding
from worker.rlhf.actors import Pair, Trainer
from worker.rlhf.rollout import draw_uniforms, generate
from worker.rlhf.tokens import encode_prompt
from worker.rlhf.types import Prompt

Scores = list[float] | tuple[list[float], list[float]]
ScoreFunction = Callable[[list[Prompt], list[str]], Scores]
"""(prompts, texts) to scores, or to scores and their spreads over the heads or members of an ensemble."""


Row = tuple[Pair, list[float], list[float], list[float], list[float], float, list[float]]
"""An episode and its log-probabilities, the reference's, values, entropies, score, and the sampler's log-probabilities."""


class Sampler(Protocol):
    """Another program that samples for the policy, faster than this one does (`remote.py`)."""

    def sample(self, trainer: Trainer, prompts: Sequence[list[int]]) -> tuple[list[list[int]], list[list[float]]]:
        """Token ids of one response to each prompt, and the log-probability that the sampler gave each token."""


@dataclass
class Rollout:
    """Episodes of one update. (B, R) tensors have response tokens from column 0; `mask` is True on them."""

    pairs: list[Pair]
    mask: Tensor
    logprobs: Tensor
    ref_logprobs: Tensor
    values: Tensor
    scores: Tensor
    rewards: Tensor
    advantages: Tensor
    returns: Tensor
    weights: Tensor  # Of the policy loss: 1, or trainer over sampler probability where another program sampled.
    entropy: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)


@torch.no_grad()
def collect(
    trainer: Trainer,
    prompts: Sequence[Prompt],
    *,
    score_fn: ScoreFunction | None = None,
    sampler: Sampler | None = None,
) -> Rollout:
    """Sample one response per prompt and work out everything that the update needs of it.

    Each process samples and scores its share; all of them end with all episodes.
    """
    s, began = trainer.settings, clock()
    encoded = [encode_prompt(trainer.tokenizer, prompt, max_length=s.max_prompt_length) for prompt in prompts]
    uniforms = draw_uniforms(len(prompts), s.max_new_tokens, trainer.generator)
    mine, asked = processes.share(range(len(prompts))), [prompts[i] for i in processes.share(range(len(prompts)))]
    told: list[list[float]] = []
    with sharding.whole(trainer.policy):
        if sampler is not None:
            responses, told = sampler.sample(trainer, [encoded[i] for i in mine])
        else:
            responses = sample(trainer, [encoded[i] for i in mine], uniforms[mine])
    pairs = [(encoded[i], response) for i, response in zip(mine, responses, strict=True)]
    sampled = clock()
    tokens = _tokens(trainer, pairs)
    scores = _scores(trainer, asked, pairs, score_fn)
    rows = processes.gathered(list(zip(pairs, *tokens, scores.tolist(), told or responses, strict=True)))
    seconds = spent("sample", began, until=sampled) | spent("score", sampled)
    rollout = _rollout(trainer, rows, has_weights=sampler is not None)
    rollout.seconds = seconds
    return rollout


def clock() -> tuple[float, float]:
    """Seconds on the wall, and of this process's processors."""
    return time.monotonic(), time.process_time()


def spent(phase: str, began: tuple[float, float], *, until: tuple[float, float] | None = None) -> dict[str, float]:
    """What a phase took, for the stats. Compare processor seconds: other programs share the machine."""
    wall, cpu = until or clock()
    return {f"{phase}_seconds": wall - began[0], f"{phase}_cpu_seconds": cpu - began[1]}


def sample(
    trainer: Trainer, prompts: Sequence[list[int]], uniforms: Tensor, *, batch_size: int = 64
) -> list[list[int]]:
    """One response to each prompt from the policy as it is, (prompts, max_new_tokens) random numbers given."""
    responses: list[list[int]] = []
    for rows in optim.micro_batches(range(len(prompts)), batch_size):
        part = [prompts[i] for i in rows]
        numbers = uniforms[list(rows)]
        with trainer.precision():
            responses += generate(
                trainer.policy, trainer.tokenizer, part, trainer.sampling(), num_responses=1, uniforms=numbers
            )
    return responses


def parts_of(trainer: Trainer, pairs: Sequence[Pair]) -> list[list[int]]:
    """Indices of `pairs` in the parts that go through a model at once."""
    s, lengths = trainer.settings, [len(prompt) + len(response) for prompt, response in pairs]
    return list(packed.token_batches(lengths, max_rows=s.micro_batch_size, max_tokens=s.micro_batch_tokens))


def _tokens(trainer: Trainer, pairs: Sequence[Pair]) -> tuple[list[list[float]], ...]:
    """Log-probabilities, the reference's, values and entropies of response tokens: four lists of one list a row.

    Old log-probabilities and the reference's come from the same computation, so that the KL is exactly 0 at first.
    """
    parts = [[pairs[i] for i in rows] for rows in parts_of(trainer, pairs)]
    with sharding.whole(trainer.policy):
        outputs = [trainer.act(part, with_entropy=True) for part in parts]
    with sharding.whole(trainer.reference or trainer.policy):
        references = [trainer.reference_logprobs(part) for part in parts]
    with sharding.whole(None if trainer.has_shared_trunk else trainer.critic):
        values = [
            found.values if found.values is not None else trainer.values(part)
            for found, part in zip(outputs, parts, strict=True)
        ]
    columns = ([found.logprobs for found in outputs], references, values, [found.entropies for found in outputs])
    return tuple(_by_row(column, parts) for column in columns)


def _by_row(column: Sequence[Tensor], parts: Sequence[Sequence[Pair]]) -> list[list[float]]:
    """One list of numbers for each row, from a flat tensor for each part."""
    lengths = ([len(response) for _, response in part] for part in parts)
    return [row.tolist() for flat, sizes in zip(column, lengths, strict=True) for row in flat.cpu().split(sizes)]


def _rollout(
    trainer: Trainer,
    rows: Sequence[Row],
    *,
    has_weights: bool,
) -> Rollout:
    s = trainer.settings
    pairs = [row[0] for row in rows]
    lengths = torch.tensor([len(response) for _, response in pairs])
    mask = torch.arange(int(lengths.max()))[None, :] < lengths[:, None]
    _, mine, reference, guesses, doubts, told, sampler = zip(*rows, strict=True)
    logprobs, ref_logprobs, values, entropies = (_matrix(c, mask) for c in (mine, reference, guesses, doubts))
    scores = torch.tensor(told)
    weights = torch.ones(mask.shape)
    if has_weights:
        weights = importance_weights(logprobs, _matrix(sampler, mask), cap=s.importance_cap)
    rewards = token_rewards(scores, logprobs, ref_logprobs, mask, kl_coef=trainer.kl_coef)
    advantages = masked.gae(rewards, values, mask, gamma=s.gamma, gae_lambda=s.gae_lambda)
    returns, white = advantages + values, masked.whiten(advantages, mask)
    entropy = float(masked.masked_mean(entropies, mask))
    return Rollout(pairs, mask, logprobs, ref_logprobs, values, scores, rewards, white, returns, weights, entropy)


def importance_weights(logprobs: Tensor, sampler_logprobs: Tensor, *, cap: float) -> Tensor:
    """min(pi_trainer / pi_sampler, cap) per token: what the sampler drew too rarely counts more, within bounds.

    Samplers of their own round differently and may lag behind; uncorrected, the gradient is biased.
    Source: truncated importance sampling (Ionides 2008), as in TRL's `vllm_importance_sampling_cap`.
    """
    return (logprobs - sampler_logprobs).exp().clamp(max=cap)


def token_rewards(scores: Tensor, logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor, *, kl_coef: float) -> Tensor:
    """(B, R): minus kl_coef (log pi - log ref) at each token, plus the score at the last one.

    Their sum over a response is its score minus kl_coef times its KL estimate.
    """
    rewards = torch.where(mask, -kl_coef * masked.kl_k1(logprobs, ref_logprobs), 0.0)
    rewards[torch.arange(len(scores)), mask.sum(1) - 1] += scores
    return rewards


@torch.no_grad()
def evaluate(trainer: Trainer, prompts: Sequence[Prompt], score_fn: ScoreFunction | None) -> dict[str, float]:
    """Score, KL and length on fixed prompts with fixed random numbers; {} without prompts."""
    if not prompts:
        return {}
    s = trainer.settings
    encoded = [encode_prompt(trainer.tokenizer, prompt, max_length=s.max_prompt_length) for prompt in prompts]
    uniforms = draw_uniforms(len(prompts), s.max_new_tokens, torch.Generator().manual_seed(s.seed + 1))
    mine = processes.share(range(len(prompts)))
    with sharding.whole(trainer.policy):
        responses = sample(trainer, [encoded[i] for i in mine], uniforms[mine])
    pairs = [(encoded[i], response) for i, response in zip(mine, responses, strict=True)]
    sums = {"eval_score": float(_scores(trainer, [prompts[i] for i in mine], pairs, score_fn).sum()), "eval_kl": 0.0}
    parts = [[pairs[i] for i in rows] for rows in parts_of(trainer, pairs)]
    with sharding.whole(trainer.policy, trainer.reference):
        sums["eval_kl"] = sum(float((trainer.act(p).logprobs - trainer.reference_logprobs(p)).sum()) for p in parts)
    sums["eval_length"] = float(sum(map(len, responses)))
    return {name: value / len(prompts) for name, value in processes.summed(sums).items()}


def _scores(
    trainer: Trainer, prompts: Sequence[Prompt], pairs: Sequence[Pair], score_fn: ScoreFunction | None
) -> Tensor:
    """(B,) scores, clipped, less what cut, long or doubtful responses pay. Empty ones are scored like any other."""
    s = trainer.settings
    spreads = torch.zeros(len(pairs))
    if score_fn is not None:
        texts = [trainer.tokenizer.decode(response, skip_special_tokens=True).strip() for _, response in pairs]
        told = score_fn(list(prompts), texts)
        if isinstance(told, tuple):
            told, spreads = told[0], torch.tensor(told[1])
        scores = torch.tensor(told, dtype=torch.float32)
    else:
        with sharding.whole(trainer.reward_model):
            found = [trainer.scores([pairs[i] for i in rows]) for rows in parts_of(trainer, pairs)]
        scores, spreads = (torch.cat(column) for column in zip(*found, strict=True)) if found else (spreads, spreads)
    was_cut = torch.tensor([response[-1] != trainer.eos for _, response in pairs])
    lengths = torch.tensor([len(response) for _, response in pairs])
    price = s.missing_eos_penalty * was_cut + s.length_penalty * lengths + s.uncertainty_penalty * spreads
    return scores.clamp(-s.score_clip, s.score_clip) - price


def _matrix(rows: Sequence[Sequence[float]], mask: Tensor) -> Tensor:
    """(B, R) with each row's numbers from column 0, zeros after them."""
    matrix = torch.zeros(mask.shape)
    matrix[mask] = torch.tensor([value for row in rows for value in row])
    return matrix


def per_response(values: Tensor, mask: Tensor) -> Tensor:
    """(B,) sums over response tokens."""
    return torch.where(mask, values, 0.0).sum(1)
