"""Model versions on disk: written aside, sealed with checksums, renamed; then the row, under the run's fence."""

import shutil
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app.config import get_settings
from app.training import versions
from app.training.models import ModelVersion, Run
from worker.database import in_transaction
from worker.rlhf import processes
from worker.rlhf.checkpoint import fsync, is_whole, seal


class StaleRunError(RuntimeError):
    """This run belongs to another process now; nothing may be written."""


def version_dir(version: ModelVersion) -> Path:
    """Where a version's files are, by id.

    Raises:
        ValueError: they are not what was registered.
    """
    folder = _models() / str(version.id)
    if not is_whole(folder, manifest_hash=version.manifest_hash):
        raise ValueError(f"The files of model version {version.id} are missing or damaged; restore them from a backup.")
    return folder


def register(run: Run, files: Path, *, kind: str, state: str, **values: Any) -> ModelVersion:
    """Move a finished folder into the registry and add its row. Of several processes, the first does; all get the row.

    Raises:
        StaleRunError: the run is another process's now.
    """
    if not processes.is_first():
        processes.wait_for_all()
        version = in_transaction(lambda session: versions.version_of_run(session, run.id, kind=kind))
        if version is None:
            raise StaleRunError(f"run {run.id} has no {kind} by its first process")
        return version
    manifest_hash = seal(files)

    def add(session: Session) -> ModelVersion:
        known = versions.version_of_run(session, run.id, kind=kind)
        if known is not None:
            return known
        version = versions.register_version(session, run, kind=kind, manifest_hash=manifest_hash, state=state, **values)
        if version is None:
            raise StaleRunError(f"run {run.id} has another fence than {run.fence}")
        _move(files, _models() / str(version.id))
        return version

    registered = in_transaction(add)
    processes.wait_for_all()
    return registered


def _move(files: Path, target: Path) -> None:
    """Copy aside and rename: a crash before the commit leaves files without a row, which the next try replaces."""
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_suffix(".tmp")
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(files, aside)
    shutil.rmtree(target, ignore_errors=True)
    aside.rename(target)
    fsync(target.parent)


def _models() -> Path:
    return get_settings().artifact_dir / "models"
