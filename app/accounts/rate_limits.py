"""Limits on attempts, counted in Postgres in a transaction of their own: a refused attempt counts too."""

import datetime as dt

from fastapi import Request
from sqlalchemy import delete, func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.accounts.models import RateLimit
from app.errors import TooManyRequests

WINDOW = dt.timedelta(minutes=5)
SIGN_IN_PER_KEY = 10
SIGN_IN_OVERALL = 1000


def count_sign_in(request: Request, *, email: str, address: str) -> None:
    """Count one attempt to sign in, by account, by address and overall.

    Raises:
        TooManyRequests: a limit is reached. It ends with the window, so nobody is locked out for long.
    """
    limits = [(f"sign-in:account:{email[:254]}", SIGN_IN_PER_KEY), (f"sign-in:address:{address}", SIGN_IN_PER_KEY * 3)]
    limits.append(("sign-in:all", SIGN_IN_OVERALL))
    with Session(request.app.state.engine) as session, session.begin():
        hits = [hit(session, key) for key, _ in limits]
    if any(count > limit for count, (_, limit) in zip(hits, limits, strict=True)):
        raise TooManyRequests("Too many attempts to sign in. Wait five minutes, or ask an admin for a sign-in link.")


def hit(session: Session, key: str) -> int:
    """Count one hit on `key` in the present window; how many there are now."""
    window = func.date_bin(WINDOW, func.now(), dt.datetime(2000, 1, 1, tzinfo=dt.UTC))
    added = insert(RateLimit).values(key=key.replace("\x00", ""), window_start=window, hits=1)
    upsert = added.on_conflict_do_update(index_elements=["key", "window_start"], set_={"hits": RateLimit.hits + 1})
    return session.scalar(upsert.returning(RateLimit.hits)) or 0


def forget_old(session: Session) -> None:
    """Remove windows that are over."""
    session.execute(delete(RateLimit).where(RateLimit.window_start < func.now() - 2 * WINDOW))
