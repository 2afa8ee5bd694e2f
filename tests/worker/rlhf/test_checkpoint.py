"""Checkpoints are whole or not there: torn, truncated and altered ones are passed over."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from worker.rlhf.checkpoint import (
    MANIFEST,
    CheckpointStore,
    is_whole,
    module_tensors,
    optimizer_tensors,
    restore_module,
    restore_optimizer,
    seal,
    sha256_of,
)


def saved(root: Path, *steps: int, **options: Any) -> CheckpointStore:
    store = CheckpointStore(root, **options)
    for step in steps:
        store.save(step, {"w": torch.full((3,), float(step))}, {"kl_coef": 0.1 * step})
    return store


def flip_a_bit(path: Path, place: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    found = saved(tmp_path, 3).latest()
    assert found is not None
    assert found.step == 3
    assert found.tensors["w"].tolist() == [3, 3, 3]
    assert found.values == {"kl_coef": pytest.approx(0.3)}


def test_an_empty_store_has_no_checkpoint(tmp_path: Path) -> None:
    assert CheckpointStore(tmp_path / "never made").latest() is None


@pytest.mark.parametrize("name", ["tensors.safetensors", "values.json", MANIFEST])
def test_one_flipped_bit_sends_us_to_the_checkpoint_before(tmp_path: Path, name: str) -> None:
    store = saved(tmp_path, 1, 2)
    flip_a_bit(tmp_path / "step-000000002" / name)
    found = store.latest()
    assert found is not None
    assert found.step == 1


@pytest.mark.parametrize("name", ["tensors.safetensors", "values.json", MANIFEST])
def test_a_torn_or_missing_file_sends_us_to_the_checkpoint_before(tmp_path: Path, name: str) -> None:
    store = saved(tmp_path, 1, 2, 3, keep=3)
    torn = tmp_path / "step-000000003" / name
    torn.write_bytes(torn.read_bytes()[:-2])
    (tmp_path / "step-000000002" / name).unlink()
    found = store.latest()
    assert found is not None
    assert found.step == 1


def test_nothing_is_resumed_when_all_are_damaged(tmp_path: Path) -> None:
    store = saved(tmp_path, 1, 2)
    for step in (1, 2):
        flip_a_bit(tmp_path / f"step-00000000{step}" / "tensors.safetensors")
    assert store.latest() is None


def test_a_crash_while_writing_leaves_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = saved(tmp_path, 1)

    def disk_full(folder: Path) -> str:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("worker.rlhf.checkpoint.seal", disk_full)
        with pytest.raises(OSError, match="No space left"):
            saved(tmp_path, 2)
    found = store.latest()
    assert found is not None
    assert found.step == 1
    saved(tmp_path, 2)
    found = store.latest()
    assert found is not None
    assert found.step == 2
    assert not list(tmp_path.glob("*.tmp"))


def test_older_ones_go_but_two_stay(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2, 3, 10, keep=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000003", "step-000000010"]


def test_whoever_lost_the_run_writes_nothing(tmp_path: Path) -> None:
    store = saved(tmp_path, 1, may_write=lambda: True)
    store.may_write = lambda: False
    with pytest.raises(RuntimeError, match="belongs to another process"):
        store.save(2, {}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001"]


def test_the_hash_that_is_reported_is_that_of_the_manifest_on_disk(tmp_path: Path) -> None:
    told: list[tuple[int, str]] = []
    saved(tmp_path, 5, on_saved=lambda step, digest: told.append((step, digest)))
    folder = tmp_path / "step-000000005"
    assert told == [(5, sha256_of(folder / MANIFEST))]
    assert is_whole(folder, manifest_hash=told[0][1])
    assert not is_whole(folder, manifest_hash="0" * 64)


def test_a_sealed_folder_counts_files_in_its_subfolders(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "weights").write_bytes(b"12345")
    seal(tmp_path)
    assert is_whole(tmp_path)
    flip_a_bit(tmp_path / "deep" / "weights")
    assert not is_whole(tmp_path)


def test_an_empty_manifest_proves_nothing(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text("{}")
    assert not is_whole(tmp_path)


def test_optimizer_and_module_continue_as_if_never_stopped(tmp_path: Path) -> None:
    def step(module: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
        optimizer.zero_grad()
        module(torch.full((2, 4), float(number))).square().sum().backward()
        optimizer.step()

    modules = [nn.Linear(4, 2), nn.Linear(4, 2), nn.Linear(4, 2)]
    for other in modules[1:2]:
        other.load_state_dict(modules[0].state_dict())
    whole, first, second = (torch.optim.AdamW(module.parameters(), lr=0.1) for module in modules)
    for number in range(4):
        step(modules[0], whole, number)
    for number in range(2):
        step(modules[1], first, number)
    store = CheckpointStore(tmp_path)
    store.save(2, module_tensors(modules[1], "m") | optimizer_tensors(first, "o"), {})
    found = store.latest()
    assert found is not None
    restore_module(modules[2], found.tensors, "m")
    restore_optimizer(second, found.tensors, "o")
    for number in range(2, 4):
        step(modules[2], second, number)
    assert torch.equal(modules[0].weight, modules[2].weight)
    assert torch.equal(modules[0].bias, modules[2].bias)
