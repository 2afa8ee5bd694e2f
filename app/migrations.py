"""Bringing a database to the schema of this code."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

FOLDER = Path(__file__).resolve().parent.parent / "migrations"


def config(database_url: str) -> Config:
    """Alembic's configuration for one database."""
    made = Config()
    made.set_main_option("script_location", str(FOLDER))
    made.set_main_option("sqlalchemy.url", database_url.replace("%", "%%"))
    return made


def upgrade(database_url: str, *, revision: str = "head") -> None:
    """Apply what is missing, under an advisory lock: two processes at once do it one after the other."""
    command.upgrade(config(database_url), revision)


def downgrade(database_url: str, *, revision: str) -> None:
    """Go back to an older schema."""
    command.downgrade(config(database_url), revision)


def head() -> str:
    """The revision that this code expects."""
    newest = ScriptDirectory(str(FOLDER)).get_current_head()
    assert newest is not None
    return newest
