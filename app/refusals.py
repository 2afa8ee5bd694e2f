"""Errors that a person at a terminal can act on, as one sentence each."""

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, ProgrammingError

from app.errors import AppError

EXPECTED = (AppError, UnicodeEncodeError, DBAPIError, OSError)
"""What a command may raise without a traceback; anything else is a bug and shows one."""


def sentence_of(error: Exception) -> str:
    """What was wrong and what to do. `error` is one of `EXPECTED`.

    Raises:
        Exception: `error` itself, when it is a bug after all.
    """
    if isinstance(error, AppError):
        return error.message
    if isinstance(error, UnicodeEncodeError):
        return "A name or address that was given is not UTF-8 text. Type it again."
    if isinstance(error, DBAPIError):
        return _database(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror}."
    raise error


def _database(error: DBAPIError) -> str:
    reason = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
    if isinstance(error, ProgrammingError) and getattr(error.orig, "sqlstate", "") == "42P01":
        return "The database lacks tables of this version. Run `attune migrate` first."
    if isinstance(error, OperationalError | InterfaceError):
        return f"The database does not answer ({reason}). See that Postgres runs and that DATABASE_URL is right."
    raise error
