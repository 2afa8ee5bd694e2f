"""The supervisor: restarts what dies, gives up with a sentence, leaves no orphan."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from app.embedded import supervisor as module
from app.embedded.processes import is_alive
from app.embedded.supervisor import Child, Supervisor

SLEEPER = [sys.executable, "-c", "import time; print('awake', flush=True); time.sleep(300)"]


def wait_until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def pid_of(child: Child) -> int:
    assert child.process is not None
    return child.process.pid


def test_a_child_that_is_killed_runs_again_and_its_words_are_kept(tmp_path: Path) -> None:
    said: list[str] = []
    child = Child("sleeper", SLEEPER)
    supervisor = Supervisor([child], log_dir=tmp_path, say=said.append)
    supervisor.start()
    first = pid_of(child)
    log = tmp_path / "sleeper.log"
    assert wait_until(lambda: log.read_text().count("awake") == 1)
    os.kill(first, signal.SIGKILL)

    def look() -> None:
        if log.read_text().count("awake") == 2:
            supervisor.request_stop()

    supervisor.watch(check=look, seconds=0.02)
    assert pid_of(child) != first
    assert said == ["sleeper ended (status -9); it is started again."]
    supervisor.stop()
    assert not is_alive(pid_of(child))


def test_a_child_that_keeps_dying_is_given_up_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_QUICK_DEATHS", 2)
    said: list[str] = []
    child = Child("broken", [sys.executable, "-c", "raise SystemExit(3)"])
    supervisor = Supervisor([child], log_dir=tmp_path, say=said.append)
    supervisor.start()
    supervisor.watch(check=lambda: supervisor.request_stop() if child.is_given_up else None, seconds=0.02)
    assert len(said) == 2
    assert "broken ended 2 times right after its start; see" in said[-1]


def test_stop_ends_grandchildren_and_those_who_do_not_listen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_SECONDS", 0.5)
    script = "trap '' TERM; sleep 300 & echo $!; while :; do sleep 1; done"
    child = Child("deaf", ["sh", "-c", script])
    supervisor = Supervisor([child], log_dir=tmp_path, say=lambda _: None)
    supervisor.start()
    log = tmp_path / "deaf.log"
    assert wait_until(lambda: log.read_text().strip().isdigit())
    supervisor.stop()
    assert wait_until(lambda: not is_alive(pid_of(child)) and not is_alive(int(log.read_text())))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")
def test_no_child_outlives_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from app.embedded.supervisor import Child, Supervisor;"
        f"s = Supervisor([Child('sleeper', {SLEEPER!r})], log_dir=Path(sys.argv[1]), say=print); s.start(); s.watch()"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)]) as parent:
        log, told = tmp_path / "sleeper.log", tmp_path / "sleeper.pid"
        assert wait_until(lambda: log.exists() and "awake" in log.read_text() and told.exists())
        assert wait_until(lambda: told.read_text().isdigit())
        pid = int(told.read_text())
        assert is_alive(pid)
        parent.kill()
    assert wait_until(lambda: not is_alive(pid))
