"""What rankings say about scores: Bradley-Terry over pairs, Plackett-Luce over orders, and two models of ties.

All on tensors, in float32, with logsigmoid. A loss is averaged within its ranking, so that a ranking of nine with its 36 pairs
outweighs no pair.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from worker.rlhf.packing import Encoded

LOSSES = ("bradley-terry", "plackett-luce")
TIES = ("ignore", "davidson", "rao-kupper")


def preference_pairs(ranks: Sequence[int | None]) -> list[tuple[int, int]]:
    """(better, worse) indices of all responses ranked strictly: a tie, or an unranked response, prefers nothing."""
    ranked = [(index, rank) for index, rank in enumerate(ranks) if rank is not None]
    pairs = []
    for (a, rank_a), (b, rank_b) in combinations(ranked, 2):
        if rank_a != rank_b:
            pairs.append((a, b) if rank_a < rank_b else (b, a))
    return pairs


def tied_pairs(ranks: Sequence[int | None]) -> list[tuple[int, int]]:
    """Indices of all pairs of responses that share a rank."""
    ranked = [(index, rank) for index, rank in enumerate(ranks) if rank is not None]
    return [(a, b) for (a, rank_a), (b, rank_b) in combinations(ranked, 2) if rank_a == rank_b]


def ranking_loss(
    scores: Tensor,
    pairs: Tensor,
    *,
    label_smoothing: float = 0.0,
    targets: Tensor | None = None,
    margins: Tensor | None = None,
) -> Tensor:
    """Bradley-Terry over the pairs of one ranking, averaged.

    -mean over pairs of p log sigmoid(d - m) + (1 - p) log sigmoid(m - d), with d = score of better - score of worse, m the margin
    (Llama 2, arXiv:2307.09288, eq. 2), and p = (1 - e) t + e (1 - t) of the target t and the label smoothing e.

    Args:
        scores: (K,) float32.
        pairs: (P, 2) int64 indices (better, worse); P may be 0, and the loss is then 0 with zero gradient.
        targets: (P,) probability that the first is the better one; 1 without it.
        margins: (P,) of at least 0; 0 without it.
    """
    if len(pairs) == 0:
        return scores.sum() * 0.0
    return pair_losses(scores, pairs, label_smoothing=label_smoothing, targets=targets, margins=margins).mean()


def pair_losses(
    scores: Tensor,
    pairs: Tensor,
    *,
    label_smoothing: float = 0.0,
    targets: Tensor | None = None,
    margins: Tensor | None = None,
) -> Tensor:
    """The terms of `ranking_loss`: (P,)."""
    difference = scores[pairs[:, 0]] - scores[pairs[:, 1]]
    if margins is not None:
        difference = difference - margins
    agreed, smoothed = logsigmoid(difference), logsigmoid(-difference)
    share = torch.ones_like(difference) if targets is None else targets
    share = (1 - label_smoothing) * share + label_smoothing * (1 - share)
    return -(share * agreed + (1 - share) * smoothed)


def plackett_luce_loss(scores: Tensor, ranks: Sequence[int | None]) -> Tensor:
    """Choosing the best of those left, again and again: the mean over choices of log sum exp(left) - chosen.

    Members of a tie are each chosen from all that are not better (Breslow's form), which is alike for all of them;
    a full tie, and an unranked response, say nothing. Of two responses it is Bradley-Terry.
    Source: Plackett 1975; Xia et al. 2008 (ListMLE).
    """
    given = sorted({rank for rank in ranks if rank is not None})
    terms = []
    for rank in given[:-1]:
        left = scores[[i for i, other in enumerate(ranks) if other is not None and other >= rank]]
        chosen = scores[[i for i, other in enumerate(ranks) if other == rank]]
        terms.append(left.logsumexp(0) - chosen)
    return torch.cat(terms).mean() if terms else scores.sum() * 0.0


def davidson_losses(differences: Tensor, *, tie_share: float) -> tuple[Tensor, Tensor]:
    """(-log P(first wins), -log P(tie)) for score differences, Davidson 1970: (P,) each.

    P(win) = 1 / (1 + exp(-d) + v exp(-d/2)) and P(tie) = v exp(-d/2) P(win); v such that equals tie with
    probability `tie_share`.
    """
    v = math.log(2 * tie_share / (1 - tie_share))
    zero = torch.zeros_like(differences)
    win = torch.stack([zero, -differences, v - differences / 2]).logsumexp(0)
    return win, win + differences / 2 - v


def rao_kupper_losses(differences: Tensor, *, tie_share: float) -> tuple[Tensor, Tensor]:
    """(-log P(first wins), -log P(tie)), Rao and Kupper 1967: differences below a threshold look equal: (P,) each.

    P(win) = sigmoid(d - log t) and P(tie) = (t^2 - 1) sigmoid(d - log t) sigmoid(-d - log t); t such that equals tie
    with probability `tie_share`.
    """
    t = (1 + tie_share) / (1 - tie_share)
    win, lose = -logsigmoid(differences - math.log(t)), -logsigmoid(-differences - math.log(t))
    return win, win + lose - math.log(t * t - 1)


@dataclass(frozen=True)
class LossTerms:
    """Which loss: the settings' words, and the share of ties in the data."""

    label_smoothing: float = 0.0
    loss: str = "bradley-terry"
    ties: str = "ignore"
    tie_share: float = 0.0


def batch_loss(
    scores: Sequence[Tensor],
    items: Sequence[Encoded],
    *,
    label_smoothing: float = 0.0,
    terms: LossTerms | None = None,
) -> Tensor:
    """Weighted sum of the rankings' losses; the caller divides by the whole batch's weights."""
    terms = terms or LossTerms(label_smoothing)
    losses = [item.weight * one_loss(values, item, terms) for values, item in zip(scores, items, strict=True)]
    return torch.stack(losses).sum()


def one_loss(scores: Tensor, item: Encoded, terms: LossTerms) -> Tensor:
    """The loss of one ranking: (K,) scores to a number."""

    def column(values: Sequence[Any], dtype: torch.dtype | None = None) -> Tensor:
        return torch.tensor(values, dtype=dtype, device=scores.device)

    if terms.loss == "plackett-luce" and not item.targets:
        return plackett_luce_loss(scores, item.ranks)
    pairs = column(item.pairs, torch.long).reshape(-1, 2)
    if terms.ties != "ignore" and not item.targets:
        return _loss_with_ties(scores, pairs, column(item.ties, torch.long).reshape(-1, 2), terms)
    return ranking_loss(
        scores,
        pairs,
        label_smoothing=terms.label_smoothing,
        targets=column(item.targets, scores.dtype) if item.targets else None,
        margins=column(item.margins, scores.dtype) if item.margins else None,
    )


def _loss_with_ties(scores: Tensor, pairs: Tensor, ties: Tensor, terms: LossTerms) -> Tensor:
    """Mean over all pairs, ordered or tied, of -log P of what the rater said."""
    model_of = davidson_losses if terms.ties == "davidson" else rao_kupper_losses
    wins, _ = model_of(scores[pairs[:, 0]] - scores[pairs[:, 1]], tie_share=terms.tie_share)
    _, equal = model_of(scores[ties[:, 0]] - scores[ties[:, 1]], tie_share=terms.tie_share)
    return torch.cat([wins, equal]).mean()
