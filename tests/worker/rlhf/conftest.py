"""Tiny models, made on the spot: two layers of width 32, and a tokenizer trained on a few sentences."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from worker.rlhf.modeling import RewardModel, load_policy, new_reward_model, save_reward_model
from worker.rlhf.tiny import build_tiny_base
from worker.rlhf.tokens import load_tokenizer
from worker.rlhf.types import Prompt

TEXTS = [
    "The rain in the hills falls mainly at night, and the river is high in the morning.",
    "Why is the sky blue? Because small molecules scatter blue light more than red light.",
    "A short answer is good. A long answer that says nothing is bad, however polite it is.",
    "Count to three: one, two, three. Then stop, and say thank you.",
] * 8


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in one order, so that results repeat bit for bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a policy of about 50,000 random parameters."""
    out = tmp_path_factory.mktemp("models") / "tiny"
    build_tiny_base(TEXTS, out, vocab_size=320, hidden=32, layers=2, heads=2, max_positions=128)
    return out


@pytest.fixture(scope="session")
def tokenizer(tiny_base: Path) -> Any:
    """Its tokenizer."""
    return load_tokenizer(tiny_base)


@pytest.fixture
def policy(tiny_base: Path, tokenizer: Any) -> Any:
    """A fresh copy of the policy, which the test may change."""
    return load_policy(tiny_base, tokenizer=tokenizer)


@pytest.fixture
def reward_model(tiny_base: Path, tokenizer: Any) -> RewardModel:
    """A fresh reward model with a random head."""
    return new_reward_model(tiny_base, tokenizer=tokenizer, seed=1)


@pytest.fixture
def reward_dir(reward_model: RewardModel, tokenizer: Any, tmp_path: Path) -> Path:
    """The folder of that reward model."""
    save_reward_model(reward_model, tokenizer, tmp_path / "reward")
    return tmp_path / "reward"


def ask(text: str) -> Prompt:
    """A prompt of one turn."""
    return [{"role": "user", "content": text}]
