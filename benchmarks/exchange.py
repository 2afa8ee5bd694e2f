"""Import of 100,000 comparisons with a ranking each, and export of those rankings.

    python -m benchmarks.exchange --comparisons 100000

The import is the one that the browser, the API and the command line share: a file is checked whole, then stored in one
transaction. Postgres is the embedded one with its ordinary settings. Ends with one JSON line.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from sqlalchemy import create_engine, func, select
from sqlalchemy.orm import Session

import app.tables  # noqa: F401
from app import migrations
from app.accounts import service as accounts
from app.db import transaction
from app.embedded.postgres import start_postgres
from app.exchange.commands import export_to_file, import_from_terminal
from app.projects.service import create_project
from app.rating.models import Ranking

K = 4
WORDS = [
    "the",
    "guest",
    "asked",
    "for",
    "a",
    "quiet",
    "room",
    "with",
    "a",
    "view",
    "and",
    "the",
    "concierge",
    "answered",
    "at",
    "length",
    "about",
    "parking",
]


def main() -> None:
    """Write a file, import it, export it, and say how long each took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comparisons", type=int, default=100_000)
    wanted = parser.parse_args().comparisons
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        server = start_postgres(Path(folder) / "pg")
        try:
            print(json.dumps(measure(Path(folder), server.url("postgres"), wanted)))
        finally:
            server.stop()


def measure(folder: Path, url: str, num_comparisons: int) -> dict[str, float]:
    """Seconds of the import, of each export, and what came in."""
    migrations.upgrade(url)
    engine = create_engine(url)
    with transaction(engine) as session:
        admin = accounts.create_person(session, "admin@bench.invalid", name="Bench")
        create_project(session, admin, slug="bench", name="Bench", template="ranking")
    file = folder / "rankings.jsonl"
    _write(file, num_comparisons)
    quiet = Console(quiet=True)
    seconds = {
        "import_seconds": _seconds(
            lambda: import_from_terminal(
                engine, file, slug="bench", format="auto", keep_good_lines=False, console=quiet
            )
        )
    }
    for name in ("jsonl", "csv", "parquet"):
        out = folder / f"out.{name}"
        seconds[f"export_{name}_seconds"] = _seconds(
            lambda out=out: export_to_file(engine, slug="bench", out=out, what="rankings")
        )
    with Session(engine) as session:
        num_rankings = session.scalar(select(func.count()).select_from(Ranking)) or 0
    engine.dispose()
    assert num_rankings == num_comparisons, f"{num_rankings} rankings came of {num_comparisons} lines"
    return {"comparisons": num_comparisons, "megabytes": round(file.stat().st_size / 1e6, 1), **seconds}


def _seconds(act: Callable[[], object]) -> float:
    began = time.monotonic()
    act()
    return round(time.monotonic() - began, 1)


def _write(file: Path, num_rows: int) -> None:
    rng = random.Random(0)
    with file.open("w") as out:
        for number in range(num_rows):
            row = {
                "prompt": [{"role": "user", "content": f"Question {number}: {_text(rng, 12)}"}],
                "responses": [_text(rng, rng.randint(5, 60)) for _ in range(K)],
                "ranks": rng.sample(range(1, K + 1), K),
                "rater": f"r{number % 20:02d}",
            }
            out.write(json.dumps(row) + "\n")


def _text(rng: random.Random, num_words: int) -> str:
    return " ".join(rng.choices(WORDS, k=num_words))


if __name__ == "__main__":
    main()
