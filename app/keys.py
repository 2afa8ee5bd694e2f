"""The keys of the desk: one list, from which the script, the hints, the list under `?`, the page "Keys" and the manual come.

To add a key:

1. a line in `COMMANDS`, with a key that is free;
2. `data-command="its name"` on the button, link, checkbox or `<details>` that the key presses, in the template; where
   there is nothing to press, `onCommand("its name", () => ...)` in the script (see `static/js/keys.js`);
3. `{{ kbd("its name") }}` inside that element, as the hint.

Each person may give every command other keys, or none, and switch all single characters off (WCAG 2.1.4).
"""

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from app.errors import Invalid

LETTERS = "ABCDEFGHI"
MAX_KEYS = 3
_ARROWS = {"ArrowLeft": "←", "ArrowRight": "→", "ArrowUp": "↑", "ArrowDown": "↓"}
_NAMED = ["Enter", "Backspace", "Delete", "Insert", *(f"F{i}" for i in (2, 3, 4, 6, 7, 8, 9, 10)), *_ARROWS]
_SPELLINGS = {name.lower(): name for name in _NAMED} | {arrow: name for name, arrow in _ARROWS.items()}
_SCROLLING = {"ArrowUp", "ArrowDown", "Alt+ArrowLeft", "Alt+ArrowRight"}


@dataclass(frozen=True)
class Command:
    """Something that a key does at the desk. `keys` are the defaults, spelled as browsers name them."""

    name: str
    keys: tuple[str, ...]
    words: str
    group: str


def _commands(group: str, *rows: tuple[str, str, str]) -> list[Command]:
    return [Command(name, tuple(keys.split()), words, group) for name, keys, words in rows]


COMMANDS = [
    *_commands(
        "Choosing",
        ("tie", "0", "equally good (two responses)"),
        ("all_bad", "x", "all are bad"),
        ("move_up", "Alt+ArrowUp", "move the response in focus up a rank"),
        ("move_down", "Alt+ArrowDown", "move the response in focus down a rank"),
        ("send", "Enter", "send the ranking; at the start, show a comparison"),
    ),
    *_commands(
        "Reading",
        ("previous", "ArrowLeft", "go to the response before"),
        ("next", "ArrowRight", "go to the response after"),
        ("diff", "d", "show how the responses differ from the best so far"),
        ("raw", "m", "show the text exactly as it was written"),
        ("together", "y", "let the responses scroll together, side by side"),
        ("scroll_down", "j", "scroll all responses down"),
        ("scroll_up", "k", "scroll all responses up"),
        ("blur", "u", "blur the texts of what carries a content warning, or show them sharp"),
        ("guidelines", "g", "open the guidelines"),
    ),
    *_commands(
        "Going on",
        ("note", "n", "write a note"),
        ("edit", "e", "edit the best response"),
        ("skip", "s", "skip, with a reason"),
        ("ask", "q", "ask the admins about this one"),
        ("report", "r", "report it to a moderator, with a reason"),
        ("undo", "z Backspace", "undo the last ranking"),
        ("leave", "l", "leave it as it was, while correcting a ranking"),
        ("hold", "t", "hold the comparison longer, when its time is nearly over"),
        ("help", "?", "list all keys"),
    ),
    *_commands("Ranks", *((f"rank-{i}", str(i), f"rank {i}; of two responses, step {i}") for i in range(1, 10))),
    *_commands("Responses", *((f"response-{i}", a.lower(), f"go to response {a}") for i, a in enumerate(LETTERS, 1))),
]
GROUPS = {group: [command for command in COMMANDS if command.group == group] for group in (c.group for c in COMMANDS)}
BY_NAME = {command.name: command for command in COMMANDS}


@dataclass(frozen=True)
class Keymap:
    """One person's keys: what differs from the defaults, and whether single characters work."""

    changed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    single_keys: bool = True

    def of(self, name: str) -> tuple[str, ...]:
        """The keys of a command."""
        return self.changed.get(name, BY_NAME[name].keys)

    def spelled(self, name: str) -> str:
        """The keys of a command as a field shows and takes them."""
        return " ".join(shown(key) for key in self.of(name))

    def hint(self, name: str, *, num_responses: int = 0) -> str:
        """The first key of a command; with Shift where a response of this comparison is named by the same letter."""
        if not self.of(name):
            return ""
        key = self.of(name)[0]
        is_taken = any(key in self.of(f"response-{i}") for i in range(1, num_responses + 1))
        return f"Shift {shown(key)}" if is_taken and not name.startswith("response-") else shown(key)

    @cached_property
    def by_key(self) -> dict[str, list[str]]:
        """From key to the commands that it may give, the first that can be carried out; responses come first."""
        found: dict[str, list[str]] = {}
        for command in reversed(COMMANDS):
            for key in self.of(command.name):
                found.setdefault(key, []).append(command.name)
        return found

    @cached_property
    def stored(self) -> dict[str, Any]:
        """As `keymap_of` reads it from a person's preferences."""
        changed = {name: list(keys) for name, keys in self.changed.items()}
        return {"keys": {"changed": changed, "single_keys": self.single_keys}}

    @cached_property
    def rows(self) -> list[tuple[list[str], str]]:
        """Keys and what they do, for a list: ranks and responses take a line each, however many they are."""
        few = [c for c in COMMANDS if c.group not in {"Ranks", "Responses"}]
        rows = [([shown(key) for key in self.of(command.name)], command.words) for command in few]
        responses = self._span("response", "go to a response (a command on the same letter: with Shift)")
        ranks = self._span(
            "rank",
            "give the response in focus that rank; the same rank twice is a tie. Of two responses: 1 to 8, from A much better to B much better",
        )
        return [responses, ranks, *((keys, words) for keys, words in rows if keys)]

    def _span(self, prefix: str, words: str) -> tuple[list[str], str]:
        names = [f"{prefix}-{i}" for i in range(1, 10)]
        if any(name in self.changed for name in names):
            return [shown(key) for name in names for key in self.of(name)], words
        return [f"{shown(self.of(names[0])[0])} … {shown(self.of(names[-1])[0])}"], words


def keymap_of(preferences: dict[str, Any] | None) -> Keymap:
    """A person's keys as stored; the defaults for nobody. What no longer exists is passed over."""
    stored = (preferences or {}).get("keys") or {}
    changed = {name: tuple(keys) for name, keys in (stored.get("changed") or {}).items() if name in BY_NAME}
    return Keymap(changed, single_keys=stored.get("single_keys", True))


def clean_keymap(keys: dict[str, list[str]], *, single_keys: bool) -> Keymap:
    """The keys that a person wants: for each command named here these keys, for all others the defaults.

    Raises:
        Invalid: an unknown command, something that is no key, or one key for two things at once.
    """
    changed = {}
    for name, spellings in keys.items():
        if name not in BY_NAME:
            raise Invalid(f"There is no command {name[:40]!r}. The commands are: {', '.join(BY_NAME)}.", field="keys")
        cleaned = tuple(dict.fromkeys(clean_key(spelling, of=name) for spelling in spellings))
        if len(cleaned) > MAX_KEYS:
            raise Invalid(f"“{BY_NAME[name].words}” has {len(cleaned)} keys; at most {MAX_KEYS} fit.", field=name)
        if cleaned != BY_NAME[name].keys:
            changed[name] = cleaned
    keymap = Keymap(changed, single_keys=single_keys)
    _refuse_conflicts(keymap)
    return keymap


def clean_key(spelling: str, *, of: str) -> str:
    """A key as browsers name it: `x` for X, `ArrowLeft` for ←, `Alt+ArrowUp` for Alt+↑.

    Raises:
        Invalid: it is no key that a page may use.
    """
    alt, rest = re.fullmatch(r"(?:(alt)\+)?(.*)", spelling, re.IGNORECASE | re.DOTALL).groups()  # type: ignore[union-attr]
    key = _SPELLINGS.get(rest.lower()) or (rest.lower() if len(rest.lower()) == 1 and rest.isprintable() else "")
    whole = f"Alt+{key}" if alt else key
    if (
        not key
        or key == " "
        or whole in _SCROLLING
        or (alt and len(key) == 1 and not (key.isascii() and key.isalnum()))
    ):
        raise Invalid(
            f"“{spelling[:20]}” cannot be the key for “{BY_NAME[of].words}”. Give one character, or one of "
            f"{', '.join(shown(name) for name in _NAMED if name not in _SCROLLING)}, or Alt with a letter, a digit, "
            "↑ or ↓; two keys have a space between them.",
            field=of,
        )
    return whole


def shown(key: str) -> str:
    """A key as people write it; `clean_key` reads it back."""
    alt, _, rest = key.rpartition("+") if key.startswith("Alt+") else ("", "", key)
    return f"{alt}+{_words(rest)}" if alt else _words(rest)


def _words(key: str) -> str:
    upper = key.upper()
    return _ARROWS.get(key) or (upper if len(key) == 1 and len(upper) == 1 and upper.lower() == key else key)


def _refuse_conflicts(keymap: Keymap) -> None:
    """One key, one thing. Only a letter may name a response and give a command besides: with Shift it is the command."""
    for key, names in keymap.by_key.items():
        others = [name for name in names if not name.startswith("response-")]
        can_share = len(key) == 1 and key.upper() != key and not any(name.startswith("rank-") for name in others)
        if len(others) > 1 or len(names) - len(others) > 1 or (len(names) > 1 and not can_share):
            first, second = (BY_NAME[name].words for name in names[-1:] + names[-2:-1])
            raise Invalid(
                f"{shown(key)} cannot mean both “{first}” and “{second}”. Give one of them another key.", field=names[0]
            )
