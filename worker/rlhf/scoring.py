"""Scores of whole rankings, with gradient: a forward per response, or one per ranking whose prompt all share."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from worker.rlhf.modeling import RewardModel, score_ids
from worker.rlhf.packing import Encoded, last_layer_at, lay_out
from worker.rlhf.tokens import collate

SHARED_TOLERANCE = 1e-4
LOW_MULTIPLE = 32  # Tokens. oneDNN makes and keeps a bfloat16 kernel for each shape: a quarter less memory, 5 % faster.


def separate_scores(
    model: RewardModel, items: Sequence[Encoded], *, pad: int, read: Callable[[Tensor], Tensor] | None = None
) -> list[Tensor]:
    """Raw scores, one forward per response: a (K,) tensor for each ranking, or what `read` makes of end states."""
    pairs = [(item.prompt, response) for item in items for response in item.responses]
    batch = collate(pairs, pad=pad)
    place = model.head.weight.device
    ids, mask = batch.ids.to(place), batch.attention_mask.to(place)
    if read is not None:
        scores = read(model.last_states(ids, mask))
    else:
        scores = (score_ids(model, ids, mask) - model.bias) / model.gain
    return list(scores.split([len(item.responses) for item in items]))


def shared_scores(
    model: RewardModel, items: Sequence[Encoded], *, pad: int, read: Callable[[Tensor], Tensor] | None = None
) -> list[Tensor]:
    """The same with the prompt forwarded once per ranking.

    A token sees its own response and the prompt, up to itself; positions restart after the prompt. The last layer is
    computed at the ends of responses only.
    """
    place = model.head.weight.device
    rows = lay_out(items, pad=pad, multiple=LOW_MULTIPLE if is_low_precision(place) else 1)
    lines = torch.cat([torch.full_like(last, row) for row, last in enumerate(rows.ends)]).to(place)
    ends = torch.cat(rows.ends).to(place)
    with last_layer_at(model.trunk, lines, ends):
        states = model.trunk(
            input_ids=rows.ids.to(place),
            attention_mask=rows.mask(model.trunk.dtype).to(place),
            position_ids=rows.positions.to(place),
            use_cache=False,
        ).last_hidden_state
    return list((read or model.raw)(states[lines, ends]).split([len(last) for last in rows.ends]))


def is_low_precision(place: torch.device) -> bool:
    """Whether matrix products are computed in bfloat16 here and now."""
    return torch.is_autocast_enabled(place.type)


@torch.no_grad()
def can_share_prompts(model: RewardModel, items: Sequence[Encoded], *, pad: int) -> bool:
    """Whether this model gives the same scores with shared prompts, found by trying.

    Sliding windows do not, and short samples would not show it: our mask replaces theirs.
    """
    if model.is_encoder:
        return False  # Its prompt looks at the response.
    if getattr(model.config, "sliding_window", None) and getattr(model.config, "use_sliding_window", True):
        return False
    try:
        shared, separate = shared_scores(model, items, pad=pad), separate_scores(model, items, pad=pad)
    except (RuntimeError, ValueError, TypeError, IndexError):
        return False
    return all((a - b).abs().max() < SHARED_TOLERANCE for a, b in zip(shared, separate, strict=True))


def row_tokens(item: Encoded) -> int:
    """Tokens of a ranking whose prompt is shared."""
    return item.num_tokens


def separate_tokens(item: Encoded) -> int:
    """Tokens of a ranking's separate sequences, padded to the longest."""
    return (len(item.prompt) + max(map(len, item.responses))) * len(item.responses)
