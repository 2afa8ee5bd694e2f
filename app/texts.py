"""Turning text into safe HTML, and numbers and times into words. The one place that makes Markup."""

import datetime as dt
import re
from functools import lru_cache

import nh3
from markdown_it import MarkdownIt
from markupsafe import Markup, escape

MAX_RENDERED = 200_000
_TAGS = {
    "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre",
    "s", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
_ATTRIBUTES = {"a": {"href", "title"}, "ol": {"start"}, "th": {"align"}, "td": {"align"}}
_parser = (
    MarkdownIt("commonmark", {"html": False, "linkify": False}).enable(["table", "strikethrough"]).disable("image")
)


@lru_cache(maxsize=4096)
def markdown(text: str) -> Markup:
    """Untrusted Markdown as safe HTML: no raw HTML, no images, links only to http, https and mailto."""
    if len(text) > MAX_RENDERED:
        return Markup('<pre class="plain">{}</pre>').format(text)
    rendered = nh3.clean(
        _parser.render(text),
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
    )
    return Markup(rendered)  # noqa: S704 - sanitised above; tests try a corpus of payloads


def plain(text: str) -> Markup:
    """Text shown exactly as it is."""
    return escape(text)


def ticked(text: str) -> Markup:
    """A sentence of ours, in which names stand between backticks, as on a terminal: on a page they are code."""
    parts = re.split(r"`([^`]+)`", text)
    return Markup("").join(Markup("<code>{}</code>").format(part) if i % 2 else part for i, part in enumerate(parts))


def ago(moment: dt.datetime | None) -> str:
    """How long ago, in words: "just now", "5 minutes ago", "3 days ago"; "never" for None."""
    if moment is None:
        return "never"
    seconds = (dt.datetime.now(dt.UTC) - moment).total_seconds()
    for size, name in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {name}{'' if count == 1 else 's'} ago"
    return "just now"


def number(value: float | None, digits: int = 0) -> str:
    """A number with thousands separated by a thin space; an en dash when there is none."""
    return "–" if value is None else f"{value:,.{digits}f}".replace(",", "\u202f")


def percent(value: float | None, digits: int = 0) -> str:
    """A share as a percentage, its sign after a space that never breaks; an en dash when there is none."""
    return "–" if value is None else f"{100 * value:.{digits}f}\u00a0%"
