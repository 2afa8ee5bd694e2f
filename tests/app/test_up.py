"""`attune up` refuses in a sentence, with exit status 1, before it touches anything."""

import os
import shutil
import socket
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from app.config import Settings, get_settings
from app.embedded.postgres import start_postgres
from app.errors import AppError
from app.up import _refuse_full_disk, only_instance, settings_with, start_servers

Usage = namedtuple("Usage", "total used free")


def attune(*arguments: str, data: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "ATTUNE_DATA_DIR": str(data)}
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments], capture_output=True, text=True, check=False, env=environment
    )


def test_a_taken_port_is_a_sentence_and_nothing_is_started(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = attune("up", "--port", str(port), data=tmp_path / "data")
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"attune: Port {port} is taken by another program.")
    assert not (tmp_path / "data").exists()


def test_a_second_instance_on_the_same_folder_is_a_sentence(tmp_path: Path) -> None:
    with only_instance(tmp_path):
        refused = attune("down", data=tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"attune: Attune already runs on the data folder {tmp_path}.")
    with only_instance(tmp_path):
        pass


def test_a_full_disk_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9 - 5_000_000, 5_000_000))
    with pytest.raises(AppError, match=r"has 5 MB left; Attune needs 300 MB.*ATTUNE_DATA_DIR"):
        _refuse_full_disk(tmp_path)


def test_a_data_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(AppError, match=r"cannot be written.*ATTUNE_DATA_DIR"),
        only_instance(tmp_path / "file" / "data"),
    ):
        pass


def test_addresses_in_the_environment_replace_the_embedded_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DATABASE_URL", "REDIS_URL", "ATTUNE_DATA_DIR", "ATTUNE_PUBLIC_URL"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    given = Settings(DATABASE_URL="postgresql+psycopg://db/x", REDIS_URL="redis://r/0", data_dir=tmp_path / "none")
    servers = start_servers(given)
    assert (servers.postgres, servers.valkey) == (None, None)
    assert not (tmp_path / "none").exists()
    used = settings_with(given, servers, port=8003)
    get_settings.cache_clear()  # It has read the environment of this test.
    assert (used.database_url, used.redis_url) == (given.database_url, given.redis_url)
    assert used.public_url == "http://127.0.0.1:8003"


def test_down_stops_what_a_crash_left_running(tmp_path: Path) -> None:
    left = start_postgres(tmp_path, fsync=False)
    assert left.pid is not None
    stopped = attune("down", data=tmp_path)
    assert stopped.returncode == 0, stopped.stderr
    assert left.pid is None
