"""Sampling: prompts in, responses out, and the episodes that PPO learns from.

A prompt is forwarded once for all of its samples, and a row that has ended leaves the batch at once, so no time
goes into tokens after the end.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from worker.rlhf.masked import capped, selected_logprobs
from worker.rlhf.modeling import hidden_states, softcap_of, trunk_of
from worker.rlhf.tokens import Batch, collate, encode_prompt, left_pad
from worker.rlhf.types import Prompt, Sampled


@dataclass(frozen=True)
class SamplingSettings:
    """How responses are drawn. PPO itself always samples with top_p 1 and top_k 0: its ratio needs the full model."""

    temperature: float = 1.0  # Divides the logits; training divides by the same.
    top_p: float = 1.0  # Nucleus sampling (arXiv:1904.09751); 1 is off.
    top_k: int = 0  # 0 is off.
    max_new_tokens: int = 64
    max_prompt_length: int = 512  # In tokens; longer prompts lose their beginning.
    seed: int = 0


def sample_responses(
    policy: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    settings: SamplingSettings,
    *,
    num_responses: int,
    batch_size: int = 32,
    generator: torch.Generator | None = None,
) -> Iterator[list[Sampled]]:
    """Yield, per batch of prompts and in their order, `num_responses` samples for each."""
    generator = generator or torch.Generator().manual_seed(settings.seed)  # The same numbers on any device.
    for start in range(0, len(prompts), batch_size):
        part = prompts[start : start + batch_size]
        encoded = [encode_prompt(tokenizer, prompt, max_length=settings.max_prompt_length) for prompt in part]
        rows = generate(policy, tokenizer, encoded, settings, num_responses=num_responses, generator=generator)
        yield [_sampled(tokenizer, ids, start + row // num_responses) for row, ids in enumerate(rows)]


@torch.no_grad()
def generate(
    policy: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    settings: SamplingSettings,
    *,
    num_responses: int,
    generator: torch.Generator | None = None,
    uniforms: Tensor | None = None,
) -> list[list[int]]:
    """Token ids of `num_responses` samples per prompt, in order; the end token is there when the sample ended itself.

    Args:
        uniforms: (samples, max_new_tokens) float64 in [0, 1), the random numbers of each sample, drawn from
            `generator` when None. Each sample has its own, so what it says depends on no other in the batch.
    """
    eos, place = tokenizer.eos_token_id, policy.device
    if uniforms is None:
        uniforms = draw_uniforms(len(prompts) * num_responses, settings.max_new_tokens, generator)
    uniforms = uniforms.to(place)
    ids, mask = (tensor.to(place) for tensor in left_pad(prompts, pad=tokenizer.pad_token_id))
    positions = (mask.long().cumsum(1) - 1).clamp(min=0)
    output = trunk_of(policy)(input_ids=ids, attention_mask=mask.long(), position_ids=positions, use_cache=True)
    cache, states = output.past_key_values, output.last_hidden_state[:, -1].repeat_interleave(num_responses, dim=0)
    if num_responses > 1:
        cache.batch_repeat_interleave(num_responses)
    mask, position = mask.repeat_interleave(num_responses, dim=0), positions[:, -1].repeat_interleave(num_responses)
    rows: list[list[int]] = [[] for _ in range(len(prompts) * num_responses)]
    alive = torch.arange(len(rows), device=place)
    for step in range(settings.max_new_tokens):
        chosen = _draw(policy, states, settings, uniforms[alive, step])
        for row, token in zip(alive.tolist(), chosen.tolist(), strict=True):
            rows[row].append(token)
        going = (chosen != eos).nonzero().squeeze(-1)
        if len(going) == 0 or step == settings.max_new_tokens - 1:
            break
        if len(going) < len(alive):
            cache.batch_select_indices(going)
            alive, chosen, mask, position = alive[going], chosen[going], mask[going], position[going]
        mask, position = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1), position + 1
        output = trunk_of(policy)(
            input_ids=chosen[:, None],
            attention_mask=mask.long(),
            position_ids=position[:, None],
            past_key_values=cache,
            use_cache=True,
        )
        states = output.last_hidden_state[:, -1]
    return rows


def draw_uniforms(num_samples: int, max_new_tokens: int, generator: torch.Generator | None) -> Tensor:
    """(samples, tokens) float64 in [0, 1)."""
    place = generator.device if generator is not None else None
    return torch.rand(num_samples, max_new_tokens, dtype=torch.float64, generator=generator, device=place)


def _draw(policy: Any, states: Tensor, settings: SamplingSettings, uniforms: Tensor) -> Tensor:
    """One token per row from the tempered, perhaps truncated, distribution: (rows,).

    The first token whose cumulated probability exceeds the row's uniform number, so impossible tokens never come.
    """
    logits = capped(policy.get_output_embeddings()(states).float(), softcap_of(policy)) / settings.temperature
    if settings.top_k:
        bound = logits.topk(min(settings.top_k, logits.shape[-1]), dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < bound, float("-inf"))
    if settings.top_p < 1:
        logits = _nucleus(logits, settings.top_p)
    mass = logits.softmax(dim=-1).double().cumsum(dim=-1)
    return torch.searchsorted(mass, uniforms[:, None] * mass[:, -1:], right=True).squeeze(-1)


def _nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Keep the most probable tokens until their mass reaches `top_p`; the one that crosses it stays."""
    ordered, order = logits.sort(dim=-1, descending=True)
    mass_before = ordered.softmax(dim=-1).cumsum(dim=-1) - ordered.softmax(dim=-1)
    return torch.full_like(logits, float("-inf")).scatter(
        -1, order, ordered.masked_fill(mass_before >= top_p, float("-inf"))
    )


def _sampled(tokenizer: Any, ids: list[int], prompt_index: int) -> Sampled:
    ended = bool(ids) and ids[-1] == tokenizer.eos_token_id
    text = tokenizer.decode(ids[:-1] if ended else ids, skip_special_tokens=True).strip()
    return Sampled(prompt_index, text, tuple(ids), "stop" if ended else "length")


def token_logprobs(policy: Any, batch: Batch, *, temperature: float) -> tuple[Tensor, Tensor]:
    """(n,) log-probabilities and entropies of all response tokens, row by row; the state at t - 1 tells of token t."""
    place = policy.device
    ids, mask = batch.ids.to(place), batch.response_mask.to(place)
    states = hidden_states(policy, ids, batch.attention_mask.to(place))
    return selected_logprobs(
        states[:, :-1][mask[:, 1:]],
        policy.get_output_embeddings(),
        ids[:, 1:][mask[:, 1:]],
        temperature=temperature,
        softcap=softcap_of(policy),
    )


@torch.no_grad()
def policy_logprobs(
    policy: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    samples: Sequence[Sampled],
    *,
    temperature: float,
    max_prompt_length: int = SamplingSettings.max_prompt_length,
    batch_size: int = 32,
) -> Tensor:
    """(n,) log-probability of each whole sample under `policy`, after the same cut of its prompt as in sampling."""
    totals: list[float] = []
    for start in range(0, len(samples), batch_size):
        part = samples[start : start + batch_size]
        pairs = [
            (encode_prompt(tokenizer, prompts[s.prompt_index], max_length=max_prompt_length), list(s.token_ids))
            for s in part
        ]
        logprobs, _ = token_logprobs(policy, collate(pairs, pad=tokenizer.pad_token_id), temperature=temperature)
        lengths = [len(response) for _, response in pairs]
        totals.extend(float(row.sum()) for row in logprobs.split(lengths))
    return torch.tensor(totals)


@torch.no_grad()
def stream_tokens(
    policy: Any, prompt: list[int], settings: SamplingSettings, *, eos: int, generator: torch.Generator
) -> Iterator[int]:
    """Yield the token ids of one sample as they are drawn, the end token included; the numbers are `generate`'s."""
    uniforms = draw_uniforms(1, settings.max_new_tokens, generator).to(policy.device)
    ids, cache = torch.tensor([prompt], device=policy.device), None
    for step in range(settings.max_new_tokens):
        output = trunk_of(policy)(input_ids=ids, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        ids = _draw(policy, output.last_hidden_state[:, -1], settings, uniforms[:, step])[:, None]
        yield int(ids)
        if int(ids) == eos:
            return
