import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from benchmarks.learning import ours_run, report
from benchmarks.learning.cases import CPU_CASES, PPO
from benchmarks.learning.picture import picture
from benchmarks.learning.report import Measured
from benchmarks.learning.tasks import fitting
from worker.rlhf import optim, ppo
from worker.rlhf.ppo import PPOSettings
from worker.rlhf.reward_model import RewardSettings
from worker.rlhf.tiny import build_tiny_base
from worker.rlhf.tokens import load_tokenizer

ROOT = Path(__file__).parents[2]
REWARD, POLICY = CPU_CASES[0], next(case for case in CPU_CASES if isinstance(case, PPO))


def _line(seconds: float, **more: Any) -> dict[str, Any]:
    phases = {"sample_cpu_s": seconds / 4, "score_cpu_s": seconds / 4, "optimise_cpu_s": seconds / 2}
    updates = [{"score": float(step), "kl": 0.1 * step} for step in range(4)]
    line = {"cpu_s": seconds, "phases": phases, "updates_log": updates, "episodes": 32, "ids_digest": "a"}
    rates = {"rankings_per_cpu_s": 240 / seconds, "episodes_per_cpu_s": 32 / seconds, "eval_accuracy": 0.8}
    return line | rates | {"queries_digest": "q", "peak_rss_mb": 1000, "sitting": "2026-11-26T00:00:00"} | more


def test_the_ratio_compares_neighbours_in_time_and_takes_the_median_seed() -> None:
    trl, ours = [_line(100), _line(300), _line(90)], [_line(50), _line(60), _line(30)]
    assert Measured(REWARD, trl, ours).ratio(lambda line: line["cpu_s"]) == 3.0  # Of 2, 5 and 3.


def test_rankings_are_laid_out_so_that_the_trainer_takes_them_in_the_peers_order() -> None:
    settings, order = RewardSettings(batch_size=4, seed=7), [f"ranking {number}" for number in range(22)]
    rows = ours_run.permuted(order, settings)
    steps = [optim.batch_of_step(rows, step, batch_size=4, seed=7) for step in range(6)]
    assert [row for batch in steps for row in batch] == order


def test_prompts_are_laid_out_so_that_each_update_gets_the_peers_prompts() -> None:
    settings, texts = PPOSettings(batch_size=3, seed=5), [f"prompt {number}" for number in range(12)]
    rows: Any = ours_run.arranged(texts, ppo, settings)
    updates: Any = [ppo.prompts_of_update(rows, update, batch_size=3, seed=5) for update in range(4)]
    assert [row for update in updates for row in update] == texts


@pytest.mark.parametrize("from_left", [True, False])
def test_a_cut_text_tokenises_to_an_end_of_the_ids_even_when_the_cut_falls_within_a_letter(
    tmp_path: Path, *, from_left: bool
) -> None:
    build_tiny_base(["plain words only"] * 8, tmp_path, vocab_size=270, hidden=32, layers=1, heads=2)
    tokenizer = load_tokenizer(tmp_path)
    ids = tokenizer("ΩΩ says: é", add_special_tokens=False)["input_ids"]
    ids = ids[1:] if from_left else ids[:-1]  # Half of a letter of two bytes is missing.
    text = fitting(tokenizer, ids, from_left=from_left)
    again = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert "\ufffd" not in text
    assert again == (ids[-len(again) :] if from_left else ids[: len(again)])
    assert len(again) == len(ids) - 1


def test_the_picture_names_each_case_and_holds_a_curve_for_each_seed() -> None:
    measured = [Measured(case, [_line(100), _line(110)], [_line(20), _line(30)]) for case in (REWARD, POLICY)]
    drawn = ET.fromstring(picture(measured))
    texts = " ".join(text for text in drawn.itertext())
    assert REWARD.title in texts
    assert POLICY.title in texts
    lines = drawn.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 2 * (2 + 1)  # TRL and ours: two seeds and their mean.


def test_a_row_says_when_the_two_sides_did_not_have_the_same_ids() -> None:
    same, other = [_line(10)], [_line(5, ids_digest="b")]
    assert "not the same ids" in report._reward_row(Measured(REWARD, same, other))
    assert "not the same ids" not in report._reward_row(Measured(REWARD, same, [_line(5)]))


def test_only_seeds_that_both_sides_have_are_compared_and_the_latest_of_each(tmp_path: Path) -> None:
    lines = [
        _line(100, seed=0, side="trl"),
        _line(80, seed=0, side="trl"),
        _line(70, seed=1, side="trl"),
        _line(20, seed=0, side="ours"),
    ]
    (tmp_path / f"{REWARD.name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    both = report._read(tmp_path, REWARD)
    assert both is not None
    assert [line["cpu_s"] for line in both.trl] == [80]
    assert [line["cpu_s"] for line in both.ours] == [20]


def test_without_the_peers_scripts_it_says_that_it_is_skipped(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.learning", "--peers", tmp_path],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0
    assert ran.stdout.startswith("Skipped:")
    assert str(tmp_path) in ran.stdout


def test_an_unknown_case_is_refused_with_the_names_of_the_known(tmp_path: Path) -> None:
    (tmp_path / "trl_reward.py").touch()
    command = [sys.executable, "-m", "benchmarks.learning", "--peers", str(tmp_path), "--only", "rm-k5"]
    ran = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 1
    assert "rm-k5" in ran.stderr
    assert "rm-k4" in ran.stderr
