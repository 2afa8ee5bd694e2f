"""Untrusted Markdown becomes text: no element, attribute or address beyond a short list, and no text takes long."""

from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import texts
from tests.payloads import PAYLOADS, SLOW

TAGS = {
    "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "s",
    "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
ATTRIBUTES = {"href", "title", "rel", "start", "align"}


class Elements(HTMLParser):
    """What a browser would make of a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.bad: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in TAGS:
            self.bad.append(f"<{tag}>")
        for name, value in attrs:
            if name not in ATTRIBUTES and (tag, name, value) != ("pre", "class", "plain"):
                self.bad.append(f"<{tag} {name}>")
            if name == "href" and not (value or "").lower().startswith(
                ("http://", "https://", "mailto:", "#", "/", "?")
            ):
                self.bad.append(f"href={value}")

    def handle_comment(self, data: str) -> None:
        self.bad.append("<!--")


@pytest.mark.parametrize("payload", PAYLOADS)
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


def test_links_say_nothing_of_where_they_were_followed_from() -> None:
    assert 'rel="noopener noreferrer nofollow"' in texts.markdown("[x](https://a.example)")


@pytest.mark.parametrize("name", SLOW)
def test_no_text_takes_long(name: str) -> None:
    """One whose time explodes runs into the time limit of all tests."""
    assert Elements(str(texts.markdown.__wrapped__(SLOW[name]))).bad == []


def test_very_long_texts_are_shown_as_they_are() -> None:
    assert str(texts.markdown("<b>" * 100_000)).startswith('<pre class="plain">&lt;b&gt;')
