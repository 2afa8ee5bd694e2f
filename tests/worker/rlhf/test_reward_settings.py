"""What the reward model's settings do while it trains, shown by symmetries and by numbers worked out by hand."""

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.worker.rlhf.conftest import ask
from tests.worker.rlhf.test_reward_model import ranking, rankings, run, weights
from worker.rlhf.ensemble import bootstrap_weights
from worker.rlhf.modeling import RewardModel, load_reward_model, score
from worker.rlhf.reward_model import normalise
from worker.rlhf.tokens import load_tokenizer
from worker.rlhf.types import Ranking


def parameters(folder: Path) -> list[torch.Tensor]:
    return list(load_reward_model(folder, tokenizer=load_tokenizer(folder)).parameters())


def alike(first: Path, second: Path) -> bool:
    pairs = zip(parameters(first), parameters(second), strict=True)
    return all(torch.allclose(a, b, atol=1e-5) for a, b in pairs)


def reversed_ranks(data: Sequence[Ranking]) -> list[Ranking]:
    """As a rater who prefers the opposite everywhere would have ranked."""
    return [ranking(*(4 - rank for rank in item.ranks if rank), number=n) for n, item in enumerate(data)]


@pytest.mark.parametrize(("ties", "first_loss"), [("ignore", 1.0), ("davidson", 1.5), ("rao-kupper", 1.5)])
def test_equal_scores_are_expected_to_tie_as_often_as_in_the_data(
    tiny_base: Path, tmp_path: Path, ties: str, first_loss: float
) -> None:
    """Of two comparisons one is tied, so P(tie) = 1/2 and P(win) = 1/4: the loss is (log 2 + log 4) / 2 at first."""
    data = [Ranking(ask(f"Why {n}?"), ("rain", "rain"), ranks) for n, ranks in enumerate([(1, 1), (1, 2)])]
    first, *_ = run(tiny_base, data, tmp_path / "out", ties=ties)
    assert first["loss"] == pytest.approx(first_loss * math.log(2), abs=1e-5)


@pytest.mark.parametrize(("strength", "asked"), [(0.0, 0.0), (1.0, 0.5), (3.0, 1.5)])
def test_a_margin_is_asked_for_by_strength(tiny_base: Path, tmp_path: Path, strength: float, asked: float) -> None:
    """Equal scores fall short of it by the whole margin: the loss is log(1 + exp(margin))."""
    data = [Ranking(ask("Why?"), ("rain", "rain"), (1, 2), strength=strength)]
    first, *_ = run(tiny_base, data, tmp_path / "out", margin=0.5)
    assert first["loss"] == pytest.approx(math.log(1 + math.exp(asked)), abs=1e-5)


def test_smoothing_by_half_learns_the_same_from_opposite_rankings(tiny_base: Path, tmp_path: Path) -> None:
    data = rankings(4)
    for smoothing in (0.0, 0.5):
        for name, rows in (("as said", data), ("opposite", reversed_ranks(data))):
            run(tiny_base, rows, tmp_path / f"{smoothing} {name}", label_smoothing=smoothing)
    assert alike(tmp_path / "0.5 as said", tmp_path / "0.5 opposite")
    assert not alike(tmp_path / "0.0 as said", tmp_path / "0.0 opposite")


def test_only_the_proportion_of_weights_matters(tiny_base: Path, tmp_path: Path) -> None:
    told = []
    for factor in (1.0, 4.0):
        data = [ranking(1, 2, 3, number=1, weight=factor), ranking(2, 1, number=2, weight=3 * factor)]
        told.append(run(tiny_base, data, tmp_path / str(factor))[0])
    assert told[0] == told[1]  # The loss and the norm of the gradient too.
    assert weights(tmp_path / "1.0") == weights(tmp_path / "4.0")


def test_dropout_in_a_models_config_changes_nothing(tiny_base: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_base, tmp_path / "base")
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    (tmp_path / "base" / "config.json").write_text(json.dumps({**config, "attention_dropout": 0.5}))
    for name, base in (("with", tmp_path / "base"), ("without", tiny_base)):
        run(base, rankings(4), tmp_path / name)
    assert weights(tmp_path / "with") == weights(tmp_path / "without")


def test_the_seed_draws_the_head(tiny_base: Path, tmp_path: Path) -> None:
    for seed in (0, 1):  # One ranking has one order only.
        run(tiny_base, [ranking(1, 2)], tmp_path / str(seed), seed=seed, learning_rate=1e-12)
    first, second = (parameters(tmp_path / str(seed))[-1].detach() for seed in (0, 1))
    assert first.shape == (1, 32)
    assert abs(float(torch.corrcoef(torch.cat([first, second]))[0, 1])) < 0.7


def test_a_scale_from_an_earlier_training_does_not_count_twice(reward_model: RewardModel, tokenizer: Any) -> None:
    samples = [(ask(f"Count to {n}"), f"{'one ' * n}stop") for n in range(1, 9)]
    reward_model.gain, reward_model.bias = 3.0, 0.5
    normalise(reward_model, tokenizer, samples, max_length=64)
    scores = torch.tensor(score(reward_model, tokenizer, *zip(*samples, strict=True)))
    assert float(scores.mean()) == pytest.approx(0, abs=1e-4)
    assert float(scores.std()) == pytest.approx(1, abs=1e-4)


def test_each_head_of_an_ensemble_weighs_a_ranking_in_its_own_way(tiny_base: Path, tmp_path: Path) -> None:
    """Equal scores lose log 2 in every head, each times its weight for this ranking; the weights are 1 on average."""
    data = [Ranking(ask("Why?"), ("rain", "rain"), (1, 2))]
    first, *_ = run(tiny_base, data, tmp_path / "out", num_heads=3)
    own = bootstrap_weights(0, 3, seed=0)
    assert len(set(own.tolist())) == 3
    assert first["loss"] == pytest.approx(math.log(2) * float(own.mean()), abs=1e-5)
    assert float(torch.stack([bootstrap_weights(n, 3, seed=0) for n in range(3000)]).mean()) == pytest.approx(
        1, abs=0.05
    )
