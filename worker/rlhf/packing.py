"""Rankings as rows of tokens: the prompt once, the responses after it, and little padding."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

LAST_LAYER_PARTS = ("mlp", "self_attn.q_proj", "self_attn.o_proj", "attn.c_proj")
"""What works token by token in the last layer of Llama, Qwen, Mistral, Gemma (the first three) and GPT-2."""


@dataclass(frozen=True)
class Encoded:
    """A ranking as token ids: the prompt once, the responses, and pairs (better, worse) of response indices.

    targets: for each pair, the probability that its first is the better one; empty means certain.
    margins: for each pair, how far apart the scores should be at least; empty means 0.
    ties: pairs that were called equal.
    ranks: the ranks themselves, for losses over whole orders.
    attributes: pairs (better, worse) by attribute.
    """

    prompt: list[int]
    responses: list[list[int]]
    pairs: list[tuple[int, int]]
    weight: float
    ties: Sequence[tuple[int, int]] = ()
    targets: Sequence[float] = ()
    margins: Sequence[float] = ()
    ranks: Sequence[int | None] = ()
    index: int = 0
    attributes: Mapping[str, list[tuple[int, int]]] = field(default_factory=dict)

    @property
    def num_tokens(self) -> int:
        """Tokens of its row, the prompt counted once."""
        return len(self.prompt) + sum(map(len, self.responses))


@dataclass(frozen=True)
class Rows:
    """Rankings laid out for one forward; segment 0 is the prompt, k the k-th response, -1 padding.

    ids, segments, positions: (batch, time) int64. Positions restart after the prompt.
    ends: for each ranking, where its responses end, (K,) int64.
    """

    ids: Tensor
    segments: Tensor
    positions: Tensor
    ends: list[Tensor]

    def mask(self, dtype: torch.dtype) -> Tensor:
        """(batch, 1, time, time), added to attention: a token sees its own response and the prompt, up to itself."""
        width = self.ids.shape[1]
        causal = torch.ones(width, width, dtype=torch.bool).tril()
        same = (self.segments[:, None, :] == self.segments[:, :, None]) | (self.segments[:, None, :] == 0)
        visible = (same & causal) | torch.eye(width, dtype=torch.bool)  # The diagonal keeps padded rows finite.
        return torch.zeros(visible.shape, dtype=dtype).masked_fill_(~visible, torch.finfo(dtype).min)[:, None]


def lay_out(items: Sequence[Encoded], *, pad: int, multiple: int = 1) -> Rows:
    """One row for each ranking: prompt, response 1, ..., response K, padding up to a `multiple` of tokens."""
    width = -(-max(item.num_tokens for item in items) // multiple) * multiple
    ids = torch.full((len(items), width), pad)
    segments = torch.full((len(items), width), -1)
    positions = torch.zeros((len(items), width), dtype=torch.long)
    ends = [
        _lay_out_one(item, ids[row], segments=segments[row], positions=positions[row]) for row, item in enumerate(items)
    ]
    return Rows(ids, segments, positions, ends)


def _lay_out_one(item: Encoded, ids: Tensor, *, segments: Tensor, positions: Tensor) -> Tensor:
    """Fill one row in place; returns where each response ends, (K,)."""
    start = len(item.prompt)
    ids[:start], segments[:start], positions[:start] = torch.tensor(item.prompt), 0, torch.arange(start)
    ends = []
    for k, response in enumerate(item.responses, start=1):
        end = start + len(response)
        ids[start:end], segments[start:end] = torch.tensor(response), k
        positions[start:end] = torch.arange(len(item.prompt), len(item.prompt) + len(response))
        ends.append(end - 1)
        start = end
    return torch.tensor(ends)


def by_length(
    items: Sequence[Encoded], *, max_items: int, max_tokens: int, width: Callable[[Encoded], int]
) -> Iterator[list[Encoded]]:
    """Parts of one optimizer step, alike in length, so that little is padded.

    Only the parts change, never which items share a step: the gradient is that of the step, in another order of sums.

    Args:
        max_items: rankings a part holds at most.
        max_tokens: tokens a part holds at most, padding included; a single longer item is a part of its own.
        width: an item's length in its row.
    """
    part: list[Encoded] = []
    for item in sorted(items, key=width):
        if part and (len(part) == max_items or (len(part) + 1) * width(item) > max_tokens):
            yield part
            part = []
        part.append(item)
    if part:
        yield part


@contextmanager
def last_layer_at(trunk: Any, rows: Tensor, ends: Tensor) -> Iterator[None]:
    """Within it, the last layer computes only the states at (rows, ends), the only ones that a head reads.

    All else that comes out of the trunk is meaningless then. What the last layer attends to, its keys and values, is
    computed everywhere. Saves about a fifth of the work at four layers. Trunks built otherwise are left as they are.

    Args:
        rows, ends: (N,) int64.
    """
    layers = getattr(trunk, "layers", None)
    layers = getattr(trunk, "h", None) if layers is None else layers
    with ExitStack() as restored:
        for name in LAST_LAYER_PARTS if isinstance(layers, nn.ModuleList) else ():
            part = _submodule(layers[-1], name)  # type: ignore[index]
            if part is not None:
                restored.enter_context(_only_at(part, rows, ends))
        yield


@contextmanager
def _only_at(module: nn.Module, rows: Tensor, ends: Tensor) -> Iterator[None]:
    forward = module.forward

    def at_ends(states: Tensor) -> Tensor:
        wanted = forward(states[rows, ends])
        out = wanted.new_zeros((*states.shape[:2], wanted.shape[-1]))
        out[rows, ends] = wanted
        return out

    module.forward = at_ends  # type: ignore[method-assign]
    try:
        yield
    finally:
        del module.forward  # The class's own shows again.


def _submodule(layer: nn.Module, name: str) -> nn.Module | None:
    try:
        return layer.get_submodule(name)
    except AttributeError:
        return None
