"""Forwards without padding: sequences laid end to end in one row, each seeing itself only.

Half of a padded batch of prompts and responses is padding, and it costs as much as real tokens. Linear layers do
not care where a sequence ends; only attention does, so attention alone works sequence by sequence.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from worker.rlhf.tokens import collate, position_ids

ATTENTION = "attune_packed"
TOLERANCE = 1e-4
Pair = tuple[list[int], list[int]]


def can_pack(model: Any) -> bool:
    """Let `model` run packed sequences where it gives the same states as one sequence at a time, found by trying.

    Changes only how attention is computed; ordinary batches go on as before. Models with attention of their own
    (soft caps, state spaces) answer no and are left as they were.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(ATTENTION, attention)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)
    before = model.config._attn_implementation
    if before == ATTENTION:
        return True
    if before != "sdpa":
        return False
    pairs = [([3, 5, 4], [6, 3]), ([4], [5]), ([6, 6, 3, 4, 5], [4, 6, 5])]
    try:
        expected = [_states(model.base_model, [pair], pad=0, is_packed=False) for pair in pairs]
        model.set_attn_implementation(ATTENTION)
        found = _states(model.base_model, pairs, pad=0, is_packed=True)
    except (RuntimeError, ValueError, TypeError, IndexError):
        found, expected = torch.tensor([torch.inf]), [torch.zeros(1)]
    if (found - torch.cat(expected)).abs().max() < TOLERANCE:
        return True
    model.set_attn_implementation(before)
    return False


@torch.no_grad()
def _states(trunk: Any, pairs: Sequence[Pair], *, pad: int, is_packed: bool) -> Tensor:
    return states_before(trunk, pairs, pad=pad, is_packed=is_packed)[0].float()


def states_before(trunk: Any, pairs: Sequence[Pair], *, pad: int, is_packed: bool) -> tuple[Tensor, Tensor]:
    """The state before each response token, and the token, row by row: (n, width) and (n,) int64.

    The state at t - 1 tells of the token at t. Values stand at the same states as log-probabilities.
    """
    if not is_packed:
        batch = collate(pairs, pad=pad)
        chosen = batch.response_mask[:, 1:]
        states = _padded(trunk, batch.ids, batch.attention_mask)
        place = states.device
        return states[:, :-1][chosen.to(place)], batch.ids[:, 1:][chosen].to(place)
    places: list[int] = []
    start = 0
    for prompt, response in pairs:
        start += len(prompt)
        places += range(start - 1, start - 1 + len(response))
        start += len(response)
    chosen_ids = torch.tensor([token for _, response in pairs for token in response])
    return _packed(trunk, pairs, torch.tensor(places)), chosen_ids.to(trunk.device)


def states_at_end(trunk: Any, pairs: Sequence[Pair], *, pad: int, is_packed: bool) -> Tensor:
    """(rows, width): the state at the last token of each sequence, where a reward model reads its score."""
    lengths = torch.tensor([len(prompt) + len(response) for prompt, response in pairs])
    if is_packed:
        return _packed(trunk, pairs, lengths.cumsum(0) - 1)
    batch = collate(pairs, pad=pad)
    states = _padded(trunk, batch.ids, batch.attention_mask)
    return states[torch.arange(len(pairs), device=states.device), (lengths - 1).to(states.device)]


def _padded(trunk: Any, ids: Tensor, mask: Tensor) -> Tensor:
    place = trunk.device
    with _recomputing(trunk):
        states: Tensor = trunk(
            input_ids=ids.to(place),
            attention_mask=mask.long().to(place),
            position_ids=position_ids(mask).to(place),
            use_cache=False,
        ).last_hidden_state
    return states


def _packed(trunk: Any, pairs: Sequence[Pair], wanted: Tensor) -> Tensor:
    """(n, width) states at the `wanted` places of the row of all tokens; positions begin again with each sequence."""
    lengths = [len(prompt) + len(response) for prompt, response in pairs]
    ids = torch.tensor([token for prompt, response in pairs for token in (*prompt, *response)])
    positions = torch.cat([torch.arange(length) for length in lengths])
    place = trunk.device
    wanted = wanted.to(place)
    with _recomputing(trunk), _last_layer_only_at(trunk, wanted, row_length=len(ids)):
        states: Tensor = trunk(
            input_ids=ids[None].to(place),
            attention_mask=torch.zeros(1, 1, 1, 1, device=place),  # Of four dimensions, so that none is built.
            position_ids=positions[None].to(place),
            use_cache=False,
            packed_lengths=lengths,
        ).last_hidden_state
    return states[0, wanted]


@contextmanager
def _last_layer_only_at(trunk: Any, wanted: Tensor, *, row_length: int) -> Iterator[None]:
    """Let the last layer work at the `wanted` places alone, (n,) int64, wherever tokens do not meet.

    Nothing reads its other outputs: attention looks at the inputs of a layer. Prompts are most of the tokens, so this
    saves most of a layer, in forward and backward. Not under activation checkpointing, which comes back without it.
    """
    layers = next((part for part in trunk.children() if isinstance(part, torch.nn.ModuleList) and len(part)), None)
    last = layers[-1] if layers is not None else None
    hooks = []
    if last is not None and not (getattr(last, "gradient_checkpointing", False) and last.training):
        parts = [m for name, m in last.named_modules() if name.rpartition(".")[2] in {"mlp", "q_proj", "o_proj"}]
        hooks += [part.register_forward_pre_hook(lambda _, given: (given[0][:, wanted], *given[1:])) for part in parts]
        hooks += [part.register_forward_hook(partial(_spread, wanted=wanted, row_length=row_length)) for part in parts]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _spread(_: Any, __: Any, output: Tensor, *, wanted: Tensor, row_length: int) -> Tensor:
    """Outputs back at their places in the row; zeros elsewhere."""
    row = output.new_zeros(1, row_length, output.shape[-1])
    return row.index_copy(1, wanted, output)


def attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    packed_lengths: Sequence[int] | None = None,
    sliding_window: int | None = None,
    **rest: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each packed sequence; that of transformers where nothing is packed.

    Args:
        query: (1, heads, N, size); key, value: (1, key heads, N, size).
        packed_lengths: of the sequences, N in all.

    Returns:
        (1, N, heads, size), as transformers wants it.
    """
    if packed_lengths is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        ours = {"sliding_window": sliding_window, "scaling": scaling, **rest}
        return sdpa_attention_forward(module, query, key, value, attention_mask, **ours)
    if rest.get("softcap") is not None:
        raise ValueError("Attention with a soft cap cannot be packed.")
    lengths, shared = list(packed_lengths), query.shape[1] != key.shape[1]
    parts = zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True)
    done = [
        scaled_dot_product_attention(
            q, k, v, enable_gqa=shared, scale=scaling, **_mask(q.shape[2], sliding_window, query.device)
        )
        for q, k, v in parts
    ]
    return torch.cat(done, dim=2).transpose(1, 2), None


def _mask(length: int, window: int | None, place: torch.device) -> dict[str, Any]:
    if window is None or length <= window:
        return {"is_causal": True}
    ones = torch.ones(length, length, dtype=torch.bool, device=place)
    return {"attn_mask": ones.tril() & ones.triu(1 - window)}


def recompute_activations(model: Any) -> None:
    """Keep each layer's input alone for the backward pass, and compute the rest again: less memory, a third slower."""
    if model is not None:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


@contextmanager
def _recomputing(trunk: Any) -> Iterator[None]:
    """Tell the layers for one forward that they are being trained, where their activations are to be recomputed.

    transformers recomputes in training mode only, where dropout would be on and the sampler's cache ignored; so only
    the layers themselves are told, not what is in them, and only while gradients are wanted.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    wanted = torch.is_grad_enabled() and getattr(trunk, "is_gradient_checkpointing", False)
    layers = [part for part in trunk.modules() if isinstance(part, GradientCheckpointingLayer)] if wanted else []
    for layer in layers:
        layer.training = True
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False


def token_batches(lengths: Sequence[int], *, max_rows: int, max_tokens: int) -> Iterator[list[int]]:
    """Indices of consecutive rows, at most `max_rows` and, where it is not 0, `max_tokens` together; at least one."""
    rows: list[int] = []
    total = 0
    for row, length in enumerate(lengths):
        if rows and (len(rows) == max_rows or (max_tokens and total + length > max_tokens)):
            yield rows
            rows, total = [], 0
        rows.append(row)
        total += length
    if rows:
        yield rows
