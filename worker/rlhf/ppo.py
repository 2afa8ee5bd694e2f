"""Proximal policy optimisation of a language model against a reward model.

One update: sample episodes, score them, spread the score and the KL penalty over tokens, estimate advantages
(`episodes.py`), and take a few epochs of clipped steps on policy and critic (`actors.py`). README.md numbers the details.
"""

import math
import time
from collections.abc import Generator, Sequence
from pathlib import Path

import torch

from worker.rlhf import masked, optim, processes, sharding
from worker.rlhf.actors import Pair, Trainer
from worker.rlhf.checkpoint import CheckpointStore
from worker.rlhf.episodes import (
    Rollout,
    Sampler,
    ScoreFunction,
    clock,
    collect,
    evaluate,
    parts_of,
    per_response,
    spent,
)
from worker.rlhf.keeping import Best, resume, save
from worker.rlhf.modeling import save_policy
from worker.rlhf.settings import PPOSettings
from worker.rlhf.tokens import encode_demonstration
from worker.rlhf.types import Demonstration, NotANumberError, Prompt, Stats

__all__ = ["PPOSettings", "train_ppo"]


def train_ppo(
    policy_dir: str | Path,
    reward_dir: str | Path,
    prompts: Sequence[Prompt],
    settings: PPOSettings,
    *,
    out: Path,
    checkpoints: CheckpointStore | None = None,
    reference_dir: str | Path | None = None,
    eval_prompts: Sequence[Prompt] = (),
    demonstrations: Sequence[Demonstration] = (),
    score_fn: ScoreFunction | None = None,
    sampler: Sampler | None = None,
) -> Generator[Stats, None, None]:
    """Train and save the best version within the KL budget to `out`; yields after each update.

    Args:
        reference_dir: what the KL penalty holds the policy near; the policy it starts from when None.
        eval_prompts: fixed prompts, not trained on, that choose the version to keep; the last one without them.
        demonstrations: learned from beside PPO where `sft_coef` is not 0, a minibatch of them at each step.
        score_fn: replaces the reward model's score, (prompts, texts) to scores; for tests and other judges.
        sampler: another program that samples; its log-probabilities are corrected for.
    """
    if not prompts:
        raise ValueError("There are no prompts to practise on; import some.")
    if settings.sft_coef and not demonstrations:
        raise ValueError("sft_coef mixes demonstrations in, and there are none; import some, or set it to 0.")
    trainer = Trainer(policy_dir, reward_dir, settings, reference_dir=reference_dir)
    if settings.uncertainty_penalty and score_fn is None and trainer.heads is None:
        raise ValueError("uncertainty_penalty needs a reward model of several heads; train it with num_heads above 1.")
    lessons = [encode_demonstration(trainer.tokenizer, d, _max_length(settings)) for d in demonstrations]
    total, best = settings.num_updates, Best()
    first = resume(trainer, best, checkpoints)
    start = evaluate(trainer, eval_prompts, score_fn) if first == 0 else {}
    best.start = best.start or start
    saved_at, stats = time.monotonic(), {}
    for update in range(first, total):
        rows = prompts_of_update(prompts, update, batch_size=settings.batch_size, seed=settings.seed)
        stats = one_update(trainer, rows, update=update, score_fn=score_fn, sampler=sampler, lessons=lessons)
        if (update + 1) % settings.eval_every == 0 or update + 1 == total:
            stats |= evaluate(trainer, eval_prompts, score_fn)
            best.consider(trainer, stats, update + 1)
        is_due = time.monotonic() - saved_at >= settings.checkpoint_seconds
        if checkpoints is not None and processes.first_says(is_due):
            save(trainer, best, checkpoints, update + 1)
            saved_at = time.monotonic()
        yield {"phase": "ppo", "step": update + 1, "total_steps": total, **stats}
    best.restore(trainer)
    with sharding.whole(trainer.policy):
        if processes.is_first():
            save_policy(trainer.finished_policy(), trainer.tokenizer, out)
        processes.wait_for_all()
    yield {"phase": "ppo_done", "step": total, "total_steps": total, **best.report(stats)}


def prompts_of_update(prompts: Sequence[Prompt], update: int, *, batch_size: int, seed: int) -> list[Prompt]:
    """The next `batch_size` prompts of an endless stream of fresh permutations.

    A batch may cross from one pass to the next, so that all updates weigh the same, also with few prompts.
    A function of the update alone, so that a resumed run continues at the right place.
    """
    chosen: list[Prompt] = []
    while len(chosen) < batch_size:
        epoch, place = divmod(update * batch_size + len(chosen), len(prompts))
        one_pass = optim.batch_of_step(prompts, epoch, batch_size=len(prompts), seed=seed)
        chosen += one_pass[place : place + batch_size - len(chosen)]
    return chosen


def one_update(
    trainer: Trainer,
    prompts: Sequence[Prompt],
    *,
    update: int,
    score_fn: ScoreFunction | None = None,
    sampler: Sampler | None = None,
    lessons: Sequence[Pair] = (),
) -> dict[str, float]:
    """Sample, score, learn, adapt the KL coefficient; what was measured."""
    s = trainer.settings
    fraction = 1 - update / s.num_updates
    optim.set_learning_rate(trainer.policy_optimizer, s.learning_rate * fraction)
    optim.set_learning_rate(trainer.critic_optimizer, s.critic_learning_rate * fraction)
    rollout = collect(trainer, prompts, score_fn=score_fn, sampler=sampler)
    began = clock()
    learned = optimise(trainer, rollout, update=update, lessons=lessons)
    stats = {**described(rollout, trainer), **learned, **spent("optimise", began)}
    trainer.kl_coef = adapted_kl_coef(trainer.kl_coef, stats["kl"], num_episodes=len(rollout.pairs), settings=s)
    if not all(math.isfinite(value) for value in stats.values()):
        raise NotANumberError(f"PPO stopped being made of numbers at update {update + 1}.")
    return stats


def described(rollout: Rollout, trainer: Trainer) -> dict[str, float]:
    """What the episodes say of the policy that wrote them."""
    kl = per_response(masked.kl_k1(rollout.logprobs, rollout.ref_logprobs), rollout.mask)
    k3 = per_response(masked.kl_k3(rollout.logprobs, rollout.ref_logprobs), rollout.mask)
    return {
        "score": float(rollout.scores.mean()),
        "score_std": float(rollout.scores.std()) if len(rollout.scores) > 1 else 0.0,
        "reward": float(per_response(rollout.rewards, rollout.mask).mean()),
        "kl": float(kl.mean()),
        "kl_k3": float(k3.mean()),
        "kl_coef": trainer.kl_coef,
        "entropy": rollout.entropy,
        "length": float(rollout.mask.sum(1).float().mean()),
        "ended_share": sum(response[-1] == trainer.eos for _, response in rollout.pairs) / len(rollout.pairs),
        **rollout.seconds,
    }


def optimise(trainer: Trainer, rollout: Rollout, *, update: int = 0, lessons: Sequence[Pair] = ()) -> dict[str, float]:
    """Epochs of minibatches, each one optimizer step for policy and critic; stops early when it went far."""
    s, steps = trainer.settings, 0
    totals: dict[str, float] = {}
    first_ratio_error = 0.0
    for _ in range(s.epochs):
        order = torch.randperm(len(rollout.pairs), generator=trainer.generator).tolist()
        far = False
        for rows in optim.micro_batches(order, s.minibatch_size):
            taken = update * s.epochs * optim.num_batches(len(order), s.minibatch_size) + steps
            stats = minibatch(trainer, rollout, list(rows), lessons=_lessons_of_step(lessons, taken, settings=s))
            if steps == 0:
                first_ratio_error = stats["ratio_error"]
            for name, value in stats.items():
                totals[name] = totals.get(name, 0.0) + value
            steps += 1
            far = far or (s.stop_kl > 0 and stats["approx_kl"] > 1.5 * s.stop_kl)
        if far:
            break
    means = {name: value / steps for name, value in totals.items() if name != "ratio_error"}
    residual, returns = rollout.returns - rollout.values, rollout.returns
    explained = 1 - masked.masked_var(residual, rollout.mask) / masked.masked_var(returns, rollout.mask).clamp(min=1e-8)
    return {
        **means,
        "optimizer_steps": float(steps),
        "first_ratio_error": first_ratio_error,
        "explained_variance": float(explained),
    }


def minibatch(trainer: Trainer, rollout: Rollout, rows: list[int], *, lessons: Sequence[Pair] = ()) -> dict[str, float]:
    """One step of each optimizer. All micro batches divide by the minibatch's tokens, so their number is no matter."""
    s = trainer.settings
    num_tokens = int(rollout.mask[rows].sum())
    trainer.policy_optimizer.zero_grad(set_to_none=True)
    trainer.critic_optimizer.zero_grad(set_to_none=True)
    sums = dict.fromkeys(("policy_loss", "value_loss", "approx_kl", "clip_fraction"), 0.0)
    ratio_error, mine = 0.0, processes.share(rows)
    for part in sharding.parts_alike(parts_of(trainer, [rollout.pairs[i] for i in mine])):
        chosen, counted = ([mine[i] for i in part], num_tokens) if part else (rows[:1], math.inf)
        found, error = _backward(trainer, rollout, chosen, num_tokens=counted)
        ratio_error = max(ratio_error, error)
        sums = {name: sums[name] + value for name, value in found.items()}
    if lessons:
        sums["sft_loss"] = _backward_lessons(trainer, lessons)
    processes.sum_gradients((trainer.policy, trainer.critic))
    norms = [optim.clip_gradients(model, s.max_grad_norm) for model in (trainer.policy, trainer.critic)]
    if not all(map(math.isfinite, norms)):
        raise NotANumberError("PPO's gradients stopped being numbers; no step was taken with them.")
    trainer.policy_optimizer.step()
    trainer.critic_optimizer.step()
    return {**processes.summed(sums), "ratio_error": max(processes.gathered_from_all(ratio_error))}


def _backward(
    trainer: Trainer, rollout: Rollout, rows: list[int], *, num_tokens: float
) -> tuple[dict[str, float], float]:
    """Add the gradients of some episodes; their parts of the minibatch's means, and how far a ratio is from 1."""
    s, pairs, mask = trainer.settings, [rollout.pairs[i] for i in rows], rollout.mask[rows]
    old, advantages, old_values, returns, weights = (
        tensor[rows][mask].to(trainer.policy.device)
        for tensor in (rollout.logprobs, rollout.advantages, rollout.values, rollout.returns, rollout.weights)
    )
    outputs = trainer.act(pairs)
    losses = weights * masked.ppo_policy_loss(outputs.logprobs, old, advantages, clip_range=s.clip_range)
    policy_loss = losses.sum() / num_tokens
    if outputs.values is None:
        policy_loss.backward()  # Before the critic's forward, so that only one graph is held at a time.
    values = trainer.values(pairs) if outputs.values is None else outputs.values
    value_loss = masked.ppo_value_loss(values, old_values, returns, clip_range=s.value_clip_range).sum() / num_tokens
    (value_loss if outputs.values is None else policy_loss + s.value_coef * value_loss).backward()
    with torch.no_grad():
        ratio = (outputs.logprobs - old).exp()
        found = {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "approx_kl": masked.kl_k3(old, outputs.logprobs).sum() / num_tokens,
            "clip_fraction": ((ratio - 1).abs() > s.clip_range).sum() / num_tokens,
        }
        return {name: float(value.detach()) for name, value in found.items()}, float((ratio - 1).abs().max())


def _backward_lessons(trainer: Trainer, lessons: Sequence[Pair]) -> float:
    """Add the gradient of the loss on demonstrations, per token and times its weight; the loss, without the weight."""
    num_tokens, total = sum(len(response) for _, response in lessons), 0.0
    mine = processes.share(lessons)
    for part in sharding.parts_alike(parts_of(trainer, mine)):
        loss = -trainer.act([mine[i] for i in part] or lessons[:1]).logprobs.sum() / num_tokens * bool(part)
        (trainer.settings.sft_coef * loss).backward()
        total += float(loss.detach())
    return total


def _lessons_of_step(lessons: Sequence[Pair], step: int, *, settings: PPOSettings) -> list[Pair]:
    """As many demonstrations as episodes, a function of the step alone; none where they are not wanted."""
    if not settings.sft_coef or not lessons:
        return []
    return optim.batch_of_step(lessons, step, batch_size=settings.minibatch_size, seed=settings.seed)


def _max_length(settings: PPOSettings) -> int:
    return settings.max_prompt_length + settings.max_new_tokens


def adapted_kl_coef(kl_coef: float, kl: float, *, num_episodes: int, settings: PPOSettings) -> float:
    """The coefficient after seeing this KL: up when beyond the target, down when short of it, 20 % error at most.

    Source: lm-human-preferences, `AdaptiveKLController`.
    """
    if not settings.target_kl:
        return kl_coef
    error = min(max(kl / settings.target_kl - 1, -0.2), 0.2)
    return kl_coef * (1 + error * num_episodes / settings.kl_horizon)
