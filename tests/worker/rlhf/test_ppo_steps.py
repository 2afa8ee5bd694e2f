"""What an update learns from its episodes: losses of a minibatch by hand, the order of steps, and what each setting weighs."""

import math
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.worker.rlhf.test_ppo import SMALL, changed
from tests.worker.rlhf.test_ppo_episodes import logprobs_of
from tests.worker.rlhf.worlds import PROMPTS, make_policy, make_reward_model
from worker.rlhf import ppo
from worker.rlhf.actors import Pair, Trainer
from worker.rlhf.episodes import Rollout, collect

UNLIMITED = 1e9


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    policy = make_policy(tmp_path_factory.mktemp("policy"))
    return policy, make_reward_model(policy, tmp_path_factory.mktemp("reward"))


def build(models: tuple[Path, Path], **changes: Any) -> Trainer:
    return Trainer(*models, replace(SMALL, **{"max_grad_norm": UNLIMITED, **changes}), reference_dir=None)


@pytest.fixture
def trainer(models: tuple[Path, Path]) -> Trainer:
    return build(models)


def gradients(model: torch.nn.Module) -> list[Tensor]:
    """Of the last minibatch: a step leaves them there."""
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def norm(found: list[Tensor]) -> float:
    return float(torch.stack([g.norm() for g in found]).norm())


def uneven(rollout: Rollout) -> list[int]:
    """Some of the episodes, of different lengths, with fewer tokens than the rollout has and than they have places."""
    rows = [0, 3, 4, 7, 8]
    assert 5 * rollout.mask.shape[1] > int(rollout.mask[rows].sum())
    return rows


@pytest.mark.parametrize(
    ("worth", "loss", "approx_kl"),
    [(1.0, -1.2, math.e - 2), (-1.0, 0.8, 1 / math.e)],
    ids=["e times as likely", "an e-th as likely"],
)
def test_a_policy_that_went_too_far_is_clipped_by_hand(
    trainer: Trainer, worth: float, loss: float, approx_kl: float
) -> None:
    """Good tokens became e times as likely, or bad ones an e-th: the ratio counts as 1.2 or 0.8, without a gradient.

    The KL of one token is r - 1 - log r: e - 1 - 1, and 1/e - 1 + 1.
    """
    rollout = collect(trainer, PROMPTS * 2)
    rollout.logprobs = rollout.logprobs - worth
    rollout.advantages = torch.full_like(rollout.advantages, worth)
    stats = ppo.minibatch(trainer, rollout, uneven(rollout))
    assert stats["policy_loss"] == pytest.approx(loss, abs=1e-5)
    assert stats["clip_fraction"] == pytest.approx(1.0)
    assert stats["ratio_error"] == pytest.approx(abs(math.exp(worth) - 1), abs=1e-3)
    assert stats["approx_kl"] == pytest.approx(approx_kl, abs=1e-3)
    assert norm(gradients(trainer.policy)) == 0.0


def test_a_critic_that_went_too_far_is_clipped_by_hand(trainer: Trainer) -> None:
    """Each value rose by 1 and is right now; kept within 0.2 of the old one it would be 0.8 off: 0.8 squared, halved."""
    rollout = collect(trainer, PROMPTS * 2)
    rollout.returns = rollout.values.clone()
    rollout.values = rollout.values - 1.0
    stats = ppo.minibatch(trainer, rollout, uneven(rollout))
    assert stats["value_loss"] == pytest.approx(0.32, abs=1e-4)
    assert norm(gradients(trainer.critic)) == 0.0


def test_at_ratio_one_the_gradient_is_the_plain_policy_gradient(trainer: Trainer) -> None:
    rollout = collect(trainer, PROMPTS * 2)
    rows = uneven(rollout)
    pairs = [rollout.pairs[i] for i in rows]
    plain, count = torch.zeros(()), 0
    for row, (prompt, response) in zip(rows, pairs, strict=True):
        logits = trainer.policy(input_ids=torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1] / 0.7
        chosen = torch.distributions.Categorical(logits=logits).log_prob(torch.tensor(response))
        plain = plain - (rollout.advantages[row, : len(response)] * chosen).sum()
        count += len(response)
    (plain / count).backward()
    expected = gradients(trainer.policy)
    ppo.minibatch(trainer, rollout, rows)
    for found, wanted in zip(gradients(trainer.policy), expected, strict=True):
        assert torch.allclose(found, wanted, atol=1e-5)


def test_a_weight_of_zero_takes_a_token_out_of_the_policys_lesson(trainer: Trainer) -> None:
    rollout = collect(trainer, PROMPTS * 2)
    rollout.weights = torch.zeros_like(rollout.weights)
    ppo.minibatch(trainer, rollout, uneven(rollout))
    assert norm(gradients(trainer.policy)) == 0.0
    assert norm(gradients(trainer.critic)) > 0.0  # Values are learned as before.


def test_gradients_of_both_models_are_clipped(trainer: Trainer) -> None:
    rollout = collect(changed(trainer, max_grad_norm=0.001), PROMPTS * 2)
    ppo.minibatch(trainer, rollout, uneven(rollout))
    for model in (trainer.policy, trainer.critic):
        assert norm(gradients(model)) == pytest.approx(0.001, rel=0.01)


def test_twice_the_coefficient_pulls_a_shared_trunk_twice_as_hard_to_its_values(models: tuple[Path, Path]) -> None:
    found = []
    for coefficient in (0.1, 0.2):
        trainer = build(models, critic="shared", value_coef=coefficient)
        ppo.minibatch(trainer, collect(trainer, PROMPTS), [0, 1, 2])
        found.append(gradients(trainer.critic))
    assert norm(found[0]) > 0.0
    for once, twice in zip(*found, strict=True):
        assert torch.allclose(2 * once, twice, rtol=1e-4, atol=1e-6)


def test_twice_the_coefficient_pulls_twice_as_hard_to_demonstrations(models: tuple[Path, Path]) -> None:
    found = []
    for coefficient in (0.5, 1.0):
        trainer = build(models, sft_coef=coefficient)
        rollout = collect(trainer, PROMPTS)
        rollout.advantages = torch.zeros_like(rollout.advantages)  # Nothing else pulls.
        ppo.minibatch(trainer, rollout, [0, 1, 2], lessons=[([20, 21], [30, 31, 1]), ([20], [33, 1])])
        found.append(gradients(trainer.policy))
    assert norm(found[0]) > 0.0
    for once, twice in zip(*found, strict=True):
        assert torch.allclose(2 * once, twice, rtol=1e-4, atol=1e-6)


def test_the_loss_on_demonstrations_is_a_mean_over_their_tokens(models: tuple[Path, Path]) -> None:
    trainer = build(models, sft_coef=0.5)
    lessons = [([20, 21], [30, 31, 1]), ([20], [33, 1])]
    expected = [-value for row in logprobs_of(trainer.policy, lessons) for value in row]
    stats = ppo.minibatch(trainer, collect(trainer, PROMPTS), [0, 1, 2], lessons=lessons)
    assert stats["sft_loss"] == pytest.approx(sum(expected) / 5, abs=1e-4)


class Watched:
    """Stands for `ppo.minibatch`: notes what it is given, and tells of KLs as written down."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, kls: tuple[float, ...] = ()) -> None:
        self.rows: list[list[int]] = []
        self.lessons: list[Pair] = []
        self.kls = list(kls)
        monkeypatch.setattr(ppo, "minibatch", self)

    def __call__(self, _: Trainer, __: Rollout, rows: list[int], *, lessons: Any) -> dict[str, float]:
        self.rows.append(rows)
        self.lessons.extend(lessons)
        return {"approx_kl": self.kls.pop(0) if self.kls else 0.0, "ratio_error": 0.0}


def test_every_epoch_takes_each_episode_once_in_an_order_of_its_own(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout, watched = collect(trainer, PROMPTS * 2), Watched(monkeypatch)
    ppo.optimise(changed(trainer, epochs=2, minibatch_size=5), rollout)
    assert [len(rows) for rows in watched.rows] == [5, 5, 2] * 2
    epochs = [list(chain(*watched.rows[:3])), list(chain(*watched.rows[3:]))]
    assert [sorted(epoch) for epoch in epochs] == [list(range(12))] * 2
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize(
    ("kls", "steps"),
    [((0.149,) * 6, 6), ((0.151, 0.0, 0.0), 3), ((0.0, 0.0, 0.151), 3), ((0.0, 0.0, 0.0, 0.151), 6)],
)
def test_an_epoch_in_which_any_minibatch_went_too_far_is_the_last(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch, kls: tuple[float, ...], steps: int
) -> None:
    rollout = collect(trainer, PROMPTS * 2)
    Watched(monkeypatch, kls=kls)
    stats = ppo.optimise(changed(trainer, epochs=2, minibatch_size=5, stop_kl=0.1), rollout)
    assert stats["optimizer_steps"] == steps


def test_demonstrations_go_on_from_update_to_update(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    rollout, watched = collect(trainer, PROMPTS * 2), Watched(monkeypatch)
    changed(trainer, sft_coef=1.0, epochs=1, minibatch_size=4)
    lessons: list[Pair] = [([20, number], [30, 1]) for number in range(24)]
    for update in range(2):  # Three steps each, four demonstrations a step: one pass.
        ppo.optimise(trainer, rollout, update=update, lessons=lessons)
    assert sorted(watched.lessons) == lessons


def test_the_next_update_pays_the_adapted_price(trainer: Trainer) -> None:
    """The KL of the first update is 0, 20 % of the error counts at most, and 12 of 2,000 episodes have passed."""
    changed(trainer, target_kl=6.0, kl_horizon=2000)
    ppo.one_update(trainer, PROMPTS * 2, update=0)
    assert trainer.kl_coef == pytest.approx(0.05 * (1 - 0.2 * 12 / 2000))


@pytest.mark.parametrize(("share", "explained"), [(1.0, 1.0), (0.0, 0.0), (0.5, 0.75), (-1.0, -3.0)])
def test_explained_variance_of_values_that_guess_a_share_of_the_returns(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch, share: float, explained: float
) -> None:
    """What is left over is 1 - share of the returns, and its variance the square of that; a constant does not matter."""
    rollout = collect(trainer, PROMPTS * 2)
    rollout.values = share * rollout.returns + 3.0
    Watched(monkeypatch)
    assert ppo.optimise(trainer, rollout)["explained_variance"] == pytest.approx(explained, abs=1e-4)


def test_the_price_of_the_kl_is_steered_by_the_kl_of_the_reward(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed(trainer, target_kl=6.0, kl_horizon=2000)
    rollout = collect(trainer, PROMPTS * 2)
    rollout.ref_logprobs = rollout.logprobs - 6.6 / rollout.mask.sum(1, keepdim=True)  # 6.6 nats for each response.
    monkeypatch.setattr(ppo, "collect", lambda *_, **__: rollout)
    ppo.one_update(trainer, PROMPTS * 2, update=0)
    assert trainer.kl_coef == pytest.approx(0.05 * (1 + 0.1 * 12 / 2000))
