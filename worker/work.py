"""A run under way: its project, its settings, its folder, and what it has to show so far."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.config import get_settings
from app.projects.models import Project
from app.projects.settings import Training
from app.training import versions
from app.training.models import Run
from worker.database import in_transaction
from worker.progress import Recorder
from worker.rlhf import processes
from worker.rlhf.checkpoint import CheckpointStore


@dataclass
class Work:
    """A run with what it needs: its project, its settings, its folder and its recorder."""

    run: Run
    project: Project
    training: Training
    recorder: Recorder
    folder: Path
    result: dict[str, Any] = field(default_factory=dict)

    def out(self, name: str) -> Path:
        """Where a phase writes its model; of several processes, each has a place of its own."""
        rank = processes.rank()
        return self.folder / (f"{name}-{self.run.fence}" + (f"-{rank}" if rank else ""))

    def checkpoints(self, phase: str) -> CheckpointStore:
        """Checkpoints of one phase; shared by all attempts, written under the present fence only."""

        def saved(step: int, manifest_hash: str) -> None:
            in_transaction(
                lambda session: versions.record_checkpoint(
                    session, self.run, phase=phase, step=step, manifest_hash=manifest_hash
                )
            )

        return CheckpointStore(self.folder / "checkpoints" / phase, on_saved=saved, may_write=self.recorder.is_ours)


def folder_of(run: Run) -> Path:
    """Checkpoints and unfinished models of a run, while it is under way."""
    return get_settings().artifact_dir / "runs" / str(run.id)


def clear(run: Run) -> None:
    """Remove what only an unfinished run needs."""
    shutil.rmtree(folder_of(run), ignore_errors=True)
