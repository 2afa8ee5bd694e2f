"""Losses of rankings against enumeration, limits and symmetries."""

import math
from itertools import permutations

import pytest
import torch

from worker.rlhf.losses import (
    LossTerms,
    batch_loss,
    davidson_losses,
    plackett_luce_loss,
    preference_pairs,
    ranking_loss,
    rao_kupper_losses,
    tied_pairs,
)
from worker.rlhf.packing import Encoded
from worker.rlhf.raters import merge_raters
from worker.rlhf.types import Ranking

SCORES = torch.tensor([0.3, -1.2, 2.0, 0.1], dtype=torch.float64)
MODELS = [davidson_losses, rao_kupper_losses]


def test_plackett_luce_gives_all_orders_a_probability_that_sums_to_one() -> None:
    """The loss is the mean over the three choices, so three times it is -log of an order's probability."""
    orders = [plackett_luce_loss(SCORES, order) for order in permutations((1, 2, 3, 4))]
    assert sum(math.exp(-3 * float(loss)) for loss in orders) == pytest.approx(1)


def test_the_setting_chooses_plackett_luce() -> None:
    terms, scores, total = LossTerms(loss="plackett-luce"), SCORES[:3], 0.0
    for order in permutations((1, 2, 3)):
        item = Encoded([1], [[2], [3], [4]], preference_pairs(order), 1.0, ranks=order)
        total += math.exp(-2 * float(batch_loss([scores], [item], terms=terms)))  # The mean over two choices.
    assert total == pytest.approx(1)


def test_plackett_luce_of_two_is_bradley_terry() -> None:
    pair = SCORES[:2]
    assert float(plackett_luce_loss(pair, (2, 1))) == pytest.approx(float(ranking_loss(pair, torch.tensor([[1, 0]]))))


def test_plackett_luce_leaves_ties_and_unranked_alone() -> None:
    scores = SCORES.clone().requires_grad_()
    plackett_luce_loss(scores, (1, 1, None, 1)).backward()
    assert scores.grad is not None
    assert scores.grad.tolist() == [0, 0, 0, 0]
    swapped = plackett_luce_loss(SCORES[[1, 0, 2, 3]], (1, 1, 2, None))
    assert float(plackett_luce_loss(SCORES, (1, 1, 2, None))) == pytest.approx(float(swapped))


@pytest.mark.parametrize("losses", MODELS)
@pytest.mark.parametrize("difference", [-3.0, 0.0, 0.7])
def test_win_tie_and_loss_sum_to_one(losses: object, difference: float) -> None:
    d = torch.tensor([difference, -difference], dtype=torch.float64)
    (win, lose), (tie, _) = losses(d, tie_share=0.3)  # type: ignore[operator]
    assert math.exp(-win) + math.exp(-lose) + math.exp(-tie) == pytest.approx(1)


@pytest.mark.parametrize("losses", MODELS)
def test_equals_tie_as_often_as_the_data_do(losses: object) -> None:
    _, tie = losses(torch.zeros(1), tie_share=0.3)  # type: ignore[operator]
    assert math.exp(-float(tie)) == pytest.approx(0.3)


@pytest.mark.parametrize("losses", MODELS)
def test_a_tie_pulls_scores_together_alike_from_either_side(losses: object) -> None:
    scores = torch.tensor([1.5, 0.0], requires_grad=True)
    losses(scores[:1] - scores[1:], tie_share=0.3)[1].sum().backward()  # type: ignore[operator]
    assert scores.grad is not None
    assert float(scores.grad[0]) > 0
    assert float(scores.grad.sum()) == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("losses", MODELS)
def test_ties_stay_finite_at_huge_differences(losses: object) -> None:
    d = torch.tensor([1e4, -1e4], requires_grad=True)
    torch.cat(losses(d, tie_share=0.2)).sum().backward()  # type: ignore[operator]
    assert d.grad is not None
    assert d.grad.isfinite().all()


def losses_at(difference: float, terms: LossTerms) -> list[float]:
    """Of a rater who prefers the first, who prefers the second, and who calls them equal."""
    scores = torch.tensor([difference, 0.0], dtype=torch.float64)
    two = ([1], [[2], [3]])  # A prompt and two responses; the loss reads the scores alone.
    first, second = (Encoded(*two, [pair], 1.0) for pair in ((0, 1), (1, 0)))
    said = [first, second, Encoded(*two, [], 1.0, ties=[(0, 1)])]
    return [float(batch_loss([scores], [item], terms=terms)) for item in said]


@pytest.mark.parametrize(("name", "power"), [("davidson", 2), ("rao-kupper", 1)])
def test_the_settings_choose_the_model_of_ties(name: str, power: int) -> None:
    """What marks each: Davidson's P(tie)^2 / (P(win) P(loss)), and Rao and Kupper's P(tie) / (P(win) P(loss)), are constant."""
    terms = LossTerms(ties=name, tie_share=0.3)
    marks = []
    for difference in (0.0, 0.7, 2.5):
        first, second, equal = losses_at(difference, terms)
        assert math.exp(-first) + math.exp(-second) + math.exp(-equal) == pytest.approx(1)
        marks.append(power * equal - first - second)
    assert marks == pytest.approx([marks[0]] * 3)
    assert math.exp(-losses_at(0.0, terms)[2]) == pytest.approx(0.3)
    assert losses_at(1.0, LossTerms(tie_share=0.3))[2] == 0.0  # Ties say nothing unless they are to be learned from.


def test_ordered_and_tied_pairs_of_one_ranking_weigh_the_same() -> None:
    terms, scores = LossTerms(ties="davidson", tie_share=0.3), torch.tensor([1.0, 0.0], dtype=torch.float64)
    both = Encoded([1], [[2], [3]], [(0, 1)], 1.0, ties=[(0, 1)])
    first, _, equal = losses_at(1.0, terms)
    assert float(batch_loss([scores], [both], terms=terms)) == pytest.approx((first + equal) / 2)


@pytest.mark.parametrize("smoothing", [0.1, 0.2])
def test_a_smoothed_label_is_least_loss_where_mistakes_are_as_frequent_as_assumed(smoothing: float) -> None:
    scores = torch.tensor([math.log((1 - smoothing) / smoothing), 0.0], requires_grad=True)
    item = Encoded([1], [[2], [3]], [(0, 1)], 1.0)
    batch_loss([scores], [item], terms=LossTerms(label_smoothing=smoothing)).backward()
    assert scores.grad is not None
    assert scores.grad.abs().max() < 1e-6


def test_tied_pairs_and_preferences_part_the_pairs() -> None:
    ranks = (1, 2, 2, None, 1)
    assert tied_pairs(ranks) == [(0, 4), (1, 2)]
    assert len(tied_pairs(ranks)) + len(preference_pairs(ranks)) == 6


def test_a_margin_is_as_if_the_better_scored_lower() -> None:
    pair = torch.tensor([[0, 1]])
    shifted = ranking_loss(torch.tensor([0.5, 0.0]), pair)
    assert float(ranking_loss(torch.tensor([2.0, 0.0]), pair, margins=torch.tensor([1.5]))) == pytest.approx(
        float(shifted)
    )


def test_a_soft_label_is_least_loss_where_its_probability_is_claimed() -> None:
    pair, target = torch.tensor([[0, 1]]), torch.tensor([0.8])
    scores = torch.tensor([math.log(0.8 / 0.2), 0.0], requires_grad=True)
    ranking_loss(scores, pair, targets=target).backward()
    assert scores.grad is not None
    assert scores.grad.abs().max() < 1e-6


def test_margins_and_soft_labels_of_a_ranking_reach_its_loss() -> None:
    """Where the scores are a margin plus the odds of the label apart, nothing is left to learn."""
    scores = torch.tensor([1.5 + math.log(0.8 / 0.2), 0.0], requires_grad=True)
    item = Encoded([1], [[2], [3]], [(0, 1)], 1.0, margins=[1.5], targets=[0.8])
    batch_loss([scores], [item]).backward()
    assert scores.grad is not None
    assert scores.grad.abs().max() < 1e-6


def test_raters_who_split_become_a_share_whatever_their_screens_order() -> None:
    prompt = [{"role": "user", "content": "Why?"}]
    votes = [
        Ranking(prompt, ("a", "b"), (1, 2)),  # type: ignore[arg-type]
        Ranking(prompt, ("b", "a"), (2, 1), 2.0),  # type: ignore[arg-type]
        Ranking(prompt, ("a", "b"), (2, 1)),  # type: ignore[arg-type]
        Ranking(prompt, ("a", "b"), (1, 1)),  # type: ignore[arg-type]
        Ranking(prompt, ("a", "b"), (2, 1), 0.0),  # type: ignore[arg-type]
    ]
    (merged,) = merge_raters(votes)
    ((a, b, share),) = merged.preferences
    assert (a, b) == (0, 1)
    assert share == pytest.approx((1 + 2 + 0.5) / 5)
    assert merge_raters(votes[:1]) == votes[:1]
