"""What `docs/accessibility.md` claims: every criterion is there, each names tests that exist; colours have contrast."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
STATEMENT = (ROOT / "docs" / "accessibility.md").read_text()
A = [
    "1.1.1",
    "1.2.1",
    "1.2.2",
    "1.2.3",
    "1.3.1",
    "1.3.2",
    "1.3.3",
    "1.4.1",
    "1.4.2",
    "2.1.1",
    "2.1.2",
    "2.1.4",
    "2.2.1",
    "2.2.2",
    "2.3.1",
    "2.4.1",
    "2.4.2",
    "2.4.3",
    "2.4.4",
    "2.5.1",
    "2.5.2",
    "2.5.3",
    "2.5.4",
    "3.1.1",
    "3.2.1",
    "3.2.2",
    "3.2.6",
    "3.3.1",
    "3.3.2",
    "3.3.7",
    "4.1.2",
]
AA = [
    "1.2.4",
    "1.2.5",
    "1.3.4",
    "1.3.5",
    "1.4.3",
    "1.4.4",
    "1.4.5",
    "1.4.10",
    "1.4.11",
    "1.4.12",
    "1.4.13",
    "2.4.5",
    "2.4.6",
    "2.4.7",
    "2.4.11",
    "2.5.7",
    "2.5.8",
    "3.1.2",
    "3.2.3",
    "3.2.4",
    "3.3.3",
    "3.3.4",
    "3.3.8",
    "4.1.3",
]
"""The criteria of WCAG 2.2; 4.1.1 is obsolete."""
ROWS = re.findall(r"^\| (\d\.\d\.\d+) [^|]+\| (A|AA) \| ([^|]+) \| ([^|]+) \|$", STATEMENT, flags=re.MULTILINE)
TESTS = {
    name
    for file in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)\(", file.read_text(), flags=re.MULTILINE)
}


def test_every_criterion_stands_in_the_statement_once_and_at_its_level() -> None:
    assert [number for number, *_ in ROWS] == sorted([*A, *AA], key=lambda number: [int(n) for n in number.split(".")])
    assert {number for number, level, *_ in ROWS if level == "A"} == set(A)


@pytest.mark.parametrize(
    ("number", "how", "tests"), [(n, how, tests) for n, _, how, tests in ROWS], ids=lambda v: v[:6]
)
def test_every_criterion_says_how_it_is_met_and_by_which_test(number: str, how: str, tests: str) -> None:
    assert len(how) > 20, number
    named = re.findall(r"`(test_\w+)`", tests)
    assert set(named) <= TESTS, set(named) - TESTS
    assert named or "not applicable" in how.lower() or "by hand" in tests, f"{number} names no test"


def tokens() -> dict[str, tuple[str, str]]:
    """The light and the dark colour of each token."""
    text = (ROOT / "static" / "css" / "base.css").read_text()
    return {
        name: (light, dark) for name, light, dark in re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", text)
    }


def contrast(one: str, other: str) -> float:
    """WCAG's ratio of two colours."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


TEXTS = [
    (ink, ground) for ink in ("ink", "ink-soft", "accent", "accent-strong", "good", "warn", "bad") for ground in ("paper", "panel")
] + [("accent-ink", "accent"), ("accent-ink", "accent-strong"), ("ink", "accent-soft"), ("ink-soft", "accent-soft")] + [
    (kind, f"{kind}-soft") for kind in ("good", "warn", "bad")
]  # fmt: skip
SHAPES = [(line, ground) for line in ("line-strong", "accent") for ground in ("paper", "panel")]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_of_text_and_of_what_is_operated_have_contrast(scheme: int) -> None:
    known = tokens()
    assert contrast("#000000", "#ffffff") == 21
    low = {f"{a} on {b}": contrast(known[a][scheme], known[b][scheme]) for a, b in TEXTS}
    assert {pair: round(ratio, 2) for pair, ratio in low.items() if ratio < 4.5} == {}
    low = {f"{a} on {b}": contrast(known[a][scheme], known[b][scheme]) for a, b in SHAPES}
    assert {pair: round(ratio, 2) for pair, ratio in low.items() if ratio < 3} == {}


def test_fields_about_the_person_say_what_they_are_for() -> None:
    """So that browsers and password managers fill them, and nobody has to remember or retype anything."""
    wrong = []
    for page in (ROOT / "templates" / "accounts").glob("*.html"):
        for field in re.findall(r"<input[^>]+>", page.read_text()):
            is_personal = re.search(r'type="(password|email)"|name="name" value="{{ person', field)
            if is_personal and "autocomplete=" not in field:
                wrong.append(f"{page.name}: {field}")
            assert "onpaste" not in field
    assert wrong == []


def test_no_style_is_bound_to_an_orientation_and_nothing_plays_by_itself() -> None:
    for file in (ROOT / "static" / "css").glob("*.css"):
        assert "orientation" not in file.read_text(), file
    for script in (ROOT / "static" / "js").glob("*.js"):
        assert not re.search(r"devicemotion|deviceorientation", script.read_text()), script
    for page in (ROOT / "templates").rglob("*.html"):
        assert not re.search(
            r"<(video|audio|marquee|blink|object|embed)\b|autoplay|http-equiv=.refresh", page.read_text()
        ), page
