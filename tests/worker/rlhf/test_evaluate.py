"""Reports: intervals against scipy, accuracy by hand, and policies compared with themselves."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import binomtest

from tests.worker.rlhf.worlds import PROMPTS, make_policy
from worker.rlhf import evaluate
from worker.rlhf.modeling import load_policy
from worker.rlhf.rollout import SamplingSettings
from worker.rlhf.tokens import load_tokenizer
from worker.rlhf.types import Prompt, Ranking

SAMPLING = SamplingSettings(max_new_tokens=12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture
def policy(folder: Path) -> Any:
    return load_policy(folder)


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    return load_tokenizer(folder)


@pytest.fixture
def length_model(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Stands for a reward model that has learned nothing but length."""

    def lengths(_: Any, __: Any, prompts: list[Prompt], responses: list[str], **___: Any) -> list[float]:
        assert len(prompts) == len(responses)
        return [float(len(text)) for text in responses]

    monkeypatch.setattr(evaluate, "score", lengths)
    return object()


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (7, 10), (10, 10), (530, 1000)])
def test_wilson_is_what_scipy_says(successes: int, n: int) -> None:
    expected = binomtest(successes, n).proportion_ci(method="wilson")
    assert evaluate.wilson(successes, n) == pytest.approx((expected.low, expected.high))


def test_wilson_knows_nothing_of_nothing() -> None:
    assert evaluate.wilson(0, 0) == (0.0, 1.0)


def test_accuracy_weighs_comparisons_not_pairs(length_model: Any) -> None:
    """Six pairs, all right, and one pair, wrong: 1/2, where pairs would give 6/7."""
    heldout = [
        Ranking(PROMPTS[0], ("aaaa", "aaa", "aa", "a"), (1, 2, 3, 4)),
        Ranking(PROMPTS[1], ("a", "aa"), (1, 2)),
    ]
    report = evaluate.reward_report(length_model, None, heldout, max_length=64)
    assert report["accuracy"] == report["accuracy_longer"] == 0.5
    assert report["accuracy_shorter"] == 0.5
    expected = binomtest(1, 2).proportion_ci(method="wilson")  # One comparison of two is right.
    assert (report["accuracy_low"], report["accuracy_high"]) == pytest.approx((expected.low, expected.high))
    assert (report["num_heldout_rankings"], report["num_heldout_pairs"]) == (2, 7)


def test_a_model_of_length_is_shown_as_one(length_model: Any) -> None:
    heldout = [Ranking(PROMPTS[0], ("a", "aaa", "aa"), (3, 1, 2))]
    report = evaluate.reward_report(length_model, None, heldout, max_length=64)
    assert report["length_correlation"] == pytest.approx(1.0)
    assert (report["accuracy"], report["accuracy_shorter"]) == (1.0, 0.0)


def test_ties_and_unranked_responses_are_no_preferences(length_model: Any) -> None:
    heldout = [
        Ranking(PROMPTS[0], ("a", "aa"), (1, 1)),
        Ranking(PROMPTS[0], ("a", "aaaa"), (None, 1)),
        Ranking(PROMPTS[1], ("aaa", "aa", "a"), (1, 2, 2)),
    ]
    report = evaluate.reward_report(length_model, None, heldout, max_length=64)
    assert (report["num_heldout_rankings"], report["num_heldout_pairs"], report["accuracy"]) == (1, 2, 1.0)


def test_equal_scores_count_half(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "score", lambda *args, **_: [0.0] * len(args[3]))
    report = evaluate.reward_report(object(), None, [Ranking(PROMPTS[0], ("a", "b"), (1, 2))], max_length=64)  # type: ignore[arg-type]
    assert report["accuracy"] == 0.5
    assert report["length_correlation"] == 0.0


def test_no_heldout_rankings_is_a_report_too(length_model: Any) -> None:
    assert evaluate.reward_report(length_model, None, [], max_length=64)["num_heldout_pairs"] == 0


def test_a_policy_ties_with_itself(policy: Any, tokenizer: Any) -> None:
    report = evaluate.compare_policies(
        policy, policy, tokenizer, PROMPTS, lambda _, texts: [float(len(t)) for t in texts], sampling=SAMPLING
    )
    assert report["win_rate"] == 0.5
    assert report["kl"] == 0.0
    assert report["score"] == report["score_before"]
    assert float(report["win_rate_low"]) < 0.5 < float(report["win_rate_high"])


def test_the_judges_favourite_wins(policy: Any, tokenizer: Any) -> None:
    calls: list[int] = []

    def judge(prompts: list[Prompt], texts: list[str]) -> list[float]:
        calls.append(len(prompts))
        return [2.0 - len(calls)] * len(texts)

    report = evaluate.compare_policies(policy, policy, tokenizer, PROMPTS, judge, sampling=SAMPLING)
    assert (report["win_rate"], report["num_prompts"]) == (1.0, len(PROMPTS))
    assert calls == [len(PROMPTS)] * 2


def test_the_kl_of_one_token_is_the_sum_over_the_vocabulary(policy: Any, folder: Path, tokenizer: Any) -> None:
    other, prompts = load_policy(folder), [PROMPTS[0]] * 4000
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.9)
    one_token = replace(SAMPLING, max_new_tokens=1)
    samples = evaluate._sample_all(policy, tokenizer, prompts, one_token)
    found = evaluate.policy_kl(policy, other, tokenizer, prompts, samples, sampling=one_token)
    ids = torch.tensor([evaluate_prompt(tokenizer)])
    with torch.no_grad():
        mine, theirs = (model(input_ids=ids).logits[0, -1].log_softmax(-1) for model in (policy, other))
    assert found == pytest.approx(float((mine.exp() * (mine - theirs)).sum()), rel=0.1, abs=0.01)


def evaluate_prompt(tokenizer: Any) -> list[int]:
    """The first prompt's ids, by the template itself."""
    ids: list[int] = tokenizer.apply_chat_template(PROMPTS[0], add_generation_prompt=True)["input_ids"]
    return ids


def test_repeated_bigrams_count_once() -> None:
    assert evaluate.distinct_bigrams([[1, 2, 1, 2], [1, 2]]) == 2 / 4
    assert evaluate.distinct_bigrams([[1]]) == 0.0
