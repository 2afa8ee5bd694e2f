"""Sampling against a naive loop, and log-probabilities against transformers' own forward."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.worker.rlhf.worlds import PROMPTS, ask, make_policy
from worker.rlhf import rollout
from worker.rlhf.modeling import load_policy, trunk_of
from worker.rlhf.rollout import SamplingSettings, generate, policy_logprobs, sample_responses, token_logprobs
from worker.rlhf.tokens import collate, encode_prompt, load_tokenizer
from worker.rlhf.types import Sampled


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture(scope="module")
def policy(folder: Path) -> Any:
    return load_policy(folder)


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    return load_tokenizer(folder)


def draw(policy: Any, tokenizer: Any, *, num_responses: int = 3, **settings: Any) -> list[Sampled]:
    batches = sample_responses(
        policy, tokenizer, PROMPTS, SamplingSettings(**settings), num_responses=num_responses, batch_size=4
    )
    return [sample for batch in batches for sample in batch]


def greedy_alone(policy: Any, tokenizer: Any, prompt_ids: list[int], *, limit: int) -> list[int]:
    """Without cache, padding or batch: forward everything again for each token."""
    ids = list(prompt_ids)
    while len(ids) - len(prompt_ids) < limit:
        with torch.no_grad():
            ids.append(int(policy(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == tokenizer.eos_token_id:
            break
    return ids[len(prompt_ids) :]


def test_greedy_sampling_of_a_padded_batch_equals_a_naive_loop_alone(policy: Any, tokenizer: Any) -> None:
    found = draw(policy, tokenizer, top_k=1, max_new_tokens=12)
    for sample in found:
        alone = greedy_alone(policy, tokenizer, encode_prompt(tokenizer, PROMPTS[sample.prompt_index]), limit=12)
        assert list(sample.token_ids) == alone


def test_padding_moves_no_position_where_positions_are_learned(tokenizer: Any) -> None:
    """GPT-2 has an embedding for each position; Llama's depend on distances alone and would not tell."""
    from transformers import GPT2Config, GPT2LMHeadModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2, n_positions=64))
    with torch.no_grad():
        model.transformer.wpe.weight.mul_(50)  # So that a place decides what is said.
    model.eval()
    for sample in draw(model, tokenizer, num_responses=1, top_k=1, max_new_tokens=8):
        prompt = encode_prompt(tokenizer, PROMPTS[sample.prompt_index])
        assert list(sample.token_ids) == greedy_alone(model, tokenizer, prompt, limit=8)


def test_a_sample_depends_on_its_own_random_numbers_alone(policy: Any, tokenizer: Any) -> None:
    encoded = [encode_prompt(tokenizer, prompt) for prompt in PROMPTS * 3]
    uniforms = rollout.draw_uniforms(len(encoded), 16, torch.Generator().manual_seed(1))
    settings = SamplingSettings(max_new_tokens=16)

    def drawn(rows: slice) -> list[list[int]]:
        return generate(policy, tokenizer, encoded[rows], settings, num_responses=1, uniforms=uniforms[rows])

    together = drawn(slice(None))
    assert len({len(row) for row in together}) > 2  # Some leave the batch while others go on.
    assert together == [drawn(slice(row, row + 1))[0] for row in range(len(encoded))]


def test_samples_come_in_the_order_of_the_prompts(policy: Any, tokenizer: Any) -> None:
    found = draw(policy, tokenizer, max_new_tokens=2)
    assert [sample.prompt_index for sample in found] == [index for index in range(len(PROMPTS)) for _ in range(3)]


def test_nothing_follows_the_end_token_and_cut_responses_have_none(policy: Any, tokenizer: Any) -> None:
    found, eos = draw(policy, tokenizer, max_new_tokens=10, num_responses=8), tokenizer.eos_token_id
    assert {sample.finish_reason for sample in found} == {"stop", "length"}
    assert min(len(sample.token_ids) for sample in found) < 10  # Some ended with tokens to spare.
    for sample in found:
        assert eos not in sample.token_ids[:-1]
        assert (sample.token_ids[-1] == eos) == (sample.finish_reason == "stop")
        assert sample.finish_reason == "stop" or len(sample.token_ids) == 10
        assert "<|end|>" not in sample.text


def test_the_same_seed_samples_the_same_text_and_another_seed_another(policy: Any, tokenizer: Any) -> None:
    assert draw(policy, tokenizer, seed=5) == draw(policy, tokenizer, seed=5)
    assert draw(policy, tokenizer, seed=5) != draw(policy, tokenizer, seed=6)


def test_the_samples_of_one_prompt_differ(policy: Any, tokenizer: Any) -> None:
    found = draw(policy, tokenizer, num_responses=8)
    assert len({sample.text for sample in found if sample.prompt_index == 0}) > 1


def test_a_prompt_is_forwarded_once_for_all_its_samples(
    policy: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[tuple[int, ...]] = []
    trunk = trunk_of(policy)

    def watched(**inputs: Any) -> Any:
        shapes.append(tuple(inputs["input_ids"].shape))
        return trunk(**inputs)

    monkeypatch.setattr(rollout, "trunk_of", lambda _: watched)
    encoded = [encode_prompt(tokenizer, prompt) for prompt in PROMPTS[:2]]
    rows = generate(
        policy, tokenizer, encoded, SamplingSettings(), num_responses=5, generator=torch.Generator().manual_seed(0)
    )
    assert shapes[0] == (2, max(map(len, encoded)))
    # A row takes part in one forward per token but its last: rows that ended cost nothing.
    assert sum(rows_alive for rows_alive, _ in shapes[1:]) == sum(len(row) - 1 for row in rows)


def test_frequencies_of_the_first_token_follow_the_tempered_distribution(policy: Any, tokenizer: Any) -> None:
    ids = encode_prompt(tokenizer, PROMPTS[0])
    with torch.no_grad():
        expected = (policy(input_ids=torch.tensor([ids])).logits[0, -1] / 0.7).softmax(-1)
    rows = generate(
        policy,
        tokenizer,
        [ids],
        SamplingSettings(temperature=0.7, max_new_tokens=1),
        num_responses=20_000,
        generator=torch.Generator().manual_seed(0),
    )
    counts = torch.bincount(torch.tensor([row[0] for row in rows]), minlength=len(expected)) / len(rows)
    assert torch.allclose(counts, expected, atol=0.015)


def test_nucleus_keeps_the_token_that_crosses_the_bound() -> None:
    kept = rollout._nucleus(torch.tensor([[0.2, 0.5, 0.3]]).log(), 0.6).isfinite()
    assert kept.tolist() == [[False, True, True]]


def test_logprobs_equal_a_naive_loop_over_tokens(policy: Any, tokenizer: Any) -> None:
    samples = draw(policy, tokenizer, max_new_tokens=8)
    pairs = [(encode_prompt(tokenizer, PROMPTS[s.prompt_index]), list(s.token_ids)) for s in samples]
    found, _ = token_logprobs(policy, collate(pairs, pad=tokenizer.pad_token_id), temperature=0.7)
    expected = []
    for prompt, response in pairs:
        for t, token in enumerate(response):
            logits = policy(input_ids=torch.tensor([prompt + response[:t]])).logits[0, -1] / 0.7
            expected.append(logits.log_softmax(-1)[token])
    assert torch.allclose(found, torch.stack(expected), atol=1e-5)


def test_logprobs_do_not_depend_on_companions_in_the_batch(policy: Any, tokenizer: Any) -> None:
    samples = draw(policy, tokenizer, max_new_tokens=20)
    together = policy_logprobs(policy, tokenizer, PROMPTS, samples, temperature=1.0)
    alone = policy_logprobs(policy, tokenizer, PROMPTS, samples, temperature=1.0, batch_size=1)
    assert torch.allclose(together, alone, atol=1e-5)


def test_logprobs_of_long_prompts_see_what_the_sampler_saw(policy: Any, tokenizer: Any) -> None:
    prompt = ask("Where is the pool? " * 10 + "Hi")
    kept = encode_prompt(tokenizer, prompt, max_length=9)
    sample = Sampled(0, "Hi", tuple(tokenizer("Hi")["input_ids"]), "length")
    found = policy_logprobs(policy, tokenizer, [prompt], [sample], temperature=1.0, max_prompt_length=9)
    batch = collate([(kept, list(sample.token_ids))], pad=tokenizer.pad_token_id)
    expected = token_logprobs(policy, batch, temperature=1.0)[0].sum().item()
    assert found.item() == pytest.approx(expected, abs=1e-5)


def test_a_response_decodes_to_text_that_the_rater_sees(policy: Any, tokenizer: Any) -> None:
    for sample in draw(policy, tokenizer):
        ids = list(sample.token_ids[:-1] if sample.finish_reason == "stop" else sample.token_ids)
        assert tokenizer.decode(ids, skip_special_tokens=True).strip() == sample.text
