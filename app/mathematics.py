r"""Mathematics in Markdown: `$x$`, `\(x\)`, `$$x$$` and `\[x\]` become MathML, which browsers draw by themselves.

The TeX comes from anybody. What its reader makes of it is rebuilt from a short list of elements and attributes, and all
text is escaped; TeX that cannot be read is shown as it was written.
"""

import html
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any
from xml.etree.ElementTree import Element

from latex2mathml.converter import convert_to_element
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererProtocol
from markdown_it.rules_block import StateBlock
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin

MAX_TEX = 4000  # Characters of one formula; the longest of a textbook has some hundreds.
TAGS = {
    "math", "menclose", "mfrac", "mi", "mmultiscripts", "mn", "mo", "mover", "mpadded", "mphantom", "mprescripts", "mroot",
    "mrow", "mspace", "msqrt", "mstyle", "msub", "msubsup", "msup", "mtable", "mtd", "mtext", "mtr", "munder",
    "munderover", "none",
}  # fmt: skip
ATTRIBUTES = {
    "math": {"display"},
    "menclose": {"notation"},
    "mfrac": {"linethickness"},
    "mi": {"mathvariant"},
    "mo": {"fence", "form", "maxsize", "minsize", "movablelimits", "separator", "stretchy"},
    "mover": {"accent"},
    "mspace": {"width"},
    "mstyle": {"displaystyle", "scriptlevel"},
    "mtable": {"displaystyle"},
    "mtd": {"columnalign"},
    "munder": {"accentunder"},
}
_VALUE = re.compile(r"[a-z -]{1,30}|-?[0-9]{1,2}(\.[0-9]{1,4})?(em|ex|pt|px|)")  # No length that pushes a page apart.
_PROSE = re.compile(r"[A-Za-z]{3,}\s+\S|\s[A-Za-z]{3,}")
_TEX = re.compile(r"[\\^_={}+<>]")


def mathematics(parser: MarkdownIt) -> None:
    """A plugin for markdown-it: reads formulas between the usual four pairs of signs, and renders them."""
    dollarmath_plugin(parser, allow_labels=False, allow_space=False, allow_digits=False, double_inline=True)
    parser.inline.ruler.before("escape", "math_brackets", _brackets_in_line)
    parser.block.ruler.before(
        "fence", "math_brackets", _brackets_in_block, {"alt": ["paragraph", "list", "blockquote"]}
    )
    parser.core.ruler.push("currency", _leave_currency)
    for name in ("math_inline", "math_inline_double", "math_block"):
        parser.add_render_rule(name, _render)


def mathml(tex: str, *, is_block: bool) -> str:
    """A formula as MathML, or as code where it cannot be read."""
    found = _mathml(tex.strip(), is_block)
    if found is None:
        return f"<code>{html.escape(tex.strip())}</code>"
    return f'<span class="{"math math--block" if is_block else "math"}">{found}</span>'


@lru_cache(maxsize=4096)
def _mathml(tex: str, is_block: bool) -> str | None:
    if not tex or len(tex) > MAX_TEX:
        return None
    try:
        root = convert_to_element(tex, display="block" if is_block else "inline")
        return _rebuilt(root)
    except Exception:  # noqa: BLE001 - TeX that its reader fails on in any way is shown as it is
        return None


def _rebuilt(element: Element) -> str:
    """Only what is listed, and text as text.

    Raises:
        ValueError: an element that is not listed, or a command that the reader did not know.
    """
    text = html.unescape(element.text or "")  # The reader writes characters as entities.
    if element.tag not in TAGS or (element.tag == "mi" and text.startswith("\\")):
        raise ValueError(element.tag)
    allowed = ATTRIBUTES.get(element.tag, set())
    given = {name: value for name, value in element.attrib.items() if name in allowed and _VALUE.fullmatch(value)}
    attributes = "".join(f' {name}="{value}"' for name, value in given.items())
    inner = "".join(map(_rebuilt, element))
    return f"<{element.tag}{attributes}>{html.escape(text)}{inner}</{element.tag}>"


def _render(_: RendererProtocol, tokens: Sequence[Token], index: int, *_rest: Any) -> str:
    token = tokens[index]
    rendered = mathml(token.content, is_block=token.type != "math_inline")
    return f"<p>{rendered}</p>\n" if token.type.startswith("math_block") else rendered


def _brackets_in_line(state: StateInline, silent: bool) -> bool:
    r"""`\(x\)`, and `\[x\]` where it has company on its lines."""
    opening = state.src[state.pos : state.pos + 2]
    if opening not in {"\\(", "\\["}:
        return False
    last = min(state.posMax, state.pos + MAX_TEX)  # Looked for no further, or many that are never closed take long.
    end = state.src.find("\\)" if opening == "\\(" else "\\]", state.pos + 2, last)
    if end < 0 or not state.src[state.pos + 2 : end].strip():
        return False
    if not silent:
        token = state.push("math_inline" if opening == "\\(" else "math_inline_double", "math", 0)
        token.content, token.markup = state.src[state.pos + 2 : end], opening
    state.pos = end + 2
    return True


def _brackets_in_block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    r"""`\[x\]` on lines of its own: what is between is no list and no heading."""
    begin = state.bMarks[start] + state.tShift[start]
    close = state.src.find("\\]", begin, begin + MAX_TEX) if state.src.startswith("\\[", begin) else -1
    if close < 0 or state.is_code_block(start):
        return False
    line = next((n for n in range(start, end) if state.eMarks[n] > close), end)
    if line == end or state.src[close + 2 : state.eMarks[line]].strip():
        return False
    if any(state.sCount[n] < state.blkIndent and not state.isEmpty(n) for n in range(start, line + 1)):
        return False
    if not silent:
        token = state.push("math_block", "math", 0)
        token.content = state.getLines(start, line + 1, state.blkIndent, keepLastLF=False).strip()[2:-2]
        token.block, token.map = True, [start, line + 1]
        state.line = line + 1
    return True


def _leave_currency(state: StateCore) -> None:
    """Dollars that are money or variables of a shell: `$5 a month and 6$`, `$HOME/$USER`."""
    for block in state.tokens:
        children = block.children or []
        for index, token in enumerate(children):
            if token.type != "math_inline" or token.markup != "$":
                continue
            before = children[index - 1].content[-1:] if index else ""
            after = children[index + 1].content[:1] if index + 1 < len(children) else ""
            is_prose = _PROSE.search(token.content) and not _TEX.search(token.content)
            if is_prose or before.isalnum() or after.isalnum():
                token.type, token.tag, token.content = "text", "", f"${token.content}$"
