"""Small questions about processes and sockets that both embedded servers ask."""

import hashlib
import os
import tempfile
from pathlib import Path

import psutil

from app.errors import AppError

LONGEST_SOCKET_DIR = 80  # A unix socket's path holds about 100 bytes, its name included.


def is_alive(pid: int) -> bool:
    """Whether this process runs; a zombie, which only waits to be reaped, does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return not Path("/proc/self").exists()
    return status.rpartition(")")[2].split()[0] not in {"Z", "X"}


def works_in(pid: int, folder: Path) -> bool:
    """Whether this process runs and has `folder` as its own; a recycled pid belongs to somebody else's program."""
    try:
        return is_alive(pid) and Path(psutil.Process(pid).cwd()) == folder
    except psutil.Error:
        return False


def short_socket_dir(folder: Path) -> Path:
    """A private folder for sockets: beside the data when the path is short enough, else a temporary one."""
    wanted = folder.parent / "sockets"
    if len(str(wanted)) > LONGEST_SOCKET_DIR:
        digest = hashlib.sha256(str(folder.parent).encode()).hexdigest()[:12]
        wanted = Path(tempfile.gettempdir()) / f"attune-{os.getuid()}-{digest}"
    wanted.mkdir(parents=True, exist_ok=True, mode=0o700)
    if (os.getuid() not in {0, wanted.stat().st_uid}) or wanted.is_symlink():
        raise AppError(f"The folder {wanted} belongs to somebody else. Remove it, or choose another data folder.")
    wanted.chmod(0o700)
    return wanted
