"""Whole runs with real trainers: from demonstrations to a second policy that writes the next responses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select, text

from app.accounts.models import Person
from app.db import transaction
from app.oversight import service as oversight
from app.projects.models import Project
from app.prompts.models import Comparison, ComparisonResponse, Prompt, Response
from app.training.models import ModelVersion, Run, RunMetric, Snapshot, SnapshotRanking
from tests.worker.conftest import run_of
from worker import registry, tasks
from worker.rlhf.checkpoint import is_whole

pytestmark = pytest.mark.slow


def do(db: Engine, run_id: int) -> Run:
    """Let a worker do a run."""
    tasks.run(run_id)
    done = run_of(db, run_id)
    assert done.state == "succeeded", done.error
    return done


def queued(db: Engine, kind: str) -> int:
    """The run of this kind that waits."""
    with transaction(db) as session:
        return session.scalars(select(Run.id).where(Run.kind == kind, Run.state == "queued")).one()


def version_of(db: Engine, run_id: int, kind: str) -> ModelVersion:
    with transaction(db) as session:
        found = select(ModelVersion).where(ModelVersion.run_id == run_id, ModelVersion.kind == kind)
        return session.scalars(found).one()


def test_a_project_goes_from_demonstrations_to_a_second_policy(
    db: Engine,
    project: Project,
    ask_for: Callable[..., int],
    rank_all: Callable[[], int],
    make_person: Callable[..., Person],
) -> None:
    first = version_of(db, do(db, ask_for("sft")).id, "policy")
    assert (first.state, first.number) == ("serving", 0)

    sampled = do(db, queued(db, "sample"))
    assert sampled.result["comparisons"] == 5
    assert rank_all() == 45

    loop = do(db, ask_for("loop"))
    second, reward = version_of(db, loop.id, "policy"), version_of(db, loop.id, "reward_model")
    assert (second.state, second.parent_id, second.reward_model_id) == ("candidate", first.id, reward.id)
    assert second.snapshot_id == reward.snapshot_id == loop.snapshot_id
    assert 0 <= second.metrics["win_rate_low"] <= second.metrics["win_rate"] <= second.metrics["win_rate_high"] <= 1
    assert reward.metrics["num_heldout_rankings"] > 0
    _check_snapshot(db, loop)
    _check_metrics(db, loop)
    _check_files(first, second, reward)

    with transaction(db) as session:
        oversight.decide(
            session, project, second.id, person_id=make_person().id, decision="approve", reason="It is better."
        )
    do(db, queued(db, "sample"))
    _check_next_comparisons(db, second)


def _check_snapshot(db: Engine, run: Run) -> None:
    """It holds all 45 rankings, of prompts of both splits."""
    with transaction(db) as session:
        snapshot = session.get_one(Snapshot, run.snapshot_id)
        members = select(SnapshotRanking.ranking_id).where(SnapshotRanking.snapshot_id == snapshot.id)
        assert len(session.scalars(members).all()) == snapshot.num_rankings == 45
        assert snapshot.num_preferences == 45 * 3


def _check_metrics(db: Engine, run: Run) -> None:
    with transaction(db) as session:
        rows = session.execute(select(RunMetric.phase, RunMetric.step).where(RunMetric.run_id == run.id)).all()
    steps = {phase: sorted(step for name, step in rows if name == phase) for phase, _ in rows}
    assert steps["ppo"] == [1, 2]
    assert steps["reward"] == list(range(1, len(steps["reward"]) + 1))


def _check_files(first: ModelVersion, second: ModelVersion, reward: ModelVersion) -> None:
    """Folders that any tool loads, sealed, with other weights than before."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    folders = [registry.version_dir(version) for version in (first, second, reward)]
    assert all(is_whole(folder) for folder in folders)
    before, after = (AutoModelForCausalLM.from_pretrained(folder) for folder in folders[:2])
    assert any(bool((a != b).any()) for a, b in zip(before.parameters(), after.parameters(), strict=True))
    assert sum(p.numel() for p in after.parameters()) == second.num_parameters
    judge = AutoModelForSequenceClassification.from_pretrained(folders[2])
    tokenizer = AutoTokenizer.from_pretrained(folders[2])
    scores = judge(**tokenizer("Where is room 1?", return_tensors="pt")).logits
    assert scores.shape == (1, 1)
    weights = folders[2] / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match="missing or damaged"):
        registry.version_dir(reward)
    weights.write_bytes(whole)


def _check_next_comparisons(db: Engine, policy: ModelVersion) -> None:
    with transaction(db) as session:
        written = (
            select(Comparison.id, Response.model_version_id)
            .join(ComparisonResponse, ComparisonResponse.comparison_id == Comparison.id)
            .join(Response, Response.id == ComparisonResponse.response_id)
            .where(Comparison.origin == "sampled", Response.model_version_id == policy.id)
        )
        assert len({row.id for row in session.execute(written)}) == 5


def test_without_demonstrations_a_base_model_becomes_the_first_policy_as_it_is(
    db: Engine, project: Project, ask_for: Callable[..., int], tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    from worker.rlhf.tiny import build_tiny_base

    folder = tmp_path / "instruct"
    sizes = {"vocab_size": 300, "hidden": 16, "layers": 1, "heads": 2, "max_positions": 128}
    build_tiny_base(["Where is room 1? Up the stairs."] * 40, folder, **sizes, seed=1)
    with db.begin() as link:
        link.execute(text("DELETE FROM response WHERE origin = 'written'"))
        link.execute(text("UPDATE project SET base_model = :folder"), {"folder": str(folder)})
    first = version_of(db, do(db, ask_for("sft")).id, "policy")
    assert first.state == "serving"
    taken, given = (load_file(path / "model.safetensors") for path in (registry.version_dir(first), folder))
    assert taken.keys() == given.keys()
    assert all(bool((taken[name] == given[name]).all()) for name in given)
    second = ask_for("sft")
    tasks.run(second)
    assert "no demonstrations" in (run_of(db, second).error or "")


def test_a_changed_snapshot_stops_the_run(
    db: Engine, project: Project, ask_for: Callable[..., int], rank_all: Callable[[], int]
) -> None:
    rank_all()
    run_id = ask_for("reward")
    tasks.run(run_id)
    with db.begin() as link:
        link.execute(text("UPDATE snapshot SET content_hash = sha256('other')"))
        link.execute(text("DELETE FROM model_version"))
        link.execute(text("UPDATE run SET state = 'queued'"))
    tasks.run(run_id)
    done = run_of(db, run_id)
    assert (done.state, done.error_class) == ("failed", "data")
    assert "is not what it was" in (done.error or "")


def test_the_reward_model_on_real_pairs_is_reported_beside_shorter_wins(
    db: Engine,
    at_work: Path,
    make_project: Callable[..., Project],
    shared_data: Path,
    make_person: Callable[..., Person],
    ask_for: Callable[..., int],
) -> None:
    """HH pairs, imported as the command line does; a tiny model on a fifth of the steps, so only the report is judged."""
    from rich.console import Console

    from app.exchange.commands import import_from_terminal
    from app.training import runs

    settings: dict[str, Any] = {
        "tiny": {"vocab_size": 512, "hidden": 32, "layers": 2, "heads": 2, "max_positions": 256},
        "reward": {"batch_size": 16, "max_length": 256, "learning_rate": 1e-3},
        "heldout_share": 0.2,
    }
    project = make_project(base_model="tiny", training=settings, responses_per_comparison=2)
    file = shared_data / "hh_rlhf" / "harmless_base_dev.jsonl.gz"
    quiet = Console(quiet=True)
    import_from_terminal(db, file, slug=project.slug, format="auto", keep_good_lines=True, console=quiet)
    with transaction(db) as session:
        run_id = runs.request_run(session, project, "reward", trigger="test").id
        heldout = len(session.scalars(select(Prompt.id).where(Prompt.split == "heldout")).all())
    result = do(db, run_id).result
    assert 250 <= heldout <= 350
    assert result["num_heldout_rankings"] == pytest.approx(heldout, abs=15)
    assert 0.45 <= result["accuracy_low"] <= result["accuracy"] <= result["accuracy_high"] <= 0.75
    assert result["accuracy_shorter"] == pytest.approx(0.56, abs=0.06)
    assert json.dumps(result)
