"""What an update measures of its episodes, where the policy is no longer the reference: each number another way."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical

from tests.worker.rlhf.test_masked import slow_gae
from tests.worker.rlhf.test_ppo import SMALL, changed
from tests.worker.rlhf.worlds import PROMPTS, make_policy, make_reward_model
from worker.rlhf import episodes, ppo, processes
from worker.rlhf.actors import Pair, Trainer, ValueHead
from worker.rlhf.episodes import Rollout, collect
from worker.rlhf.modeling import load_policy, load_reward_model, save_policy, score
from worker.rlhf.rollout import generate
from worker.rlhf.tokens import encode_prompt, load_tokenizer
from worker.rlhf.types import Prompt


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    policy = make_policy(tmp_path_factory.mktemp("policy"))
    return policy, make_reward_model(policy, tmp_path_factory.mktemp("reward"))


@pytest.fixture
def trainer(models: tuple[Path, Path]) -> Trainer:
    """Its policy has left the reference, so that nothing is 0 or 1 because both are the same."""
    found = Trainer(*models, SMALL, reference_dir=None)
    move(found.policy)
    return found


def move(model: Any) -> None:
    """Add a little noise to all weights."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))


@torch.no_grad()
def distributions(model: Any, pairs: Sequence[Pair], *, temperature: float) -> list[list[Categorical]]:
    """Of each response token, by a forward of its own over what is before it."""
    return [
        [
            Categorical(logits=model(input_ids=torch.tensor([prompt + response[:t]])).logits[0, -1] / temperature)
            for t in range(len(response))
        ]
        for prompt, response in pairs
    ]


def logprobs_of(model: Any, pairs: Sequence[Pair], *, temperature: float = 0.7) -> list[list[float]]:
    found = distributions(model, pairs, temperature=temperature)
    return [
        [float(step.log_prob(torch.tensor(token))) for step, token in zip(steps, response, strict=True)]
        for steps, (_, response) in zip(found, pairs, strict=True)
    ]


def real(values: Tensor, rollout: Rollout) -> list[float]:
    found: list[float] = values[rollout.mask].tolist()
    return found


def flat(rows: Sequence[Sequence[float]]) -> list[float]:
    return [value for row in rows for value in row]


def test_log_probabilities_and_entropy_are_of_the_tempered_policy(trainer: Trainer) -> None:
    rollout = collect(trainer, PROMPTS)
    assert len({len(response) for _, response in rollout.pairs}) > 1  # There is padding that must not count.
    assert real(rollout.logprobs, rollout) == pytest.approx(flat(logprobs_of(trainer.policy, rollout.pairs)), abs=1e-4)
    steps = distributions(trainer.policy, rollout.pairs, temperature=0.7)
    assert rollout.entropy == pytest.approx(fmean(float(step.entropy()) for row in steps for step in row), abs=1e-4)


def test_the_first_ratio_is_one_also_after_the_policy_has_left_the_reference(trainer: Trainer) -> None:
    rollout = collect(trainer, PROMPTS)
    stats = ppo.minibatch(trainer, rollout, [3, 0, 5])
    assert stats["ratio_error"] < 1e-4
    assert abs(ppo.described(rollout, trainer)["kl"]) > 0.01


def test_the_reward_told_is_the_score_less_the_kl_told_at_the_price_told(trainer: Trainer) -> None:
    trainer.kl_coef = 2.0  # Adapted since the settings' 0.05.
    rollout = collect(trainer, PROMPTS * 2)
    told = ppo.described(rollout, trainer)
    mine, reference = (logprobs_of(model, rollout.pairs) for model in (trainer.policy, trainer.reference))
    kl = fmean(sum(a) - sum(b) for a, b in zip(mine, reference, strict=True))
    assert told["kl"] == pytest.approx(kl, abs=1e-3)
    assert told["reward"] == pytest.approx(float(rollout.scores.mean()) - 2.0 * kl, abs=3e-3)
    assert told["length"] == fmean(len(response) for _, response in rollout.pairs)


def test_what_lies_after_the_end_is_never_counted(trainer: Trainer) -> None:
    rollout = collect(trainer, PROMPTS * 2)
    before = ppo.described(rollout, trainer)
    names = ("logprobs", "ref_logprobs", "values", "rewards", "advantages", "returns", "weights")
    for factor, name in enumerate(names, start=7):
        getattr(rollout, name)[~rollout.mask] = float(factor)
    assert (~rollout.mask).any()
    assert ppo.described(rollout, trainer) == before


def test_advantages_and_returns_are_those_of_the_definition(trainer: Trainer) -> None:
    rollout = collect(changed(trainer, gamma=0.9, gae_lambda=0.5), PROMPTS * 2)
    raw = [
        slow_gae(rewards, values, len(response), gamma=0.9, gae_lambda=0.5)
        for rewards, values, (_, response) in zip(rollout.rewards, rollout.values, rollout.pairs, strict=True)
    ]
    wanted = [a + v for a, v in zip(flat(raw), real(rollout.values, rollout), strict=True)]
    assert real(rollout.returns, rollout) == pytest.approx(wanted, abs=1e-4)
    mean, deviation = fmean(flat(raw)), pstdev(flat(raw))  # Over all tokens of all episodes at once.
    whitened = [(a - mean) / deviation for a in flat(raw)]
    assert real(rollout.advantages, rollout) == pytest.approx(whitened, abs=1e-3)


def test_values_on_a_shared_trunk_stand_at_the_states_before_the_tokens(models: tuple[Path, Path]) -> None:
    trainer = Trainer(*models, replace(SMALL, critic="shared"), reference_dir=None)
    assert isinstance(trainer.critic, ValueHead)
    with torch.no_grad():
        trainer.critic.linear.weight.copy_(torch.linspace(-1, 1, 32)[None])
        trainer.critic.linear.bias.fill_(0.25)
    pairs, expected = [([20, 21, 22], [30, 31, 1]), ([20], [33, 1])], []
    for prompt, response in pairs:
        for t in range(len(response)):
            ids = torch.tensor([prompt + response[:t]])
            state = trainer.policy(input_ids=ids, output_hidden_states=True).hidden_states[-1][0, -1]
            expected.append(float(state.detach() @ torch.linspace(-1, 1, 32)) + 0.25)
    values = trainer.act(pairs).values
    assert values is not None
    assert values.tolist() == pytest.approx(expected, abs=1e-4)


def test_ppo_samples_from_the_whole_tempered_distribution(trainer: Trainer) -> None:
    """Random numbers at even distances draw each token as often as it is probable, to one in their count."""
    count, ids = 2000, encode_prompt(trainer.tokenizer, PROMPTS[0])
    changed(trainer, temperature=2.0, max_new_tokens=1)
    uniforms = ((torch.arange(count, dtype=torch.float64) + 0.5) / count)[:, None]
    drawn = torch.tensor([row[0] for row in episodes.sample(trainer, [ids] * count, uniforms)])
    ((step,),) = distributions(trainer.policy, [(ids, [0])], temperature=2.0)
    shares = torch.bincount(drawn, minlength=len(step.probs)) / count
    assert torch.allclose(shares, step.probs, atol=1.1 / count)


def test_a_response_may_end_before_it_begins(trainer: Trainer) -> None:
    ids, eos = encode_prompt(trainer.tokenizer, PROMPTS[0]), trainer.eos
    settings = replace(trainer.sampling(), temperature=4.0)
    ((step,),) = distributions(trainer.policy, [(ids, [0])], temperature=4.0)
    mass = step.probs.double().cumsum(0)
    within = (mass[eos - 1] + mass[eos]) / 2  # A random number that draws the end token.
    uniforms = within.expand(1, settings.max_new_tokens)
    rows = generate(trainer.policy, trainer.tokenizer, [ids], settings, num_responses=1, uniforms=uniforms)
    assert rows == [[eos]]


def test_each_process_draws_its_episodes_with_numbers_of_its_own(
    models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = collect(Trainer(*models, SMALL, reference_dir=None), PROMPTS[:1] * 6)
    assert len({tuple(response) for _, response in whole.pairs}) > 1
    for rank in range(2):
        monkeypatch.setattr(processes, "share", lambda items, rank=rank: list(items)[rank::2])
        part = collect(Trainer(*models, SMALL, reference_dir=None), PROMPTS[:1] * 6)
        assert part.pairs == whole.pairs[rank::2]


@pytest.mark.parametrize("rank", [0, 4])
def test_a_reference_of_its_own_is_what_the_kl_is_measured_from(
    models: tuple[Path, Path], tmp_path: Path, rank: int
) -> None:
    other = load_policy(models[0])
    move(other)
    save_policy(other, load_tokenizer(models[0]), tmp_path)
    trainer = Trainer(*models, replace(SMALL, lora_rank=rank), reference_dir=tmp_path)
    rollout = collect(trainer, PROMPTS)
    assert real(rollout.ref_logprobs, rollout) == pytest.approx(flat(logprobs_of(other, rollout.pairs)), abs=1e-4)
    assert not torch.allclose(rollout.logprobs, rollout.ref_logprobs, atol=0.01)


def given(monkeypatch: pytest.MonkeyPatch, *responses: list[int]) -> None:
    """What the policy says."""
    monkeypatch.setattr(episodes, "generate", lambda *_, **__: list(responses))


def test_judges_read_the_text_that_a_rater_sees(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = trainer.tokenizer(" Hello there. ", add_special_tokens=False)["input_ids"]
    given(monkeypatch, [*ids, trainer.eos], ids)
    seen: list[str] = []

    def judge(prompts: list[Prompt], texts: list[str]) -> list[float]:
        seen.extend(texts)
        return [0.0] * len(prompts)

    collect(trainer, PROMPTS[:2], score_fn=judge)
    assert seen == ["Hello there."] * 2


def test_the_score_is_the_normalised_one_also_of_an_empty_response(
    trainer: Trainer, models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer.reward_model.gain, trainer.reward_model.bias = 0.5, -0.75
    ids = trainer.tokenizer("No idea.", add_special_tokens=False)["input_ids"]
    given(monkeypatch, [trainer.eos], [*ids, trainer.eos])
    rollout = collect(trainer, PROMPTS[:2])
    raw = score(
        load_reward_model(models[1], tokenizer=trainer.tokenizer), trainer.tokenizer, PROMPTS[:2], ["", "No idea."]
    )
    assert rollout.scores.tolist() == pytest.approx([value / 2 - 0.75 for value in raw], abs=1e-4)


def test_scores_are_clipped_on_both_sides_before_the_price_of_a_cut(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(monkeypatch, [20, 21], [20, 1], [20, 21], [20, 1])
    changed(trainer, score_clip=2.0, missing_eos_penalty=0.75)
    rollout = collect(trainer, PROMPTS[:4], score_fn=lambda *_: [50.0, 50.0, -50.0, -50.0])
    assert rollout.scores.tolist() == [1.25, 2.0, -2.75, -2.0]


def test_three_of_four_ended(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, [20, 1], [20, 21], [1], [20, 21, 22, 1])
    told = ppo.described(collect(trainer, PROMPTS[:4]), trainer)
    assert (told["ended_share"], told["length"]) == (0.75, 2.25)


def test_an_evaluation_tells_of_score_kl_and_length(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, [20, 21, 1], [30, 1], [33, 34, 35, 1])
    told = episodes.evaluate(trainer, PROMPTS[:3], lambda *_: [1.0, 2.0, 4.5])
    responses = ([20, 21, 1], [30, 1], [33, 34, 35, 1])
    pairs = [(encode_prompt(trainer.tokenizer, p), r) for p, r in zip(PROMPTS, responses, strict=False)]
    mine, reference = (flat(logprobs_of(model, pairs)) for model in (trainer.policy, trainer.reference))
    assert told == pytest.approx(
        {"eval_score": 2.5, "eval_kl": (sum(mine) - sum(reference)) / 3, "eval_length": 3.0}, abs=1e-3
    )


def test_an_evaluation_uses_the_same_random_numbers_each_time_and_none_of_the_trainings(trainer: Trainer) -> None:
    before = trainer.generator.get_state()
    first, second = (episodes.evaluate(trainer, PROMPTS * 2, None) for _ in range(2))
    assert first == second
    assert torch.equal(trainer.generator.get_state(), before)
