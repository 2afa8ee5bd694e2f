"""Attune's own processes: started, watched, restarted when they die, and stopped in order."""

import contextlib
import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

log = logging.getLogger(__name__)

QUICK_DEATH_SECONDS = 10.0
MAX_QUICK_DEATHS = 5
STOP_SECONDS = 15.0
PR_SET_PDEATHSIG = 1


@dataclass
class Child:
    """One process that should run for as long as the supervisor does."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    quick_deaths: int = 0
    restart_at: float = 0.0
    is_given_up: bool = False


class Supervisor:
    """Runs children in their own process groups, with a log file each; restarts the ones that die."""

    def __init__(self, children: list[Child], *, log_dir: Path, say: Callable[[str], None]) -> None:
        self.children = children
        self.log_dir = log_dir
        self.say = say
        self.is_stopping = False

    def start(self) -> None:
        """Start all children, in their order."""
        self.log_dir.mkdir(parents=True, exist_ok=True)
        for child in self.children:
            self._launch(child)

    def watch(self, *, check: Callable[[], None] | None = None, seconds: float = 0.5) -> None:
        """Until told to stop: restart what died; `check` looks after what is not our child."""
        while not self.is_stopping:
            for child in self.children:
                self._look_after(child)
            if check is not None:
                check()
            time.sleep(seconds)

    def request_stop(self, *_signal: object) -> None:
        """End `watch` soon; for signal handlers."""
        self.is_stopping = True

    def stop(self) -> None:
        """Ask each child to end, the first first; kill what does not."""
        self.is_stopping = True
        for child in self.children:
            _signal_group(child, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for child in self.children:
            if child.process is None:
                continue
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(max(0.1, deadline - time.monotonic()))
            _signal_group(child, signal.SIGKILL)

    def _launch(self, child: Child) -> None:
        with (self.log_dir / f"{child.name}.log").open("ab") as out:
            child.process = subprocess.Popen(
                child.command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                env={**os.environ, **child.environment},
                preexec_fn=die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - we have no threads
            )
        child.started_at = time.monotonic()
        (self.log_dir / f"{child.name}.pid").write_text(str(child.process.pid))

    def _look_after(self, child: Child) -> None:
        if child.is_given_up or child.process is None or child.process.poll() is None:
            return
        now = time.monotonic()
        if child.restart_at == 0.0:
            self._note_death(child, now)
        elif now >= child.restart_at:
            child.restart_at = 0.0
            self._launch(child)

    def _note_death(self, child: Child, now: float) -> None:
        assert child.process is not None
        quick = now - child.started_at < QUICK_DEATH_SECONDS
        child.quick_deaths = child.quick_deaths + 1 if quick else 0
        if child.quick_deaths >= MAX_QUICK_DEATHS:
            child.is_given_up = True
            self.say(
                f"{child.name} ended {MAX_QUICK_DEATHS} times right after its start; see {self.log_dir / child.name}.log."
            )
            return
        child.restart_at = now + min(0.2 * 2**child.quick_deaths, 5.0)
        self.say(f"{child.name} ended (status {child.process.returncode}); it is started again.")


def die_with_parent() -> None:
    """Ask Linux to end this process when its parent dies, even by kill -9."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _signal_group(child: Child, number: signal.Signals) -> None:
    if child.process is None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.process.pid, number)
