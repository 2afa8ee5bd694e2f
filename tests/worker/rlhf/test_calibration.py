"""Calibration on data whose truth is known, and accuracy by group by hand."""

import numpy as np
import pytest

from worker.rlhf.calibration import (
    best_spread,
    best_temperature,
    breakdown,
    calibration_report,
    expected_calibration_error,
    judged_pairs,
)
from worker.rlhf.types import Ranking

PROMPT = [{"role": "user", "content": "Why?"}]


def honest(count: int, *, stretch: float) -> list[float]:
    """Differences of a model whose claims hold, times `stretch`: signs fall as often as it claims."""
    rng = np.random.default_rng(0)
    size = np.abs(rng.normal(0, 1.5, count))
    right = rng.random(count) < 1 / (1 + np.exp(-size))
    return list(stretch * size * np.where(right, 1, -1))


def test_a_model_that_claims_too_much_is_found_out_and_mended() -> None:
    assert best_temperature(honest(20_000, stretch=1)) == pytest.approx(1, rel=0.06)
    assert best_temperature(honest(20_000, stretch=3)) == pytest.approx(3, rel=0.06)
    assert expected_calibration_error(honest(20_000, stretch=1)) < 0.02
    assert expected_calibration_error(honest(20_000, stretch=3)) > 0.08


@pytest.mark.parametrize("shrunk", [1.0, 4.0])
def test_heads_that_agree_too_much_are_found_out(shrunk: float) -> None:
    """Where the truth lies as far from the heads' mean as each head would, were their distances not `shrunk`."""
    rng = np.random.default_rng(0)
    mean, doubt = rng.normal(0, 3, (40_000, 1)), rng.choice([0.1, 6.0], (40_000, 1))
    truth = mean[:, 0] + doubt[:, 0] * rng.normal(size=40_000)
    sign = np.where(rng.random(40_000) < 1 / (1 + np.exp(-truth)), 1.0, -1.0)[:, None]
    noise = rng.normal(size=(40_000, 12))
    heads = mean + doubt / shrunk * (noise - noise.mean(axis=1, keepdims=True)) * np.sqrt(12 / 11)
    assert best_spread(sign * heads) == pytest.approx(shrunk, rel=0.1)


def test_calibration_error_by_hand() -> None:
    certain = [50.0, -50.0]
    assert expected_calibration_error(certain, num_bins=1) == pytest.approx(0.5)
    assert expected_calibration_error([], num_bins=1) == 0


def test_the_mended_error_is_judged_on_other_rankings() -> None:
    heldout = [Ranking(PROMPT, ("a", "b"), (1, 2)) for _ in range(4000)]  # type: ignore[arg-type]
    scores = [value for d in honest(4000, stretch=3) for value in (d, 0.0)]
    report = calibration_report(judged_pairs(heldout, scores))
    assert report["ece_calibrated"] < report["ece"] / 2


def test_accuracy_by_group_counts_rankings() -> None:
    heldout = [
        Ranking(PROMPT, ("a" * 50, "b"), (1, 2), topic="x", rater="r1", group="old"),  # type: ignore[arg-type]
        Ranking(PROMPT, ("a", "b" * 50), (1, 2), topic="y", rater="r1"),  # type: ignore[arg-type]
        Ranking(PROMPT, ("a", "b", "c"), (1, 2, 3), topic="x", rater="r2"),  # type: ignore[arg-type]
    ]
    rows = breakdown(judged_pairs(heldout, [1.0, 0.0, 0.0, 1.0, 3.0, 1.0, 2.0]))
    assert [(row["group"], row["num_rankings"]) for row in rows["topic"]] == [("x", 2), ("y", 1)]
    assert [(row["group"], row["num_rankings"], row["accuracy"]) for row in rows["group"]] == [("old", 1, 1.0)]
    assert rows["topic"][0]["accuracy"] == pytest.approx((1 + 2 / 3) / 2)
    assert rows["rater"][0]["accuracy"] == 0.5
    by_length = {row["group"]: row["accuracy"] for row in rows["length_difference"]}
    assert by_length == {
        "about as long": pytest.approx(2 / 3),
        "preferred is longer": 1.0,
        "preferred is shorter": 0.0,
    }
    assert sum(row["num_rankings"] for row in rows["margin"]) >= 3
