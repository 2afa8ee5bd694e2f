r"""Formulas in Markdown: the four pairs of signs, what is no formula, what cannot be read, and nothing hostile."""

import re

import pytest

from app import texts
from tests.app.test_markdown import Elements

INLINE, BLOCK = '<math display="inline">', '<math display="block">'


def rendered(text: str) -> str:
    return str(texts.markdown(text))


def letters(html: str) -> str:
    """All text of a piece of HTML, without its elements."""
    return re.sub(r"<[^>]+>|\s", "", html)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("so $x^2$ is", INLINE),
        (r"so \(x^2\) is", INLINE),
        ("$$x^2$$", BLOCK),
        ("$$\nx^2\n$$", BLOCK),
        (r"\[x^2\]", BLOCK),
        ("so\n\\[\nx^2\n\\]\nis", BLOCK),
        (r"so \[x^2\] is", BLOCK),
        ("- one\n\n  \\[\n  x^2\n  \\]", BLOCK),
        ("> \\[\n> x^2\n> \\]", BLOCK),
        ("| a |\n|---|\n| $x^2$ |", INLINE),
    ],
)
def test_formulas_are_drawn_wherever_they_stand(text: str, kind: str) -> None:
    assert kind in rendered(text)
    assert "<msup><mi>x</mi><mn>2</mn></msup>" in rendered(text)


def test_lines_of_a_formula_are_no_list_and_what_follows_it_is_kept() -> None:
    html = rendered("text\n\\[\na\n- b\n= c\n\\]\nmore")
    assert "<li>" not in html
    assert letters(html) == "texta−b=cmore"
    assert letters(rendered(r"\[x\] (1)")) == "x(1)"


@pytest.mark.parametrize(
    "text",
    [
        "It costs $5 and $6.",
        "Between $5-$6, or US$5/C$6.",
        "From $5 a month and 10$ a year",
        "echo $HOME/$USER",
        "a $ b $ c",
        r"escaped \$x\$",
        "`$x$`",
        "```\n$$x$$\n\\[x\\]\n```",
        "$$ never closed",
        r"\( never closed",
        r"\\(x\\)",
    ],
)
def test_money_variables_and_code_are_no_formulas(text: str) -> None:
    assert "<math" not in rendered(text)


def test_money_stays_as_it_was_written() -> None:
    assert rendered("It costs $5 and $6.") == "<p>It costs $5 and $6.</p>\n"
    assert letters(rendered("From $5 a month and 10$ a year")) == "From$5amonthand10$ayear"


@pytest.mark.parametrize(
    "tex", [r"\frac{", r"\undefined{x}", r"\left( x \right", "x^2^2", r"\frac{" * 300, "x+" * 3000]
)
def test_what_cannot_be_read_is_shown_as_it_was_written(tex: str) -> None:
    html = rendered(f"${tex}$")
    assert "<math" not in html
    assert tex in re.sub(r"<[^>]+>", "", html)


@pytest.mark.parametrize(
    "tex",
    [
        r"\text{<img src=x onerror=alert(1)>}",
        r"\text{&lt;script&gt;alert(1)&lt;/script&gt;}",
        r"\href{javascript:alert(1)}{x}",
        r"\style{position:fixed}{x}",
        r"\class{secret}{x}",
        r"\hspace{10000em}x",
        r"\color{red}{x}",
        r"\unicode{3C}script\unicode{3E}",
        r"</math><script>alert(1)</script>",
        r"\begin{matrix}<b onclick=alert(1)>&x\end{matrix}",
    ],
)
def test_hostile_tex_is_text(tex: str) -> None:
    for text in (f"${tex}$", f"$${tex}$$", rf"\({tex}\)", rf"\[{tex}\]"):
        html = rendered(text)
        assert Elements(html).bad == []
        assert not re.search(r" (href|style|class=\"(?!math)|10000|color)", html)
