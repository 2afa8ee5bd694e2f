"""What a rater says, checked against what the project asks."""

import hashlib
import json
from dataclasses import dataclass, field
from string import ascii_uppercase
from typing import Any

from app.errors import Invalid
from app.projects.models import Project
from app.prompts.service import check_text
from app.texts import order_in_words

MAX_NOTE_BYTES = 4000
MAX_EDIT_BYTES = 20_000
MUCH_BETTER = 4


@dataclass(frozen=True)
class Answer:
    """A ranking as it was sent. `ranks` has one entry per shown response, in shown order: 1 best, None unranked."""

    ranks: list[int | None]
    all_bad: bool = False
    strength: int | None = None
    attributes: dict[str, list[int | None]] = field(default_factory=dict)
    flags: dict[str, list[str]] = field(default_factory=dict)
    note: str = ""
    seconds: float | None = None
    reasons: list[str] = field(default_factory=list)
    likert: list[int | None] = field(default_factory=list)
    edit: str = ""
    shown_seconds: float | None = None  # Since it was first shown, by the clock; `seconds` are those of activity.

    @property
    def draft(self) -> dict[str, Any]:
        """What is kept until the ranking is sent: all but the times."""
        names = ("ranks", "all_bad", "strength", "attributes", "flags", "note", "reasons", "likert", "edit")
        return {name: getattr(self, name) for name in names}

    def fingerprint(self) -> bytes:
        """Equal for equal answers, whatever the time they took."""
        said = [self.ranks, self.all_bad, self.strength, self.attributes, self.flags, self.note]
        if self.reasons or self.likert:  # Apart, so that rankings stored before there were any keep theirs.
            said += [sorted(self.reasons), self.likert]
        if self.edit:
            said.append({"edit": self.edit})
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).digest()


def check_answer(answer: Answer, project: Project, *, k: int) -> Answer:
    """The answer with its ranks made dense (1, 2, 2, 3), or a sentence on what is missing.

    Raises:
        Invalid: it does not fit the comparison or the project's rules.
    """
    _check_note(answer.note)
    ranks = check_ranks(answer.ranks, project, k=k, all_bad=answer.all_bad)
    if answer.all_bad and not project.allow_all_bad:
        raise Invalid("This project does not ask whether all are bad. Rank the responses.", field="all_bad")
    strength = _check_strength(answer.strength, ranks, project, k=k)
    attributes = {name: _check_attribute(name, values, project, k=k) for name, values in answer.attributes.items()}
    flags = _check_flags(answer.flags, project, k=k)
    reasons = _check_reasons(answer, strength, project)
    likert = _check_likert(answer.likert, project, k=k)
    edit = _check_edit(answer.edit, project)
    more = (answer.note, answer.seconds, reasons, likert, edit, answer.shown_seconds)
    return Answer(ranks, answer.all_bad, strength, attributes, flags, *more)


def check_ranks(ranks: list[int | None], project: Project, *, k: int, all_bad: bool = False) -> list[int | None]:
    """Dense ranks.

    Raises:
        Invalid: a response is missing, a rank is out of range, or a tie where there are none.
    """
    if len(ranks) != k:
        raise Invalid(f"This comparison has {k} responses, and {len(ranks)} ranks came.", field="ranks")
    if any(rank is not None and not 1 <= rank <= 9 for rank in ranks):
        raise Invalid("A rank is a number from 1 (best) to 9.", field="ranks")
    given = [rank for rank in ranks if rank is not None]
    if len(given) < k and not project.allow_partial and not (all_bad and not given):
        raise Invalid(
            f"Rank all {k} responses; {k - len(given)} {'has' if k - len(given) == 1 else 'have'} no rank yet.",
            field="ranks",
        )
    if not given and not all_bad:
        raise Invalid("Nothing is ranked yet.", field="ranks")
    if len(set(given)) < len(given) and not project.allow_ties and not all_bad:
        raise Invalid("This project has no ties: give each response a rank of its own.", field="ranks")
    dense = {rank: place for place, rank in enumerate(sorted(set(given)), start=1)}
    return [None if rank is None else dense[rank] for rank in ranks]


def _check_strength(strength: int | None, ranks: list[int | None], project: Project, *, k: int) -> int | None:
    if strength is None:
        return None
    if not project.ask_strength or k != 2 or len(set(ranks)) < 2:
        raise Invalid("A strength goes with a preference between two responses.", field="strength")
    if not 1 <= strength <= 4:
        raise Invalid("Strength is 1 (barely) to 4 (much).", field="strength")
    return strength


def _check_attribute(name: str, values: list[int | None], project: Project, *, k: int) -> list[int | None]:
    if name not in {attribute["key"] for attribute in project.attributes}:
        raise Invalid(f"This project has no attribute {name!r}.", field="attributes")
    if len(values) != k or any(value is not None and not 1 <= value <= 9 for value in values):
        raise Invalid(f"Attribute {name}: one rank from 1 to 9 for each of the {k} responses.", field="attributes")
    return values


def _check_flags(flags: dict[str, list[str]], project: Project, *, k: int) -> dict[str, list[str]]:
    known = {flag["key"] for flag in project.flags}
    for place, names in flags.items():
        if place not in {str(number) for number in range(k)} or set(names) - known:
            raise Invalid("One of the flags is unknown, or is on a response that is not here.", field="flags")
    return {place: sorted(set(names)) for place, names in flags.items() if names}


def _check_reasons(answer: Answer, strength: int | None, project: Project) -> list[str]:
    if set(answer.reasons) - {reason["key"] for reason in project.reasons}:
        raise Invalid("One of the reasons is unknown in this project.", field="reasons")
    if project.require_reason and strength == MUCH_BETTER and not answer.reasons and not answer.note.strip():
        raise Invalid("Say why one is much better: choose a reason, or write a note.", field="reasons")
    return sorted(set(answer.reasons))


def _check_likert(marks: list[int | None], project: Project, *, k: int) -> list[int | None]:
    if not any(mark is not None for mark in marks):
        return []
    if not project.ask_likert:
        raise Invalid("This project does not ask for marks of single responses.", field="likert")
    if len(marks) != k or any(mark is not None and not 1 <= mark <= 7 for mark in marks):
        raise Invalid(f"Marks: one from 1 to 7 for each of the {k} responses, or none.", field="likert")
    return marks


def _check_edit(edit: str, project: Project) -> str:
    text = bare(check_text(edit, where="The edited response"))
    if text and not project.allow_edit:
        raise Invalid("This project does not ask for edited responses.", field="edit")
    if len(text.encode()) > MAX_EDIT_BYTES:
        raise Invalid(f"The edited response may have {MAX_EDIT_BYTES:,} bytes. Shorten it.", field="edit")
    return text


def _check_note(note: str) -> None:
    try:
        size = len(note.encode())
    except UnicodeEncodeError:
        raise Invalid("The note holds half of a character; remove what looks broken.", field="note") from None
    if size > MAX_NOTE_BYTES:
        raise Invalid(f"The note has {size:,} bytes; at most {MAX_NOTE_BYTES:,} are kept. Shorten it.", field="note")
    if "\x00" in note:
        raise Invalid("The note holds a NUL character; remove it.", field="note")


def sentence(ranks: list[int | None]) -> str:
    """The order in words: "B > A = D > C"."""
    return order_in_words(ranks, ascii_uppercase[: len(ranks)])


def bare(text: str) -> str:
    """A text without what a form changes by itself: the kind of its line ends, and space around it."""
    return text.replace("\r\n", "\n").replace("\r", "\n").strip()


def by_response(values: list[Any], shown_response_ids: list[int]) -> dict[str, Any]:
    """From shown places to response ids, as text because JSON has no other keys."""
    return {str(response_id): value for response_id, value in zip(shown_response_ids, values, strict=True)}
