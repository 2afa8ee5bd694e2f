"""Text to ids: one way for training, scoring and sampling, ending in the end token whatever is cut."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from tests.worker.rlhf.conftest import ask
from worker.rlhf.reward_model import encode_ranking
from worker.rlhf.tiny import build_tiny_base
from worker.rlhf.tokens import (
    PLAIN_TEMPLATE,
    collate,
    encode_prompt,
    encode_response,
    fit,
    left_pad,
    load_tokenizer,
    position_ids,
)
from worker.rlhf.types import Ranking


def test_padding_is_not_the_end_token(tiny_base: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_base)
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(tmp_path)
    mended = load_tokenizer(tmp_path)
    assert mended.pad_token_id != mended.eos_token_id


def test_a_tokenizer_without_an_end_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_base)
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no end-of-sequence token"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_without_a_chat_template_gets_a_plain_one(tiny_base: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_base)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").unlink(missing_ok=True)
    plain = load_tokenizer(tmp_path)
    assert plain.decode(encode_prompt(plain, ask("Why?"))) == "User: Why?\nAssistant:"


def test_the_template_is_applied_once_and_writes_all_special_tokens(tokenizer: Any) -> None:
    ids = encode_prompt(tokenizer, [*ask("one"), {"role": "assistant", "content": "two"}, *ask("three")])
    user, assistant = tokenizer.convert_tokens_to_ids(["<|user|>", "<|assistant|>"])
    text = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in ("one", "two", "three")]
    assert ids == [user, *text[0], assistant, *text[1], tokenizer.eos_token_id, user, *text[2], assistant]


def test_all_responses_of_a_ranking_share_identical_prompt_ids(tokenizer: Any) -> None:
    prompt = ask("Why is the sky blue?")
    item = encode_ranking(tokenizer, Ranking(prompt, (" blue", "blue", "?"), (1, 2, 3)), 64)
    assert item.prompt == encode_prompt(tokenizer, prompt)
    for response in item.responses:
        assert fit(item.prompt, response, max_length=64, eos=tokenizer.eos_token_id)[0] == item.prompt


def test_a_prompt_leaves_room_for_the_longest_response_wherever_it_stands(tokenizer: Any) -> None:
    prompt, texts = ask("Why is the sky blue? " * 4), ("one", "one two three one two three", "two")
    items = [encode_ranking(tokenizer, Ranking(prompt, order, (1, 2, 3)), 40) for order in (texts, texts[::-1])]
    for item in items:
        assert len(item.prompt) + max(map(len, item.responses)) == 40
    assert items[0].prompt == items[1].prompt == encode_prompt(tokenizer, prompt)[-len(items[0].prompt) :]


def test_no_merge_crosses_the_border_of_prompt_and_response(tmp_path: Path) -> None:
    """Where `::)` is one token, `Assistant:` followed by `:)` would be other ids than each alone."""
    build_tiny_base(["::)"] * 50, tmp_path, vocab_size=300, hidden=16, layers=1, heads=2)
    tokenizer = load_tokenizer(tmp_path)
    tokenizer.chat_template = PLAIN_TEMPLATE
    prompt = encode_prompt(tokenizer, ask("Hi"))
    together = tokenizer("User: Hi\nAssistant::)", add_special_tokens=False)["input_ids"]
    assert together[: len(prompt)] != prompt  # The trap is there.
    item = encode_ranking(tokenizer, Ranking(ask("Hi"), (":)", "::)"), (1, 2)), 64)
    assert item.prompt == prompt
    assert [tokenizer.decode(ids[:-1]) for ids in item.responses] == [":)", "::)"]
    assert all(ids[-1] == tokenizer.eos_token_id for ids in item.responses)


def test_special_tokens_of_the_template_are_not_added_by_the_tokenizer_again(tokenizer: Any, tmp_path: Path) -> None:
    """As Llama's tokenizer does, this one begins each text with a token that its template writes too."""
    tokenizer.save_pretrained(tmp_path)
    eager = load_tokenizer(tmp_path)
    user = eager.convert_tokens_to_ids("<|user|>")
    eager.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|user|> $A", special_tokens=[("<|user|>", user)]
    )
    assert eager("Why?")["input_ids"][0] == user  # The trap is there.
    assert encode_prompt(eager, ask("Why?")) == encode_prompt(tokenizer, ask("Why?"))
    assert encode_response(eager, "Why?") == encode_response(tokenizer, "Why?")


def test_a_long_prompt_loses_its_beginning(tokenizer: Any) -> None:
    whole = encode_prompt(tokenizer, ask("one two three " * 20))
    assert encode_prompt(tokenizer, ask("one two three " * 20), max_length=9) == whole[-9:]


def test_an_empty_response_is_its_end_token(tokenizer: Any) -> None:
    assert encode_response(tokenizer, "") == [tokenizer.eos_token_id]


@given(num_prompt=st.integers(1, 80), num_response=st.integers(1, 80), max_length=st.integers(2, 64))
def test_what_is_cut_still_fits_and_ends_in_the_end_token(num_prompt: int, num_response: int, max_length: int) -> None:
    prompt, response = list(range(100, 100 + num_prompt)), [*range(200, 199 + num_response), 1]
    kept_prompt, kept_response = fit(prompt, response, max_length=max_length, eos=1)
    assert len(kept_prompt) + len(kept_response) <= max_length
    assert kept_response[-1] == 1
    assert kept_response[:-1] == response[: len(kept_response) - 1]
    assert kept_prompt == prompt[num_prompt - len(kept_prompt) :]
    if num_prompt + num_response <= max_length:
        assert (kept_prompt, kept_response) == (prompt, response)


def test_the_longest_allowed_ranking_ends_in_the_end_token_and_is_cut_as_scoring_cuts_it(tokenizer: Any) -> None:
    prompt, text = ask("Why?"), "one two three " * 30
    item = encode_ranking(tokenizer, Ranking(prompt, (text, "two"), (1, 2)), 40)
    assert len(item.prompt) + len(item.responses[0]) == 40
    assert item.responses[0][-1] == tokenizer.eos_token_id
    alone = fit(
        encode_prompt(tokenizer, prompt), encode_response(tokenizer, text), max_length=40, eos=tokenizer.eos_token_id
    )
    assert (item.prompt, item.responses[0]) == alone


def test_response_mask_is_true_on_response_tokens_only() -> None:
    batch = collate([([5, 6], [7, 1]), ([5], [1])], pad=0)
    assert batch.ids.tolist() == [[5, 6, 7, 1], [5, 1, 0, 0]]
    assert batch.attention_mask.tolist() == [[True] * 4, [True, True, False, False]]
    assert batch.response_mask.tolist() == [[False, False, True, True], [False, True, False, False]]


def test_positions_count_real_tokens_only() -> None:
    ids, mask = left_pad([[5, 6, 7], [8]], pad=0)
    assert ids.tolist() == [[5, 6, 7], [0, 0, 8]]
    assert position_ids(mask).tolist() == [[0, 1, 2], [0, 0, 0]]
    assert torch.equal(position_ids(torch.tensor([[True, True, False]])), torch.tensor([[0, 1, 1]]))


@pytest.mark.parametrize("text", ["", "naïve café", "🙂 two", "tabs\tand\nlines", "<not a token>"])
def test_text_survives_the_round_trip(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(encode_response(tokenizer, text)[:-1]) == text
