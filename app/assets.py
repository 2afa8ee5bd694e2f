"""Addresses of static files that change when the file does, so that browsers may keep them for ever."""

import hashlib
from functools import lru_cache
from pathlib import Path

STATIC = Path(__file__).resolve().parent.parent / "static"
SCREENS = STATIC.parent / "docs" / "screens"
"""Pictures of the pages; the manual shows those of the documentation, as `screens/NAME.png`."""


@lru_cache(maxsize=256)
def url(name: str) -> str:
    """`/static/css/base.css?v=1a2b3c4d` for `css/base.css`.

    Raises:
        FileNotFoundError: no such file; browser libraries come with `make run` or `python bootstrap.py`.
    """
    file = SCREENS / name.removeprefix("screens/") if name.startswith("screens/") else STATIC / name
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return f"/static/{name}?v={digest[:12]}"
