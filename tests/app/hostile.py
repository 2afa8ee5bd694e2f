"""Values that nobody should send, and the ways in which a request can carry them."""

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote_from_bytes

from httpx2 import Response

NUMBERS = ["-1", "0", "2147483648", "9223372036854775808", "-9223372036854775809", "1" + "0" * 30, "9" * 5000, "1e308"]
WORDS = [
    "",
    " ",
    "abc",
    "NaN",
    "-Infinity",
    "1.5",
    "true",
    "null",
    "٣",
    "1_0",
    "0x10",
    " 7",
    "+7",
    "[]",
    "{{7*7}}",
    "%s%n",
]
TEXTS = [
    "\x00",
    "a\x00b",
    "\ud800",
    "\u202e\u2066gnp.exe",
    "e" + "\u0301" * 5000,
    "x" * 4000,
    "\r\nSet-Cookie: a=b",
    "\x1b[2J",
]
MARKUP = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "../../etc/passwd", "'; DROP TABLE person; --"]
ALL = [*NUMBERS, *WORDS, *TEXTS, *MARKUP]
IN_PATHS = [*NUMBERS, *WORDS[2:], *TEXTS, *MARKUP[:2], "..", "%2e%2e", "a/b"]
JSON_VALUES: list[Any] = [
    *ALL, None, True, -1, 0, 2**31, 2**63, 10**30, 1.5, -0.0, 1e308, [], {}, [[]], [None], [-1], ["\ud800"], ["\x00"],
    {"\x00": 1}, {"a": {"b": []}}, "7", [2**63], [1.0], ["x"] * 3000, float("nan"), float("inf"),
]  # fmt: skip
BODIES: list[tuple[bytes, str]] = [
    (b"", "application/json"),
    (b"null", "application/json"),
    (b"[]", "application/json"),
    (b'"x"', "application/json"),
    (b"{", "application/json"),
    (b"\xff\xfe", "application/json"),
    (b"\xef\xbb\xbf{}", "application/json"),
    ('{"name": "a"}'.encode("utf-16"), "application/json"),
    (b'{"name": ' * 100_000, "application/json"),
    (b"[" * 100_000 + b"]" * 100_000, "application/json"),
    (b'{"name": ' + b"9" * 5000 + b"}", "application/json"),
    (b'{"name": 1e999, "is_admin": true}', "application/json"),
    (b"{}", "text/plain"),
    (b"{}", "application/json; charset=utf-7"),
    (b"{}", "application/xml"),
    (b"--x\r\n", "multipart/form-data; boundary=x"),
    (b"--x\r\n", "multipart/form-data"),
    (b"%", "application/x-www-form-urlencoded"),
    (b"a=" * 5000, "application/x-www-form-urlencoded"),
    (b"&".join(b"f%d=1" % i for i in range(1500)), "application/x-www-form-urlencoded"),
]


def encoded(text: str) -> str:
    """Percent-encoded UTF-8, lone surrogates and all."""
    return quote_from_bytes(text.encode("utf-8", "surrogatepass"), safe="")


def form_body(fields: dict[str, Any]) -> bytes:
    """A urlencoded form; a list is a field sent several times."""
    pairs = [(k, v) for k, value in fields.items() for v in (value if isinstance(value, list) else [value])]
    return "&".join(f"{encoded(k)}={encoded(v)}" for k, v in pairs).encode()


def leaves(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of each value inside a JSON value, containers included."""
    if at:
        yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from leaves(inner, (*at, key))


def replaced(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    """A copy of a JSON value with another value at a path."""
    copy = json.loads(json.dumps(value))
    inner = copy
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = new
    return copy


def sentence(answer: Response) -> str:
    """What a refusal says to whoever sent the request."""
    if answer.headers.get("Content-Type", "").startswith("application/json"):
        return str(answer.json()["error"]["message"])
    found = re.search(r'notice--error">(.*?)</p>', answer.text, re.DOTALL)
    return found[1] if found else ""


def trouble(answer: Response) -> str:
    """What is wrong with how a bad request was answered; empty when nothing is. 503 stands for a refused COMMIT."""
    if answer.status_code >= 500 and answer.status_code != 503:
        return f"{answer.status_code}"
    if 400 <= answer.status_code < 500:
        said = sentence(answer)
        if len(said) < 15 or not said.endswith((".", "!", ".)")) or "Traceback" in said or "psycopg" in said:
            return f"{answer.status_code} with {said!r:.100}"
    return ""
