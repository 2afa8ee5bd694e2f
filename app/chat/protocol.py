"""The OpenAI chat protocol, as its client: messages out, pieces of text in. What answers is not trusted.

No redirect is followed, no proxy of the environment is used, nothing is decompressed, and size and time are bounded.
"""

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx2

CONNECT_SECONDS = 5.0
FIRST_PIECE_SECONDS = 120.0  # A sampler on a processor loads the policy first.
SILENCE_SECONDS = 60.0
MOST_SECONDS = 600.0
MOST_BYTES = 4_000_000
MOST_CHARACTERS = 50_000


class SamplerError(Exception):
    """The reply cannot be had. `reason` is for operators and logs; a rater is told only that it broke off."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Target:
    """Who answers: an address up to and including `/v1`, the model's name there, and the key, if one is asked."""

    url: str
    model: str
    key: str = ""


@dataclass(frozen=True)
class Piece:
    """Some more text; the last piece carries the reason for the end, `stop` or `length`."""

    text: str
    finish_reason: str | None = None


async def stream_reply(
    target: Target, messages: list[dict[str, str]], *, sampling: dict[str, Any]
) -> AsyncGenerator[Piece, None]:
    """Yield a reply piece by piece.

    Raises:
        SamplerError: it does not answer, answers something else, takes too long, or stops before the end.
    """
    body = {"model": target.model, "messages": messages, "stream": True, **sampling}
    headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
    if target.key:
        headers["Authorization"] = f"Bearer {target.key}"
    wait = httpx2.Timeout(CONNECT_SECONDS, read=FIRST_PIECE_SECONDS)
    try:
        async with (
            httpx2.AsyncClient(timeout=wait, follow_redirects=False, trust_env=False) as client,
            client.stream("POST", f"{target.url}/chat/completions", json=body, headers=headers) as answer,
        ):
            await _check(answer)
            async for piece in _pieces(answer):
                yield piece
                if piece.finish_reason is not None:
                    return
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise SamplerError(f"{type(error).__name__}: {error}"[:300]) from error
    raise SamplerError("the answer ended before its end was announced")


async def _check(answer: httpx2.Response) -> None:
    if answer.status_code != 200:
        raise SamplerError(f"status {answer.status_code}")
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise SamplerError("the answer is compressed")
    if not answer.headers.get("Content-Type", "").startswith("text/event-stream"):
        raise SamplerError("the answer is not a stream of events")


async def _pieces(answer: httpx2.Response) -> AsyncIterator[Piece]:
    deadline, num_bytes, num_characters, rest = time.monotonic() + MOST_SECONDS, 0, 0, b""
    async for raw in answer.aiter_raw():
        num_bytes += len(raw)
        if num_bytes > MOST_BYTES or time.monotonic() > deadline:
            raise SamplerError("the answer is too large or takes too long")
        *lines, rest = (rest + raw).replace(b"\r\n", b"\n").split(b"\n")
        for line in lines:
            piece = _piece(line)
            if piece is None:
                continue
            num_characters += len(piece.text)
            if num_characters > MOST_CHARACTERS:
                yield Piece("", "length")
                return
            yield piece


def _piece(line: bytes) -> Piece | None:
    """What one line of the stream says; None for comments, blank lines and pieces without text."""
    if not line.startswith(b"data:") or line[5:].strip() == b"[DONE]":
        return None
    try:
        event = json.loads(line[5:])
        if "error" in event:
            raise SamplerError(f"error: {str(event['error'])[:200]}")
        choice = event["choices"][0] if event.get("choices") else {}
        text, reason = (choice.get("delta") or {}).get("content") or "", choice.get("finish_reason")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise SamplerError("the answer is not of this protocol") from error
    if not isinstance(text, str) or not (reason is None or isinstance(reason, str)):
        raise SamplerError("the answer is not of this protocol")
    if not text and reason is None:
        return None
    return Piece(_storable(text), None if reason is None else "length" if reason == "length" else "stop")


def _storable(text: str) -> str:
    """Text that Postgres and UTF-8 can hold."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()
