"""What goes in and comes out: rankings, demonstrations, prompts; and their JSONL files."""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict, TypeVar

from worker.rlhf.jsonl import DataError as DataError  # noqa: PLC0414 - offered here too, beside its sisters
from worker.rlhf.jsonl import read_objects


class Message(TypedDict):
    """One turn of a conversation."""

    role: str
    content: str


Prompt = list[Message]
"""A conversation that ends with the user's turn."""

Stats = dict[str, float | int | str]
"""What one step measured. Always holds `phase`, `step` and `total_steps`."""


@dataclass(frozen=True)
class Ranking:
    """One rater's weak order: rank 1 is best, equal ranks are tied, None is unranked.

    group: the rater's, where people are judged by groups.
    strength: how much better the rater said the better one is, 0 (not said) and up; it may become a margin.
    preferences: (a, b, probability that a is better) in place of ranks, where raters of one comparison were merged.
    attributes: ranks by attribute, for what raters ranked beside their overall order.
    """

    prompt: Prompt
    responses: tuple[str, ...]
    ranks: tuple[int | None, ...]
    weight: float = 1.0
    rater: str | None = None
    topic: str | None = None
    group: str | None = None
    strength: float = 0.0
    preferences: tuple[tuple[int, int, float], ...] = ()
    attributes: Mapping[str, tuple[int | None, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Demonstration:
    """A response to be imitated."""

    prompt: Prompt
    response: str
    weight: float = 1.0


@dataclass(frozen=True)
class Sampled:
    """A response that a policy wrote. `finish_reason` is `stop` (it ended itself) or `length` (it was cut)."""

    prompt_index: int
    text: str
    token_ids: tuple[int, ...]
    finish_reason: str


class NotANumberError(ValueError):
    """A loss or a score stopped being a number; the last checkpoint is whole."""


S = TypeVar("S")


def settings_from(kind: type[S], values: dict[str, Any]) -> S:
    """Build a settings dataclass from plain values.

    Raises:
        ValueError: a name that the dataclass does not have.
    """
    known = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"{kind.__name__} has no setting {unknown[0]!r}; it has {', '.join(sorted(known))}.")
    return kind(**values)


def read_rankings(path: Path) -> list[Ranking]:
    """Rankings from JSONL: our rows, `prompt/chosen/rejected` rows, or HH transcripts."""
    return [_ranking(row, where) for row, where in read_objects(path)]


def read_demonstrations(path: Path) -> list[Demonstration]:
    """Rows of `{"prompt": [messages] or text, "response": text}`."""
    return [
        Demonstration(_prompt(row, where), _text(row, "response", where), _weight(row, where))
        for row, where in read_objects(path)
    ]


def read_prompts(path: Path) -> list[Prompt]:
    """Rows of `{"prompt": [messages] or text}`."""
    return [_prompt(row, where) for row, where in read_objects(path)]


def split_transcripts(chosen: str, rejected: str) -> tuple[Prompt, str, str]:
    """Two HH transcripts (`\\n\\nHuman: ...\\n\\nAssistant: ...`) as prompt, chosen and rejected reply.

    The prompt is what both share up to a common `Assistant:`. Where they part earlier than in the last reply, the
    replies hold the turns that differ: neither side is judged on a prompt that it did not answer.
    """
    pairs = enumerate(zip(chosen, rejected, strict=False))
    parting = next((i for i, (a, b) in pairs if a != b), min(len(chosen), len(rejected)))
    shared, mark, _ = chosen[:parting].rpartition("\n\nAssistant:")
    if not mark or "\n\nHuman:" not in shared:
        raise ValueError(
            "expected two transcripts of '\\n\\nHuman: ...' and '\\n\\nAssistant: ...' turns, alike at first"
        )
    messages: Prompt = []
    for turn in shared.split("\n\nHuman:")[1:]:
        human, *replies = turn.split("\n\nAssistant:")
        messages.append({"role": "user", "content": human.strip()})
        messages.extend({"role": "assistant", "content": said.strip()} for said in replies)
    start = len(shared) + len(mark)
    return messages, chosen[start:].strip(), rejected[start:].strip()


def _ranking(row: dict[str, Any], where: str) -> Ranking:
    if "chosen" in row and "prompt" not in row and isinstance(row["chosen"], str):
        return _transcripts(row, where)
    if "chosen" in row:
        chosen, rejected = _reply(row, "chosen", where), _reply(row, "rejected", where)
        strength = _weight(row, where, name="strength", default=0.0)
        return Ranking(_prompt(row, where), (chosen, rejected), (1, 2), _weight(row, where), strength=strength)
    responses, ranks = row.get("responses"), row.get("ranks")
    if not isinstance(responses, list) or not responses or not all(isinstance(text, str) for text in responses):
        raise DataError(f"{where}: expected `responses`, a list of texts.")
    _check_ranks(ranks, "ranks", where, count=len(responses))
    attributes = row.get("attributes") or {}
    if not isinstance(attributes, dict):
        raise DataError(f"{where}: expected `attributes`, an object with a list of ranks for each attribute.")
    for name, values in attributes.items():
        _check_ranks(values, f"attributes.{name}", where, count=len(responses))
    ranks = tuple(ranks or ())
    extra: dict[str, Any] = {
        name: row[name] if isinstance(row.get(name), str) else None for name in ("rater", "topic", "group")
    }
    weight, strength = _weight(row, where), _weight(row, where, name="strength", default=0.0)
    extra["attributes"] = {name: tuple(values) for name, values in attributes.items()}
    return Ranking(_prompt(row, where), tuple(responses), ranks, weight, strength=strength, **extra)


def _check_ranks(ranks: Any, name: str, where: str, *, count: int) -> None:
    if not isinstance(ranks, list) or len(ranks) != count:
        raise DataError(f"{where}: expected `{name}`, as many as there are responses ({count}).")
    if not all(rank is None or (type(rank) is int and rank >= 1) for rank in ranks):
        raise DataError(f"{where}: a rank is a whole number from 1 (best), or null for unranked.")


def _transcripts(row: dict[str, Any], where: str) -> Ranking:
    try:
        prompt, chosen, rejected = split_transcripts(row["chosen"], str(row.get("rejected")))
    except ValueError as error:
        raise DataError(f"{where}: {error}.") from None
    return Ranking(prompt, (chosen, rejected), (1, 2))


def _prompt(row: dict[str, Any], where: str) -> Prompt:
    prompt = row.get("prompt")
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    if isinstance(prompt, list) and prompt and all(_is_message(message) for message in prompt):
        return [{"role": message["role"], "content": message["content"]} for message in prompt]
    raise DataError(f"{where}: expected `prompt`, a text or a list of messages with role and content.")


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(name), str) for name in ("role", "content"))


def _reply(row: dict[str, Any], name: str, where: str) -> str:
    value = row.get(name)
    if isinstance(value, list) and value and isinstance(value[-1], dict):
        value = value[-1].get("content")
    if not isinstance(value, str):
        raise DataError(f"{where}: expected `{name}`, a text or a list of messages.")
    return value


def _text(row: dict[str, Any], name: str, where: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise DataError(f"{where}: expected `{name}`, a text.")
    return value


def _weight(row: dict[str, Any], where: str, *, name: str = "weight", default: float = 1.0) -> float:
    value = row.get(name, default)
    if type(value) not in {int, float} or not math.isfinite(value) or value < 0:
        raise DataError(f"{where}: expected `{name}`, a number of 0 or more, found {json.dumps(value)}.")
    return float(value)
