"""Checkpoints that are whole or not there: written aside, hashed, fsynced, renamed. Tensors and JSON, no pickle."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from worker.rlhf import processes, sharding

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Checkpoint:
    """What `latest` found: the step it was taken after, tensors by name, and plain values."""

    step: int
    tensors: dict[str, Tensor]
    values: dict[str, Any]


class CheckpointStore:
    """Checkpoints of one phase of one run, in one folder.

    Args:
        root: the folder; made when missing.
        keep: how many whole ones stay; at least 2, because the newest may turn out to be damaged.
        on_saved: told (step, sha256 of the manifest) once a checkpoint is safely there.
        may_write: asked before each save; when it says no, nothing is written (the run belongs to another process).
    """

    def __init__(
        self,
        root: Path,
        *,
        keep: int = 2,
        on_saved: Callable[[int, str], None] | None = None,
        may_write: Callable[[], bool] | None = None,
    ) -> None:
        self.root = root
        self.keep = max(keep, 2)
        self.on_saved = on_saved
        self.may_write = may_write

    def save(self, step: int, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Write one checkpoint; older ones beyond `keep` go only after it is there.

        Of several processes all must call, because they may hold parts of the tensors; the first writes.
        """
        tensors = {name: processes.full(tensor.detach()) for name, tensor in tensors.items()}
        if not processes.is_first():
            return
        if self.may_write is not None and not self.may_write():
            raise RuntimeError("this run belongs to another process now; nothing was written")
        aside = self.root / f"step-{step:09d}.tmp"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, aside / "tensors.safetensors")
        (aside / "values.json").write_text(json.dumps({"step": step, **values}))
        digest = seal(aside)
        final = aside.with_suffix("")
        shutil.rmtree(final, ignore_errors=True)
        aside.rename(final)
        fsync(self.root)
        if self.on_saved is not None:
            self.on_saved(step, digest)
        for old in self._folders()[: -self.keep]:
            shutil.rmtree(old, ignore_errors=True)

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint whose every byte is as it was written; damaged ones are passed over."""
        for folder in reversed(self._folders()):
            if is_whole(folder):
                values = json.loads((folder / "values.json").read_text())
                return Checkpoint(values.pop("step"), load_file(folder / "tensors.safetensors"), values)
        return None

    def clear(self) -> None:
        """Remove all: the phase is finished and its result is registered."""
        shutil.rmtree(self.root, ignore_errors=True)

    def _folders(self) -> list[Path]:
        return sorted(path for path in self.root.glob("step-*") if path.suffix != ".tmp")


def seal(folder: Path) -> str:
    """Write and fsync a manifest of sizes and hashes over all files in `folder`; returns the manifest's sha256."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    entries = {
        str(path.relative_to(folder)): {"size": path.stat().st_size, "sha256": sha256_of(path)} for path in files
    }
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps(entries, sort_keys=True, indent=1))
    for path in [*files, manifest, folder]:
        fsync(path)
    return sha256_of(manifest)


def is_whole(folder: Path, *, manifest_hash: str | None = None) -> bool:
    """Whether every file is there with the size and hash that the manifest says, and nothing else is asked of it."""
    manifest = folder / MANIFEST
    if not manifest.is_file() or (manifest_hash is not None and sha256_of(manifest) != manifest_hash):
        return False
    try:
        entries = json.loads(manifest.read_text())
    except ValueError:
        return False
    return bool(entries) and all(_matches(folder / name, entry) for name, entry in entries.items())


def _matches(path: Path, entry: dict[str, Any]) -> bool:
    return path.is_file() and path.stat().st_size == entry["size"] and sha256_of(path) == entry["sha256"]


def sha256_of(path: Path) -> str:
    """The file's hash, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync(path: Path) -> None:
    """Make sure that a file, or a folder's entries, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def module_tensors(module: torch.nn.Module, prefix: str) -> dict[str, Tensor]:
    """A module's parameters by name, those that are trained; tied ones once."""
    return {f"{prefix}.{name}": p.data for name, p in module.named_parameters() if p.requires_grad}


def restore_module(module: torch.nn.Module, tensors: dict[str, Tensor], prefix: str) -> None:
    """Put parameters back."""
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            parameter.data.copy_(sharding.like(tensors[f"{prefix}.{name}"], parameter.data))


def optimizer_tensors(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """The optimizer's state per parameter: moments and step counts."""
    state = optimizer.state_dict()["state"]
    return {
        f"{prefix}.{index}.{name}": value if isinstance(value, Tensor) else torch.tensor(value)
        for index, entry in state.items()
        for name, value in entry.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], prefix: str) -> None:
    """Put the optimizer's state back; learning rates follow from the step."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(prefix + "."):
            index, name = key[len(prefix) + 1 :].split(".", 1)
            state.setdefault(int(index), {})[name] = sharding.like(value, parameters[int(index)].data)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
