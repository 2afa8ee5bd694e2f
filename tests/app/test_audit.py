"""The audit trail: append-only, and any change shows."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app import audit


def three_events(session: Session) -> None:
    for number in range(3):
        audit.record(session, "test.acted", subject=f"thing:{number}", details={"n": number})


def test_an_untouched_chain_is_whole(session: Session) -> None:
    three_events(session)
    assert audit.first_broken(session) is None


@pytest.mark.parametrize("statement", ["UPDATE audit_event SET action = 'x'", "DELETE FROM audit_event"])
def test_the_database_refuses_to_change_an_event(session: Session, statement: str) -> None:
    three_events(session)
    with pytest.raises(DBAPIError, match="append-only"):
        session.execute(text(statement))


@pytest.mark.parametrize(
    ("tampering", "seq"),
    [
        ("UPDATE audit_event SET details = '{}' WHERE seq = 2", 2),
        ("DELETE FROM audit_event WHERE seq = 1", 2),
        ("UPDATE audit_event SET actor_id = 99 WHERE seq = 3", 3),
    ],
)
def test_tampering_by_a_superuser_is_found(session: Session, tampering: str, seq: int) -> None:
    three_events(session)
    session.execute(text("SET session_replication_role = replica"))  # Switches triggers off.
    session.execute(text(tampering))
    session.execute(text("SET session_replication_role = DEFAULT"))
    session.expire_all()
    assert audit.first_broken(session) == seq
