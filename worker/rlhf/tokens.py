"""Text to token ids. One way, used by reward model, PPO and serving alike, so that all see the same ids."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worker.rlhf.model_folder import check_model_folder
from worker.rlhf.types import Demonstration, Prompt

PAD = "<|pad|>"
PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ 'User: ' if message['role'] == 'user' else 'Assistant: ' }}"
    "{{ message['content'] }}\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)

ENCODER_TEMPLATE = "{{ cls_token }}" + PLAIN_TEMPLATE


def load_tokenizer(source: str | Path) -> Any:
    """A tokenizer with an end-of-sequence token and a padding token that is not it.

    Where padding and end share an id, masking one masks the other, and scores sit one token early.

    Raises:
        ValueError: there is none that can be used, with the reason.
    """
    from transformers import AutoTokenizer

    check_model_folder(source)
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(source), trust_remote_code=False)
    except Exception as error:  # Of a folder without a whole tokenizer the library raises anything.
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ValueError(f"The tokenizer of {Path(source).name} cannot be loaded: {reason[:300]}") from error
    if tokenizer.eos_token_id is None and tokenizer.sep_token_id is not None and tokenizer.cls_token_id is not None:
        tokenizer.eos_token, tokenizer.chat_template = tokenizer.sep_token, ENCODER_TEMPLATE  # An encoder's.
    if tokenizer.eos_token_id is None:
        raise ValueError(f"The tokenizer of {source} has no end-of-sequence token; responses could not end.")
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        tokenizer.add_special_tokens({"pad_token": PAD})
    if not tokenizer.chat_template:
        tokenizer.chat_template = PLAIN_TEMPLATE
    return tokenizer


def encode_prompt(tokenizer: Any, prompt: Prompt, *, max_length: int | None = None) -> list[int]:
    """Token ids of a prompt up to where the response begins; too long ones lose their beginning.

    The template writes the special tokens, so the tokenizer must not add them again.
    """
    text = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids[-max_length:] if max_length is not None else ids


def encode_response(tokenizer: Any, response: str, *, max_length: int | None = None) -> list[int]:
    """Token ids of a response, its end token included; too long ones lose what is before that token.

    Encoded apart from the prompt, so that all responses share identical prompt ids: merges across the border differ.
    """
    ids: list[int] = tokenizer(response, add_special_tokens=False)["input_ids"]
    if max_length is not None:
        ids = ids[: max(max_length - 1, 0)]
    return [*ids, tokenizer.eos_token_id]


def first_id(tokenizer: Any) -> int | None:
    """The token that each input of an encoder begins with, however its prompt is cut."""
    is_encoder = (tokenizer.chat_template or "").startswith("{{ cls_token }}")
    return tokenizer.cls_token_id if is_encoder else None


def fit(
    prompt_ids: list[int], response_ids: list[int], *, max_length: int, eos: int, first: int | None = None
) -> tuple[list[int], list[int]]:
    """Cut to `max_length` tokens together: the response keeps at most half and its end, the prompt its latest part.

    Where `first` is given, the prompt still begins with it.
    """
    if len(response_ids) > max_length // 2 and len(prompt_ids) + len(response_ids) > max_length:
        room = max(max_length // 2, max_length - len(prompt_ids))
        response_ids = [*response_ids[: room - 1], eos]
    room = max_length - len(response_ids)
    kept = prompt_ids[-room:] if room > 0 else []
    if first is not None and kept:
        kept = [first, *kept[1:]]
    return kept, response_ids


def encode_demonstration(tokenizer: Any, item: Demonstration, max_length: int) -> tuple[list[int], list[int]]:
    """Token ids of a demonstration's prompt and response, cut to `max_length` together."""
    prompt, response = encode_prompt(tokenizer, item.prompt), encode_response(tokenizer, item.response)
    return fit(prompt, response, max_length=max_length, eos=tokenizer.eos_token_id)


@dataclass(frozen=True)
class Batch:
    """Right-padded sequences of prompt and response.

    ids: (batch, time) int64. attention_mask: (batch, time) bool, True on real tokens.
    response_mask: (batch, time) bool, True on response tokens, the end token included.
    """

    ids: Tensor
    attention_mask: Tensor
    response_mask: Tensor


def collate(pairs: Sequence[tuple[list[int], list[int]]], *, pad: int) -> Batch:
    """Pad (prompt ids, response ids) on the right. Causal attention never looks there."""
    width = max(len(prompt) + len(response) for prompt, response in pairs)
    ids = torch.full((len(pairs), width), pad, dtype=torch.long)
    attention = torch.zeros((len(pairs), width), dtype=torch.bool)
    responses = torch.zeros((len(pairs), width), dtype=torch.bool)
    for row, (prompt, response) in enumerate(pairs):
        length = len(prompt) + len(response)
        ids[row, :length] = torch.tensor([*prompt, *response])
        attention[row, :length] = True
        responses[row, len(prompt) : length] = True
    return Batch(ids, attention, responses)


def left_pad(sequences: Sequence[list[int]], *, pad: int) -> tuple[Tensor, Tensor]:
    """(ids, attention_mask), padded on the left so that all end at the same column, where sampling goes on."""
    width = max(len(sequence) for sequence in sequences)
    ids = torch.full((len(sequences), width), pad, dtype=torch.long)
    mask = torch.zeros((len(sequences), width), dtype=torch.bool)
    for row, sequence in enumerate(sequences):
        if sequence:
            ids[row, width - len(sequence) :] = torch.tensor(sequence)
            mask[row, width - len(sequence) :] = True
    return ids, mask


def position_ids(attention_mask: Tensor) -> Tensor:
    """Positions that count real tokens only, whatever the padding: (batch, time) int64."""
    return (attention_mask.long().cumsum(dim=1) - 1).clamp(min=0)
