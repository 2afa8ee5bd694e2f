"""Turning text into safe HTML, and numbers and times into words. The one place that makes Markup."""

import datetime as dt
import re
from collections.abc import Sequence
from functools import lru_cache

import nh3
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup, escape
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.token import STANDARD_TYPES
from pygments.util import ClassNotFound

from app import mathematics

MAX_RENDERED = 200_000
_TAGS = {
    "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre",
    "s", "span", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
_ATTRIBUTES = {"a": {"href", "title"}, "ol": {"start"}, "th": {"align"}, "td": {"align"}, "pre": {"data-language"}}
_CLASSES = {"span": {"math", "math--block", *(f"hl-{name}" for name in STANDARD_TYPES.values() if name)}}
MAX_HIGHLIGHTED = 20_000  # Characters; some lexers take long over more.


def _code(source: str, language: str, _: str) -> str:
    """A fenced block with its words coloured, where the language is one that Pygments knows; else "", for plain."""
    if not language or len(source) > MAX_HIGHLIGHTED:
        return ""
    try:
        lexer = get_lexer_by_name(language)
    except ClassNotFound:
        return ""
    coloured = highlight(source, lexer, HtmlFormatter(nowrap=True, classprefix="hl-"))
    return f'<pre data-language="{escape(lexer.name)}"><code>{coloured}</code></pre>'


_parser = (
    MarkdownIt("commonmark", {"html": False, "linkify": False, "highlight": _code})
    .enable(["table", "strikethrough"])
    .disable("image")
    .use(mathematics.mathematics)
)


@lru_cache(maxsize=4096)
def markdown(text: str) -> Markup:
    """Untrusted Markdown as safe HTML: no raw HTML, no images, links only to http, https and mailto."""
    if len(text) > MAX_RENDERED:
        return Markup('<pre class="plain">{}</pre>').format(text)
    return _clean(_parser.render(text))


def markdown_with_changes(text: str, changed: frozenset[int]) -> Markup:
    """The same, with what stands on `changed` lines (from 0) as insertions."""
    if len(text) > MAX_RENDERED:
        return markdown(text)
    tokens: list[Token] = []
    row = None
    for token in _parser.parse(text):
        row = token.map if token.type == "tr_open" else row  # Cells do not say where they stand.
        lines = token.map or row
        is_changed = lines is not None and not changed.isdisjoint(range(*lines))
        if is_changed and token.type == "inline":
            token.children = [Token("ins_open", "ins", 1), *(token.children or []), Token("ins_close", "ins", -1)]
        elif is_changed and token.type in {"fence", "code_block", "math_block"}:
            tokens += [Token("ins_open", "ins", 1), token, Token("ins_close", "ins", -1)]
            continue
        tokens.append(token)
    return _clean(_parser.renderer.render(tokens, _parser.options, {}), more_tags=frozenset({"ins"}))


def _clean(html: str, *, more_tags: frozenset[str] = frozenset()) -> Markup:
    rendered = nh3.clean(
        html,
        tags=_TAGS | mathematics.TAGS | more_tags,
        attributes=_ATTRIBUTES | mathematics.ATTRIBUTES,
        allowed_classes=_CLASSES,
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


def kbd(key: str) -> Markup:
    """A key as a hint, marked when it is a single character, because those can be switched off; nothing for none."""
    if not key:
        return Markup("")
    is_single = len(key.removeprefix("Shift ")) == 1
    return (
        Markup('<kbd class="{}">{}</kbd>').format("is-single", key)
        if is_single
        else Markup("<kbd>{}</kbd>").format(key)
    )


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


def order_in_words(ranks: Sequence[int | None], names: Sequence[str]) -> str:
    """The order of what has these names, best first, without what has no rank: "B > A = D > C"."""
    groups: dict[int, list[str]] = {}
    for name, rank in zip(names, ranks, strict=True):
        if rank is not None:
            groups.setdefault(rank, []).append(name)
    return " > ".join(" = ".join(groups[rank]) for rank in sorted(groups))
