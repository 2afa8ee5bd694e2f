"""Policies of a few thousand parameters, registered as a run would leave them, and a sampler process that serves them."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
from safetensors.torch import load_file, save_file
from sqlalchemy import Engine, func

from app.db import transaction
from app.projects.models import Project
from app.training.models import ModelVersion
from app.up import free_port
from worker.rlhf.checkpoint import seal
from worker.rlhf.tiny import build_tiny_base
from worker.rlhf.tokens import load_tokenizer

TEXTS = ["The pool is on the top floor.", "Breakfast is served until ten.", "Where is the pool?", "When is breakfast?"]
KEY = "a key of the sampler, for tests"


def add_policy(db: Engine, project: Project, data_dir: Path, *, state: str = "serving", number: int = 0) -> int:
    """A policy's row and files; its id. It is untrained, and says what it likes until it is cut."""
    with transaction(db) as session:
        version = ModelVersion(project_id=project.id, kind="policy", number=number, state=state, manifest_hash="")
        session.add(version)
        session.flush()
        folder = data_dir / "artifacts" / "models" / str(version.id)
        build_tiny_base(TEXTS, folder, vocab_size=300, hidden=16, layers=1, heads=2, max_positions=2048, seed=number)
        _never_end(folder)
        version.manifest_hash = seal(folder)
        version.serving_since = session.scalar(func.now().select()) if state == "serving" else None
        return version.id


def _never_end(folder: Path) -> None:
    """Make the end token as good as impossible: along one direction, in which all states lie, it points the other way."""
    path = folder / "model.safetensors"
    weights = load_file(path)
    weights["model.embed_tokens.weight"][:, 0] = 1.0
    weights["model.embed_tokens.weight"][load_tokenizer(folder).eos_token_id, 0] = -1.0
    save_file(weights, path, metadata={"format": "pt"})


@contextlib.contextmanager
def sampler(database_url: str, data_dir: Path, *, port: int = 0) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A running sampler: its address up to `/v1`, and its process."""
    port = port or free_port()
    environment = {
        **os.environ,
        "DATABASE_URL": database_url,
        "REDIS_URL": "",
        "ATTUNE_DATA_DIR": str(data_dir),
        "ATTUNE_SAMPLER_KEY": KEY,
    }
    process = subprocess.Popen([sys.executable, "-m", "worker.sampler", "--port", str(port)], env=environment)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(httpx2.HTTPError):
                if httpx2.get(f"http://127.0.0.1:{port}/health", trust_env=False).status_code == 200:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/v1", process
    finally:
        process.kill()
        process.wait()
