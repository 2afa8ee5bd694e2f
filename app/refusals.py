"""Errors that a person at a terminal can act on, as one sentence each."""

from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, ProgrammingError

from app.errors import AppError

EXPECTED = (AppError, ValidationError, UnicodeEncodeError, DBAPIError, OSError)
"""What a command may raise without a traceback; anything else is a bug and shows one."""


def sentence_of(error: Exception) -> str:
    """What was wrong and what to do. `error` is one of `EXPECTED`.

    Raises:
        Exception: `error` itself, when it is a bug after all.
    """
    if isinstance(error, AppError):
        return error.message
    if isinstance(error, ValidationError):
        return _setting(error)
    if isinstance(error, UnicodeEncodeError):
        return "A name or address that was given is not UTF-8 text. Type it again."
    if isinstance(error, DBAPIError):
        return _database(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror}."
    raise error


def _setting(error: ValidationError) -> str:
    """The first setting at fault, by its name in the environment."""
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    said = first["msg"].removeprefix("Value error, ").rstrip(".")
    if not name:
        return f"{said}."
    variable = name if name.isupper() else f"ATTUNE_{name.upper()}"
    shown = "" if variable.endswith(("_URL", "_TOKEN")) else f" is {str(first['input'])[:40]!r}"
    return f"{variable}{shown}: {said}."  # Addresses and tokens hold secrets, which do not belong in logs.


def _database(error: DBAPIError) -> str:
    reason = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
    if isinstance(error, ProgrammingError) and getattr(error.orig, "sqlstate", "") == "42P01":
        return "The database lacks tables of this version. Run `attune migrate` first."
    if isinstance(error, OperationalError | InterfaceError):
        return f"The database does not answer ({reason}). See that Postgres runs and that DATABASE_URL is right."
    raise error
