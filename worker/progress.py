"""What a training loop tells the website: progress at most every half second, metrics in batches, under the fence."""

import time
from typing import Any

from app.training import runs
from app.training.models import Kind, Run
from worker.database import in_transaction
from worker.registry import StaleRunError
from worker.rlhf import processes
from worker.rlhf.types import Stats

EVERY_SECONDS = 0.5
SHARES = {
    Kind.LOOP: {"reward": (0.0, 0.15), "ppo": (0.15, 0.95), "evaluate": (0.95, 1.0)},
    Kind.PPO: {"ppo": (0.0, 0.95), "evaluate": (0.95, 1.0)},
}
"""Which part of a run's progress each phase is, where a run has several."""


class Recorder:
    """Collects stats and writes them now and then. Raises `StaleRunError` when the run is another's."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.rows: dict[tuple[str, int], dict[str, Any]] = {}
        self.place: dict[str, Any] = {}
        self.written_at = 0.0

    def step(self, stats: Stats) -> None:
        """Note one step."""
        if not processes.is_first():
            return  # Of several processes, the first tells.
        phase, step, total = str(stats["phase"]), int(stats["step"]), int(stats["total_steps"])
        values = {name: value for name, value in stats.items() if name not in {"phase", "step", "total_steps"}}
        name = phase.removesuffix("_done")
        if not phase.endswith("_done"):
            self.rows[phase, step] = {"phase": phase, "step": step, "values": values}
        self._move_to(name, step, total)
        if time.monotonic() - self.written_at >= EVERY_SECONDS:
            self.flush()

    def enter(self, phase: str, *, total_steps: int) -> None:
        """A phase without steps of its own begins."""
        if not processes.is_first():
            return
        self._move_to(phase, 0, total_steps)
        self.flush()

    def say(self, sentence: str) -> None:
        """A line for the operator."""
        if not processes.is_first():
            return
        in_transaction(lambda session: runs.write_log(session, self.run.id, sentence))

    def flush(self) -> None:
        """Write what has gathered."""
        if not processes.is_first():
            return
        rows, place, fence = list(self.rows.values()), dict(self.place), self.run.fence
        is_ours = in_transaction(lambda session: runs.write_metrics(session, self.run.id, fence=fence, rows=rows))
        if not is_ours:
            raise StaleRunError(f"run {self.run.id} has another fence than {fence}")
        if place:
            in_transaction(lambda session: runs.note_progress(session, self.run.id, fence=fence, **place))
        self.rows.clear()
        self.written_at = time.monotonic()

    def is_ours(self) -> bool:
        """Whether the fence still holds."""
        answer = in_transaction(lambda session: runs.check_run(session, self.run.id, fence=self.run.fence))
        return answer != "lost"

    def _move_to(self, phase: str, step: int, total: int) -> None:
        begin, end = SHARES.get(Kind(self.run.kind), {}).get(phase, (0.0, 1.0))
        done = step / total if total else 1.0
        self.place = {"phase": phase, "step": step, "total_steps": total, "progress": begin + (end - begin) * done}
