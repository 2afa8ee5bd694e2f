"""Many rows in one statement: they travel as one JSON parameter, so that it is compiled and planned once, not per row."""

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Column, TableValuedAlias, func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session


def recordset(rows: Sequence[dict[str, Any]], columns: Sequence["Column[Any]"]) -> TableValuedAlias:
    """`rows` as something to select from, with the names and types of `columns`."""
    payload = sa.cast(sa.literal(json.dumps(rows, default=_plain), sa.Text), sa.JSON)
    typed = [sa.column(column.name, column.type) for column in columns]
    return func.json_to_recordset(payload).table_valued(*typed, name="given").render_derived(with_types=True)


def insert_new(
    session: Session,
    table: sa.Table,
    rows: Sequence[dict[str, Any]],
    *,
    returning: Sequence["Column[Any]"] = (),
    computed: dict[str, "sa.ColumnElement[Any]"] | None = None,
) -> Sequence["sa.Row[Any]"]:
    """Insert those rows that break no unique constraint, in order; what `returning` names of them.

    Args:
        rows: all with the same keys.
        computed: columns that the database works out for each row.
    """
    if not rows:
        return []
    computed = computed or {}
    given = recordset(rows, [table.c[name] for name in rows[0]])
    source = sa.select(*given.c, *computed.values())
    adding = insert(table).from_select([*rows[0], *computed], source).on_conflict_do_nothing()
    if not returning:
        session.execute(adding)
        return []
    return session.execute(adding.returning(*returning)).all()


def _plain(value: object) -> str:
    """Bytes as Postgres writes them, and all else (identifiers) as text."""
    return f"\\x{value.hex()}" if isinstance(value, bytes) else str(value)
