"""Tiny models of each family, from their config classes: SFT, a reward model, PPO and sampling."""

from pathlib import Path
from typing import Any

import pytest

from tests.worker.rlhf.conftest import ask
from tests.worker.rlhf.test_packed import CONFIGS, build
from worker.rlhf.modeling import load_policy, save_policy
from worker.rlhf.ppo import PPOSettings, train_ppo
from worker.rlhf.reward_model import RewardSettings, train_reward_model
from worker.rlhf.rollout import SamplingSettings, sample_responses
from worker.rlhf.sft import SFTSettings, train_sft
from worker.rlhf.types import Demonstration, Ranking

PROMPTS = [ask("Why is the sky blue?"), ask("Count to three"), ask("Say thank you, then stop. " * 3)]


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_a_family_passes_sft_reward_ppo_and_sampling(name: str, tokenizer: Any, tmp_path: Path) -> None:
    save_policy(build(name), tokenizer, tmp_path / "base")
    lessons = [Demonstration(prompt, "one, two, three") for prompt in PROMPTS] * 4
    sft = SFTSettings(batch_size=6, epochs=8, learning_rate=1e-2)
    steps = list(train_sft(tmp_path / "base", lessons, sft, out=tmp_path / "sft"))
    assert float(steps[-2]["loss"]) < 0.7 * float(steps[0]["loss"])
    rankings = [Ranking(prompt, ("one, two", "the rain"), (1, 2)) for prompt in PROMPTS] * 8
    reward = RewardSettings(batch_size=6, epochs=4, learning_rate=3e-3)
    steps = list(train_reward_model(tmp_path / "sft", rankings, reward, out=tmp_path / "reward"))
    assert float(steps[-2]["loss"]) < 0.5 * float(steps[0]["loss"])
    for critic in ("separate", "shared"):
        settings = PPOSettings(num_updates=2, batch_size=6, max_new_tokens=6, critic=critic, temperature=0.7)
        out = tmp_path / critic
        steps = list(train_ppo(tmp_path / "sft", tmp_path / "reward", PROMPTS, settings, out=out))
        assert steps[0]["kl"] == 0.0
        assert all(float(step["first_ratio_error"]) < 1e-4 for step in steps[:-1])
        batches = sample_responses(load_policy(out), tokenizer, PROMPTS, SamplingSettings(), num_responses=2)
        assert sum(map(len, batches)) == 6
