"""One run, top to bottom: snapshot, reward model, policy, evaluation, register, and what follows."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.projects.models import Project
from app.projects.settings import sampling_of, training_of
from app.prompts.models import Prompt, Response
from app.training import runs, snapshots, versions
from app.training.models import Kind, ModelVersion, Run, Snapshot
from worker import registry
from worker.database import in_transaction
from worker.fits import check_memory
from worker.lessons import calibration_samples, demonstrations_of, to_learn
from worker.progress import Recorder
from worker.rlhf.types import Demonstration, Stats
from worker.sampling import sample_comparisons
from worker.work import Work, folder_of


def execute(run: Run) -> dict[str, Any]:
    """Do the run; returns its result. Phases that an earlier attempt finished are not done again."""
    project = in_transaction(lambda session: session.get_one(Project, run.project_id))
    work = Work(
        run=run,
        project=project,
        training=training_of({**project.training, **run.settings.get("training", {})}),
        recorder=Recorder(run),
        folder=folder_of(run),
    )
    work.folder.mkdir(parents=True, exist_ok=True)
    steps: dict[str, Callable[[Work], None]] = {
        Kind.SFT: fine_tune,
        Kind.REWARD: learn_reward,
        Kind.PPO: optimise_policy,
        Kind.LOOP: close_loop,
        Kind.SAMPLE: sample_comparisons,
    }
    steps[run.kind](work)
    work.recorder.flush()
    return work.result


def conclude(session: Session, run: Run, result: dict[str, Any]) -> bool:
    """End a run and ask for what it sets off, both or neither; False when it belongs to another process now.

    The first policy writes responses at once; a full threshold starts the next run.
    """
    from app.training.triggers import request_if_due

    if not runs.finish_run(session, run.id, fence=run.fence, result=result, phase="done"):
        return False
    project = session.get_one(Project, run.project_id)
    if run.kind == Kind.SFT and (serving := versions.serving_policy(session, project.id)) and serving.run_id == run.id:
        runs.request_run(session, project, Kind.SAMPLE, trigger="first policy", unless_active=True)
    request_if_due(session, project)
    return True


def close_loop(work: Work) -> None:
    """Reward model, then PPO and evaluation against the policy that serves."""
    learn_reward(work)
    optimise_policy(work)


def fine_tune(work: Work) -> None:
    """SFT on the project's demonstrations, or the base model as it is where there are none; the first policy of a
    project serves at once.
    """
    demonstrations, heldout = in_transaction(lambda session: demonstrations_of(session, work.project))
    is_first = in_transaction(lambda session: versions.serving_policy(session, work.project.id)) is None
    out = work.out("policy")
    if demonstrations:
        metrics = _imitate(work, demonstrations, heldout, out)
    elif is_first and work.project.base_model not in {"", "tiny"}:
        metrics = _take_as_it_is(work, out)
    else:
        raise ValueError(
            "This project has no demonstrations. Import prompts with a demonstration each; or, for a first policy, "
            "choose a base model that can answer already."
        )
    version = registry.register(
        work.run,
        out,
        kind="policy",
        state="serving" if is_first else "candidate",
        metrics=metrics,
        num_parameters=_num_parameters(out),
    )
    work.result |= {"policy_version": version.id, **metrics}


def _imitate(
    work: Work, demonstrations: Sequence[Demonstration], heldout: Sequence[Demonstration], out: Path
) -> dict[str, Any]:
    from worker.rlhf.sft import SFTSettings, train_sft

    settings = SFTSettings(**work.training.sft.model_dump(), seed=work.training.seed)
    base = base_model_dir(work, demonstrations)
    done = _drive(
        work, train_sft(base, demonstrations, settings, out=out, checkpoints=work.checkpoints("sft"), heldout=heldout)
    )
    return {name: done[name] for name in ("heldout_loss", "num_demonstrations") if name in done}


def _take_as_it_is(work: Work, out: Path) -> dict[str, Any]:
    """A model that follows instructions already needs no fine-tuning to be the first policy."""
    from worker.rlhf.modeling import load_policy, save_policy
    from worker.rlhf.tokens import load_tokenizer

    work.recorder.say(f"There are no demonstrations: the first policy is {work.project.base_model} as it is.")
    tokenizer = load_tokenizer(work.project.base_model)
    save_policy(load_policy(work.project.base_model, tokenizer=tokenizer), tokenizer, out)
    return {"num_demonstrations": 0}


def learn_reward(work: Work) -> None:
    """Train and register the reward model on the run's snapshot."""
    from worker.rlhf.reward_model import RewardSettings, train_reward_model

    known = in_transaction(lambda session: versions.version_of_run(session, work.run.id, kind="reward_model"))
    if known is not None:
        work.result |= {"reward_version": known.id, **known.metrics}
        return
    snapshot = in_transaction(lambda session: _snapshot(session, work))
    before, rankings, old, heldout = in_transaction(lambda session: to_learn(session, work, snapshot.id))
    if not rankings:
        raise ValueError("No ranking can be learned from yet. Collect or import some, then retry.")
    work.recorder.say(f"Learning from {len(rankings)} rankings; {len(heldout)} are held out by prompt.")
    if before is not None:
        work.recorder.say(f"Reward model {before.number} is trained further; it knows {len(old)} rankings already.")
    settings = RewardSettings(**work.training.reward.model_dump(exclude={"retrain"}), seed=work.training.seed)
    start = starting_policy(work) if before is None else registry.version_dir(before)
    out = work.out("reward")
    done = _drive(
        work,
        train_reward_model(
            start,
            rankings,
            settings,
            out=out,
            checkpoints=work.checkpoints("reward"),
            heldout=heldout,
            calibration=calibration_samples([*old, *rankings], seed=work.training.seed),
            replay=None if before is None else old,
        ),
    )
    metrics = {name: value for name, value in done.items() if name not in {"phase", "step", "total_steps"}}
    version = registry.register(
        work.run,
        out,
        kind="reward_model",
        state="registered",
        parent_id=None if before is None else before.id,
        snapshot_id=snapshot.id,
        metrics=metrics,
        num_parameters=_num_parameters(out),
    )
    work.result |= {"reward_version": version.id, **metrics}


def optimise_policy(work: Work) -> None:
    """PPO from the serving policy, evaluation on held-out prompts, and a candidate for the overseer."""
    from worker.rlhf.ppo import PPOSettings, train_ppo

    serving, reward = in_transaction(lambda session: _judge_and_judged(session, work))
    practice, heldout = in_transaction(lambda session: _practice_prompts(session, work))
    if not practice:
        raise ValueError("This project has no prompts to practise on. Import some, then retry.")
    settings = PPOSettings(
        **work.training.ppo.model_dump(),
        seed=work.training.seed + work.run.id,
        max_new_tokens=sampling_of(work.project.sampling).max_new_tokens,
    )
    lessons, _ = (
        in_transaction(lambda session: demonstrations_of(session, work.project)) if settings.sft_coef else ([], [])
    )
    check_memory(work, "ppo", serving.num_parameters)
    policy_dir, reward_dir, out = registry.version_dir(serving), registry.version_dir(reward), work.out("policy")
    done = _drive(
        work,
        train_ppo(
            policy_dir,
            reward_dir,
            practice,
            settings,
            out=out,
            checkpoints=work.checkpoints("ppo"),
            eval_prompts=practice[-min(64, len(practice)) :],
            demonstrations=lessons,
        ),
    )
    metrics = evaluate_policy(work, out, policy_dir, reward_dir, heldout)
    metrics["score_start"], metrics["score_end"] = done["score_start"], done["score_end"]
    version = registry.register(
        work.run,
        out,
        kind="policy",
        state="candidate",
        parent_id=serving.id,
        reward_model_id=reward.id,
        snapshot_id=reward.snapshot_id,
        metrics=metrics,
        num_parameters=_num_parameters(out),
    )
    work.result |= {"policy_version": version.id, **metrics}


def evaluate_policy(
    work: Work, policy_dir: Path, before_dir: Path, reward_dir: Path, heldout: Sequence[Any]
) -> dict[str, Any]:
    """The new policy against the serving one, on prompts that neither practised on, by the reward model."""
    from worker.rlhf import optim
    from worker.rlhf.evaluate import compare_policies
    from worker.rlhf.modeling import load_policy, load_reward_model, score
    from worker.rlhf.rollout import SamplingSettings
    from worker.rlhf.tokens import load_tokenizer

    work.recorder.enter("evaluate", total_steps=1)
    tokenizer, place = load_tokenizer(policy_dir), optim.device()
    reward_model = load_reward_model(reward_dir, tokenizer=load_tokenizer(reward_dir)).to(place)
    sampling = sampling_of(work.project.sampling)
    settings = SamplingSettings(
        temperature=sampling.temperature, max_new_tokens=sampling.max_new_tokens, seed=work.training.seed
    )
    return compare_policies(
        load_policy(policy_dir, tokenizer=tokenizer).to(place),
        load_policy(before_dir, tokenizer=tokenizer).to(place),
        tokenizer,
        heldout,
        lambda asked, texts: score(reward_model, tokenizer, asked, texts),
        sampling=settings,
    )


def base_model_dir(work: Work, demonstrations: Sequence[Demonstration]) -> str | Path:
    """The project's base model: a folder or name for transformers, or a tiny one made from the demonstrations."""
    from worker.rlhf.tiny import build_tiny_base

    name = work.project.base_model
    if name and name != "tiny":
        return name
    folder = work.folder / "base"
    if not (folder / "tokenizer.json").exists():
        texts = [text for item in demonstrations for text in (*(m["content"] for m in item.prompt), item.response)]
        aside = work.folder / f"base-{work.run.fence}.tmp"
        build_tiny_base(texts, aside, **work.training.tiny.model_dump(), seed=work.training.seed)
        aside.rename(folder)
    return folder


def starting_policy(work: Work) -> str | Path:
    """The trunk of a reward model: the project's first policy, which knows the domain and stays the same over
    rounds; the serving one, or the base model, where there is none.
    """
    first = in_transaction(
        lambda session: session.scalar(
            select(ModelVersion)
            .where(ModelVersion.project_id == work.project.id, ModelVersion.kind == "policy")
            .order_by(ModelVersion.number)
            .limit(1)
        )
    )
    if first is not None:
        return registry.version_dir(first)
    if work.project.base_model and work.project.base_model != "tiny":
        return work.project.base_model
    texts = in_transaction(lambda session: _some_texts(session, work.project))
    return base_model_dir(work, [Demonstration([{"role": "user", "content": text}], "") for text in texts])


def _drive(work: Work, generator: Iterator[Stats]) -> Stats:
    """Run a training loop to its end, recording each step; its last stats."""
    stats: Stats = {}
    for stats in generator:
        work.recorder.step(stats)
    return stats


def _snapshot(session: Session, work: Work) -> Snapshot:
    """The run's snapshot: taken by its first attempt, the same for all later ones."""
    run = session.get_one(Run, work.run.id, with_for_update=True)
    if run.fence != work.run.fence:
        raise registry.StaleRunError(f"run {run.id} has another fence")
    if run.snapshot_id is not None:
        return session.get_one(Snapshot, run.snapshot_id)
    snapshot = snapshots.take_snapshot(session, session.get_one(Project, work.project.id))
    run.snapshot_id = snapshot.id
    return snapshot


def _judge_and_judged(session: Session, work: Work) -> tuple[ModelVersion, ModelVersion]:
    serving = versions.serving_policy(session, work.project.id)
    reward = versions.version_of_run(session, work.run.id, kind="reward_model") or versions.newest_version(
        session, work.project.id, kind="reward_model"
    )
    if serving is None:
        raise ValueError("There is no serving policy to improve. Run SFT first.")
    if reward is None:
        raise ValueError("There is no reward model yet. Train one first, or start a loop run, which does both.")
    return serving, reward


def _practice_prompts(session: Session, work: Work) -> tuple[list[Any], list[Any]]:
    """(to practise on, held out for evaluation). Demonstration-only prompts are practice too."""

    def some(split: str, limit: int) -> list[Any]:
        query = select(Prompt.messages).where(Prompt.project_id == work.project.id, Prompt.split == split)
        return list(session.scalars(query.order_by(Prompt.content_hash).limit(limit)))

    practice, heldout = some("train", 20_000), some("heldout", work.training.num_eval_prompts)
    return practice, heldout or practice[: work.training.num_eval_prompts]


def _some_texts(session: Session, project: Project) -> list[str]:
    query = (
        select(Response.text).join(Prompt).where(Prompt.project_id == project.id).order_by(Response.id).limit(20_000)
    )
    return [text for text in session.scalars(query) if text]


def _num_parameters(folder: Path) -> int:
    """Counted from the headers of the safetensors files."""
    from safetensors import safe_open

    total = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a dict
                size = 1
                for dimension in file.get_slice(name).get_shape():
                    size *= dimension
                total += size
    return total
