"""Files as streams of values: JSON lines, a JSON array, CSV, Parquet; gzip on top. Type is told by content."""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from app.errors import Invalid

MAX_LINE_BYTES = 4_000_000
MAX_ARRAY_BYTES = 200_000_000
MAX_UNPACKED_BYTES = 4_000_000_000
MAX_PARQUET_CELL_BYTES = 2_000_000_000
MAX_COLUMNS = 200
PARQUET_ROWS = 50
"""Rows in memory at a time: a dictionary lets a small file repeat a long text in each."""
CSV_REASONS = {
    "unexpected end of data": "a quotation mark is opened and never closed",
    "new-line character seen in unquoted field": "a line ends in a lone carriage return; save it with ordinary line ends",
}
csv.field_size_limit(MAX_LINE_BYTES)


@dataclass(frozen=True)
class Line:
    """One value of a file, or why it could not be read. `number` is the line, or the row where there are no lines."""

    number: int
    value: Any = None
    problem: str = ""


def read_lines(path: Path, *, on_bytes: Callable[[int], None] = lambda _: None) -> Iterator[Line]:
    """All values of a file, streaming; `on_bytes` is told how much of the file is behind us.

    Raises:
        Invalid: the file as a whole cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(8)
        file.seek(0)
        if head[:4] == b"PAR1":
            yield from _parquet(path)
            return
        if head[:4] in {b"PK\x03\x04", b"%PDF"} or head[:2] in {b"\xff\xfe", b"\xfe\xff"}:
            raise Invalid("This is not JSON lines, JSON, CSV or Parquet in UTF-8. Unpack or convert it first.")
        stream: Any = gzip.GzipFile(fileobj=file) if head[:2] == b"\x1f\x8b" else file
        try:
            yield from _text(stream, position=file.tell, on_bytes=on_bytes)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise Invalid(f"The compressed file is damaged: {error}. Make it again.") from None


def _text(stream: Any, *, position: Callable[[], int], on_bytes: Callable[[int], None]) -> Iterator[Line]:
    buffered = io.BufferedReader(_Bounded(stream), 1 << 16)
    start = buffered.peek(4096)[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    if not start:
        raise Invalid("The file is empty.")
    if start.startswith(b"["):
        yield from _array(buffered)
    elif start.startswith(b"{"):
        yield from _json_lines(buffered, position=position, on_bytes=on_bytes)
    elif start[:1] == b"<":
        raise Invalid("This looks like HTML or XML. Give JSON lines, JSON, CSV or Parquet.")
    else:
        yield from _csv(buffered, position=position, on_bytes=on_bytes)


class _Bounded(io.RawIOBase):
    """A stream of limited length: a small compressed file may unpack to any size."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.left = MAX_UNPACKED_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self.stream.read(len(buffer))
        self.left -= len(chunk)
        if self.left < 0:
            raise Invalid(f"The file unpacks to more than {MAX_UNPACKED_BYTES:,} bytes. Split it.")
        buffer[: len(chunk)] = chunk
        return len(chunk)


def _json_lines(stream: BinaryIO, *, position: Callable[[], int], on_bytes: Callable[[int], None]) -> Iterator[Line]:
    number = 0
    while raw := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(raw) > MAX_LINE_BYTES:
            yield Line(number, problem=f"the line is longer than {MAX_LINE_BYTES:,} bytes.")
            while raw and not raw.endswith(b"\n"):
                raw = stream.readline(1 << 20)
            continue
        if raw.strip():
            yield _json(raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw, number)
        on_bytes(position())


def _json(raw: bytes, number: int) -> Line:
    try:
        return Line(number, parse_json(raw.decode().rstrip("\r\n")))
    except UnicodeDecodeError as error:
        return Line(number, problem=f"it is not UTF-8 (byte {error.start + 1}).")
    except RecursionError:
        return Line(number, problem="it is nested too deeply.")
    except json.JSONDecodeError as error:  # Its own "line 1" is not a line of the file.
        return Line(number, problem=f"it is not JSON: {error.msg} at column {error.colno}.")
    except ValueError as error:
        return Line(number, problem=f"it is not JSON: {error}.")


def parse_json(text: str) -> Any:
    """JSON without what JSON has not: no NaN, no key twice, no endless numbers.

    Raises:
        ValueError: with what was wrong.
    """
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse, parse_int=_short_int)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key stands there twice")
    return made


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _short_int(text: str) -> int:
    if len(text) > 18:
        raise ValueError("a number has too many digits")
    return int(text)


def _array(stream: BinaryIO) -> Iterator[Line]:
    raw = stream.read(MAX_ARRAY_BYTES + 1)
    if len(raw) > MAX_ARRAY_BYTES:
        raise Invalid(f"A JSON array may have {MAX_ARRAY_BYTES:,} bytes. Give one object per line instead.")
    try:
        values = parse_json(raw.decode("utf-8-sig"))
    except RecursionError:
        raise Invalid("The file is nested too deeply.") from None
    except ValueError as error:
        raise Invalid(f"The file is not JSON: {error}.") from None
    for number, value in enumerate(values, start=1):
        yield Line(number, value)


def _csv(stream: BinaryIO, *, position: Callable[[], int], on_bytes: Callable[[int], None]) -> Iterator[Line]:
    reader = csv.DictReader(_decoded(stream), restkey="", strict=True)
    try:
        names = reader.fieldnames or []
        if (
            len(names) > MAX_COLUMNS
            or len(set(names)) < len(names)
            or not set(names) & {"prompt", "instruction", "chosen"}
        ):
            raise Invalid(
                "A CSV file needs a first line of different column names, `prompt` among them, with commas between them."
            )
        for row in reader:
            if "" in row or None in row.values():
                yield Line(reader.line_num, problem="it has another number of columns than the first line.")
            else:
                yield Line(reader.line_num, {name: _cell(value) for name, value in row.items() if value != ""})
            on_bytes(position())
    except UnicodeDecodeError:
        raise Invalid(f"The file is not UTF-8 text after line {reader.line_num}. Save it as UTF-8.") from None
    except csv.Error as error:
        reason = CSV_REASONS.get(str(error).partition(" -")[0], str(error))
        raise Invalid(f"The CSV file cannot be read after line {reader.line_num}: {reason}.") from None


def _decoded(stream: BinaryIO) -> Iterator[str]:
    """Lines of text, each of bounded length."""
    first = True
    while raw := stream.readline(MAX_LINE_BYTES + 1):
        if len(raw) > MAX_LINE_BYTES:
            raise csv.Error(f"a line is longer than {MAX_LINE_BYTES:,} bytes")
        yield raw.decode("utf-8-sig" if first else "utf-8")
        first = False


def _cell(value: str) -> Any:
    """Cells that hold JSON lists or objects, as our own exports write them; all else is text. A leading apostrophe
    before what a spreadsheet would take for a formula is the export's, and goes.
    """
    if value[:1] in {"[", "{"}:
        try:
            return parse_json(value)
        except (ValueError, RecursionError):
            return value
    return value[1:] if value[:2] in {"'=", "'+", "'-", "'@"} else value


def _parquet(path: Path) -> Iterator[Line]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        size = sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups))
        if size > MAX_PARQUET_CELL_BYTES or len(file.schema_arrow) > MAX_COLUMNS:
            raise Invalid(
                f"The file unpacks to {size:,} bytes; at most {MAX_PARQUET_CELL_BYTES:,} are accepted. Split it."
            )
        names = file.schema_arrow.names
        if len(set(names)) < len(names):
            raise Invalid("Two columns of the Parquet file have the same name. Rename one.")
        number = 0
        for batch in file.iter_batches(batch_size=PARQUET_ROWS):
            for value in batch.to_pylist():
                number += 1
                yield Line(number, {name: _parquet_cell(cell) for name, cell in value.items() if cell is not None})
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise Invalid(f"The Parquet file cannot be read: {str(error)[:200].rstrip('.')}.") from None


def _parquet_cell(cell: Any) -> Any:
    return _cell(cell) if isinstance(cell, str) else cell
