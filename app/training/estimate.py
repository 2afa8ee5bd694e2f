"""How much memory a project's runs will need: its newest policy's size under its settings."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from app.projects.memory import Memory, memory_of_run
from app.projects.models import Project
from app.projects.settings import sampling_of, training_of
from app.training.models import Kind
from app.training.versions import newest_version

VOCAB_SIZE = 32_000  # Of a usual model; ours to guess, because only the trainer opens model folders.


def memory_of_runs(session: Session, project: Project, *, edited: Mapping[str, str]) -> dict[str, Any]:
    """`num_parameters` (0 where there is no policy yet) and `rows`, the memory of each kind of run.

    Args:
        edited: fields of the settings form by name, as texts; those that are not there are as stored.

    Raises:
        Invalid: an edited setting is out of its range.
    """
    sampling, training = (
        sampling_of(_merged(project.sampling, edited, "sampling")),
        training_of(_merged(project.training, edited, "training")),
    )
    policy = newest_version(session, project.id, kind="policy")
    num_parameters = policy.num_parameters if policy else 0
    rows: list[tuple[str, Memory]] = [
        (
            kind,
            memory_of_run(
                kind,
                training,
                num_parameters=num_parameters,
                max_new_tokens=sampling.max_new_tokens,
                vocab_size=min(VOCAB_SIZE, max(num_parameters // 256, 256)),
            ),
        )
        for kind in Kind
    ]
    return {"num_parameters": num_parameters, "rows": rows}


def _merged(stored: dict[str, Any], edited: Mapping[str, str], prefix: str) -> dict[str, Any]:
    """`training.ppo.epochs` and the like put into a copy of what is stored."""
    values = {name: dict(value) if isinstance(value, dict) else value for name, value in stored.items()}
    for key, text in edited.items():
        head, *path = key.split(".")
        if head == prefix and len(path) == 1:
            values[path[0]] = text
        elif head == prefix and len(path) == 2:
            values[path[0]] = {**values.get(path[0], {}), path[1]: text}
    return values
