"""The worker's engine: few connections, and patience when Postgres is away for a while."""

import logging
import time
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session

import app.tables  # noqa: F401 - all tables, so that foreign keys resolve
from app.config import get_settings
from app.db import transaction

log = logging.getLogger(__name__)
T = TypeVar("T")


@lru_cache
def engine() -> Engine:
    """This process's engine."""
    return create_engine(get_settings().database_url, pool_size=3, max_overflow=2, pool_pre_ping=True)


def in_transaction(act: Callable[[Session], T], *, patience_seconds: float = 300) -> T:
    """Run `act` in a short transaction of its own; when Postgres is away, try again until patience ends.

    `act` must be safe to repeat: all that we do here is compare-and-set, upsert or append of log lines.
    """
    deadline = time.monotonic() + patience_seconds
    wait = 0.1
    while True:
        try:
            with transaction(engine()) as session:
                return act(session)
        except (OperationalError, InterfaceError):
            if time.monotonic() > deadline:
                raise
            log.warning("Postgres does not answer; trying again in %.1f s.", wait)
            time.sleep(wait)
            wait = min(wait * 2, 3.0)
