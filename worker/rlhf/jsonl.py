"""JSON lines from a file, plain or compressed, with the line and the reason for whatever cannot be read."""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

EXPECTED = "Expected JSONL, one object a line."
MAX_LINE_BYTES = 100_000_000


class DataError(ValueError):
    """A file's content cannot be used; the sentence names the file, the line and what was expected."""


def read_objects(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """The object of each line, with the words that say where it is; empty lines are passed over.

    Raises:
        DataError: the file or one of its lines cannot be read.
    """
    number = 0
    try:
        with path.open("rb") as plain:
            is_packed = plain.peek(2)[:2] == b"\x1f\x8b"
            for number, line in enumerate(_lines(gzip.GzipFile(fileobj=plain) if is_packed else plain), start=1):
                where = f"{path}, line {number}"
                text = _text(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line, where)
                if text.strip():
                    yield _object(text, where), where
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise DataError(f"{path}: there is no such file. {EXPECTED}") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise DataError(f"{path}: the compressed file is damaged after line {number}. Make it again.") from None
    except OSError as error:
        raise DataError(f"{path}: the file cannot be read ({error.strerror}).") from None


def _lines(file: "BinaryIO | gzip.GzipFile") -> Iterator[bytes]:
    while line := file.readline(MAX_LINE_BYTES):
        yield line


def _text(line: bytes, where: str) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: this is not UTF-8 text (byte {error.start + 1}). {EXPECTED}") from None


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(text, object_pairs_hook=_unique)
        json.dumps(row, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: this is not JSON ({error.msg}).") from None
    except RecursionError:
        raise DataError(f"{where}: this is nested too deeply.") from None
    except UnicodeEncodeError:
        raise DataError(f"{where}: it holds half of a character (a lone surrogate).") from None
    except ValueError as error:
        raise DataError(f"{where}: this is not JSON ({str(error).partition(';')[0]}).") from None
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected a JSON object, found {type(row).__name__}.")
    return row


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key stands there twice")
    return made
