"""Any accepted row, in one shape: a prompt, perhaps with responses, perhaps ranked, perhaps with a demonstration."""

import re
from dataclasses import dataclass, field
from typing import Any

from app.errors import Invalid
from app.prompts.service import Messages, check_messages, check_text

MAX_RESPONSES = 9


@dataclass(frozen=True)
class GivenResponse:
    """A response in a file; `source` is the model's name where the file has one."""

    text: str
    source: str = ""


@dataclass
class Row:
    """What one row of a file holds. `ranks[i]` belongs to `responses[i]`."""

    messages: Messages
    responses: list[GivenResponse] = field(default_factory=list)
    ranks: list[int | None] | None = None
    rater: str = ""
    all_bad: bool = False
    strength: int | None = None
    note: str = ""
    demonstration: str | None = None
    topic: str | None = None
    external_id: str | None = None
    order: str = ""
    warnings: list[str] = field(default_factory=list)

    def num_characters(self) -> int:
        """About how much there is to store."""
        said = [message["content"] for message in self.messages] + [response.text for response in self.responses]
        return sum(map(len, said)) + len(self.demonstration or "")


def recognise(value: Any) -> list[Row]:
    """The rows that one JSON value holds: most hold one, a tree of messages several.

    Raises:
        Invalid: with what was expected.
    """
    if not isinstance(value, dict):
        raise Invalid(f"expected an object with fields, found {type(value).__name__}.")
    for name, (fits, read) in FORMATS.items():
        if fits(value):
            return read_as(name, value) if read else []
    raise Invalid(
        "no known shape: expected `prompt` (with `responses`, `chosen`/`rejected`, or alone), `instruction`, "
        "an HH pair of transcripts, or a message tree."
    )


def read_as(name: str, value: Any) -> list[Row]:
    """The rows of one JSON value in a named format.

    Raises:
        Invalid: it does not fit, with what was expected.
    """
    if name not in FORMATS:
        raise Invalid(f"There is no format {name!r}: choose from auto, {', '.join(FORMATS)}.")
    if not isinstance(value, dict):
        raise Invalid(f"expected an object with fields, found {type(value).__name__}.")
    return FORMATS[name][1](value)


def read_hh(value: dict[str, Any]) -> list[Row]:
    """Two transcripts that share all up to the last reply."""
    prompt, chosen = split_transcript(value["chosen"], "chosen")
    other, rejected = split_transcript(value["rejected"], "rejected")
    if prompt != other:
        raise Invalid("chosen and rejected are replies to different conversations.")
    if not chosen or not rejected:
        raise Invalid("one of the two replies is empty.")
    if chosen == rejected:
        raise Invalid("chosen and rejected are the same.")
    return [Row(prompt, [GivenResponse(chosen), GivenResponse(rejected)], [1, 2])]


def split_transcript(transcript: Any, name: str) -> tuple[Messages, str]:
    """`\\n\\nHuman: ... \\n\\nAssistant: ...` as messages and the last reply."""
    text = check_text(transcript, where=name)
    head, mark, reply = text.rpartition("\n\nAssistant:")
    if not mark or "\n\nHuman:" not in head:
        raise Invalid(f"{name}: expected a transcript of Human and Assistant turns.")
    messages: Messages = []
    for turn in head.split("\n\nHuman:")[1:]:
        human, *replies = turn.split("\n\nAssistant:")
        messages.append({"role": "user", "content": human.strip()})
        messages.extend({"role": "assistant", "content": said.strip()} for said in replies)
    return check_messages(messages), reply.strip()


def read_preference(value: dict[str, Any]) -> list[Row]:
    """TRL's `prompt`, `chosen`, `rejected`, plain or conversational; also with the prompt inside both."""
    chosen, rejected = value.get("chosen"), value.get("rejected")
    prompt = value.get("prompt")
    if prompt is None and isinstance(chosen, list) and isinstance(rejected, list):
        prompt = chosen[:-1]
    texts = [_reply(chosen, "chosen"), _reply(rejected, "rejected")]
    if texts[0] == texts[1]:
        raise Invalid("chosen and rejected are the same.")
    return [_row(value, prompt, [GivenResponse(text) for text in texts], ranks=[1, 2])]


def read_ranking(value: dict[str, Any]) -> list[Row]:
    """`prompt`, `responses`, `ranks`: 1 is best, equal is tied, null unranked."""
    responses = _responses(value)
    ranks = value.get("ranks")
    if not isinstance(ranks, list) or len(ranks) != len(responses):
        raise Invalid(f"ranks: expected a list of {len(responses)}, one for each response.")
    for rank in ranks:
        if rank is not None and (isinstance(rank, bool) or not isinstance(rank, int) or not 0 <= rank <= 100):
            raise Invalid("ranks: a rank is a whole number, 1 for the best, or null.")
    order = sorted({rank for rank in ranks if rank is not None})
    dense: list[int | None] = [None if rank is None else order.index(rank) + 1 for rank in ranks]
    row = _row(value, value.get("prompt"), responses, ranks=dense)
    row.rater = _label(value.get("rater"), "rater")
    row.all_bad = value.get("all_bad") is True
    strength = value.get("strength")
    row.strength = strength if type(strength) is int and 1 <= strength <= 4 else None
    row.note = check_text(value.get("note") or "", where="note")[:4000]
    return [row]


def read_responses(value: dict[str, Any]) -> list[Row]:
    """A prompt with responses to be rated."""
    return [_row(value, _asked(value), _responses(value))]


def read_prompt(value: dict[str, Any]) -> list[Row]:
    """A prompt, perhaps with a demonstration (`response`, `completion` or `output`)."""
    row = _row(value, _asked(value), [])
    for name in ("demonstration", "response", "completion"):
        if isinstance(value.get(name), str) and value[name].strip():
            row.demonstration = check_text(value[name], where=name)
            break
    return [row]


def read_annotation(value: dict[str, Any]) -> list[Row]:
    """A side-by-side annotation whose sides were shuffled: both responses are named by their model."""
    a, b = value["response_a"], value["response_b"]
    named = [GivenResponse(_text_of(side), _label(side.get("model"), "model")) for side in (a, b)]
    verdicts: dict[str, tuple[list[int | None], int | None]] = {
        "a-is-better": ([1, 2], 3),
        "a-is-slightly-better": ([1, 2], 2),
        "tie": ([1, 1], None),
        "b-is-slightly-better": ([2, 1], 2),
        "b-is-better": ([2, 1], 3),
    }
    verdict = value["preference"]
    if not isinstance(verdict, str) or verdict not in verdicts:
        raise Invalid(f"preference: expected one of {', '.join(verdicts)}.")
    ranks, strength = verdicts[verdict]
    row = _row(value, value.get("prompt"), named, ranks=ranks)
    row.strength, row.rater = strength, _label(value.get("rater"), "rater")
    row.external_id = _label(value.get("prompt_id"), "prompt_id") or None
    row.all_bad = value.get("a_acceptable") == "no" and value.get("b_acceptable") == "no"
    row.order = _label(value.get("submitted_at"), "submitted_at")
    return [row]


def read_tree(value: dict[str, Any]) -> list[Row]:
    """An Open-Assistant message tree: each set of ranked replies to one user turn is a ranking; rank 0 is best."""
    rows: list[Row] = []

    def visit(message: dict[str, Any], before: Messages) -> None:
        role = "assistant" if message.get("role") == "assistant" else "user"
        path = [*before, {"role": role, "content": check_text(message.get("text"), where="text")}]
        replies = [reply for reply in message.get("replies") or [] if isinstance(reply, dict)]
        ranked = [r for r in replies if r.get("role") == "assistant" and type(r.get("rank")) is int]
        if role == "user" and 2 <= len(ranked) <= MAX_RESPONSES:
            responses = [
                GivenResponse(check_text(r.get("text"), where="text"), _label(r.get("message_id"), "message_id"))
                for r in ranked
            ]
            order = sorted({r["rank"] for r in ranked})
            ranks: list[int | None] = [order.index(r["rank"]) + 1 for r in ranked]
            message_id = _label(message.get("message_id"), "message_id") or None
            rows.append(Row(check_messages(path), responses, ranks, external_id=message_id))
        for reply in replies:
            if len(path) < 100:
                visit(reply, path)

    visit(value["prompt"], [])
    return rows


def read_pandalm(value: dict[str, Any]) -> list[Row]:
    """PandaLM's test set: one pair and three annotators; 1, 2, or 0 for a tie."""
    parts = [check_text(value.get(name) or "", where=name) for name in ("instruction", "input")]
    asked = "\n\n".join(part for part in parts if part)
    responses = [GivenResponse(check_text(value[name], where=name), name) for name in ("response1", "response2")]
    ranks: dict[int, list[int | None]] = {0: [1, 1], 1: [1, 2], 2: [2, 1]}
    rows = []
    for name in sorted(key for key in value if key.startswith("annotator")):
        if type(value[name]) is not int or value[name] not in ranks:
            raise Invalid(f"{name}: expected 0, 1 or 2.")
        rows.append(Row(check_messages(asked), responses, ranks[value[name]], rater=name))
    return rows


def _row(
    value: dict[str, Any], prompt: Any, responses: list[GivenResponse], *, ranks: list[int | None] | None = None
) -> Row:
    topic, external_id = value.get("topic"), value.get("external_id", value.get("prompt_id", value.get("id")))
    return Row(
        check_messages(prompt),
        responses,
        ranks,
        topic=check_text(topic, where="topic")[:200] if isinstance(topic, str) else None,
        external_id=check_text(str(external_id), where="id")[:200] if isinstance(external_id, str | int) else None,
        warnings=_warnings(value.get("warnings")),
    )


def _warnings(value: Any) -> list[str]:
    """Categories of content; also those that the project does not have, so that no warning is lost."""
    if value is None or value == "":
        return []
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list) or len(value) > 12:
        raise Invalid("warnings: expected a list of at most 12 categories.")
    keys = [str(key).strip().lower().replace(" ", "_").replace("-", "_") for key in value]
    if bad := [key for key in keys if not re.fullmatch(r"[a-z][a-z0-9_]{0,30}", key)]:
        raise Invalid(f"warnings: {bad[0][:40]!r} is no category; letters, digits and _ are expected.")
    return sorted(set(keys))


def _asked(value: dict[str, Any]) -> Any:
    """`prompt`, or `instruction` with `input`, or the first of `turns`."""
    if "prompt" in value:
        return value["prompt"]
    if isinstance(value.get("turns"), list) and value["turns"]:
        return check_text(value["turns"][0], where="turns")
    instruction = check_text(value.get("instruction"), where="instruction")
    more = value.get("input")
    return f"{instruction}\n\n{check_text(more, where='input')}" if more else instruction


def _responses(value: dict[str, Any]) -> list[GivenResponse]:
    given = value.get("responses")
    if not isinstance(given, list) or not 2 <= len(given) <= MAX_RESPONSES:
        raise Invalid("responses: expected a list of 2 to 9, each a text or an object with text and model.")
    return [
        GivenResponse(_text_of(item), _label(item.get("model"), "model") if isinstance(item, dict) else "")
        for item in given
    ]


def _label(value: Any, where: str) -> str:
    """A name that is kept beside a text; numbers are names too, and nothing is no name."""
    if value is None or value == "":
        return ""
    if not isinstance(value, str | int | float):
        raise Invalid(f"{where}: expected a name, found {type(value).__name__}.")
    return check_text(str(value), where=where)[:200]


def _text_of(item: Any) -> str:
    return check_text(item.get("text") if isinstance(item, dict) else item, where="responses")


def _reply(value: Any, name: str) -> str:
    """A text, or the last message of a conversation."""
    if isinstance(value, list) and value and isinstance(value[-1], dict):
        value = value[-1].get("content")
    return check_text(value, where=name)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


FORMATS: dict[str, Any] = {
    "tree": (lambda v: isinstance(v.get("prompt"), dict) and "message_tree_id" in v, read_tree),
    "annotation": (
        lambda v: isinstance(v.get("response_a"), dict) and isinstance(v.get("response_b"), dict) and "preference" in v,
        read_annotation,
    ),
    "pandalm": (lambda v: "response1" in v and "response2" in v and "annotator1" in v, read_pandalm),
    "hh": (lambda v: "prompt" not in v and _is_text(v.get("chosen")) and _is_text(v.get("rejected")), read_hh),
    "preference": (lambda v: "chosen" in v and "rejected" in v, read_preference),
    "ranking": (lambda v: "responses" in v and "ranks" in v, read_ranking),
    "responses": (lambda v: "responses" in v, read_responses),
    "prompt": (lambda v: "prompt" in v or "instruction" in v or "turns" in v, read_prompt),
}
"""Name to (does it fit, how it is read), in the order in which they are tried."""
