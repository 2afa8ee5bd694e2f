"""The command line on bad files, numbers and folders: status 2 and one sentence that says where, never a traceback."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from worker.rlhf import __main__ as command_line
from worker.rlhf.limits import LIMITS
from worker.rlhf.types import DataError, read_rankings

GOOD = b'{"prompt": "Why?", "responses": ["rain", "one two"], "ranks": [1, 2]}\n'
PACKED = gzip.compress(GOOD * 500, mtime=0)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What is said on standard error by a command that refuses."""
    status = command_line.main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    assert (status, said.out) == (2, "")
    assert "Traceback" not in said.err
    assert said.err.count("\n") == 1
    return said.err


def row(**changed: Any) -> bytes:
    return json.dumps({**json.loads(GOOD), **changed}).encode() + b"\n"


BAD = {
    "a truncated gzip": (PACKED[:-30], "the compressed file is damaged after line"),
    "a corrupt gzip": (PACKED[:20] + b"\xff\xff\xff" + PACKED[23:], "the compressed file is damaged"),
    "something else": (b"PAR1 a table PAR1", "line 1: this is not JSON"),
    "HTML": (b"<html></html>", "line 1: this is not JSON"),
    "an array": (b"[" + GOOD.strip() + b"]", "line 1: expected a JSON object, found list"),
    "nothing": (b"", "the file is empty"),
    "blanks": (b" \n\n", "the file is empty"),
    "latin-1": ('{"prompt": "é"}'.encode("latin-1"), "line 1: this is not UTF-8 text"),
    "UTF-16": (GOOD.decode().encode("utf-16"), "line 1: this is not UTF-8 text"),
    "deep nesting": (GOOD + b'{"prompt": ' + b"[" * 100_000 + b"\n", "line 2: this is nested too deeply"),
    "an endless number": (b'{"prompt": "a", "ranks": [' + b"9" * 6000 + b"]}", "line 1: this is not JSON"),
    "half a character": (GOOD + b'{"prompt": "\\ud800"}', "line 2: it holds half of a character"),
    "a key twice": (b'{"prompt": "a", "prompt": "b"}', "line 1: this is not JSON (a key stands there twice)"),
    "not a number": (row(ranks=[float("nan"), 1]), "line 1: a rank is a whole number"),
    "a cut line": (GOOD + GOOD[:20], "line 2: this is not JSON"),
    "no responses": (row(responses=[], ranks=[]), "line 1: expected `responses`"),
    "a role that is null": (row(prompt=[{"role": None, "content": "x"}]), "line 1: expected `prompt`"),
    "a bad line among many": (GOOD * 3000 + b"{\n" + GOOD * 10, "line 3001: this is not JSON"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named_with_line_and_reason(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    content, sentence = BAD[name]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    said = refused(capsys, "reward", "--model", tiny_base, "--data", path, "--out", tmp_path / "out")
    assert said.startswith(str(path))
    assert sentence in said
    assert not (tmp_path / "out" / "config.json").exists()


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf" + GOOD, GOOD + b"\n" + GOOD, GOOD + b"\n \n", PACKED])
def test_marks_blank_lines_and_compression_are_no_mistakes(tmp_path: Path, content: bytes) -> None:
    """Whatever the file is called: what it holds decides."""
    path = tmp_path / "rows.txt"
    path.write_bytes(content)
    assert {ranking.responses for ranking in read_rankings(path)} == {("rain", "one two")}


def test_a_line_separator_inside_a_text_is_no_line_end(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a\u2028b\x85c", "responses": ["x", "y"], "ranks": [1, 2]}\n', encoding="utf-8")
    (ranking,) = read_rankings(path)
    assert ranking.prompt[0]["content"] == "a\u2028b\x85c"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(GOOD)
    path.chmod(0)
    with pytest.raises(DataError, match="cannot be read"):
        read_rankings(path)


COMMANDS = {
    "sft": ["--model", "{base}", "--data", "{rows}"],
    "reward": ["--model", "{base}", "--data", "{rows}"],
    "ppo": ["--policy", "{base}", "--reward", "{base}", "--prompts", "{rows}"],
    "sample": ["--policy", "{base}", "--prompts", "{rows}"],
    "score": ["--reward", "{base}", "--data", "{rows}"],
}


def given(command: str, base: Path, rows: Path) -> list[str]:
    return [command, *(word.format(base=base, rows=rows) for word in COMMANDS[command])]


def numbers_of(command: str) -> dict[str, type]:
    """The options of a command that take a number, and of which type."""
    options = vars(command_line._parser().parse_args([*given(command, Path("b"), Path("r")), "--out", "o"]))
    return {name: type(value) for name, value in options.items() if type(value) in {int, float}}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_number_has_a_range_and_is_held_to_it(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert [name for name in numbers_of(command) if name not in LIMITS] == []
    for name in numbers_of(command):
        option = "--" + name.replace("_", "-")
        is_whole = (
            type(vars(command_line._parser().parse_args([*given(command, tiny_base, tmp_path), "--out", "o"]))[name])
            is int
        )
        for value in ("-1", "99999999999999999999999999", *(() if is_whole else ("nan", "inf", "1e308"))):
            said = refused(capsys, *given(command, tiny_base, tmp_path), "--out", tmp_path / "out", option, value)
            assert said.startswith(f"{option} is "), said


@pytest.mark.parametrize("command", COMMANDS)
def test_a_number_that_is_none_is_told_by_the_parser(capsys: pytest.CaptureFixture[str], command: str) -> None:
    option = "--" + next(iter(numbers_of(command))).replace("_", "-")
    with pytest.raises(SystemExit) as end:
        command_line.main([*given(command, Path("b"), Path("r")), "--out", "o", option, "x"])
    assert end.value.code == 2
    assert f"argument {option}: invalid" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_a_place_that_cannot_hold_the_result_is_told_before_anything_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    words = given(command, tmp_path / "no-model", tmp_path / "no-rows")
    place = tmp_path if command in {"sample", "score"} else path
    assert "--out must be a" in refused(capsys, *words, "--out", place)
    assert "is not a folder" in refused(capsys, *words, "--out", path / "below")


def test_a_policy_cannot_score(tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"prompt": "Why?", "response": "rain"}\n')
    words = given("score", tiny_base, tmp_path / "rows.jsonl")
    assert "lack score.weight" in refused(capsys, *words, "--out", tmp_path / "scores.jsonl")
