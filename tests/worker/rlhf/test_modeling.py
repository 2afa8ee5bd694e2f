"""Models: scores that depend on the response alone, folders that other tools load, folders that are refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.worker.rlhf.conftest import ask
from worker.rlhf.modeling import (
    BIAS,
    RewardModel,
    load_policy,
    load_reward_model,
    new_reward_model,
    num_parameters,
    save_policy,
    save_reward_model,
    score,
    score_ids,
)
from worker.rlhf.tiny import build_tiny_base
from worker.rlhf.tokens import collate, encode_prompt, encode_response, left_pad, load_tokenizer

PROMPTS = [ask("Why is the sky blue?"), ask("Count"), ask("Say thank you, then stop.")]
RESPONSES = ["Because of the rain.", "", "one, two, three, and so on until the morning"]


def sequences(tokenizer: Any) -> list[list[int]]:
    return [
        encode_prompt(tokenizer, prompt) + encode_response(tokenizer, response)
        for prompt, response in zip(PROMPTS, RESPONSES, strict=True)
    ]


@torch.no_grad()
def test_score_is_the_same_alone_padded_on_either_side_and_in_company(
    reward_model: RewardModel, tokenizer: Any
) -> None:
    ids = sequences(tokenizer)
    alone = torch.cat([score_ids(reward_model, *left_pad([row], pad=0)) for row in ids])
    left = score_ids(reward_model, *left_pad([*ids, [7] * 60], pad=tokenizer.pad_token_id))[:3]
    right = collate([([], row) for row in [*ids, [9] * 90]], pad=tokenizer.pad_token_id)
    assert float((left - alone).abs().max()) < 1e-5
    assert float((score_ids(reward_model, right.ids, right.attention_mask)[:3] - alone).abs().max()) < 1e-5
    assert score(reward_model, tokenizer, PROMPTS, RESPONSES, batch_size=2) == pytest.approx(alone.tolist(), abs=1e-5)


@torch.no_grad()
def test_score_changes_when_the_end_token_is_dropped(reward_model: RewardModel, tokenizer: Any) -> None:
    (row, *_) = sequences(tokenizer)
    whole, cut = (score_ids(reward_model, *left_pad([ids], pad=0)) for ids in (row, row[:-1]))
    assert float((whole - cut).abs()) > 1e-3


@torch.no_grad()
def test_a_saved_reward_model_scores_alike_in_transformers(
    reward_model: RewardModel, tokenizer: Any, tmp_path: Path
) -> None:
    from transformers import AutoModelForSequenceClassification

    reward_model.gain, reward_model.bias = 1.7, -0.4
    save_reward_model(reward_model, tokenizer, tmp_path / "reward")
    ours = load_reward_model(tmp_path / "reward", tokenizer=tokenizer)
    wanted = score(reward_model, tokenizer, PROMPTS, RESPONSES)
    assert score(ours, tokenizer, PROMPTS, RESPONSES) == pytest.approx(wanted, abs=1e-5)
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "reward").eval()
    batch = collate([([], row) for row in sequences(tokenizer)], pad=tokenizer.pad_token_id)
    logits = theirs(input_ids=batch.ids, attention_mask=batch.attention_mask.long()).logits.squeeze(-1)
    constant = getattr(theirs.config, BIAS)  # Their head has no bias, so theirs differ by it, alike for all.
    assert (logits + constant).tolist() == pytest.approx(wanted, abs=1e-5)


def test_a_reward_model_saved_twice_keeps_its_scale(reward_model: RewardModel, tokenizer: Any, tmp_path: Path) -> None:
    reward_model.gain, reward_model.bias = 3.0, 0.5
    save_reward_model(reward_model, tokenizer, tmp_path / "a")
    save_reward_model(load_reward_model(tmp_path / "a", tokenizer=tokenizer), tokenizer, tmp_path / "b")
    again = load_reward_model(tmp_path / "b", tokenizer=tokenizer)
    wanted = score(reward_model, tokenizer, PROMPTS, RESPONSES)
    assert score(again, tokenizer, PROMPTS, RESPONSES) == pytest.approx(wanted, abs=1e-5)


def test_a_policy_folder_comes_back_with_tied_embeddings(policy: Any, tokenizer: Any, tmp_path: Path) -> None:
    save_policy(policy, tokenizer, tmp_path)
    again = load_policy(tmp_path, tokenizer=load_tokenizer(tmp_path))
    for one, other in zip(policy.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    assert again.get_output_embeddings().weight is again.get_input_embeddings().weight
    assert not again.training


def test_an_added_padding_token_gets_an_embedding(tiny_base: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_base)
    tokenizer.add_special_tokens({"pad_token": "<|another|>"})
    assert load_policy(tiny_base, tokenizer=tokenizer).get_input_embeddings().num_embeddings == len(tokenizer)
    model = new_reward_model(tiny_base, tokenizer=tokenizer, seed=0)
    assert len(score(model, tokenizer, PROMPTS, RESPONSES)) == 3


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt", "modeling_evil.py", "x.pkl", "x.pth"])
def test_folders_that_could_run_code_are_refused(tiny_base: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=name):
        load_policy(tmp_path)


def test_another_architecture_works_as_policy_and_as_reward_model(tokenizer: Any, tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    GPT2LMHeadModel(
        GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, n_positions=64)
    ).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = new_reward_model(tmp_path, tokenizer=tokenizer, seed=0)
    alone = [score(model, tokenizer, [p], [r])[0] for p, r in zip(PROMPTS, RESPONSES, strict=True)]
    assert score(model, tokenizer, PROMPTS, RESPONSES) == pytest.approx(alone, abs=1e-5)
    with torch.no_grad():  # Its positions are learned: padding on the left would move them.
        left = score_ids(model, *left_pad(sequences(tokenizer), pad=tokenizer.pad_token_id))
    assert left.tolist() == pytest.approx(alone, abs=1e-5)


def test_the_demo_base_has_about_a_million_parameters_and_repeats(tmp_path: Path) -> None:
    texts = [f"{word} {number}" for number in range(400) for word in ("rain", "river", "morning", "thank", "you")]
    for name in ("a", "b"):
        build_tiny_base(texts, tmp_path / name)
    model = load_policy(tmp_path / "a", tokenizer=load_tokenizer(tmp_path / "a"))
    assert 700_000 < num_parameters(model) < 1_300_000
    for one, other in zip(*(load_file(tmp_path / n / "model.safetensors").values() for n in "ab"), strict=True):
        assert torch.equal(one, other)


def test_building_the_base_leaves_the_random_state_alone(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    build_tiny_base(["one two"], tmp_path, vocab_size=300, hidden=16, layers=1, heads=2)
    assert torch.equal(before, torch.get_rng_state())


def test_a_damaged_weight_file_is_not_loaded(policy: Any, tokenizer: Any, tmp_path: Path) -> None:
    save_policy(policy, tokenizer, tmp_path)
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Exception, match=r"(?i)incomplete|invalid|deserializ"):
        load_policy(tmp_path)
