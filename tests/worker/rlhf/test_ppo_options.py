"""The variants of PPO: each keeps the first ratio at 1 and the KL at 0, and does what it is for."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.worker.rlhf.test_packed import distance
from tests.worker.rlhf.test_ppo import SMALL, same, weights
from tests.worker.rlhf.worlds import PROMPTS, make_policy, make_reward_model
from worker.rlhf import episodes, ppo
from worker.rlhf.actors import Trainer, ValueHead
from worker.rlhf.ensemble import head_scores, load_heads
from worker.rlhf.episodes import collect, importance_weights
from worker.rlhf.modeling import load_policy, load_reward_model, save_policy
from worker.rlhf.ppo import PPOSettings, train_ppo
from worker.rlhf.reward_model import RewardSettings, train_reward_model
from worker.rlhf.tokens import load_tokenizer
from worker.rlhf.types import Demonstration, Prompt, Ranking, Stats

VARIANTS: dict[str, dict[str, Any]] = {
    "separate": {},
    "shared": {"critic": "shared"},
    "lora": {"lora_rank": 4},
    "lora shared": {"lora_rank": 4, "critic": "shared"},
    "bfloat16": {"precision": "bfloat16"},
    "recomputed": {"recompute_activations": True},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    policy = make_policy(tmp_path_factory.mktemp("policy"))
    return policy, make_reward_model(policy, tmp_path_factory.mktemp("reward"))


def build(models: tuple[Path, Path], **changes: Any) -> Trainer:
    return Trainer(*models, replace(SMALL, **changes), reference_dir=None)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_starts_with_ratio_one_and_kl_zero_and_then_moves(models: tuple[Path, Path], name: str) -> None:
    trainer = build(models, **VARIANTS[name])
    rollout = collect(trainer, PROMPTS * 2)
    assert torch.equal(rollout.logprobs, rollout.ref_logprobs)
    before = weights(trainer.policy)
    stats = ppo.minibatch(trainer, rollout, [7, 0, 11, 3, 4])
    # Products in bfloat16 depend on the number of rows in the last digit that they keep.
    assert stats["ratio_error"] < (0.05 if name == "bfloat16" else 1e-4)
    assert not same(before, weights(trainer.policy))
    assert not any(isinstance(part, torch.nn.Dropout) and part.training for part in trainer.policy.modules())


@pytest.mark.parametrize("rank", [0, 4])
def test_dropout_in_the_models_configs_leaves_the_ratio_at_one(
    models: tuple[Path, Path], tmp_path: Path, rank: int
) -> None:
    for folder in models:
        shutil.copytree(folder, tmp_path / folder.name)
        config = json.loads((folder / "config.json").read_text())
        (tmp_path / folder.name / "config.json").write_text(json.dumps({**config, "attention_dropout": 0.5}))
    trainer = build((tmp_path / models[0].name, tmp_path / models[1].name), lora_rank=rank)
    assert trainer.policy.config.attention_dropout == 0.5
    trainer.is_packed = dict.fromkeys(trainer.is_packed, False)  # Through transformers' own attention.
    rollout, again = (collect(trainer, PROMPTS[:1]) for _ in range(2))
    assert torch.equal(rollout.logprobs, rollout.ref_logprobs)
    assert ppo.minibatch(trainer, rollout, [0])["ratio_error"] < 1e-4
    assert torch.allclose(rollout.values[:, 0], again.values[:, 0], atol=1e-5)  # Of one state, whatever followed it.


def test_a_shared_trunk_takes_one_forward_for_log_probabilities_and_values(models: tuple[Path, Path]) -> None:
    trainer, calls = build(models, critic="shared"), 0
    rollout = collect(trainer, PROMPTS)

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    trainer.policy.base_model.register_forward_hook(count)
    ppo.minibatch(trainer, rollout, [0, 1, 2])
    assert calls == 1
    assert isinstance(trainer.critic, ValueHead)
    assert rollout.values.abs().sum().item() == 0.0  # It starts at 0, and has learned now.
    assert trainer.critic.linear.bias.abs().item() > 0.0


def test_with_lora_only_the_adapter_learns_and_what_is_saved_needs_no_peft(
    models: tuple[Path, Path], tmp_path: Path
) -> None:
    trainer = build(models, lora_rank=4)
    frozen = [p for name, p in trainer.policy.named_parameters() if "lora_" not in name]
    before = [p.clone() for p in frozen]
    ppo.one_update(trainer, PROMPTS * 2, update=0)
    assert same(before, frozen)
    assert trainer.reference is None
    moved = collect(trainer, PROMPTS)
    assert not torch.equal(moved.logprobs, moved.ref_logprobs)
    expected = trainer.act(moved.pairs).logprobs.detach()
    save_policy(trainer.finished_policy(), trainer.tokenizer, tmp_path)
    again = load_policy(tmp_path, tokenizer=load_tokenizer(tmp_path))
    trainer.policy, trainer.is_packed[id(again)] = again, False
    assert torch.allclose(trainer.act(moved.pairs).logprobs, expected, atol=1e-4)


def test_recomputed_activations_give_the_same_gradients(models: tuple[Path, Path]) -> None:
    found, said = [], []
    for wanted in (False, True):
        trainer = build(models, recompute_activations=wanted)
        rollout = collect(trainer, PROMPTS)
        ppo.minibatch(trainer, rollout, [0, 1, 2, 3])
        said.append([response for _, response in rollout.pairs])
        found.append([p.grad for p in trainer.policy.parameters() if p.grad is not None])
    assert said[0] == said[1]  # The sampler keeps its cache.
    assert distance(*found) < 1e-4


def test_demonstrations_beside_ppo_become_likelier(models: tuple[Path, Path], tmp_path: Path) -> None:
    lessons = [Demonstration(prompt, "Good luck with that.") for prompt in PROMPTS]
    settings = replace(SMALL, sft_coef=5.0, num_updates=6, learning_rate=1e-3, stop_kl=0.0)
    stats = list(train_ppo(*models, PROMPTS, settings, out=tmp_path, demonstrations=lessons, score_fn=nothing))
    assert float(stats[-2]["sft_loss"]) < 0.7 * float(stats[0]["sft_loss"])


def nothing(_: list[Prompt], texts: list[str]) -> list[float]:
    return [0.0] * len(texts)


def test_demonstrations_are_asked_for_where_they_are_wanted(models: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sft_coef mixes demonstrations in"):
        next(train_ppo(*models, PROMPTS, replace(SMALL, sft_coef=1.0), out=tmp_path))


def test_long_and_doubtful_responses_pay(models: tuple[Path, Path]) -> None:
    trainer = build(models, missing_eos_penalty=0.0, length_penalty=0.25, uncertainty_penalty=2.0)
    rollout = collect(trainer, PROMPTS, score_fn=lambda _, texts: ([3.0] * len(texts), [0.5] * len(texts)))
    expected = [3.0 - 0.25 * len(response) - 1.0 for _, response in rollout.pairs]
    assert rollout.scores.tolist() == pytest.approx(expected)


def test_a_response_pays_for_the_spread_of_the_reward_models_heads(models: tuple[Path, Path], tmp_path: Path) -> None:
    policy, _ = models
    rankings = [Ranking(prompt, ("No idea.", "Hello there."), (1, 2)) for prompt in PROMPTS]
    list(train_reward_model(policy, rankings, RewardSettings(num_heads=3), out=tmp_path / "heads"))
    free, priced = (
        collect(build((policy, tmp_path / "heads"), missing_eos_penalty=0.0, uncertainty_penalty=price), PROMPTS)
        for price in (0.0, 2.0)
    )
    tokenizer, heads = load_tokenizer(policy), load_heads(tmp_path / "heads")
    assert heads is not None
    model = load_reward_model(tmp_path / "heads", tokenizer=tokenizer)
    texts = [tokenizer.decode(response, skip_special_tokens=True) for _, response in free.pairs]
    spreads = head_scores(model, heads, tokenizer, PROMPTS, texts).std(dim=1)
    assert spreads.min() > 1e-3
    assert (free.scores - priced.scores).tolist() == pytest.approx((2 * spreads).tolist(), abs=1e-4)


def test_a_price_on_spread_asks_for_several_heads(models: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs a reward model of several heads"):
        next(train_ppo(*models, PROMPTS, replace(SMALL, uncertainty_penalty=1.0), out=tmp_path))


@pytest.mark.parametrize(("name", "value"), [("critic", "both"), ("precision", "int4")])
def test_words_that_mean_nothing_are_refused(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is '{value}'; expected one of"):
        PPOSettings(**{name: value})  # type: ignore[arg-type]


class NoisySampler:
    """A sampler whose log-probabilities are off by noise, as those of another program are."""

    def sample(self, trainer: Trainer, prompts: Any) -> tuple[list[list[int]], list[list[float]]]:
        generator = torch.Generator().manual_seed(0)
        uniforms = torch.rand(len(prompts), 8, dtype=torch.float64, generator=generator)
        responses = episodes.sample(trainer, prompts, uniforms)
        pairs = list(zip(prompts, responses, strict=True))
        exact = trainer.act(pairs).logprobs.detach().split([len(r) for r in responses])
        noise = [0.05 * torch.randn(len(row), generator=generator) for row in exact]
        self.noise = torch.cat(noise)
        return responses, [(row + off).tolist() for row, off in zip(exact, noise, strict=True)]


def test_a_sampler_with_other_numerics_is_corrected_for_within_bounds(models: tuple[Path, Path]) -> None:
    trainer, sampler = build(models, importance_cap=1.02), NoisySampler()
    rollout = collect(trainer, PROMPTS * 2, sampler=sampler)
    found = rollout.weights[rollout.mask]
    assert found.max().item() == pytest.approx(1.02)
    small = sampler.noise > 0  # The sampler thought too much of these; their weight is below 1 and not capped.
    assert torch.allclose(found[small].log(), -sampler.noise[small], atol=1e-4)
    stats = ppo.minibatch(trainer, rollout, list(range(12)))
    assert all(torch.tensor(list(stats.values())).isfinite())
    assert stats["ratio_error"] < 1e-4


def test_importance_weights_by_hand() -> None:
    found = importance_weights(torch.tensor([-1.0, -1.0, -3.0]), torch.tensor([-1.0, -5.0, -2.3068528]), cap=2.0)
    assert found.tolist() == pytest.approx([1.0, 2.0, 0.5])


@pytest.mark.parametrize("name", ["shared", "lora", "lora shared"])
def test_every_variant_resumes_bit_for_bit(models: tuple[Path, Path], tmp_path: Path, name: str) -> None:
    from safetensors.torch import load_file

    from worker.rlhf.checkpoint import CheckpointStore

    lessons = [Demonstration(prompt, "No idea.") for prompt in PROMPTS]
    settings = replace(SMALL, checkpoint_seconds=0.0, sft_coef=0.5, **VARIANTS[name])

    def begin(out: Path, store: CheckpointStore | None = None) -> Any:
        return train_ppo(
            *models, PROMPTS, settings, out=out, checkpoints=store, eval_prompts=PROMPTS, demonstrations=lessons
        )

    rows: list[Stats] = list(begin(tmp_path / "whole"))
    store = CheckpointStore(tmp_path / "checkpoints")
    first = begin(tmp_path / "parts", store)
    next(first), next(first)
    first.close()
    assert len(list(begin(tmp_path / "parts", store))) == len(rows) - 2
    found, expected = (load_file(tmp_path / part / "model.safetensors") for part in ("parts", "whole"))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in found)
