"""Keys: every command can have other keys, nothing is ambiguous, and what is stored is what the pages show."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from app.accounts.models import Person
from app.errors import Invalid
from app.keys import BY_NAME, COMMANDS, Keymap, clean_key, clean_keymap, keymap_of, shown
from tests.app.hostile import sentence

SignIn = Callable[[Person], TestClient]


def test_the_usual_keys_are_without_conflict_and_each_is_a_key() -> None:
    assert len(BY_NAME) == len(COMMANDS)
    clean_keymap({name: list(command.keys) for name, command in BY_NAME.items()}, single_keys=True)


@pytest.mark.parametrize(
    ("spelling", "key"),
    [("Q", "q"), ("?", "?"), ("+", "+"), ("é", "é"), ("enter", "Enter"), ("←", "ArrowLeft"), ("alt+x", "Alt+x")],
)
def test_keys_are_read_as_people_write_them(spelling: str, key: str) -> None:
    assert clean_key(spelling, of="skip") == key
    assert clean_key(shown(key), of="skip") == key


@pytest.mark.parametrize(
    "spelling",
    ["", " ", "ab", "Tab", "Escape", "Space", "F5", "F12", "↑", "Alt+←", "Alt+", "Alt+é", "\x00", "\ud800", "İ"],
)
def test_what_is_no_key_or_the_browsers_own_is_refused(spelling: str) -> None:
    with pytest.raises(Invalid, match="cannot be the key for “skip, with a reason”"):
        clean_keymap({"skip": [spelling]}, single_keys=True)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"skip": ["n"]}, "N cannot mean both “write a note” and “skip, with a reason”"),
        ({"rank-1": ["a"]}, "A cannot mean both"),
        ({"response-1": ["b"]}, "B cannot mean both"),
        ({"response-1": ["?"]}, "? cannot mean both"),
        ({"skip": ["q", "w", "e", "r"]}, "at most 3 fit"),
        ({"fly": ["q"]}, "no command 'fly'"),
    ],
)
def test_what_is_ambiguous_is_refused_in_a_sentence(keys: dict[str, list[str]], words: str) -> None:
    with pytest.raises(Invalid) as refused:
        clean_keymap(keys, single_keys=True)
    assert words in refused.value.message.replace("\xa0", " ")


def test_a_letter_may_name_a_response_and_give_a_command_with_shift() -> None:
    keymap = clean_keymap({"skip": ["b"]}, single_keys=True)
    assert keymap.by_key["b"] == ["response-2", "skip"]
    assert keymap.hint("skip", num_responses=1) == "B"
    assert keymap.hint("skip", num_responses=2) == "Shift B"


@given(st.dictionaries(st.sampled_from(sorted(BY_NAME)), st.lists(st.sampled_from("abcqwz159?"), max_size=3)))
def test_no_accepted_keys_let_one_press_mean_two_things(keys: dict[str, list[str]]) -> None:
    try:
        keymap = clean_keymap(keys, single_keys=True)
    except Invalid:
        return
    for names in keymap.by_key.values():
        assert len([name for name in names if name.startswith("response-")]) <= 1
        assert len([name for name in names if not name.startswith("response-")]) <= 1
    assert keymap_of(keymap.stored) == keymap


def test_chosen_keys_are_on_every_page_that_names_keys(
    sign_in: SignIn,
    make_person: Callable[..., Person],
    make_project: Callable[..., object],
    join: Callable[..., Person],
) -> None:
    project = make_project()
    browser = sign_in(join(make_person(), project, "rater"))
    desk = f"/projects/{project.slug}/rate"  # type: ignore[attr-defined]
    assert browser.post("/account/keys", data={"help": "F2", "undo": "", "skip": "v"}).status_code == 303
    for page in ("/account/keys", "/help/raters", desk):
        text = browser.get(page).text
        assert "F2" in text, page
        assert "<kbd>?</kbd>" not in text.replace("that <kbd>?</kbd> opens", ""), page
    assert '"v": ["skip"]' in browser.get(desk).text.replace("&#34;", '"')
    assert browser.post("/account/keys/reset").status_code == 303
    assert '"v"' not in browser.get(desk).text.replace("&#34;", '"')


def test_a_refused_change_leaves_the_keys_as_they_were(sign_in: SignIn, make_person: Callable[..., Person]) -> None:
    browser = sign_in(make_person())
    browser.post("/account/keys", data={"skip": "v"})
    refused = browser.post("/account/keys", data={"skip": "n"})
    assert refused.status_code == 422
    assert "Give one of them another key." in sentence(refused)
    keys = {command["name"]: command["keys"] for command in browser.get("/api/v1/me/keys").json()["commands"]}
    assert (keys["skip"], keys["note"]) == (["v"], ["n"])


def test_single_characters_are_switched_off_and_survive_a_change_of_keys(
    sign_in: SignIn, make_person: Callable[..., Person]
) -> None:
    browser = sign_in(make_person())
    answer = browser.post("/account/keys/single", data={"single_keys": "off"}, headers={"HX-Request": "true"})
    assert 'data-single-keys="off"' in answer.text
    browser.post("/account/keys", data={"skip": "v"})
    assert browser.get("/api/v1/me/keys").json()["single_keys"] is False


def test_keys_by_the_api(sign_in: SignIn, make_person: Callable[..., Person]) -> None:
    browser = sign_in(make_person())
    put = browser.put("/api/v1/me/keys", json={"single_keys": False, "keys": {"note": [], "raw": ["Alt+R"]}}).json()
    assert put == browser.get("/api/v1/me/keys").json()
    keys = {command["name"]: command["keys"] for command in put["commands"]}
    assert (keys["note"], keys["raw"], keys["send"]) == ([], ["Alt+r"], ["Enter"])
    refused = browser.put("/api/v1/me/keys", json={"keys": {"note": ["s"]}})
    assert (refused.status_code, refused.json()["error"]["field"]) == (422, "skip")
    usual = browser.put("/api/v1/me/keys", json={}).json()
    assert all(command["keys"] == command["default_keys"] for command in usual["commands"])


def test_keys_of_a_person_whose_stored_command_is_gone_still_work() -> None:
    assert keymap_of({"keys": {"changed": {"gone": ["q"], "skip": ["w"]}}}).of("skip") == ("w",)
    assert keymap_of({}) == keymap_of(None) == Keymap()
