"""Arithmetic over real tokens only. `mask` is bool, True where a token counts, everywhere in this library."""

import torch
from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over `mask`; 0 when nothing is there. Divides by what was counted, not by batch * length."""
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)


def masked_var(values: Tensor, mask: Tensor) -> Tensor:
    """Population variance over `mask`."""
    return masked_mean((values - masked_mean(values, mask)) ** 2, mask)


def whiten(values: Tensor, mask: Tensor, *, shift_mean: bool = True) -> Tensor:
    """Scale to unit variance over `mask`, and to zero mean unless `shift_mean` is False. 0 outside the mask."""
    mean, variance = masked_mean(values, mask), masked_var(values, mask)
    whitened = (values - mean) * torch.rsqrt(variance + 1e-8)
    if not shift_mean:
        whitened = whitened + mean
    return torch.where(mask, whitened, 0.0)


def selected_logprobs(
    hidden: Tensor,
    weight_of: torch.nn.Module,
    ids: Tensor,
    *,
    temperature: float = 1.0,
    chunk: int = 1024,
    softcap: float | None = None,
    with_entropy: bool = True,
) -> tuple[Tensor, Tensor]:
    """Log-probability of each chosen token, and the entropy of its distribution, without a [B, T, V] tensor.

    Args:
        hidden: (n, width), the state before each token.
        weight_of: the output embedding, hidden to logits.
        ids: (n,) int64, the tokens that were chosen.
        temperature: divides the logits, as it did in sampling.
        chunk: rows whose logits exist at one time.
        softcap: Gemma's bound on logits, where the model has one.
        with_entropy: False leaves it out, which saves a pass over the logits; the second result is then empty.

    Returns:
        (n,) log-probabilities with gradient, (n,) entropies without.
    """
    logprobs, entropies = [], []
    for part, chosen in zip(hidden.split(chunk), ids.split(chunk), strict=True):
        logits = capped(weight_of(part).float(), softcap) / temperature
        log_normaliser = logits.logsumexp(dim=-1)
        logprobs.append(logits.gather(-1, chosen[:, None]).squeeze(-1) - log_normaliser)
        if with_entropy:
            with torch.no_grad():
                probabilities = (logits - log_normaliser[:, None]).exp()
                entropies.append(log_normaliser - (probabilities * logits).sum(dim=-1))
    empty = hidden.new_zeros(0)
    return torch.cat(logprobs or [empty]), torch.cat(entropies or [empty])


def capped(logits: Tensor, softcap: float | None) -> Tensor:
    """`softcap * tanh(logits / softcap)`, as Gemma 2 and later bound their logits."""
    return logits if not softcap else softcap * torch.tanh(logits / softcap)


def gae(rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, gae_lambda: float) -> Tensor:
    """Generalized advantage estimation over response tokens.

    Args:
        rewards, values: (batch, response) float; what lies under `mask == False` is ignored.
        mask: (batch, response) bool, True on real response tokens, which begin at column 0.

    Returns:
        advantages, (batch, response), zero where `mask` is False, not whitened.

    Source: Schulman et al. 2016, eq. 16 (arXiv:1506.02438). The value after the last token is 0: a response
    always ends the episode, also when it was cut.
    """
    advantages, last = torch.zeros_like(rewards), torch.zeros_like(rewards[:, 0])  # (B, T), (B,)
    next_values = torch.zeros_like(rewards[:, 0])
    for t in range(rewards.shape[1] - 1, -1, -1):
        delta = rewards[:, t] + gamma * next_values - values[:, t]
        last = torch.where(mask[:, t], delta + gamma * gae_lambda * last, 0.0)
        next_values = torch.where(mask[:, t], values[:, t], 0.0)
        advantages[:, t] = last
    return advantages


def kl_k1(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """The estimate used in the reward, log(pi / ref) per token: unbiased, may be negative."""
    return logprobs - ref_logprobs


def kl_k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """exp(d) - 1 - d with d = log(ref / pi): unbiased on samples of pi, never negative (Schulman 2020)."""
    difference = ref_logprobs - logprobs
    return difference.exp() - 1 - difference


def ppo_policy_loss(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, *, clip_range: float) -> Tensor:
    """Per token, max(-A r, -A clip(r, 1 - c, 1 + c)) with r = exp(logprob - old): (n,), to be averaged by tokens.

    Source: Schulman et al. 2017, eq. 7 (arXiv:1707.06347).
    """
    ratio = (logprobs - old_logprobs).exp()
    return torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - clip_range, 1 + clip_range))


def ppo_value_loss(values: Tensor, old_values: Tensor, returns: Tensor, *, clip_range: float) -> Tensor:
    """Per token, half the larger of the two squared errors, of the value and of the value kept near the old one."""
    near = old_values + (values - old_values).clamp(-clip_range, clip_range)
    return 0.5 * torch.maximum((values - returns) ** 2, (near - returns) ** 2)
