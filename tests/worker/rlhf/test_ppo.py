"""The details that decide whether PPO is PPO, each derived another way; README.md numbers them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from app.training.explained import METRICS
from tests.worker.rlhf.worlds import PROMPTS, make_policy, make_reward_model
from worker.rlhf import episodes, ppo
from worker.rlhf.actors import Trainer
from worker.rlhf.episodes import Rollout, ScoreFunction, collect, evaluate
from worker.rlhf.keeping import Best
from worker.rlhf.modeling import RewardModel, load_policy, load_reward_model, score
from worker.rlhf.ppo import PPOSettings, train_ppo
from worker.rlhf.tokens import load_tokenizer
from worker.rlhf.types import NotANumberError, Prompt, Stats

SMALL = PPOSettings(
    num_updates=3, batch_size=12, minibatch_size=6, micro_batch_size=6, max_new_tokens=8, temperature=0.7, eval_every=1
)


@pytest.fixture(scope="module")
def policy_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture(scope="module")
def reward_dir(policy_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_reward_model(policy_dir, tmp_path_factory.mktemp("reward"))


@pytest.fixture
def trainer(policy_dir: Path, reward_dir: Path) -> Trainer:
    return Trainer(policy_dir, reward_dir, SMALL, reference_dir=None)


def changed(trainer: Trainer, **settings: Any) -> Trainer:
    """The same trainer under other settings."""
    trainer.settings = replace(trainer.settings, **settings)
    return trainer


def weights(model: Any) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def same(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def count_of(word: str) -> ScoreFunction:
    """A reward without a model: how often a text says the word, up to three times."""

    def scores(_: list[Prompt], texts: list[str]) -> list[float]:
        return [float(min(text.count(word), 3)) for text in texts]

    return scores


def test_the_first_minibatch_has_ratio_one_and_clips_nothing(trainer: Trainer) -> None:
    rollout = collect(trainer, PROMPTS * 2)
    # Other companions and another padding than when the episodes were collected.
    stats = ppo.minibatch(changed(trainer, micro_batch_size=2), rollout, [7, 0, 11, 3, 4])
    assert stats["ratio_error"] < 1e-4
    assert stats["clip_fraction"] == 0.0
    assert abs(stats["approx_kl"]) < 1e-7


def test_the_kl_is_exactly_zero_before_the_first_step(trainer: Trainer) -> None:
    rollout = collect(trainer, PROMPTS * 2)
    assert torch.equal(rollout.logprobs, rollout.ref_logprobs)
    assert episodes.evaluate(trainer, PROMPTS, None)["eval_kl"] == 0.0


def test_rewards_sum_to_the_score_less_the_price_of_the_kl() -> None:
    logprobs, reference = (
        torch.tensor([[-1.0, -2.0, 9.0], [-3.0, 9.0, 9.0]]),
        torch.tensor([[-1.5, -1.0, 0], [-4.0, 0, 0]]),
    )
    mask = torch.tensor([[True, True, False], [True, False, False]])
    rewards = episodes.token_rewards(torch.tensor([5.0, -2.0]), logprobs, reference, mask, kl_coef=0.1)
    assert rewards[0].tolist() == pytest.approx([-0.05, 5.1, 0.0])
    assert rewards[1].tolist() == pytest.approx([-2.1, 0.0, 0.0])


def test_the_score_lies_on_the_end_token_alone(trainer: Trainer) -> None:
    trainer.kl_coef = 0.0
    rollout = collect(trainer, PROMPTS * 2, score_fn=lambda _, texts: [2.5] * len(texts))
    ended = 0
    for row, (_, response) in enumerate(rollout.pairs):
        places = rollout.rewards[row].nonzero().squeeze(-1).tolist()
        assert places == [len(response) - 1]
        ended += response[places[0]] == trainer.eos
    assert ended > 0


def test_cut_responses_pay_for_their_missing_end_and_others_do_not(trainer: Trainer) -> None:
    rollout = collect(changed(trainer, missing_eos_penalty=0.75), PROMPTS * 2, score_fn=lambda _, t: [1.0] * len(t))
    expected = [1.0 if response[-1] == trainer.eos else 0.25 for _, response in rollout.pairs]
    assert rollout.scores.tolist() == expected
    assert set(expected) == {1.0, 0.25}


def test_scores_are_clipped(trainer: Trainer) -> None:
    rollout = collect(
        changed(trainer, score_clip=2.0, missing_eos_penalty=0.0), PROMPTS, score_fn=lambda _, t: [50.0] * len(t)
    )
    assert rollout.scores.tolist() == [2.0] * len(PROMPTS)


def test_an_episode_is_scored_as_the_text_that_a_rater_sees(trainer: Trainer, reward_dir: Path) -> None:
    rollout = collect(changed(trainer, missing_eos_penalty=0.0), PROMPTS)
    tokenizer = trainer.tokenizer
    model = load_reward_model(reward_dir, tokenizer=load_tokenizer(reward_dir))
    # Only texts whose ids survive decoding and encoding: a cut can leave half a character behind.
    for row, (_, response) in enumerate(rollout.pairs):
        text = tokenizer.decode(response, skip_special_tokens=True)
        again = tokenizer(text, add_special_tokens=False)["input_ids"]
        if again == [token for token in response if token != trainer.eos]:
            expected = score(model, tokenizer, [PROMPTS[row]], [text])[0]
            assert rollout.scores[row].item() == pytest.approx(expected, abs=1e-4)


def test_an_empty_response_is_an_episode_like_any_other(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    eos = trainer.eos
    monkeypatch.setattr(episodes, "generate", lambda *_, **__: [[eos], [20, 21, eos]])
    rollout = collect(trainer, PROMPTS[:2])
    assert rollout.mask.sum(1).tolist() == [1, 3]
    assert rollout.scores.isfinite().all()
    assert all(torch.tensor(list(ppo.optimise(trainer, rollout).values())).isfinite())


def test_advantages_are_whitened_over_the_tokens_of_the_whole_batch(trainer: Trainer) -> None:
    rollout = collect(trainer, PROMPTS * 2)
    real = rollout.advantages[rollout.mask]
    assert abs(real.mean().item()) < 1e-6
    assert real.std(correction=0).item() == pytest.approx(1.0, abs=1e-4)
    assert rollout.advantages[~rollout.mask].abs().sum().item() == 0.0


def test_values_stand_at_the_states_before_the_tokens(trainer: Trainer) -> None:
    pairs = [([20, 21, 22], [30, 31, 1]), ([20], [33, 1])]
    critic = trainer.critic
    assert isinstance(critic, RewardModel)
    critic.gain, critic.bias = 2.0, -0.5
    found = trainer.values(pairs)
    expected = []
    for prompt, response in pairs:
        for t in range(len(response)):
            ids = torch.tensor([prompt + response[:t]])
            expected.append(2 * critic.classifier(input_ids=ids).logits[0, 0] - 0.5)
    assert torch.allclose(found, torch.stack(expected), atol=1e-5)


def test_companions_and_padding_change_no_gradient(trainer: Trainer) -> None:
    pairs, longer = [([20, 21], [30, 1]), ([20, 21, 22, 23], [30, 31, 32, 1])], ([24] * 30, [33] * 9)
    for is_packed in (True, False):
        trainer.is_packed = dict.fromkeys(trainer.is_packed, is_packed)
        for model, outputs in (
            (trainer.policy, lambda rows: trainer.act(rows).logprobs),
            (trainer.critic, trainer.values),
        ):
            gradients = []
            for rows in (pairs, [*pairs, longer]):
                model.zero_grad()
                outputs(rows)[:6].sum().backward()
                gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
            assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*gradients, strict=True))


def gradients_of(trainer: Trainer, rollout: Rollout, monkeypatch: pytest.MonkeyPatch, *, micro: int) -> list[Tensor]:
    """Policy and critic gradients of one minibatch, with the steps left out."""
    changed(trainer, micro_batch_size=micro, micro_batch_tokens=0, max_grad_norm=1e9)
    for optimizer in (trainer.policy_optimizer, trainer.critic_optimizer):
        monkeypatch.setattr(optimizer, "step", lambda: None)
    ppo.minibatch(trainer, rollout, list(range(8)))
    both = [*trainer.policy.parameters(), *trainer.critic.parameters()]
    return [p.grad.clone() for p in both if p.grad is not None]


def test_micro_batches_do_not_change_the_token_mean(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    rollout = collect(trainer, PROMPTS * 2)
    assert len(set(rollout.mask[:8].sum(1).tolist())) > 1  # Lengths differ, or the test would prove nothing.
    whole, parts = (gradients_of(trainer, rollout, monkeypatch, micro=size) for size in (8, 3))
    for first, second in zip(whole, parts, strict=True):
        assert torch.allclose(first, second, atol=1e-6)


@pytest.mark.parametrize(("epochs", "minibatch"), [(1, 12), (2, 6), (3, 5)])
def test_every_minibatch_takes_a_step(trainer: Trainer, epochs: int, minibatch: int) -> None:
    changed(trainer, epochs=epochs, minibatch_size=minibatch, stop_kl=1e9)
    stats = ppo.one_update(trainer, PROMPTS * 2, update=0)
    expected = epochs * -(-12 // minibatch)
    assert stats["optimizer_steps"] == expected
    for optimizer in (trainer.policy_optimizer, trainer.critic_optimizer):
        assert {int(state["step"]) for state in optimizer.state.values()} == {expected}


def test_an_update_stops_early_when_the_policy_has_gone_far(trainer: Trainer) -> None:
    changed(trainer, epochs=4, stop_kl=1e-9)
    assert ppo.one_update(trainer, PROMPTS * 2, update=0)["optimizer_steps"] == 2


def test_every_update_has_as_many_prompts_and_a_pass_uses_each_once() -> None:
    batches = [ppo.prompts_of_update(PROMPTS, update, batch_size=4, seed=1) for update in range(3)]
    assert [len(batch) for batch in batches] == [4, 4, 4]
    stream = [prompt[0]["content"] for batch in batches for prompt in batch]
    for one_pass in (stream[:6], stream[6:]):
        assert sorted(one_pass) == sorted(prompt[0]["content"] for prompt in PROMPTS)


def test_few_prompts_still_fill_a_batch() -> None:
    assert len(ppo.prompts_of_update(PROMPTS[:1], 3, batch_size=5, seed=0)) == 5


@pytest.mark.parametrize(("kl", "factor"), [(60.0, 1.02), (6.0, 1.0), (0.0, 0.98), (6.6, 1.01), (-5.0, 0.98)])
def test_the_kl_coefficient_moves_towards_the_target_within_bounds(kl: float, factor: float) -> None:
    settings = PPOSettings(target_kl=6.0, kl_horizon=1000)
    assert ppo.adapted_kl_coef(0.05, kl, num_episodes=100, settings=settings) == pytest.approx(0.05 * factor)


def test_without_a_target_the_kl_coefficient_stays() -> None:
    assert ppo.adapted_kl_coef(0.05, 99.0, num_episodes=64, settings=PPOSettings(target_kl=0.0)) == 0.05


def test_the_reference_and_the_reward_model_never_move(trainer: Trainer) -> None:
    frozen: list[Any] = [trainer.reference, trainer.reward_model]
    before, moving = [weights(model) for model in frozen], weights(trainer.policy)
    ppo.one_update(trainer, PROMPTS * 2, update=0)
    assert all(same(old, weights(model)) for old, model in zip(before, frozen, strict=True))
    assert not same(moving, weights(trainer.policy))


def test_the_critic_starts_as_the_reward_model(trainer: Trainer) -> None:
    assert same(weights(trainer.critic), weights(trainer.reward_model))
    assert torch.tensor(ppo.one_update(trainer, PROMPTS * 2, update=0)["explained_variance"]).isfinite()


def test_all_that_an_update_measures_is_explained_to_operators(trainer: Trainer) -> None:
    measured = {**ppo.one_update(trainer, PROMPTS * 2, update=0), **evaluate(trainer, PROMPTS[:2], None)}
    assert {"score", "first_ratio_error", "eval_length"} <= set(measured)
    drawn = {name for name in measured if not name.endswith("_seconds")}  # As run.js draws them.
    assert drawn <= set(METRICS)


def test_dropout_is_off_while_training(trainer: Trainer) -> None:
    ppo.one_update(trainer, PROMPTS, update=0)
    classifiers = [model.classifier for model in (trainer.critic, trainer.reward_model)]
    models: list[Any] = [trainer.policy, trainer.reference, *classifiers]
    assert not any(module.training for model in models for module in model.modules())
    assert trainer.policy_optimizer.defaults["eps"] == 1e-5


@pytest.mark.parametrize(("update", "rate"), [(0, 0.4), (1, 0.3), (3, 0.1)])
def test_the_learning_rate_falls_in_a_line(trainer: Trainer, update: int, rate: float) -> None:
    changed(trainer, num_updates=4, learning_rate=0.4, critic_learning_rate=0.8)
    ppo.one_update(trainer, PROMPTS, update=update)
    assert trainer.policy_optimizer.param_groups[0]["lr"] == pytest.approx(rate)
    assert trainer.critic_optimizer.param_groups[0]["lr"] == pytest.approx(2 * rate)


def run(policy_dir: Path, reward_dir: Path, out: Path, settings: PPOSettings, **rest: Any) -> list[Stats]:
    return list(train_ppo(policy_dir, reward_dir, PROMPTS, settings, out=out, eval_prompts=PROMPTS * 4, **rest))


def test_a_rewarded_word_becomes_frequent_and_the_kl_grows_from_zero(
    policy_dir: Path, reward_dir: Path, tmp_path: Path
) -> None:
    settings = PPOSettings(
        num_updates=40, batch_size=32, learning_rate=1e-3, max_new_tokens=16, kl_coef=0.02, target_kl=0, eval_every=10
    )
    stats = run(policy_dir, reward_dir, tmp_path, settings, score_fn=count_of("pool"))
    done, updates = stats[-1], stats[:-1]
    assert updates[0]["kl"] == 0.0
    assert done["phase"] == "ppo_done"
    assert float(done["score_end"]) > float(done["score_start"]) + 0.5
    assert 0 < float(done["kl"]) < settings.max_kl
    kls = [float(row["kl"]) for row in updates]
    assert sum(kls[:3]) < sum(kls[3:6]) < sum(kls[6:9])  # Later it has what it wants, and may come back a little.
    assert sum(kls[-5:]) > sum(kls[:5])
    assert all(float(row["first_ratio_error"]) < 1e-4 for row in updates)


def test_a_huge_price_on_kl_holds_the_policy_where_it_is(policy_dir: Path, reward_dir: Path, tmp_path: Path) -> None:
    settings = PPOSettings(
        num_updates=15, batch_size=32, learning_rate=1e-3, max_new_tokens=16, kl_coef=1e6, target_kl=0, eval_every=5
    )
    stats = run(policy_dir, reward_dir, tmp_path, settings, score_fn=count_of("pool"))
    assert abs(float(stats[-2]["eval_kl"])) < 0.2
    assert abs(float(stats[-1]["score_end"]) - float(stats[-1]["score_start"])) < 0.5


def test_the_kept_version_is_the_best_within_the_budget(trainer: Trainer) -> None:
    best, start = Best(), weights(trainer.policy)
    changed(trainer, max_kl=10.0)
    best.consider(trainer, {"eval_score": 1.0, "eval_kl": 2.0, "eval_length": 5.0}, 1)
    with torch.no_grad():
        next(iter(trainer.policy.parameters())).add_(1.0)
    best.consider(trainer, {"eval_score": 9.0, "eval_kl": 11.0, "eval_length": 5.0}, 2)  # Too far away.
    best.consider(trainer, {"eval_score": 0.5, "eval_kl": 1.0, "eval_length": 5.0}, 3)  # Worse.
    best.restore(trainer)
    assert same(weights(trainer.policy), start)
    assert best.report({})["kept_update"] == 1.0


def test_the_result_is_a_folder_that_loads(policy_dir: Path, reward_dir: Path, tmp_path: Path) -> None:
    stats = run(policy_dir, reward_dir, tmp_path / "out", replace(SMALL, num_updates=1))
    assert [(row["phase"], row["step"], row["total_steps"]) for row in stats] == [("ppo", 1, 1), ("ppo_done", 1, 1)]
    assert not same(weights(load_policy(tmp_path / "out")), weights(load_policy(policy_dir)))
    assert load_tokenizer(tmp_path / "out").chat_template


def test_a_score_that_is_not_a_number_ends_the_run_before_a_step(trainer: Trainer) -> None:
    before = weights(trainer.policy)
    with pytest.raises(NotANumberError, match="stopped being numbers"):
        ppo.one_update(trainer, PROMPTS * 2, update=0, score_fn=lambda _, texts: [float("nan")] * len(texts))
    assert same(before, weights(trainer.policy))


def test_no_prompts_is_refused_with_a_sentence(policy_dir: Path, reward_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no prompts to practise on"):
        next(train_ppo(policy_dir, reward_dir, [], SMALL, out=tmp_path))
