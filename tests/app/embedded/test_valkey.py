"""The embedded Valkey: a queue that survives kill -9, on a private socket."""

import os
import signal
import time
from pathlib import Path

import pytest
from kombu import Connection

from app.embedded.processes import is_alive
from app.embedded.valkey import ValkeyServer, start_valkey
from app.errors import AppError


def kill(server: ValkeyServer) -> int:
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return pid


def test_what_was_queued_survives_an_orderly_stop(tmp_path: Path) -> None:
    server = start_valkey(tmp_path)
    server.client().rpush("queue", "41")
    server.stop()
    assert server.pid is None
    again = start_valkey(tmp_path)
    assert again.client().lpop("queue") == b"41"
    again.stop()


def test_it_comes_back_after_kill_9_on_the_same_address(tmp_path: Path) -> None:
    server = start_valkey(tmp_path)
    server.client().rpush("queue", "42")
    server.client().waitaof(1, 0, 5000)
    killed = kill(server)
    assert server.pid is None
    again = start_valkey(tmp_path)
    assert again == server
    assert again.pid != killed
    assert again.client().lpop("queue") == b"42"
    again.stop()


def test_a_second_start_finds_the_running_server(tmp_path: Path) -> None:
    server = start_valkey(tmp_path)
    pid = server.pid
    assert start_valkey(tmp_path).pid == pid
    server.stop()


def test_celery_understands_its_address(tmp_path: Path) -> None:
    server = start_valkey(tmp_path)
    with Connection(server.url, connect_timeout=5) as connection:
        queue = connection.SimpleQueue("nudges")
        queue.put({"run": 3})
        assert queue.get(timeout=5).payload == {"run": 3}
        queue.close()
    server.stop()


def test_only_its_owner_can_reach_it(tmp_path: Path) -> None:
    server = start_valkey(tmp_path)
    assert server.socket.stat().st_mode & 0o077 == 0
    assert server.socket.parent.stat().st_mode & 0o777 == 0o700
    assert list(server.client().config_get("port").values()) in (["0"], [b"0"])  # type: ignore[comparison-overlap]
    server.stop()


def test_a_server_that_does_not_start_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "valkey-server"
    broken.write_text("#!/bin/sh\necho 'no room in memory'\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("ATTUNE_VALKEY_BIN", str(broken))
    with pytest.raises(AppError, match=r"did not start.*no room in memory"):
        start_valkey(tmp_path / "data")
