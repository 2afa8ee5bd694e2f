"""Arithmetic on tensors against loops, hand numbers and torch's own functions."""

import math

import pytest
import torch
from torch import Tensor, nn

from worker.rlhf import masked


def ragged(lengths: list[int], *, width: int) -> Tensor:
    """(B, T) mask with the given numbers of real tokens."""
    return torch.arange(width)[None, :] < torch.tensor(lengths)[:, None]


def test_masked_mean_divides_by_what_it_counted() -> None:
    values, mask = torch.tensor([[1.0, 2.0, 99.0], [6.0, 99.0, 99.0]]), ragged([2, 1], width=3)
    assert masked.masked_mean(values, mask).item() == 3.0


def test_masked_mean_ignores_nan_outside_the_mask() -> None:
    values = torch.tensor([[1.0, float("nan")]])
    assert masked.masked_mean(values, ragged([1], width=2)).item() == 1.0


def test_masked_mean_of_nothing_is_zero() -> None:
    assert masked.masked_mean(torch.ones(2, 2), torch.zeros(2, 2, dtype=torch.bool)).item() == 0.0


def test_whitened_values_have_mean_zero_and_deviation_one() -> None:
    values = torch.randn(4, 9, generator=torch.Generator().manual_seed(0)) * 7 + 3
    mask = ragged([9, 4, 1, 6], width=9)
    real = masked.whiten(values, mask)[mask]
    assert abs(real.mean().item()) < 1e-6
    assert real.std(correction=0).item() == pytest.approx(1.0, abs=1e-5)


def test_whitening_may_keep_the_mean() -> None:
    values, mask = torch.tensor([[10.0, 14.0, -5.0]]), ragged([2], width=3)
    whitened = masked.whiten(values, mask, shift_mean=False)
    assert whitened.tolist()[0] == pytest.approx([11.0, 13.0, 0.0])


def test_whitening_does_not_see_what_is_outside_the_mask() -> None:
    values, mask = torch.randn(3, 5, generator=torch.Generator().manual_seed(1)), ragged([5, 2, 3], width=5)
    spoiled = values.masked_fill(~mask, 1e6)
    assert torch.equal(masked.whiten(values, mask), masked.whiten(spoiled, mask))


def test_whitening_equal_values_gives_zeros() -> None:
    assert masked.whiten(torch.full((1, 3), 4.0), ragged([3], width=3)).tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("chunk", [1, 3, 1024])
def test_selected_logprobs_equal_the_full_log_softmax_in_any_chunks(temperature: float, chunk: int) -> None:
    generator = torch.Generator().manual_seed(2)
    hidden, ids = torch.randn(7, 5, generator=generator), torch.tensor([0, 3, 10, 2, 2, 9, 1])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = nn.Linear(5, 11, bias=False)
    logprobs, entropy = masked.selected_logprobs(hidden, head, ids, temperature=temperature, chunk=chunk)
    distribution = torch.distributions.Categorical(logits=head(hidden) / temperature)
    assert torch.allclose(logprobs, distribution.log_prob(ids), atol=1e-6)
    assert torch.allclose(entropy, distribution.entropy(), atol=1e-5)
    assert logprobs.requires_grad
    assert not entropy.requires_grad


def test_selected_logprobs_of_no_tokens_is_empty() -> None:
    head = nn.Linear(5, 11, bias=False)
    logprobs, entropy = masked.selected_logprobs(torch.zeros(0, 5), head, torch.zeros(0, dtype=torch.long))
    assert logprobs.shape == entropy.shape == (0,)


def test_a_softcap_bounds_the_logits() -> None:
    logits = torch.tensor([1e6, -1e6, 0.0])
    assert masked.capped(logits, 30.0).tolist() == [30.0, -30.0, 0.0]
    assert torch.equal(masked.capped(logits, None), logits)


def slow_gae(rewards: Tensor, values: Tensor, length: int, *, gamma: float, gae_lambda: float) -> list[float]:
    """The definition: for every t, the discounted sum over all later one-step errors."""
    advantages = []
    for t in range(length):
        total = 0.0
        for later in range(t, length):
            following = float(values[later + 1]) if later + 1 < length else 0.0
            error = float(rewards[later]) + gamma * following - float(values[later])
            total += (gamma * gae_lambda) ** (later - t) * error
        advantages.append(total)
    return advantages


@pytest.mark.parametrize(("gamma", "gae_lambda"), [(1.0, 0.95), (0.9, 0.5), (1.0, 0.0)])
def test_gae_equals_the_double_loop_of_its_definition(gamma: float, gae_lambda: float) -> None:
    generator = torch.Generator().manual_seed(3)
    rewards, values = torch.randn(4, 6, generator=generator), torch.randn(4, 6, generator=generator)
    lengths = [6, 3, 1, 5]
    found = masked.gae(rewards, values, ragged(lengths, width=6), gamma=gamma, gae_lambda=gae_lambda)
    for row, length in enumerate(lengths):
        expected = slow_gae(rewards[row], values[row], length, gamma=gamma, gae_lambda=gae_lambda)
        assert found[row, :length].tolist() == pytest.approx(expected, abs=1e-5)
        assert found[row, length:].abs().sum().item() == 0.0


def test_gae_without_discount_is_the_return_minus_the_value() -> None:
    rewards, values = torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([[0.5, 0.25, 1.0]])
    found = masked.gae(rewards, values, ragged([3], width=3), gamma=1.0, gae_lambda=1.0)
    assert found.tolist() == [[6.5, 5.75, 3.0]]


def test_gae_of_a_single_token_is_reward_minus_value() -> None:
    found = masked.gae(torch.tensor([[3.0]]), torch.tensor([[1.0]]), ragged([1], width=1), gamma=0.9, gae_lambda=0.9)
    assert found.tolist() == [[2.0]]


def test_gae_ignores_what_lies_after_the_end() -> None:
    rewards, values, mask = torch.ones(2, 4), torch.ones(2, 4), ragged([2, 4], width=4)
    clean = masked.gae(rewards, values, mask, gamma=1.0, gae_lambda=0.95)
    rewards[~mask], values[~mask] = float("nan"), 1e9
    assert torch.equal(masked.gae(rewards, values, mask, gamma=1.0, gae_lambda=0.95), clean)


def test_k3_is_never_negative_and_agrees_with_k1_on_samples() -> None:
    generator = torch.Generator().manual_seed(4)
    policy = torch.randn(50, generator=generator).log_softmax(0)
    reference = torch.randn(50, generator=generator).log_softmax(0)
    drawn = torch.multinomial(policy.exp(), 200_000, replacement=True, generator=generator)
    k1, k3 = masked.kl_k1(policy[drawn], reference[drawn]), masked.kl_k3(policy[drawn], reference[drawn])
    exact = float((policy.exp() * (policy - reference)).sum())
    assert k3.min() >= 0
    assert k1.min() < 0
    assert k1.mean().item() == pytest.approx(exact, rel=0.03)
    assert k3.mean().item() == pytest.approx(exact, rel=0.03)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss"),
    [(1.0, 2.0, -2.0), (1.5, 2.0, -2.4), (0.5, 2.0, -1.0), (1.5, -2.0, 3.0), (0.5, -2.0, 1.6)],
)
def test_policy_loss_by_hand(ratio: float, advantage: float, loss: float) -> None:
    found = masked.ppo_policy_loss(
        torch.tensor([math.log(ratio)]), torch.zeros(1), torch.tensor([advantage]), clip_range=0.2
    )
    assert found.item() == pytest.approx(loss)


def test_policy_gradient_at_ratio_one_is_the_plain_one() -> None:
    logprobs, advantages = torch.tensor([-1.0, -2.0], requires_grad=True), torch.tensor([3.0, -4.0])
    masked.ppo_policy_loss(logprobs, logprobs.detach(), advantages, clip_range=0.2).sum().backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == [-3.0, 4.0]


@pytest.mark.parametrize(
    ("value", "old", "wanted", "loss"),
    [(1.0, 1.0, 3.0, 2.0), (2.0, 1.0, 3.0, 0.5 * 1.8**2), (2.0, 1.0, 0.0, 2.0)],
)
def test_value_loss_by_hand(value: float, old: float, wanted: float, loss: float) -> None:
    tensors = (torch.tensor([number]) for number in (value, old, wanted))
    assert masked.ppo_value_loss(*tensors, clip_range=0.2).item() == pytest.approx(loss)
