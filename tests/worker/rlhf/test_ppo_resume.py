"""A run that was stopped and went on ends with the same bits as one that was never stopped."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.worker.rlhf.worlds import PROMPTS, make_policy, make_reward_model
from worker.rlhf.checkpoint import CheckpointStore
from worker.rlhf.ppo import PPOSettings, train_ppo
from worker.rlhf.types import NotANumberError, Prompt, Stats

SETTINGS = PPOSettings(
    num_updates=5,
    batch_size=8,
    minibatch_size=4,
    max_new_tokens=8,
    learning_rate=1e-3,
    eval_every=2,
    checkpoint_seconds=0.0,
)
CLOCKS = tuple(f"{phase}_{kind}seconds" for phase in ("sample", "score", "optimise") for kind in ("", "cpu_"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    policy = make_policy(tmp_path_factory.mktemp("policy"))
    return policy, make_reward_model(policy, tmp_path_factory.mktemp("reward"))


def begin(models: tuple[Path, Path], out: Path, store: CheckpointStore | None = None, **rest: Any) -> Any:
    return train_ppo(*models, PROMPTS, SETTINGS, out=out, checkpoints=store, eval_prompts=PROMPTS, **rest)


def timeless(rows: list[Stats]) -> list[Stats]:
    return [{name: value for name, value in row.items() if name not in CLOCKS} for row in rows]


@pytest.mark.parametrize("stopped_after", [1, 3, 5])
def test_a_resumed_run_is_bit_identical(models: tuple[Path, Path], tmp_path: Path, stopped_after: int) -> None:
    whole = timeless(list(begin(models, tmp_path / "whole")))
    store = CheckpointStore(tmp_path / "checkpoints")
    first = begin(models, tmp_path / "parts", store)
    before = timeless([next(first) for _ in range(stopped_after)])
    first.close()
    after = timeless(list(begin(models, tmp_path / "parts", store)))
    assert before + after == whole
    found, expected = (load_file(tmp_path / name / "model.safetensors") for name in ("parts", "whole"))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)


def test_the_same_seed_gives_the_same_run_and_another_seed_another(models: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = (timeless([next(begin(models, tmp_path))]) for _ in range(2))
    other = train_ppo(*models, PROMPTS, replace(SETTINGS, seed=1), out=tmp_path)
    assert first == second
    assert timeless([next(other)])[0]["score"] != first[0]["score"]


def test_an_error_leaves_the_last_checkpoint_whole(models: tuple[Path, Path], tmp_path: Path) -> None:
    store, calls = CheckpointStore(tmp_path / "checkpoints"), 0

    def breaks_in_the_third_update(_: list[Prompt], texts: list[str]) -> list[float]:
        nonlocal calls
        calls += 1
        return [float("nan") if calls > 4 else float(len(text)) for text in texts]

    with pytest.raises(NotANumberError):
        list(begin(models, tmp_path / "out", store, score_fn=breaks_in_the_third_update))
    found = store.latest()
    assert found is not None
    assert found.step == 2
    assert all(tensor.isfinite().all() for name, tensor in found.tensors.items() if name != "generator")
    assert not (tmp_path / "out").exists()
