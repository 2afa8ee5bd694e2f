"""Keys of endpoints at rest: AES-GCM with a key that lies in the data folder, apart from the database and its dumps."""

import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.config import Settings
from app.errors import Unavailable

FILE = "secrets.key"
NONCE_BYTES = 12
PURPOSE = b"attune chat endpoint"


def seal(settings: Settings, text: str) -> bytes:
    """The text, encrypted and authenticated."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(_key(settings)).encrypt(nonce, text.encode(), PURPOSE)


def unseal(settings: Settings, sealed: bytes) -> str:
    """The text again.

    Raises:
        Unavailable: the key file is another one.
    """
    nonce, rest = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
    try:
        return AESGCM(_key(settings)).decrypt(nonce, rest, PURPOSE).decode()
    except InvalidTag:
        raise Unavailable(
            f"The endpoint's key cannot be read: {FILE} in the data folder is another one. Enter the key again."
        ) from None


def _key(settings: Settings) -> bytes:
    """The key, made on the first use. Of two processes that make it at once, the first to link it wins."""
    path = settings.data_dir / FILE
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        aside = path.with_name(f"{FILE}.{secrets.token_hex(8)}")
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(AESGCM.generate_key(256))
            file.flush()
            os.fsync(file.fileno())
        _link(aside, path)
    return path.read_bytes()


def _link(aside: Path, path: Path) -> None:
    try:
        os.link(aside, path)
    except FileExistsError:
        pass
    finally:
        aside.unlink()
