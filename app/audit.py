"""The append-only audit trail: who did what, chained by hashes. It holds ids and hashes, no personal text."""

import datetime as dt
import hashlib
import json
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, LargeBinary, UniqueConstraint, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.db import Base, Key, Now


class AuditEvent(Base):
    """One act. A trigger in the database refuses UPDATE and DELETE."""

    __tablename__ = "audit_event"
    __table_args__ = (UniqueConstraint("seq"),)

    id: Mapped[Key]
    seq: Mapped[int]
    project_id: Mapped[int | None] = mapped_column(ForeignKey("project.id"), index=True)
    actor_id: Mapped[int | None] = mapped_column(BigInteger)
    action: Mapped[str]
    subject: Mapped[str]
    details: Mapped[dict[str, Any]]
    at: Mapped[dt.datetime]
    previous_hash: Mapped[bytes] = mapped_column(LargeBinary)
    row_hash: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[Now]


def record(
    session: Session,
    action: str,
    *,
    subject: str,
    actor_id: int | None = None,
    project_id: int | None = None,
    details: dict[str, Any] | None = None,
) -> AuditEvent:
    """Append one act, such as `record(session, "version.approved", subject="model_version:7", actor_id=3)`.

    Serialised by an advisory lock until the transaction ends, so the chain has no forks.
    """
    session.execute(select(func.pg_advisory_xact_lock(0x41554449)))
    last = session.execute(select(AuditEvent.seq, AuditEvent.row_hash).order_by(AuditEvent.seq.desc()).limit(1)).first()
    event = AuditEvent(
        seq=last.seq + 1 if last else 1,
        project_id=project_id,
        actor_id=actor_id,
        action=action,
        subject=subject,
        details=details or {},
        at=session.scalar(select(func.clock_timestamp())),
        previous_hash=last.row_hash if last else b"",
    )
    event.row_hash = row_hash(event)
    session.add(event)
    session.flush()
    return event


def row_hash(event: AuditEvent) -> bytes:
    """sha256 over the previous hash and the canonical JSON of the row, its place in the sequence included."""
    row = [
        event.seq,
        event.project_id,
        event.actor_id,
        event.action,
        event.subject,
        event.details,
        event.at.astimezone(dt.UTC).isoformat(),
    ]
    canonical = json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(event.previous_hash + canonical.encode()).digest()


def first_broken(session: Session) -> int | None:
    """The sequence number of the first row that does not follow from the one before, or None when all do."""
    previous, expected = b"", 1
    for event in session.scalars(select(AuditEvent).order_by(AuditEvent.seq).execution_options(yield_per=1000)):
        if event.seq != expected or event.previous_hash != previous or row_hash(event) != event.row_hash:
            return event.seq
        previous, expected = event.row_hash, expected + 1
    return None
