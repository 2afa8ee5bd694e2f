"""Is a reward model as sure as it should be, and where is it right? Reports on held-out rankings.

`sigmoid(score difference)` claims to be the probability that a rater prefers the first. Calibration asks whether that is so.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.rlhf.losses import preference_pairs
from worker.rlhf.types import Ranking

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """One held-out preference pair: the score of what the rater preferred less that of the other."""

    difference: float
    ranking: int  # Its place among the held-out rankings: pairs of one ranking are not independent.
    share: float  # 1 / number of pairs of its ranking, so that rankings weigh alike.
    length_difference: int  # Characters of the preferred less those of the other.
    said: Ranking


def judged_pairs(heldout: Sequence[Ranking], scores: Sequence[float]) -> list[Judged]:
    """The preference pairs of held-out rankings; `scores` are those of all their responses, in order."""
    judged, start = [], 0
    for number, ranking in enumerate(heldout):
        values = scores[start : start + len(ranking.responses)]
        start += len(ranking.responses)
        pairs = preference_pairs(ranking.ranks)
        lengths = [len(text) for text in ranking.responses]
        judged += [
            Judged(values[a] - values[b], number, 1 / len(pairs), lengths[a] - lengths[b], ranking) for a, b in pairs
        ]
    return judged


def expected_calibration_error(differences: Sequence[float], *, num_bins: int = 10) -> float:
    """Mean gap between claimed probability and share that was right, over bins of equal size of the claim.

    The claim is that of the side the model favours, from 0.5 to 1. Source: Guo et al. 2017 (arXiv:1706.04599), with
    bins of equal count, which small held-out sets need.
    """
    if not differences:
        return 0.0
    given = np.asarray(differences, dtype=float)
    claim, right = 1 / (1 + np.exp(-np.abs(given).clip(max=500))), (given > 0) + 0.5 * (given == 0)
    bins = np.array_split(np.argsort(claim, kind="stable"), min(num_bins, len(given)))
    return float(sum(abs(claim[part].mean() - right[part].mean()) * len(part) for part in bins) / len(given))


def best_temperature(differences: Sequence[float]) -> float:
    """The T for which sigmoid(difference / T) is likeliest: above 1 the model was too sure.

    Bounded to [0.01, 100]: where every pair is right, the likeliest T is 0.
    """
    from scipy.optimize import minimize_scalar

    given = np.asarray(differences, dtype=float)
    if not len(given):
        return 1.0
    found = minimize_scalar(
        lambda log_t: float(np.logaddexp(0, -given / math.exp(log_t)).mean()),
        bounds=(math.log(0.01), math.log(100)),
        method="bounded",
    )
    return math.exp(float(found.x))


def best_spread(differences: Array) -> float:
    """The s for which chances averaged over heads, moved s times as far from their mean, are likeliest.

    A pair's chance is the mean over heads of sigmoid((m + s (d - m)) / T), with m the mean of its differences d, and T chosen
    along with s. Above 1, the heads agreed more than they should. Bounded to [0.01, 100].

    Args:
        differences: (pairs, heads), the score of what was preferred less that of the other.
    """
    from scipy.optimize import minimize

    mean = differences.mean(axis=1, keepdims=True)

    def loss(logs: Array) -> float:
        scale, temperature = np.exp(logs.clip(math.log(0.01), math.log(100)))
        moved = (mean + scale * (differences - mean)) / temperature
        return float(-(np.logaddexp.reduce(-np.logaddexp(0, -moved), axis=1) - math.log(moved.shape[1])).mean())

    starts = [minimize(loss, np.log([scale, 1.0]), method="Nelder-Mead") for scale in (1.0, 10.0)]
    return float(np.exp(min(starts, key=lambda found: found.fun).x[0].clip(math.log(0.01), math.log(100))))


def calibration_report(judged: Sequence[Judged]) -> dict[str, float]:
    """`ece`, the likeliest `temperature`, and `ece_calibrated`: the error once each half is divided by the other's.

    The temperature that is judged is fitted on other rankings than it is judged on, or it would flatter itself.
    """
    halves: list[list[float]] = [[], []]
    for pair in judged:
        halves[pair.ranking % 2].append(pair.difference)
    both = [pair.difference for pair in judged]
    crossed = [d / best_temperature(halves[1 - half]) for half in (0, 1) for d in halves[half]]
    return {
        "ece": expected_calibration_error(both),
        "temperature": best_temperature(both),
        "ece_calibrated": expected_calibration_error(crossed),
    }


def breakdown(judged: Sequence[Judged]) -> dict[str, list[dict[str, Any]]]:
    """Accuracy with its interval by the model's margin, by length difference, topic, group of raters and rater."""
    margins = _edges([abs(pair.difference) for pair in judged])
    by: dict[str, Callable[[Judged], str | None]] = {
        "margin": lambda pair: _quarter(abs(pair.difference), margins),
        "length_difference": lambda pair: _length_group(pair.length_difference),
        "topic": lambda pair: pair.said.topic,
        "group": lambda pair: pair.said.group,
        "rater": lambda pair: pair.said.rater,
    }
    return {name: _grouped(judged, group) for name, group in by.items()}


def _grouped(judged: Sequence[Judged], group: Callable[[Judged], str | None]) -> list[dict[str, Any]]:
    """A row for each group; within it, rankings weigh alike, and the interval counts rankings."""
    from worker.rlhf.evaluate import wilson

    found: dict[str, dict[int, list[float]]] = {}
    for pair in judged:
        if (name := group(pair)) is not None:
            point = 1.0 if pair.difference > 0 else 0.5 if pair.difference == 0 else 0.0
            found.setdefault(name, {}).setdefault(pair.ranking, []).append(point)
    rows = []
    for name, by_ranking in sorted(found.items()):
        right = sum(sum(points) / len(points) for points in by_ranking.values())
        low, high = wilson(right, len(by_ranking))
        shares = {"accuracy": right / len(by_ranking), "low": low, "high": high}
        rows.append({"group": name, "num_rankings": len(by_ranking), **shares})
    return rows


def _edges(values: Sequence[float]) -> Array:
    return np.quantile(values, [0.25, 0.5, 0.75]) if len(values) else np.zeros(3)


def _quarter(value: float, edges: Array) -> str:
    return ("1 (least sure)", "2", "3", "4 (most sure)")[int(np.searchsorted(edges, value))]


def _length_group(difference: int) -> str:
    """The preferred response against the other, in characters."""
    if abs(difference) <= 20:
        return "about as long"
    return "preferred is longer" if difference > 0 else "preferred is shorter"
