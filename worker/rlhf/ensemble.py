"""Several heads over one trunk: their mean is the score, their spread how unsure the reward model is.

Each head starts elsewhere and sees each ranking with a weight of its own (the Bayesian bootstrap, Rubin 1981), so that heads part
where the rankings leave room. After training their mean becomes the head that all others see, and on held-out rankings they are
moved apart, or together, until the chances they give agree best with what raters said (`spread_report`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from worker.rlhf.calibration import best_spread
from worker.rlhf.losses import preference_pairs
from worker.rlhf.modeling import RewardModel, read_ends
from worker.rlhf.types import Prompt, Ranking

FILE = "attune_heads.safetensors"


class Heads(nn.Module):
    """(num_heads, width) weights on a reward model's trunk, started as its own head is, each anew."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, states: Tensor) -> Tensor:
        """Raw scores in float32, (..., num_heads) of (..., width)."""
        return nn.functional.linear(states.float(), self.weight)


def new_heads(model: RewardModel, num_heads: int, *, seed: int, before: Path | None = None) -> Heads:
    """Fresh heads N(0, 1 / sqrt(width + 1)); or those of the folder `before`, which is trained further, where it has as many."""
    known = load_heads(before) if before is not None else None
    if known is not None and len(known.weight) == num_heads:
        return known.to(model.head.weight.device)
    width = model.head.in_features
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(num_heads, width, generator=generator) / (width + 1) ** 0.5
    return Heads(weight.to(model.head.weight.device))


def bootstrap_weights(index: int, num_heads: int, *, seed: int) -> Tensor:
    """(num_heads,) weights of one ranking, exponential with mean 1; the same each time the ranking comes up."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + index)
    return -torch.rand(num_heads, generator=generator).clamp(min=1e-9).log()


@torch.no_grad()
def widen(heads: Heads, scale: float) -> None:
    """Move the heads from their mean, or towards it, so that their deviation is `scale` times what it was."""
    mean = heads.weight.mean(dim=0)
    heads.weight.copy_(mean + scale * (heads.weight - mean))


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
    offset = model.bias + (float(model.head.bias) * model.gain if model.head.bias is not None else 0.0)
    return read_ends(model, heads, tokenizer, prompts, responses, max_length=max_length) * model.gain + offset


def spread_report(heldout: Sequence[Ranking], scores: Tensor) -> dict[str, float]:
    """Whether the spread of the heads tells where they are wrong: accuracy where it is least and where it is most.

    Args:
        scores: (responses, heads) of all responses of the held-out rankings, in order.

    Returns:
        `spread_scale`, by which the heads should be moved from their mean (`calibration.best_spread`), and accuracy on the quarter of
        pairs whose differences spread least, and on the quarter whose spread most; {} without pairs.
    """
    lines, start = [], 0
    for ranking in heldout:
        values = scores[start : start + len(ranking.responses)]
        lines += [values[a] - values[b] for a, b in preference_pairs(ranking.ranks)]
        start += len(ranking.responses)
    if not lines:
        return {}
    differences = torch.stack(lines).double()
    right = (differences.mean(dim=1) > 0).double()[differences.std(dim=1).argsort()]
    quarter = max(len(right) // 4, 1)
    return {
        "spread_scale": best_spread(differences.numpy()),
        "accuracy_least_spread": float(right[:quarter].mean()),
        "accuracy_most_spread": float(right[-quarter:].mean()),
    }
