"""Untrusted Markdown becomes text: no element, attribute or address beyond a short list, and no text takes long."""

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pygments.token import STANDARD_TYPES

from app import mathematics, texts
from tests.payloads import CORPUS, PAYLOADS, SLOW

TAGS = {
    "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "s",
    "span", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
WORDS_OF_CODE = {f"hl-{name}" for name in STANDARD_TYPES.values()} | {"math", "math--block"}
ATTRIBUTES = {"href", "title", "rel", "start", "align"}


def scheme_of(address: str) -> str:
    """As browsers find it: without the control characters and spaces that they pass over."""
    found = re.match(r"([a-z][a-z0-9+.-]*):", re.sub(r"[\x00-\x20]", "", address).lower())
    return found[1] if found else ""


class Elements(HTMLParser):
    """What a browser would make of a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.bad: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in TAGS | mathematics.TAGS:
            self.bad.append(f"<{tag}>")
        for name, value in attrs:
            is_code = (tag, name) == ("pre", "data-language") or (
                (tag, name) == ("span", "class") and set((value or "").split()) <= WORDS_OF_CODE
            )
            is_math = name in mathematics.ATTRIBUTES.get(tag, ())
            if (
                name not in ATTRIBUTES
                and not is_math
                and (tag, name, value) != ("pre", "class", "plain")
                and not is_code
            ):
                self.bad.append(f"<{tag} {name}>")
            if name == "href" and scheme_of(value or "") not in {"http", "https", "mailto", ""}:
                self.bad.append(f"href={value}")

    def handle_comment(self, data: str) -> None:
        self.bad.append("<!--")


@pytest.mark.parametrize("payload", CORPUS, ids=range(len(CORPUS)))
def test_no_payload_becomes_more_than_text(payload: str) -> None:
    for text in (payload, f"before {payload} after", f"> {payload}", f"- {payload}", payload * 3):
        assert Elements(str(texts.markdown(text))).bad == []


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from([*PAYLOADS, "\n", "\n\n", "[", "](", ")", "<", ">", "`", "\\", "&lt;", "\x00", "*", "| "]),
        max_size=8,
    )
)
def test_no_mixture_of_payloads_does_either(parts: list[str]) -> None:
    assert Elements(str(texts.markdown("".join(parts)))).bad == []


def test_the_look_at_addresses_sees_what_browsers_see() -> None:
    for address in ("javascript:x", " JavaScript:x", "java\tscript:x", "\x01java\nscript:x", "data:x", "vbscript:x"):
        assert Elements(f'<a href="{address}">x</a>').bad != [], address


def test_links_say_nothing_of_where_they_were_followed_from() -> None:
    assert 'rel="noopener noreferrer nofollow"' in texts.markdown("[x](https://a.example)")


@pytest.mark.parametrize("name", SLOW)
def test_no_text_takes_long(name: str) -> None:
    """One whose time explodes runs into the time limit of all tests."""
    assert Elements(str(texts.markdown.__wrapped__(SLOW[name]))).bad == []


def test_very_long_texts_are_shown_as_they_are() -> None:
    assert str(texts.markdown("<b>" * 100_000)).startswith('<pre class="plain">&lt;b&gt;')


def test_code_of_a_known_language_is_coloured_and_says_which() -> None:
    html = str(texts.markdown("```python\nreturn '<b>'\n```"))
    assert 'data-language="Python"' in html
    assert '<span class="hl-k">return</span>' in html
    assert "<b>" not in html


@pytest.mark.parametrize("language", ["", "nosuch", "../etc", '"><script>'])
def test_code_of_no_known_language_is_plain(language: str) -> None:
    html = str(texts.markdown(f"```{language}\nreturn <script>\n```"))
    assert "&lt;script&gt;" in html
    assert Elements(html).bad == []


def test_code_that_is_very_long_is_not_coloured() -> None:
    assert "hl-" not in str(texts.markdown("```python\n" + "x = 1\n" * 5000 + "```"))


def test_the_corpus_is_large_and_without_repetition() -> None:
    assert len(CORPUS) == len(set(CORPUS)) > 300
