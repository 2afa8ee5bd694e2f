"""What a rater may say, whatever is sent: properties of the checks on answers."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Invalid
from app.projects.models import Project
from app.rating.answers import MAX_NOTE_BYTES, Answer, check_answer, check_ranks, sentence

RULES = {"allow_ties": True, "allow_all_bad": True, "allow_partial": True, "ask_strength": True}
ranks_of = st.lists(st.one_of(st.none(), st.integers(-2, 12)), min_size=0, max_size=11)
valid_ranks = st.integers(2, 9).flatmap(lambda k: st.lists(st.integers(1, 9), min_size=k, max_size=k))
rules_of = st.fixed_dictionaries({name: st.booleans() for name in RULES})


def project(**rules: Any) -> Project:
    return Project(**{**RULES, "attributes": [], "reasons": [], "flags": [{"key": "bad", "label": "Bad"}], **rules})


def checked_or_refused(
    ranks: list[int | None], rules: Project, *, k: int, all_bad: bool
) -> tuple[list[int | None], Invalid | None]:
    try:
        return check_ranks(ranks, rules, k=k, all_bad=all_bad), None
    except Invalid as refusal:
        return [], refusal


@given(ranks=ranks_of, rules=rules_of, k=st.integers(2, 9), all_bad=st.booleans())
def test_ranks_are_dense_and_keep_the_order_or_are_refused_with_a_sentence(
    ranks: list[int | None], rules: dict[str, bool], k: int, all_bad: bool
) -> None:
    dense, refusal = checked_or_refused(ranks, project(**rules), k=k, all_bad=all_bad)
    if refusal is not None:
        assert refusal.message.endswith(".")
        assert refusal.field == "ranks"
        return
    given_ranks = [rank for rank in dense if rank is not None]
    assert len(dense) == k
    assert set(given_ranks) == set(range(1, len(set(given_ranks)) + 1)), "dense"
    pairs = [(i, j) for i in range(k) for j in range(k)]
    for i, j in pairs:
        before_i, before_j, after_i, after_j = ranks[i], ranks[j], dense[i], dense[j]
        assert (before_i is None) == (after_i is None)
        if before_i is not None and before_j is not None and after_i is not None and after_j is not None:
            assert (before_i < before_j) == (after_i < after_j)
    if not rules["allow_partial"] and given_ranks:
        assert None not in dense
    if not rules["allow_ties"] and not all_bad:
        assert len(set(given_ranks)) == len(given_ranks)


@given(ranks=valid_ranks)
def test_any_full_ranking_is_accepted_where_ties_are(ranks: list[int]) -> None:
    once = check_ranks(list(ranks), project(), k=len(ranks))
    assert check_ranks(once, project(), k=len(ranks)) == once, "dense ranks stay as they are"


@given(ranks=valid_ranks, rules=rules_of, strength=st.one_of(st.none(), st.integers(-1, 6)))
def test_a_strength_is_kept_only_with_a_preference_between_two(
    ranks: list[int], rules: dict[str, bool], strength: int | None
) -> None:
    try:
        checked = check_answer(Answer(list(ranks), strength=strength), project(**rules), k=len(ranks))
    except Invalid:
        return
    if checked.strength is not None:
        assert rules["ask_strength"]
        assert len(ranks) == 2
        assert ranks[0] != ranks[1]
        assert 1 <= checked.strength <= 4


@given(note=st.text(alphabet=st.characters(exclude_categories=[])), flags=st.dictionaries(st.text(), st.just(["bad"])))
def test_what_is_accepted_can_be_stored_as_utf8_and_json(note: str, flags: dict[str, list[str]]) -> None:
    try:
        checked = check_answer(Answer([1, 2], note=note, flags=flags), project(), k=2)
    except Invalid:
        return
    assert "\x00" not in checked.note
    assert len(checked.note.encode()) <= MAX_NOTE_BYTES
    assert json.loads(json.dumps(checked.flags)) == checked.flags
    assert set(checked.flags) <= {"0", "1"}


@given(ranks=valid_ranks)
def test_the_sentence_names_every_ranked_response_once(ranks: list[int]) -> None:
    said = sentence(list(ranks))
    assert sorted(said.replace(" > ", "").replace(" = ", "")) == [chr(ord("A") + i) for i in range(len(ranks))]
    assert said.count(" > ") == len(set(ranks)) - 1


def test_the_sentence_reads_as_raters_write_it() -> None:
    assert sentence([2, 1, 3, 2]) == "B > A = D > C"
    assert sentence([None, 1]) == "B"


@given(first=valid_ranks, second=valid_ranks)
def test_fingerprints_are_equal_for_equal_answers_only(first: list[int], second: list[int]) -> None:
    same = Answer(list(first)).fingerprint() == Answer(list(second), seconds=3.0).fingerprint()
    assert same == (first == second)


@pytest.mark.parametrize("note", ["\ud800", "a\x00", "é" * 2001])
def test_a_note_that_cannot_be_kept_is_refused(note: str) -> None:
    with pytest.raises(Invalid, match="note"):
        check_answer(Answer([1, 2], note=note), project(), k=2)
