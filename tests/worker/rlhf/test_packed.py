"""Packed forwards against one sequence at a time: states, gradients, windows, shared key heads."""

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Qwen3Config,
)

from worker.rlhf import packed
from worker.rlhf.modeling import trunk_of

SIZE = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": None,
}
WINDOW = {**SIZE, "sliding_window": 5}
HEADS = {"head_dim": 8}
CONFIGS: dict[str, Any] = {
    "llama": LlamaConfig(**SIZE),
    "qwen": Qwen3Config(**SIZE, **HEADS),
    "mistral": MistralConfig(**WINDOW),
    "gemma": Gemma3TextConfig(**WINDOW, **HEADS),
    "gemma2": Gemma2Config(**WINDOW, **HEADS),
    "gpt2": GPT2Config(
        vocab_size=320,
        n_embd=32,
        n_layer=3,
        n_head=4,
        n_positions=128,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    ),
}
PAIRS = [([20, 21, 22], [30, 31, 1]), ([23], [33, 1]), ([24] * 17 + [25], [40, 41, 42, 43, 1])]


def build(name: str) -> Any:
    """A model of this family with random weights, dropout in its config, as `load_policy` would give it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        attention = "eager" if name == "gemma2" else "sdpa"
        return AutoModelForCausalLM.from_config(CONFIGS[name], attn_implementation=attention).eval()


def results(model: Any, batches: list[list[Any]], *, is_packed: bool) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """States before all response tokens, and the gradient of a sum of their squares."""
    model.zero_grad()
    parts = [packed.states_before(trunk_of(model), rows, pad=0, is_packed=is_packed)[0] for rows in batches]
    states = torch.cat(parts)
    states.square().sum().backward()
    return states.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]


def distance(first: list[torch.Tensor], second: list[torch.Tensor]) -> float:
    """Of all gradients together, relative to their length."""
    a, b = (torch.cat([part.flatten() for part in parts]) for parts in (first, second))
    return float((a - b).norm() / a.norm())


@pytest.mark.parametrize("name", ["llama", "qwen", "mistral", "gemma", "gpt2"])
def test_packed_sequences_have_the_states_and_gradients_of_each_alone(name: str) -> None:
    model = build(name)
    alone, gradients = results(model, [[pair] for pair in PAIRS], is_packed=False)
    assert packed.can_pack(model)
    together, found = results(model, [PAIRS], is_packed=True)
    assert torch.allclose(alone, together, atol=1e-5)
    assert distance(gradients, found) < 1e-5


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_the_state_at_the_end_is_that_of_the_last_token(name: str) -> None:
    model = build(name)
    expected = torch.stack(
        [trunk_of(model)(input_ids=torch.tensor([p + r])).last_hidden_state[0, -1] for p, r in PAIRS]
    )
    assert packed.can_pack(model)
    for is_packed in (True, False):
        found = packed.states_at_end(trunk_of(model), PAIRS, pad=0, is_packed=is_packed)
        assert torch.allclose(found, expected, atol=1e-5)


def test_a_model_that_cannot_pack_is_left_as_it_was() -> None:
    model = build("gemma2")
    assert not packed.can_pack(model)
    assert model.config._attn_implementation == "eager"


def test_ordinary_padded_batches_go_on_as_before() -> None:
    model = build("mistral")
    ids, mask = torch.tensor([[5, 6, 7, 8, 9, 10, 11], [5, 6, 0, 0, 0, 0, 0]]), torch.ones(2, 7, dtype=torch.long)
    mask[1, 2:] = 0
    before = model(input_ids=ids, attention_mask=mask).logits
    assert packed.can_pack(model)
    assert torch.allclose(model(input_ids=ids, attention_mask=mask).logits, before, atol=1e-6)


def test_the_saved_config_does_not_ask_for_our_attention(tmp_path: Any) -> None:
    model = build("llama")
    assert packed.can_pack(model)
    model.save_pretrained(tmp_path)
    assert packed.ATTENTION not in (tmp_path / "config.json").read_text()


def test_parts_keep_to_rows_and_tokens_but_hold_at_least_one_row() -> None:
    lengths = [5, 5, 5, 20, 1, 1, 1]
    assert list(packed.token_batches(lengths, max_rows=3, max_tokens=11)) == [[0, 1], [2], [3], [4, 5, 6]]
    assert list(packed.token_batches(lengths, max_rows=4, max_tokens=0)) == [[0, 1, 2, 3], [4, 5, 6]]
