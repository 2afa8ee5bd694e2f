"""A head for each attribute that raters ranked beside their overall order: warmth, relevance, harmlessness, ...

They share the reward model's trunk and are learned at the same time, each by Bradley-Terry over the pairs that its own ranks order, so
that one forward tells all of them. They lie beside the model, normalised as its score is, and change nothing of that score.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from worker.rlhf.losses import preference_pairs, ranking_loss
from worker.rlhf.modeling import RewardModel, read_ends
from worker.rlhf.packing import Encoded
from worker.rlhf.types import Prompt, Ranking

FILE = "attune_attributes.safetensors"


class AttributeHeads(nn.Module):
    """(attributes, width) weights, one row for each name; the bias is set when they are normalised, not learned."""

    def __init__(self, names: Sequence[str], weight: Tensor) -> None:
        super().__init__()
        self.names = tuple(names)
        self.weight = nn.Parameter(weight)
        self.register_buffer("bias", torch.zeros(len(weight), device=weight.device))

    def forward(self, states: Tensor) -> Tensor:
        """Scores in float32, (..., attributes) of (..., width)."""
        return nn.functional.linear(states.float(), self.weight, self.get_buffer("bias"))


def new_attribute_heads(
    model: RewardModel, items: Sequence[Encoded], *, seed: int, before: Path | None = None
) -> AttributeHeads | None:
    """A fresh head N(0, 1 / sqrt(width + 1)) for each attribute that some ranking orders; None where none does.

    Heads that the folder `before`, which is trained further, has already are taken from there.
    """
    names = sorted({name for item in items for name in item.attributes})
    if not names:
        return None
    width = model.head.in_features
    weight = torch.randn(len(names), width, generator=torch.Generator().manual_seed(seed + 1)) / (width + 1) ** 0.5
    known = load_attribute_heads(before) if before is not None else None
    for place, name in enumerate(names):
        if known is not None and name in known.names:
            weight[place] = known.weight.detach()[known.names.index(name)]
    return AttributeHeads(names, weight.to(model.head.weight.device))


def attribute_pairs(ranking: Ranking) -> dict[str, list[tuple[int, int]]]:
    """(better, worse) indices by attribute; those that order nothing are left out."""
    found = {name: preference_pairs(ranks) for name, ranks in ranking.attributes.items()}
    return {name: pairs for name, pairs in found.items() if pairs}


def attribute_loss(
    heads: AttributeHeads, columns: Sequence[Tensor], items: Sequence[Encoded], *, label_smoothing: float
) -> Tensor:
    """Weighted sum over rankings of the mean over their attributes of the mean over pairs.

    Args:
        columns: (K, attributes) scores of each ranking's responses.
    """
    total = torch.stack([values.sum() for values in columns]).sum() * 0.0
    for values, item in zip(columns, items, strict=True):
        for name, pairs in item.attributes.items():
            places = torch.tensor(pairs, device=values.device)
            loss = ranking_loss(values[:, heads.names.index(name)], places, label_smoothing=label_smoothing)
            total = total + item.weight * loss / len(item.attributes)
    return total


def judge_attributes(
    model: RewardModel,
    heads: AttributeHeads,
    tokenizer: Any,
    heldout: Sequence[Ranking],
    calibration: Sequence[tuple[Prompt, str]],
    *,
    max_length: int,
) -> dict[str, float]:
    """Normalise the heads on the calibration samples, then report on held-out rankings."""

    def scores(of: Sequence[tuple[Prompt, str]]) -> Tensor:
        prompts, texts = zip(*of, strict=True)
        return attribute_scores(model, heads, tokenizer, prompts, texts, max_length=max_length)

    if len(calibration) > 1:
        normalise_attributes(heads, scores(calibration))
    flat = [(ranking.prompt, text) for ranking in heldout for text in ranking.responses]
    return attribute_report(heads.names, heldout, scores(flat)) if flat else {}


def attribute_scores(
    model: RewardModel,
    heads: AttributeHeads,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    responses: Sequence[str],
    *,
    max_length: int = 1024,
) -> Tensor:
    """(responses, attributes) scores."""
    return read_ends(model, heads, tokenizer, prompts, responses, max_length=max_length)


@torch.no_grad()
def normalise_attributes(heads: AttributeHeads, scores: Tensor) -> None:
    """Mean 0 and deviation 1 on these (samples, attributes) scores, as the model's own score has on the same samples."""
    deviation = scores.std(dim=0).clamp(min=1e-6).to(heads.weight.device)
    bias = heads.get_buffer("bias")
    bias.copy_((bias - scores.mean(dim=0).to(deviation)) / deviation)
    heads.weight.div_(deviation[:, None])


def attribute_report(names: Sequence[str], heldout: Sequence[Ranking], scores: Tensor) -> dict[str, float]:
    """For each attribute, the share of held-out pairs ordered as raters did, each ranking weighing the same, and how many ranked it.

    Args:
        scores: (responses, attributes) of all responses of the held-out rankings, in order.
    """
    shares: dict[str, list[float]] = {name: [] for name in names}
    start = 0
    for ranking in heldout:
        for name, pairs in attribute_pairs(ranking).items():
            if name in shares:
                values = scores[start : start + len(ranking.responses), list(names).index(name)]
                shares[name].append(sum(bool(values[a] > values[b]) for a, b in pairs) / len(pairs))
        start += len(ranking.responses)
    report: dict[str, float] = {}
    for name, found in shares.items():
        if found:
            report |= {f"attribute_accuracy.{name}": sum(found) / len(found), f"attribute_rankings.{name}": len(found)}
    return report


def save_attribute_heads(heads: AttributeHeads, out: Path) -> None:
    """Beside the model."""
    tensors = {"weight": heads.weight.detach().cpu(), "bias": heads.get_buffer("bias").cpu()}
    save_file(tensors, out / FILE, metadata={"names": json.dumps(heads.names)})


def load_attribute_heads(source: str | Path) -> AttributeHeads | None:
    """The attributes' heads of a folder, where it has any."""
    path = Path(source) / FILE
    if not path.is_file():
        return None
    with safe_open(path, framework="pt") as file:
        heads = AttributeHeads(json.loads(file.metadata()["names"]), file.get_tensor("weight"))
        heads.get_buffer("bias").copy_(file.get_tensor("bias"))
    return heads
