"""Several heads over one trunk: their mean is the score, their spread how unsure the reward model is.

Each head starts elsewhere and sees each ranking with a weight of its own (the Bayesian bootstrap, Rubin 1981), so that heads part
where the rankings leave room. After training their mean becomes the head that all others see.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from worker.rlhf.modeling import RewardModel, token_batches
from worker.rlhf.types import Prompt

FILE = "attune_heads.safetensors"


class Heads(nn.Module):
    """(num_heads, width) weights on a reward model's trunk, started as its own head is, each anew."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, states: Tensor) -> Tensor:
        """Raw scores in float32, (..., num_heads) of (..., width)."""
        return nn.functional.linear(states.float(), self.weight)


def new_heads(model: RewardModel, num_heads: int, *, seed: int) -> Heads:
    """Fresh heads N(0, 1 / sqrt(width + 1)).

    Raises:
        ValueError: an encoder, whose head is not on one token.
    """
    if model.is_encoder:
        raise ValueError("An ensemble of heads needs a causal language model as trunk, and this is an encoder.")
    width = model.head.in_features
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(num_heads, width, generator=generator) / (width + 1) ** 0.5
    return Heads(weight.to(model.head.weight.device))


def bootstrap_weights(index: int, num_heads: int, *, seed: int) -> Tensor:
    """(num_heads,) weights of one ranking, exponential with mean 1; the same each time the ranking comes up."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + index)
    return -torch.rand(num_heads, generator=generator).clamp(min=1e-9).log()


@torch.no_grad()
def become_the_mean(model: RewardModel, heads: Heads) -> None:
    """Make the mean of the heads the model's own."""
    model.head.weight.copy_(heads.weight.mean(dim=0, keepdim=True))


def save_heads(model: RewardModel, heads: Heads, out: Path) -> None:
    """Beside the model, on the same scale: the mean over heads, plus the model's bias, is its score."""
    save_file({"weight": heads.weight.detach().cpu() * model.gain}, out / FILE)


def load_heads(source: str | Path) -> Heads | None:
    """The heads of a folder, where it has any."""
    path = Path(source) / FILE
    return Heads(load_file(path)["weight"]) if path.is_file() else None


@torch.no_grad()
def head_scores(
    model: RewardModel,
    heads: Heads,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    responses: Sequence[str],
    *,
    max_length: int = 1024,
) -> Tensor:
    """(responses, num_heads) scores; the deviation over heads of a score, or of a difference, is the uncertainty."""
    place = model.head.weight.device
    scores = torch.empty(len(prompts), len(heads.weight))
    for rows, batch in token_batches(tokenizer, prompts, responses, max_length=max_length):
        ids, mask = batch.ids.to(place), batch.attention_mask.to(place)
        states = model.last_states(ids, mask)
        scores[rows] = (heads.to(place)(states) * model.gain + model.bias).cpu()
    return scores
