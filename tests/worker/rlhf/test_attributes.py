"""Heads for attributes: learned beside the ranking, each from its own ranks, changing nothing where they are not wanted."""

import json
import math
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.worker.rlhf.conftest import ask
from worker.rlhf import __main__ as command_line
from worker.rlhf.attributes import (
    FILE,
    AttributeHeads,
    attribute_loss,
    attribute_report,
    attribute_scores,
    load_attribute_heads,
    new_attribute_heads,
)
from worker.rlhf.checkpoint import CheckpointStore
from worker.rlhf.ensemble import load_heads
from worker.rlhf.modeling import load_reward_model
from worker.rlhf.packing import Encoded
from worker.rlhf.reward_model import RewardSettings, train_reward_model
from worker.rlhf.tokens import load_tokenizer
from worker.rlhf.types import DataError, Ranking, read_rankings

SMALL = RewardSettings(batch_size=4, max_length=64, learning_rate=3e-3, epochs=12, attribute_coef=1.0)
SAMPLES = [(ask(f"Count to {n}"), "one " * n) for n in range(1, 6)]


def rankings(count: int, *, start: int = 0) -> list[Ranking]:
    """Raters prefer the longer response; they call it the fuller one, and the shorter one the clearer."""
    return [
        Ranking(
            ask(f"Why is rain number {n} blue?"),
            ("rain", "one two three " * 3),
            (2, 1),
            attributes={"full": (2, 1), "clear": (1, 2), "kind": (1, 1)},
        )
        for n in range(start, start + count)
    ]


def test_each_attribute_is_learned_from_its_own_ranks(tiny_base: Path, tmp_path: Path) -> None:
    given = {"out": tmp_path, "heldout": rankings(4, start=20), "calibration": SAMPLES}
    done = list(train_reward_model(tiny_base, rankings(8), SMALL, **given))[-1]  # type: ignore[arg-type]
    assert done["accuracy"] == done["attribute_accuracy.full"] == done["attribute_accuracy.clear"] == 1
    assert done["attribute_rankings.clear"] == 4
    heads = load_attribute_heads(tmp_path)
    assert heads is not None
    assert heads.names == ("clear", "full")  # Of "kind" nobody ever said anything but equal.
    tokenizer = load_tokenizer(tmp_path)
    model = load_reward_model(tmp_path, tokenizer=tokenizer)
    scores = attribute_scores(model, heads, tokenizer, *zip(*SAMPLES, strict=True))  # type: ignore[arg-type]
    assert scores.mean(dim=0).abs().max() < 1e-4
    assert (scores.std(dim=0) - 1).abs().max() < 1e-4


def test_the_loss_is_the_mean_over_a_rankings_attributes_of_the_mean_over_pairs() -> None:
    heads = AttributeHeads(("a", "b"), torch.zeros(2, 4))
    scores = torch.tensor([[0.0, 1.0], [2.0, -1.0], [5.0, 0.5]])
    item = Encoded([1], [[2], [3], [4]], [(0, 1)], 2.0, attributes={"a": [(1, 0), (0, 2)], "b": [(0, 1)]})
    silent = Encoded([1], [[2], [3], [4]], [(0, 1)], 9.0)

    def loss(difference: float) -> float:
        return math.log1p(math.exp(-difference))

    wanted = 2.0 * ((loss(2.0) + loss(-5.0)) / 2 + loss(2.0)) / 2
    found = attribute_loss(heads, [scores, scores], [item, silent], label_smoothing=0.0)
    assert float(found) == pytest.approx(wanted, abs=1e-6)
    assert float(attribute_loss(heads, [scores], [silent], label_smoothing=0.0)) == 0
    smoothed = 0.9 * wanted + 0.1 * 2.0 * ((loss(-2.0) + loss(5.0)) / 2 + loss(-2.0)) / 2
    found = attribute_loss(heads, [scores], [item], label_smoothing=0.1)
    assert float(found) == pytest.approx(smoothed, abs=1e-6)


def test_without_a_weight_attributes_change_nothing(tiny_base: Path, tmp_path: Path) -> None:
    without = [replace(ranking, attributes={}) for ranking in rankings(4)]
    settings = replace(SMALL, epochs=1, attribute_coef=0.0)
    for name, rows in (("with", rankings(4)), ("without", without)):
        list(train_reward_model(tiny_base, rows, settings, out=tmp_path / name))
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("with", "without"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not (tmp_path / "with" / FILE).exists()


def test_attributes_go_beside_an_ensemble_and_resume_bit_for_bit(tiny_base: Path, tmp_path: Path) -> None:
    settings = replace(SMALL, epochs=2, num_heads=3, checkpoint_seconds=0)
    for name, counts in (("whole", [None]), ("parts", [3, None])):
        store = CheckpointStore(tmp_path / "checkpoints" / name)
        for count in counts:
            steps = train_reward_model(tiny_base, rankings(8), settings, out=tmp_path / name, checkpoints=store)
            list(islice(steps, count))
    for file in ("model.safetensors", FILE):
        whole, parts = (load_file(tmp_path / name / file) for name in ("whole", "parts"))
        assert all(torch.equal(whole[name], parts[name]) for name in whole)
    heads = load_heads(tmp_path / "whole")
    assert heads is not None
    assert heads.weight.shape[0] == 3


def test_trained_further_all_heads_start_where_they_ended(tiny_base: Path, tmp_path: Path) -> None:
    settings = replace(SMALL, epochs=1, num_heads=3)
    list(train_reward_model(tiny_base, rankings(8), settings, out=tmp_path / "first", calibration=SAMPLES))
    still = replace(settings, learning_rate=1e-12)
    list(train_reward_model(tmp_path / "first", rankings(2), still, out=tmp_path / "second", replay=rankings(8)))
    for file in ("attune_heads.safetensors", FILE):
        first, second = (load_file(tmp_path / name / file)["weight"] for name in ("first", "second"))
        assert torch.allclose(first, second, atol=1e-6)


def test_the_report_weighs_rankings_alike() -> None:
    rows = [
        Ranking(ask("a"), ("x", "y", "z"), (1, 2, 3), attributes={"warm": (1, 2, 3)}),
        Ranking(ask("b"), ("x", "y"), (1, 2), attributes={"warm": (2, 1), "new": (1, 2)}),
        Ranking(ask("c"), ("x", "y"), (1, 2)),
        Ranking(ask("d"), ("x", "y"), (1, 2), attributes={"warm": (1, 2)}),  # Scored alike, which is no order.
    ]
    scores = torch.tensor([[3.0], [1.0], [2.0], [0.0], [1.0], [7.0], [8.0], [4.0], [4.0]])
    found = attribute_report(["warm"], rows, scores)
    assert found == {"attribute_accuracy.warm": pytest.approx((2 / 3 + 1 + 0) / 3), "attribute_rankings.warm": 3}


def test_the_score_command_tells_attributes(tiny_base: Path, tmp_path: Path, capsys: Any) -> None:
    list(train_reward_model(tiny_base, rankings(4), replace(SMALL, epochs=1), out=tmp_path / "reward"))
    (tmp_path / "data.jsonl").write_text(json.dumps({"prompt": "Why?", "response": "So."}) + "\n")
    given = ["--reward", tmp_path / "reward", "--data", tmp_path / "data.jsonl", "--out", tmp_path / "scores.jsonl"]
    assert command_line.main(["score", *map(str, given)]) == 0
    assert set(json.loads((tmp_path / "scores.jsonl").read_text())["attributes"]) == {"clear", "full"}


@pytest.mark.parametrize(
    ("attributes", "sentence"),
    [([1, 2], "an object"), ({"warm": [1]}, "attributes.warm.*as many"), ({"warm": [0, 1]}, "whole number from 1")],
)
def test_attributes_that_do_not_fit_are_refused(tmp_path: Path, attributes: Any, sentence: str) -> None:
    row = {"prompt": "a", "responses": ["x", "y"], "ranks": [1, 2], "attributes": attributes}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    with pytest.raises(DataError, match=f"rows.jsonl.*line 1.*{sentence}"):
        read_rankings(tmp_path / "rows.jsonl")


def test_attributes_of_several_raters_are_not_merged() -> None:
    with pytest.raises(ValueError, match="attribute_coef needs labels `separate`"):
        RewardSettings(labels="soft", attribute_coef=0.5)


def test_fresh_heads_begin_as_small_as_the_models_own_and_differ_by_seed() -> None:
    width = 64
    model: Any = SimpleNamespace(head=torch.nn.Linear(width, 1))
    names = [f"attribute {n}" for n in range(64)]  # Many, so that a deviation can be told.
    items = [Encoded([1], [[2], [3]], [(0, 1)], 1.0, attributes={name: [(0, 1)] for name in names})]
    made = [new_attribute_heads(model, items, seed=seed) for seed in (0, 0, 1)]
    first, again, other = (heads.weight.detach() for heads in made if heads is not None)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert float(first.std()) == pytest.approx(1 / math.sqrt(width + 1), rel=0.1)
