"""Reading rankings, demonstrations and prompts: what is accepted, and the sentence for what is not."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from worker.rlhf.reward_model import RewardSettings
from worker.rlhf.types import (
    DataError,
    Ranking,
    read_demonstrations,
    read_prompts,
    read_rankings,
    settings_from,
    split_transcripts,
)

WHY = [{"role": "user", "content": "Why?"}]


def written(folder: Path, *rows: Any) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_rankings_keep_ties_unranked_raters_and_weights(tmp_path: Path) -> None:
    row = {"prompt": WHY, "responses": ["a", "b", "c"], "ranks": [1, 1, None], "rater": "r1", "topic": "t", "weight": 2}
    assert read_rankings(written(tmp_path, row)) == [Ranking(WHY, ("a", "b", "c"), (1, 1, None), 2.0, "r1", "t")]  # type: ignore[arg-type]


def test_pairs_are_rankings_of_two(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Why?", "chosen": "a", "rejected": "b"},
        {
            "prompt": WHY,
            "chosen": [*WHY, {"role": "assistant", "content": "a"}],
            "rejected": [*WHY, {"role": "assistant", "content": "b"}],
        },
    ]
    for ranking in read_rankings(written(tmp_path, *rows)):
        assert (ranking.prompt, ranking.responses, ranking.ranks) == (WHY, ("a", "b"), (1, 2))


def test_transcripts_split_at_the_last_turn_they_share() -> None:
    shared = "\n\nHuman: one\n\nAssistant: two\n\nHuman: three\n\nAssistant:"
    prompt, chosen, rejected = split_transcripts(f"{shared} good day", f"{shared} go away")
    assert [(m["role"], m["content"]) for m in prompt] == [("user", "one"), ("assistant", "two"), ("user", "three")]
    assert (chosen, rejected) == ("good day", "go away")


def test_transcripts_that_part_early_keep_what_differs_in_the_replies() -> None:
    start = "\n\nHuman: one\n\nAssistant:"
    prompt, chosen, rejected = split_transcripts(
        f"{start} yes\n\nHuman: x\n\nAssistant: end", f"{start} no\n\nHuman: x\n\nAssistant: end"
    )
    assert [m["content"] for m in prompt] == ["one"]
    assert chosen.startswith("yes\n\nHuman: x")
    assert rejected.startswith("no\n\nHuman: x")


def test_real_transcripts_are_read_whole(shared_data: Path) -> None:
    path = shared_data / "hh_rlhf" / "harmless_base_dev.jsonl.gz"
    rankings = read_rankings(path)
    assert len(rankings) == 1500
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line, ranking in zip(lines, rankings, strict=True):
            row = json.loads(line)
            assert row["chosen"].strip().endswith(ranking.responses[0])
            assert row["rejected"].strip().endswith(ranking.responses[1])
            assert ranking.prompt[-1]["role"] == "user"


def test_demonstrations_and_prompts_accept_text_or_messages(tmp_path: Path) -> None:
    path = written(tmp_path, {"prompt": "Why?", "response": "a"}, {"prompt": WHY, "response": "a"})
    first, second = read_demonstrations(path)
    assert first == second
    assert read_prompts(path) == [WHY, WHY]


GOOD = {"prompt": WHY, "responses": ["a", "b"], "ranks": [1, 2]}


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ("{not json", "this is not JSON"),
        ("[1, 2]", "expected a JSON object, found list"),
        ({**GOOD, "ranks": [1]}, r"expected `ranks`, as many as there are responses \(2\)"),
        ({**GOOD, "ranks": [1, 0]}, "a rank is a whole number from 1"),
        ({**GOOD, "ranks": [1, True]}, "a rank is a whole number from 1"),
        ({**GOOD, "ranks": [1.0, 2.5]}, "a rank is a whole number from 1"),
        ({**GOOD, "responses": "ab"}, "expected `responses`, a list of texts"),
        ({**GOOD, "prompt": []}, "expected `prompt`"),
        ({**GOOD, "prompt": [{"role": "user"}]}, "expected `prompt`"),
        ({**GOOD, "weight": "heavy"}, "expected `weight`"),
        ({**GOOD, "weight": -1}, "expected `weight`"),
        ('{"prompt": "Why?", "responses": ["a", "b"], "ranks": [1, 2], "weight": NaN}', "expected `weight`"),
        ({"prompt": "Why?", "chosen": "a"}, "expected `rejected`"),
        ({"chosen": "no turns", "rejected": "none"}, "expected two transcripts"),
    ],
)
def test_bad_rows_are_named_with_file_and_line(tmp_path: Path, bad: Any, sentence: str) -> None:
    with pytest.raises(DataError, match=rf"rows\.jsonl, line 2: .*{sentence}"):
        read_rankings(written(tmp_path, GOOD, bad))


def test_a_setting_that_does_not_exist_is_named() -> None:
    assert settings_from(RewardSettings, {"epochs": 2}).epochs == 2
    with pytest.raises(ValueError, match="RewardSettings has no setting 'epoch'"):
        settings_from(RewardSettings, {"epoch": 2})
