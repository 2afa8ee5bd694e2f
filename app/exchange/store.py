"""Storing rows in bulk: prompts, responses, comparisons and rankings, each only where it is new."""

import secrets
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.accounts.models import Person, new_pseudonym
from app.bulk import insert_new, recordset
from app.db import Base
from app.exchange.rows import Row
from app.projects.models import Project
from app.projects.settings import training_of
from app.prompts.models import Prompt
from app.prompts.service import digest, split_of

metadata = Base.metadata


@dataclass
class Totals:
    """What an import added, and how many of its rows were known already."""

    prompts: int = 0
    responses: int = 0
    comparisons: int = 0
    rankings: int = 0
    known: int = 0

    def columns(self) -> dict[str, int]:
        """As columns of the import."""
        return {
            "num_new_prompts": self.prompts,
            "num_new_responses": self.responses,
            "num_new_comparisons": self.comparisons,
            "num_new_rankings": self.rankings,
            "num_known": self.known,
        }


def store_rows(
    session: Session, project: Project, rows: Sequence[Row], totals: Totals, *, import_id: int | None
) -> None:
    """Add what is new of these rows."""
    if not rows:
        return
    before = (totals.prompts, totals.responses, totals.comparisons, totals.rankings)
    prompt_ids = _prompts(session, project, rows, totals, import_id)
    responses = _responses(session, rows, prompt_ids, totals, import_id)
    comparison_ids = _comparisons(session, project, rows, prompt_ids, responses, totals, import_id)
    _rankings(session, project, rows, responses, comparison_ids, totals)
    if before == (totals.prompts, totals.responses, totals.comparisons, totals.rankings):
        totals.known += len(rows)


def _prompts(
    session: Session, project: Project, rows: Sequence[Row], totals: Totals, import_id: int | None
) -> list[int]:
    hashes = [digest(row.messages) for row in rows]
    share = training_of(project.training).heldout_share
    values = {
        content_hash: {
            "project_id": project.id,
            "content_hash": content_hash,
            "messages": row.messages,
            "topic": row.topic,
            "external_id": row.external_id,
            "warnings": row.warnings,
            "split": split_of(share, content_hash),
            "import_id": import_id,
        }
        for content_hash, row in zip(hashes, rows, strict=True)
    }
    table = metadata.tables["prompt"]
    new = insert_new(session, table, list(values.values()), returning=(table.c.content_hash, table.c.id))
    totals.prompts += len(new)
    ids = {bytes(row.content_hash): row.id for row in new}
    if missing := set(values) - set(ids):
        known = select(Prompt.content_hash, Prompt.id).where(
            Prompt.project_id == project.id, Prompt.content_hash.in_(missing)
        )
        ids |= {bytes(row.content_hash): row.id for row in session.execute(known)}
    return [ids[content_hash] for content_hash in hashes]


def _responses(
    session: Session, rows: Sequence[Row], prompt_ids: Sequence[int], totals: Totals, import_id: int | None
) -> list[list[int]]:
    """Ids of each row's responses; demonstrations are stored too, and not among them."""
    keys: list[list[tuple[int, bytes]]] = []
    values: dict[tuple[int, bytes], dict[str, Any]] = {}
    for row, prompt_id in zip(rows, prompt_ids, strict=True):
        keys.append([])
        for place, response in enumerate(row.responses):
            source = response.source or _twin_mark(row, place)
            key = (prompt_id, digest("imported", source, None, response.text))
            keys[-1].append(key)
            values[key] = _response(key, response.text, "imported", response.source, import_id)
        if row.demonstration:
            key = (prompt_id, digest("written", "", None, row.demonstration))
            values[key] = _response(key, row.demonstration, "written", "", import_id)
    table = metadata.tables["response"]
    key_columns = (table.c.prompt_id, table.c.content_hash, table.c.id)
    new = insert_new(session, table, list(values.values()), returning=key_columns)
    totals.responses += len(new)
    ids = {(row.prompt_id, bytes(row.content_hash)): row.id for row in new}
    if missing := set(values) - set(ids):
        known = select(*key_columns).where(
            table.c.prompt_id.in_({key[0] for key in missing}), table.c.content_hash.in_({key[1] for key in missing})
        )
        ids |= {(row.prompt_id, bytes(row.content_hash)): row.id for row in session.execute(known)}
    return [[ids[key] for key in row_keys] for row_keys in keys]


def _twin_mark(row: Row, place: int) -> str:
    """Two equal texts of unnamed sources in one row are still two responses."""
    same = sum(other.text == row.responses[place].text and not other.source for other in row.responses[:place])
    return f"#{same}" if same else ""


def _response(key: tuple[int, bytes], text_: str, origin: str, source: str, import_id: int | None) -> dict[str, Any]:
    return {
        "prompt_id": key[0],
        "content_hash": key[1],
        "text": text_,
        "origin": origin,
        "source": source,
        "sampling": {},
        "import_id": import_id,
    }


def _comparisons(
    session: Session,
    project: Project,
    rows: Sequence[Row],
    prompt_ids: Sequence[int],
    responses: Sequence[list[int]],
    totals: Totals,
    import_id: int | None,
) -> list[int | None]:
    hashes = [
        digest(prompt_id, sorted(ids)) if len(ids) >= 2 else None
        for prompt_id, ids in zip(prompt_ids, responses, strict=True)
    ]
    values: dict[bytes, dict[str, Any]] = {}
    members: dict[bytes, list[int]] = {}
    for row, prompt_id, ids, content_hash in zip(rows, prompt_ids, responses, hashes, strict=True):
        if content_hash is None or content_hash in values:
            continue
        members[content_hash] = ids
        values[content_hash] = {
            "project_id": project.id,
            "prompt_id": prompt_id,
            "content_hash": content_hash,
            # What came ranked wants nobody else: its rankings make up `wanted` as they are stored.
            "wanted": 0 if row.ranks else project.raters_per_comparison,
            "origin": "imported",
            "state": "open",
            "leased": 0,
            "counted": 0,
            "import_id": import_id,
        }
    table = metadata.tables["comparison"]
    new = insert_new(
        session,
        table,
        list(values.values()),
        returning=(table.c.content_hash, table.c.id),
        computed={"queue_key": func.nextval("comparison_queue_key")},
    )
    totals.comparisons += len(new)
    found = {bytes(row.content_hash): row.id for row in new}
    parts = [
        {"comparison_id": comparison_id, "position": place, "response_id": response_id}
        for content_hash, comparison_id in found.items()
        for place, response_id in enumerate(members[content_hash])
    ]
    insert_new(session, metadata.tables["comparison_response"], parts)
    if missing := set(values) - set(found):
        known = select(table.c.content_hash, table.c.id).where(
            table.c.project_id == project.id, table.c.content_hash.in_(missing)
        )
        found |= {bytes(row.content_hash): row.id for row in session.execute(known)}
    return [found[content_hash] if content_hash is not None else None for content_hash in hashes]


def _rankings(
    session: Session,
    project: Project,
    rows: Sequence[Row],
    responses: Sequence[list[int]],
    comparison_ids: Sequence[int | None],
    totals: Totals,
) -> None:
    """Each rater's ranking of a comparison once; of two in one file the later one counts."""
    ranking = metadata.tables["ranking"]  # By name: rating stands above exchange.
    ranked = [
        (row, ids, cid) for row, ids, cid in zip(rows, responses, comparison_ids, strict=True) if row.ranks and cid
    ]
    if not ranked:
        return
    raters = _raters(session, project, sorted({row.rater or "imported" for row, _, _ in ranked}))
    latest: dict[tuple[int, int], tuple[Row, list[int]]] = {}
    for row, ids, comparison_id in sorted(ranked, key=lambda item: item[0].order):
        latest[comparison_id, raters[row.rater or "imported"]] = (row, ids)
    done = select(ranking.c.comparison_id, ranking.c.rater_id).where(
        ranking.c.comparison_id.in_({key[0] for key in latest})
    )
    known = {(row.comparison_id, row.rater_id) for row in session.execute(done)}
    fresh = {key: value for key, value in latest.items() if key not in known}
    if not fresh:
        return
    _make_room(session, Counter(comparison_id for comparison_id, _ in fresh))
    insert_new(session, ranking, [_ranking(project, key, row, ids) for key, (row, ids) in fresh.items()])
    totals.rankings += len(fresh)


def _make_room(session: Session, counts: Counter[int]) -> None:
    """Count the rankings that come, and want more raters where there would be too many."""
    table = metadata.tables["comparison"]
    rows = [{"id": comparison_id, "counted": count} for comparison_id, count in sorted(counts.items())]
    given = recordset(rows, [table.c.id, table.c.counted])
    values = {
        "counted": table.c.counted + given.c.counted,
        "wanted": func.greatest(table.c.wanted, table.c.counted + table.c.leased + given.c.counted),
    }
    session.execute(update(table).where(table.c.id == given.c.id).values(values))


def _ranking(project: Project, key: tuple[int, int], row: Row, ids: list[int]) -> dict[str, Any]:
    assert row.ranks is not None
    return {
        "project_id": project.id,
        "comparison_id": key[0],
        "rater_id": key[1],
        "idempotency_key": uuid.uuid4(),
        "request_hash": digest(row.ranks, row.note),
        "revision": 1,
        "standing": "counted",
        "ranks": {str(response_id): rank for response_id, rank in zip(ids, row.ranks, strict=True)},
        "all_bad": row.all_bad,
        "strength": row.strength if len(ids) == 2 and row.ranks[0] != row.ranks[1] else None,
        "attributes": {},
        "flags": {},
        "note": row.note,
        "shown_order": list(range(len(ids))),
        "seconds": 0.0,
        "is_simulated": False,
        "is_imported": True,
        "is_late": False,
    }


def _raters(session: Session, project: Project, labels: Sequence[str]) -> dict[str, int]:
    """A person without a way in for each label in the file: imported raters are known by pseudonym only."""
    emails = {label: f"{digest(project.id, label).hex()[:24]}@imported.invalid" for label in labels}
    values = [
        {
            "email": emails[label],
            "name": "".join(c if c.isprintable() else "?" for c in label)[:100],
            "pseudonym": new_pseudonym() + secrets.token_hex(2),
            "is_site_admin": False,
            "is_active": False,
            "is_simulated": False,
            "preferences": {},
        }
        for label in labels
    ]
    session.execute(insert(Person).values(values).on_conflict_do_nothing(index_elements=["email"]))
    found = session.execute(select(Person.email, Person.id).where(Person.email.in_(emails.values())))
    ids = {row.email: row.id for row in found}
    return {label: ids[email] for label, email in emails.items()}
