"""Names between backticks become code, and nothing else becomes markup."""

from app.texts import percent, ticked


def test_backticks_become_code_and_markup_stays_text() -> None:
    assert ticked("give `prompt` and `<b>`") == "give <code>prompt</code> and <code>&lt;b&gt;</code>"
    assert ticked("<script>`") == "&lt;script&gt;`"
    assert ticked("plain") == "plain"


def test_a_percentage_never_breaks_before_its_sign() -> None:
    assert percent(0.854) == "85\u00a0%"
    assert percent(None) == "–"
    assert percent(0.5, 1).split() == ["50.0", "%"]
