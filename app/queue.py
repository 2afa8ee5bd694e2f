"""The outbox: work is asked for in the transaction that makes it due, and sent to Celery after the commit.

Redis is only a doorbell. A row here, and the run's own state, are the truth: the clock rings again for
whatever was not sent, or was sent and lost.
"""

import datetime as dt
import logging
from functools import lru_cache

from celery import Celery
from sqlalchemy import BigInteger, Engine, Index, event, func, select, text, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.config import get_settings
from app.db import Base, Key, Now, transaction

log = logging.getLogger(__name__)

TASKS = {"run": "gpu", "import_file": "cpu"}
"""Task name to queue. A message holds one id and nothing else."""


class Outbox(Base):
    """One message to be sent."""

    __tablename__ = "outbox"
    __table_args__ = (Index("ix_outbox_unsent", "id", postgresql_where=text("sent_at IS NULL")),)

    id: Mapped[Key]
    task: Mapped[str]
    subject_id: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[Now]
    sent_at: Mapped[dt.datetime | None]


def enqueue(session: Session, task: str, *, subject_id: int) -> None:
    """Ask for `task` on `subject_id` as part of this transaction; it is sent once the commit has succeeded."""
    session.add(Outbox(task=task, subject_id=subject_id))
    if session.info.get("attune_send_after_commit"):
        return
    session.info["attune_send_after_commit"] = True
    engine = session.get_bind()
    if isinstance(engine, Engine):
        event.listen(session, "after_commit", lambda _: _send_quietly(engine), once=True)


@lru_cache
def broker() -> Celery:
    """The Celery application as a sender: it knows queues, not tasks."""
    from app.celery_settings import CELERY_SETTINGS

    sender = Celery("attune", broker=get_settings().redis_url)
    sender.conf.update(CELERY_SETTINGS)
    return sender


def send_unsent(engine: Engine, *, limit: int = 100) -> int:
    """Send what waits in the outbox and mark it sent. Sending twice is harmless: claims are compare-and-set."""
    with transaction(engine) as session:
        waiting = select(Outbox).where(Outbox.sent_at.is_(None)).order_by(Outbox.id).limit(limit)
        rows = session.scalars(waiting.with_for_update(skip_locked=True)).all()
        for row in rows:
            broker().send_task(f"attune.{row.task}", args=[row.subject_id], queue=TASKS[row.task], retry=False)
        session.execute(update(Outbox).where(Outbox.id.in_([row.id for row in rows])).values(sent_at=func.now()))
    return len(rows)


def _send_quietly(engine: Engine) -> None:
    """Ring the bell now if it can be rung. If not, nothing is lost: the clock sends what is left."""
    address = get_settings().redis_url
    if not address:
        return
    try:
        _demand_answer(address)
        send_unsent(engine)
    except Exception as reason:  # noqa: BLE001 - any failure of the broker must leave the request alone
        log.warning("The broker did not take a message (%s). The clock will send it.", type(reason).__name__)


def _demand_answer(address: str) -> None:
    """One question with one second to answer. Celery would ask again and again, for half a minute, while a person waits.

    Raises:
        redis.RedisError: there was no answer.
    """
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    if address.startswith("memory:"):
        return
    url = address.replace("redis+socket://", "unix://", 1)
    with redis.Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0)) as client:
        client.ping()
