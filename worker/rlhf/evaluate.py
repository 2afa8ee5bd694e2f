"""Reports: how often a reward model is right, beside what needs no learning; how two policies compare."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worker.rlhf.calibration import breakdown, calibration_report, judged_pairs
from worker.rlhf.losses import preference_pairs
from worker.rlhf.modeling import RewardModel, score
from worker.rlhf.rollout import SamplingSettings, policy_logprobs, sample_responses
from worker.rlhf.types import Prompt, Ranking, Sampled, Stats

Judge = Callable[[list[Prompt], list[str]], list[float]]


def wilson(successes: float, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """The Wilson interval of a share; (0, 1) when nothing was tried. Half a success is allowed, for ties."""
    if n == 0:
        return 0.0, 1.0
    from scipy.stats import norm

    z = float(norm.ppf(0.5 + confidence / 2))
    p, z2 = successes / n, z * z
    centre, half = p + z2 / (2 * n), z * float(np.sqrt(p * (1 - p) / n + z2 / (4 * n * n)))
    return max(0.0, (centre - half) / (1 + z2 / n)), min(1.0, (centre + half) / (1 + z2 / n))


def reward_report(
    model: RewardModel, tokenizer: Any, heldout: Sequence[Ranking], *, max_length: int, details: Path | None = None
) -> Stats:
    """Accuracy over held-out preferences with its interval, beside "shorter wins" and "longer wins".

    Each comparison weighs the same whatever its number of pairs, and the interval counts comparisons, because the
    pairs of one ranking are not independent. A JSON file `details` gets accuracy by margin, length difference, topic, group and rater.
    """
    flat = [(ranking, text) for ranking in heldout for text in ranking.responses]
    if not flat:
        return {"num_heldout_rankings": 0, "num_heldout_pairs": 0}
    scores = score(model, tokenizer, [r.prompt for r, _ in flat], [text for _, text in flat], max_length=max_length)
    rows, start = [], 0
    for ranking in heldout:
        values = scores[start : start + len(ranking.responses)]
        start += len(ranking.responses)
        pairs = preference_pairs(ranking.ranks)
        if pairs:
            lengths = [len(text) for text in ranking.responses]
            rows.append(
                (_share(values, pairs), _share([-n for n in lengths], pairs), _share(lengths, pairs), len(pairs))
            )
    right = [row[0] for row in rows]
    low, high = wilson(sum(right), len(rows))
    lengths_all = np.array([len(text) for _, text in flat], dtype=float)
    spread = float(np.std(scores)) * float(lengths_all.std())
    correlation = float(np.corrcoef(scores, lengths_all)[0, 1]) if spread > 0 else 0.0
    judged = judged_pairs(heldout, scores)
    if details is not None:
        details.write_text(json.dumps(breakdown(judged), indent=1))
    return {
        **calibration_report([replace(pair, difference=pair.difference / model_gain(model)) for pair in judged]),
        "accuracy": sum(right) / max(len(rows), 1),
        "accuracy_low": low,
        "accuracy_high": high,
        "accuracy_shorter": sum(row[1] for row in rows) / max(len(rows), 1),
        "accuracy_longer": sum(row[2] for row in rows) / max(len(rows), 1),
        "num_heldout_rankings": len(rows),
        "num_heldout_pairs": sum(row[3] for row in rows),
        "length_correlation": correlation,
    }


def model_gain(model: Any) -> float:
    """What normalising multiplied scores by: calibration judges the scores as they were learned."""
    return float(getattr(model, "gain", 1.0)) or 1.0


def compare_policies(
    policy: Any,
    other: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    judge: Judge,
    *,
    sampling: SamplingSettings,
) -> Stats:
    """One sample of each policy per prompt, judged: how often `policy` beats `other`; ties count half.

    The judge scores (prompts, responses). Also the policy's mean length in tokens, its share of distinct bigrams,
    its share of responses cut at the limit, and its KL from `other` in nats per response.
    """
    ours, theirs = (_sample_all(model, tokenizer, prompts, sampling) for model in (policy, other))
    asked = list(prompts)
    mine = judge(asked, [s.text for s in ours])
    yours = judge(asked, [s.text for s in theirs])
    wins = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in zip(mine, yours, strict=True))
    low, high = wilson(wins, len(asked))
    return {
        "win_rate": wins / len(asked),
        "win_rate_low": low,
        "win_rate_high": high,
        "num_prompts": len(asked),
        "score": sum(mine) / len(asked),
        "score_before": sum(yours) / len(asked),
        "mean_length": sum(len(s.token_ids) for s in ours) / len(asked),
        "mean_length_before": sum(len(s.token_ids) for s in theirs) / len(asked),
        "distinct_2": distinct_bigrams([s.token_ids for s in ours]),
        "cut_share": sum(s.finish_reason == "length" for s in ours) / len(asked),
        "kl": policy_kl(policy, other, tokenizer, prompts, ours, sampling=sampling),
    }


@torch.no_grad()
def policy_kl(
    policy: Any,
    other: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    samples: Sequence[Sampled],
    *,
    sampling: SamplingSettings,
) -> float:
    """KL(policy || other) per response, in nats: mean over samples of `policy` of the summed log ratio."""
    mine, reference = (
        policy_logprobs(
            model,
            tokenizer,
            prompts,
            samples,
            temperature=sampling.temperature,
            max_prompt_length=sampling.max_prompt_length,
        )
        for model in (policy, other)
    )
    return float((mine - reference).mean())


def distinct_bigrams(sequences: Sequence[Sequence[int]]) -> float:
    """Distinct bigrams over all bigrams: near 0 when a policy says the same again and again."""
    bigrams = [pair for ids in sequences for pair in pairwise(ids)]
    return len(set(bigrams)) / max(len(bigrams), 1)


def _sample_all(model: Any, tokenizer: Any, prompts: Sequence[Prompt], sampling: SamplingSettings) -> list[Sampled]:
    batches = sample_responses(model, tokenizer, prompts, sampling, num_responses=1)
    return [sample for batch in batches for sample in batch]


def _share(values: Sequence[float], pairs: Sequence[tuple[int, int]]) -> float:
    """Share of (better, worse) pairs that `values` order alike; equal values count half."""
    points = sum(1.0 if values[a] > values[b] else 0.5 if values[a] == values[b] else 0.0 for a, b in pairs)
    return points / len(pairs)
