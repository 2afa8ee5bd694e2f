"""The order of the data: a function of seed and step, each item once in each pass."""

from itertools import chain, pairwise

import pytest

from tests.worker.rlhf.worlds import PROMPTS
from worker.rlhf import optim, ppo


def passes(*, seed: int) -> list[list[int]]:
    """Two passes over 50 items in batches of 7."""
    steps = optim.num_batches(50, 7)
    batches = [optim.batch_of_step(range(50), step, batch_size=7, seed=seed) for step in range(2 * steps)]
    return [list(chain(*batches[:steps])), list(chain(*batches[steps:]))]


def test_each_pass_takes_each_item_once_in_an_order_of_its_own() -> None:
    first, second = passes(seed=3)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second


def test_the_seed_decides_the_order() -> None:
    assert passes(seed=3) == passes(seed=3)
    assert passes(seed=3) != passes(seed=4)


def test_each_pass_over_the_prompts_has_an_order_of_its_own() -> None:
    updates = [ppo.prompts_of_update(PROMPTS, update, batch_size=6, seed=1) for update in range(4)]
    assert len({tuple(prompt[0]["content"] for prompt in update) for update in updates}) == 4


def test_the_rate_rises_to_its_peak_and_falls_in_a_line_to_almost_nothing() -> None:
    rates = [optim.warmup_then_linear(step, 20, peak=0.9, warmup_ratio=0.1) for step in range(20)]
    assert rates[:3] == pytest.approx([0.45, 0.9, 0.9])
    assert [a - b for a, b in pairwise(rates[2:])] == pytest.approx([0.05] * 17)
    assert rates[-1] == pytest.approx(0.05)
