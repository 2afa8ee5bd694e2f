"""The embedded Postgres: started, found again, killed, recovered; as root and as an ordinary user."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from app.embedded import postgres
from app.embedded.postgres import PostgresServer, start_postgres
from app.embedded.processes import is_alive, short_socket_dir
from app.errors import AppError

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter; pytest's own are private."""
    folder = Path(tempfile.mkdtemp(prefix="attune-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def execute(server: PostgresServer, *statements: str) -> list[tuple[object, ...]]:
    """Rows of the last statement; each statement commits."""
    with psycopg.connect(host=str(server.socket_dir), user="postgres", dbname="attune", autocommit=True) as link:
        for statement in statements:
            cursor = link.execute(statement)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)


def test_committed_rows_survive_stop_and_start(tmp_path: Path) -> None:
    first = start_postgres(tmp_path)
    execute(first, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (7)")
    first.stop()
    assert first.pid is None
    second = start_postgres(tmp_path)
    assert execute(second, "SELECT n FROM kept") == [(7,)]
    second.stop()


def test_committed_rows_survive_kill_9_and_nobody_cleans_up(tmp_path: Path) -> None:
    server = start_postgres(tmp_path)
    execute(server, "CREATE TABLE kept (n int)", "INSERT INTO kept SELECT generate_series(1, 1000)")
    pid = server.pid
    assert pid is not None
    kill(pid)
    assert (server.folder / "postmaster.pid").exists()
    again = start_postgres(tmp_path)
    assert again.pid not in {None, pid}
    assert execute(again, "SELECT count(*), sum(n) FROM kept") == [(1000, 500_500)]
    again.stop()


def test_a_second_start_finds_the_running_server(tmp_path: Path) -> None:
    first = start_postgres(tmp_path, fsync=False)
    second = start_postgres(tmp_path, fsync=False)
    assert second == first
    assert second.pid == first.pid
    first.stop()


def test_a_server_outlives_the_process_that_started_it_and_is_found_again(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from app.embedded.postgres import start_postgres;"
        "print(start_postgres(Path(sys.argv[1]), fsync=False).pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    started = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert started.returncode == -signal.SIGKILL
    server = start_postgres(tmp_path, fsync=False)
    assert server.pid == int(started.stdout)
    server.stop()


def test_a_stale_pid_of_another_program_is_not_taken_for_the_server(tmp_path: Path) -> None:
    server = start_postgres(tmp_path, fsync=False)
    pid = server.pid
    assert pid is not None
    kill(pid)
    lock = server.folder / "postmaster.pid"
    with subprocess.Popen(["sleep", "60"]) as stranger:
        lock.write_text(lock.read_text().replace(str(pid), str(stranger.pid), 1))
        server.stop()
        assert server.pid is None
        again = start_postgres(tmp_path, fsync=False)
        assert again.pid not in {None, stranger.pid}
        again.stop()
        assert stranger.poll() is None
        stranger.kill()


def test_commits_are_durable_pages_are_checked_and_nothing_listens_on_the_network(tmp_path: Path) -> None:
    server = start_postgres(tmp_path)
    names = ["synchronous_commit", "fsync", "full_page_writes", "data_checksums", "listen_addresses", "server_encoding"]
    told = [execute(server, f"SHOW {name}")[0][0] for name in names]
    assert told == ["on", "on", "on", "on", "", "UTF8"]
    assert server.socket_dir.stat().st_mode & 0o777 == 0o700
    assert server.folder.stat().st_mode & 0o077 == 0
    server.stop()


def test_a_long_path_gets_short_private_sockets_that_are_its_own(tmp_path: Path) -> None:
    long, longer = tmp_path / ("x" * 90), tmp_path / ("y" * 90)
    long.mkdir()
    longer.mkdir()
    here, there = short_socket_dir(long / "postgres"), short_socket_dir(longer / "postgres")
    assert here != there
    assert here == short_socket_dir(long / "postgres")
    assert len(str(here)) < 80
    assert here.stat().st_mode & 0o777 == 0o700
    server = start_postgres(long, fsync=False)
    assert execute(server, "SELECT 1") == [(1,)]
    server.stop()
    here.rmdir()
    there.rmdir()


def test_another_major_version_is_refused_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("16\n")
    with pytest.raises(AppError, match=r"made by Postgres 16, and this is Postgres 18.*pg_dump"):
        start_postgres(tmp_path)


def test_a_start_that_was_cut_short_leaves_nothing_that_is_taken_for_a_cluster(tmp_path: Path) -> None:
    (tmp_path / "postgres.new").mkdir()
    (tmp_path / "postgres.new" / "PG_VERSION").write_text("18\n")
    server = start_postgres(tmp_path, fsync=False)
    assert execute(server, "SELECT 1") == [(1,)]
    assert not (tmp_path / "postgres.new").exists()
    server.stop()


def test_a_server_that_cannot_start_says_what_its_log_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start_postgres(tmp_path, fsync=False).stop()
    monkeypatch.setattr(postgres, "READY_SECONDS", 10)
    with (tmp_path / "postgres" / "postgresql.conf").open("a") as settings:
        settings.write("no_such_setting = 1\n")
    with pytest.raises(AppError, match=r"(?s)did not start.*no_such_setting"):
        start_postgres(tmp_path)


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binaries = tmp_path / "bin"
    binaries.mkdir()
    fake = binaries / "initdb"
    fake.write_text("#!/bin/sh\necho 'initdb: could not write file: No space left on device' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("ATTUNE_POSTGRES_BINDIR", str(binaries))
    with pytest.raises(AppError, match=r"the disk is full\. Free some space"):
        start_postgres(tmp_path / "data")
    assert not (tmp_path / "data" / "postgres").exists()


@needs_root
def test_root_without_user_namespaces_runs_it_as_another_user(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_can_unshare", lambda: False)
    data = open_folder / "data"
    data.mkdir(mode=0o700)
    try:
        server = start_postgres(data, fsync=False)
    except AppError as refusal:
        pytest.skip(f"this checkout is closed to other users: {refusal.message}")
    pid = server.pid
    assert pid is not None
    assert Path(f"/proc/{pid}").stat().st_uid != 0
    assert execute(server, "SELECT 1") == [(1,)]
    server.stop()
    assert execute(start_postgres(data, fsync=False), "SELECT 1") == [(1,)]
    server.stop()


@needs_root
def test_a_data_folder_that_the_other_user_cannot_reach_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_can_unshare", lambda: False)
    closed = tmp_path / "closed"
    (closed / "data").mkdir(parents=True)
    closed.chmod(0o700)
    with pytest.raises(AppError, match=r"refuses to run as root.*cannot reach"):
        start_postgres(closed / "data")
    assert closed.stat().st_mode & 0o777 == 0o700


@needs_root
def test_an_ordinary_user_needs_no_help(open_folder: Path) -> None:
    """A forked child gives up root: its interpreter may lie where that user could not start it."""
    data = open_folder / "data"
    data.mkdir()
    os.chown(data, 65534, 65534)
    if subprocess.run(["ls", f"{postgres.binaries()}"], user=65534, capture_output=True, check=False).returncode:
        pytest.skip("this checkout is closed to other users")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            server = start_postgres(data, fsync=False)
            status = 0 if execute(server, "SELECT 1") == [(1,)] else 2
            server.stop()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (data / "postgres" / "PG_VERSION").stat().st_uid == 65534
