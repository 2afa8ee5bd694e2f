"""`attune up`: everything on one machine, from nothing, with the demo; `attune down` ends what was left running."""

import contextlib
import fcntl
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from app import migrations
from app.config import Settings, get_settings
from app.db import make_engine, transaction
from app.embedded.postgres import PostgresServer, start_postgres
from app.embedded.supervisor import Child, Supervisor
from app.embedded.valkey import ValkeyServer, start_valkey
from app.errors import AppError

MIN_FREE_BYTES = 300_000_000


@dataclass(frozen=True)
class Servers:
    """The embedded servers; None where an address in the environment replaces one."""

    postgres: PostgresServer | None
    valkey: ValkeyServer | None


def up(*, port: int = 8000, model: str | None = None, demo: bool = True, console: Console | None = None) -> None:
    """Start all, print how to get in, and run until Ctrl-C.

    Raises:
        AppError: the port is taken, the disk is full, another instance uses the data folder, a server does not start.
    """
    console = console or Console()
    settings = get_settings()
    _refuse_taken_port(port)
    with only_instance(settings.data_dir):
        _refuse_full_disk(settings.data_dir)
        servers = start_servers(settings)
        sampler_port = 0 if settings.sampler_url else free_port()
        settings = settings_with(settings, servers, port=port, sampler_port=sampler_port)
        say = _speaker(console)
        try:
            say("Bringing the database up to date")
            migrations.upgrade(settings.database_url)
            if demo:
                _seed_once(settings, model=model, say=say)
            started = children(port, sampler_port=sampler_port)
            supervisor = Supervisor(started, log_dir=settings.data_dir / "logs", say=say)
            _serve(supervisor, settings, servers, console=console)
        finally:
            stop_servers(servers)


def start_servers(settings: Settings) -> Servers:
    """Embedded servers for whatever the environment does not name."""
    return Servers(
        postgres=None if settings.database_url else start_postgres(settings.data_dir),
        valkey=None if settings.redis_url else start_valkey(settings.data_dir),
    )


def stop_servers(servers: Servers) -> None:
    """Stop the embedded servers, the broker first."""
    if servers.valkey:
        servers.valkey.stop()
    if servers.postgres:
        servers.postgres.stop()


def settings_with(settings: Settings, servers: Servers, *, port: int, sampler_port: int = 0) -> Settings:
    """The settings that this and all child processes use; children read them from the environment."""
    os.environ["DATABASE_URL"] = settings.database_url or (servers.postgres.url() if servers.postgres else "")
    os.environ["REDIS_URL"] = settings.redis_url or (servers.valkey.url if servers.valkey else "")
    os.environ["ATTUNE_DATA_DIR"] = str(settings.data_dir.resolve())
    os.environ.setdefault("ATTUNE_PUBLIC_URL", f"http://127.0.0.1:{port}")
    if sampler_port:
        os.environ["ATTUNE_SAMPLER_URL"] = f"http://127.0.0.1:{sampler_port}/v1"
        os.environ["ATTUNE_SAMPLER_KEY"] = secrets.token_urlsafe(32)
    get_settings.cache_clear()
    return get_settings()


def free_port() -> int:
    """A port of the loopback interface that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def children(port: int, *, sampler_port: int = 0) -> list[Child]:
    """Attune's own processes, in the order in which they start and stop; no sampler where another one is named."""
    python = [sys.executable, "-m"]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "-O", "fair", "-c", "1", "-l", "warning"]
    celery = [*python, "celery", "-A", "worker.celery_app", "worker", *quiet]
    web = [*python, "uvicorn", "--factory", "app.main:create_app", "--host", "127.0.0.1", "--port", str(port)]
    return [
        Child("web", [*web, "--no-server-header", "--no-access-log", "--timeout-graceful-shutdown", "5"]),
        Child("clock", [*python, "worker.clock"]),
        *([Child("sampler", [*python, "worker.sampler", "--port", str(sampler_port)])] if sampler_port else []),
        Child("light", [*celery, "-Q", "cpu", "-n", "light@%h"]),
        Child("trainer", [*celery, "-Q", "gpu", "-n", "trainer@%h"]),
    ]


@contextlib.contextmanager
def only_instance(data_dir: Path) -> Iterator[None]:
    """Hold the data folder for this process.

    Raises:
        AppError: another process holds it.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (data_dir / "lock").open("a+")
    except OSError as reason:
        raise AppError(
            f"The data folder {data_dir} cannot be written: {reason.strerror}. Set ATTUNE_DATA_DIR."
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise AppError(
                f"Attune already runs on the data folder {data_dir}. Use that one, stop it, or set ATTUNE_DATA_DIR."
            ) from None
        yield


def down() -> None:
    """Stop embedded servers that a crash left running.

    Raises:
        AppError: Attune still runs on this folder; Ctrl-C there stops it.
    """
    settings = get_settings()
    with only_instance(settings.data_dir):
        if (settings.data_dir / "postgres" / "postmaster.pid").exists():
            start_postgres(settings.data_dir).stop()
        if (settings.data_dir / "valkey").exists():
            start_valkey(settings.data_dir).stop()


def _serve(supervisor: Supervisor, settings: Settings, servers: Servers, *, console: Console) -> None:
    """Run the children until a signal; look after the embedded servers meanwhile."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, supervisor.request_stop)
    try:
        supervisor.start()
        _wait_for_web(supervisor, settings)
        _print_ways_in(settings, console)
        supervisor.watch(check=lambda: _revive(settings, servers))
    finally:
        console.print("Stopping.")
        supervisor.stop()


def _revive(settings: Settings, servers: Servers) -> None:
    """Start an embedded server again that was killed; its folder and its socket stay the same."""
    if servers.postgres and servers.postgres.pid is None:
        with contextlib.suppress(AppError):
            start_postgres(settings.data_dir)
    if servers.valkey and not _listens(servers.valkey):
        with contextlib.suppress(AppError):
            start_valkey(settings.data_dir)


def _listens(valkey: ValkeyServer) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(valkey.socket))
        except OSError:
            return False
    return True


def _seed_once(settings: Settings, *, model: str | None, say: Callable[[str], None]) -> None:
    """The demo, on the first start only."""
    from app.demo.seed import is_seeded, seed_demo

    engine = make_engine(settings)
    with transaction(engine) as session:
        if not is_seeded(session):
            say("Making the demo: a concierge, its guests and the first answers to rank")
            seed_demo(session, model=model)
    engine.dispose()


def _print_ways_in(settings: Settings, console: Console) -> None:
    """The address, and a one-time sign-in link for each of the demo's people."""
    from app.demo.seed import sign_in_links

    console.print(
        f"\n[bold]Attune is at {settings.public_url}[/bold]  (Ctrl-C stops it; the next start keeps everything)",
        soft_wrap=True,
    )
    engine = make_engine(settings)
    with transaction(engine) as session:
        links = sign_in_links(session)
    engine.dispose()
    if links:
        console.print("Sign in with one of these links; each works once, within 24 hours:")
    for role, token in links:
        console.print(f"  {role:<9} {settings.public_url}/link/{token}", soft_wrap=True, highlight=False)
    sys.stdout.flush()


def _wait_for_web(supervisor: Supervisor, settings: Settings) -> None:
    import time

    import httpx2

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not supervisor.is_stopping:
        with contextlib.suppress(httpx2.HTTPError):
            if httpx2.get(f"{settings.public_url}/readyz", timeout=2, trust_env=False).status_code == 200:
                return
        time.sleep(0.1)
    if not supervisor.is_stopping:
        raise AppError(f"The website did not start within a minute; see {settings.data_dir / 'logs' / 'web.log'}.")


def _refuse_taken_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise AppError(
                f"Port {port} is taken by another program. Stop it, or choose one: make run PORT=8001."
            ) from None


def _refuse_full_disk(data_dir: Path) -> None:
    import shutil

    free = shutil.disk_usage(data_dir).free
    if free < MIN_FREE_BYTES:
        raise AppError(
            f"The disk of {data_dir} has {free / 1e6:.0f} MB left; Attune needs {MIN_FREE_BYTES / 1e6:.0f} MB. "
            "Free some space, or set ATTUNE_DATA_DIR to another disk."
        )


def _speaker(console: Console) -> Callable[[str], None]:
    return lambda sentence: console.print(f"[dim]{sentence}[/dim]", soft_wrap=True)
