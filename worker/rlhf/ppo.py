"""Proximal policy optimisation of a language model against a reward model.

One update: sample episodes, score them, spread the score and the KL penalty over tokens, estimate advantages,
and take a few epochs of clipped steps on policy and critic. README.md numbers the details.
"""

import copy
import math
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from worker.rlhf import masked, optim
from worker.rlhf.checkpoint import CheckpointStore, module_tensors, optimizer_tensors, restore_module, restore_optimizer
from worker.rlhf.modeling import RewardModel, load_policy, load_reward_model, save_policy, score_ids
from worker.rlhf.rollout import SamplingSettings, generate, token_logprobs
from worker.rlhf.tokens import Batch, collate, encode_prompt, load_tokenizer, position_ids
from worker.rlhf.types import NotANumberError, Prompt, Stats

ScoreFunction = Callable[[list[Prompt], list[str]], list[float]]


@dataclass(frozen=True)
class PPOSettings:
    """Defaults for small models; a large one wants learning rates near 1e-6."""

    learning_rate: float = 2e-4  # Policy, for a model of a million parameters; falls in a line to 0.
    critic_learning_rate: float = 5e-4  # The critic may go faster: its errors do not move the policy directly.
    num_updates: int = 30  # Each samples `batch_size` fresh episodes.
    batch_size: int = 64  # Episodes per update.
    minibatch_size: int = 32  # Episodes per optimizer step.
    micro_batch_size: int = 32  # Episodes per forward; smaller needs less memory and changes nothing else.
    epochs: int = 2  # Passes over the episodes of one update (4 in lm-human-preferences).
    max_new_tokens: int = 64
    max_prompt_length: int = 192  # In tokens.
    temperature: float = 1.0  # In sampling and in training alike.
    gamma: float = 1.0  # lm-human-preferences.
    gae_lambda: float = 0.95  # lm-human-preferences.
    clip_range: float = 0.2  # PPO, arXiv:1707.06347.
    value_clip_range: float = 0.2  # lm-human-preferences.
    kl_coef: float = 0.05  # Price per nat away from the reference; summarize_from_feedback's.
    target_kl: float = 6.0  # Nats per response that the coefficient steers to (lm-human-preferences); 0 keeps it fixed.
    kl_horizon: int = 2000  # Episodes over which it steers (10,000 in lm-human-preferences, which trains longer).
    max_kl: float = 20.0  # Versions farther than this from the reference are never kept.
    stop_kl: float = 0.05  # Ends an update's epochs when the new policy is this far from the sampling one per token.
    score_clip: float = 5.0  # Scores are normalised to deviation 1; beyond this they are outliers.
    missing_eos_penalty: float = 1.0  # Subtracted when a response was cut.
    max_grad_norm: float = 1.0
    eval_every: int = 5  # Updates between evaluations on the fixed prompts, which choose the version that is kept.
    seed: int = 0
    checkpoint_seconds: float = 60.0


@dataclass
class Rollout:
    """Episodes of one update. (B, R) tensors have response tokens from column 0; `mask` is True on them."""

    pairs: list[tuple[list[int], list[int]]]
    mask: Tensor
    logprobs: Tensor
    ref_logprobs: Tensor
    values: Tensor
    scores: Tensor
    rewards: Tensor
    advantages: Tensor
    returns: Tensor


class Trainer:
    """What an update works on. Built once; `train_ppo` drives it."""

    def __init__(
        self, policy_dir: str | Path, reward_dir: str | Path, settings: PPOSettings, *, reference_dir: str | Path | None
    ) -> None:
        place = optim.device()
        self.settings = settings
        self.tokenizer = load_tokenizer(policy_dir)
        self.policy = load_policy(policy_dir, tokenizer=self.tokenizer).to(place)
        self.reference = load_policy(reference_dir or policy_dir, tokenizer=self.tokenizer).to(place)
        reward_tokenizer = load_tokenizer(reward_dir)
        if reward_tokenizer.get_vocab() != self.tokenizer.get_vocab():
            raise ValueError(
                "The reward model has another vocabulary than the policy; train it on the same base model."
            )
        self.reward_model = load_reward_model(reward_dir, tokenizer=reward_tokenizer).to(place)
        self.critic = copy.deepcopy(self.reward_model)  # InstructGPT starts the value model from the reward model.
        for frozen in (self.reference, self.reward_model):
            frozen.requires_grad_(requires_grad=False)
        self.policy_optimizer = optim.adamw(self.policy, learning_rate=settings.learning_rate)
        self.critic_optimizer = optim.adamw(self.critic, learning_rate=settings.critic_learning_rate)
        self.generator = torch.Generator(device=place).manual_seed(settings.seed)
        self.kl_coef = settings.kl_coef
        self.pad: int = self.tokenizer.pad_token_id
        self.eos: int = self.tokenizer.eos_token_id

    def sampling(self, *, seed: int = 0) -> SamplingSettings:
        """The full distribution at the training temperature: a truncated one would bias the ratio."""
        s = self.settings
        return SamplingSettings(
            temperature=s.temperature, max_new_tokens=s.max_new_tokens, max_prompt_length=s.max_prompt_length, seed=seed
        )


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
    score_fn: ScoreFunction | None = None,
) -> Generator[Stats, None, None]:
    """Train and save the best version within the KL budget to `out`; yields after each update.

    Args:
        reference_dir: what the KL penalty holds the policy near; the policy it starts from when None.
        eval_prompts: fixed prompts, not trained on, that choose the version to keep; the last one without them.
        score_fn: replaces the reward model's score, (prompts, texts) to scores; for tests and other judges.
    """
    if not prompts:
        raise ValueError("There are no prompts to practise on; import some.")
    trainer = Trainer(policy_dir, reward_dir, settings, reference_dir=reference_dir)
    total, best = settings.num_updates, Best()
    first = _resume(trainer, best, checkpoints)
    start = _evaluate(trainer, eval_prompts, score_fn) if first == 0 else {}
    best.start = best.start or start
    saved_at, stats = time.monotonic(), {}
    for update in range(first, total):
        rows = prompts_of_update(prompts, update, batch_size=settings.batch_size, seed=settings.seed)
        stats = one_update(trainer, rows, update=update, score_fn=score_fn)
        if (update + 1) % settings.eval_every == 0 or update + 1 == total:
            stats |= _evaluate(trainer, eval_prompts, score_fn)
            best.consider(trainer, stats, update + 1)
        if checkpoints is not None and time.monotonic() - saved_at >= settings.checkpoint_seconds:
            _save(trainer, best, checkpoints, update + 1)
            saved_at = time.monotonic()
        yield {"phase": "ppo", "step": update + 1, "total_steps": total, **stats}
    best.restore(trainer)
    save_policy(trainer.policy, trainer.tokenizer, out)
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
    trainer: Trainer, prompts: Sequence[Prompt], *, update: int, score_fn: ScoreFunction | None = None
) -> dict[str, float]:
    """Sample, score, learn, adapt the KL coefficient; what was measured."""
    s = trainer.settings
    fraction = 1 - update / s.num_updates
    optim.set_learning_rate(trainer.policy_optimizer, s.learning_rate * fraction)
    optim.set_learning_rate(trainer.critic_optimizer, s.critic_learning_rate * fraction)
    began = time.monotonic()
    rollout = collect(trainer, prompts, score_fn=score_fn)
    sampled = time.monotonic()
    learned = optimise(trainer, rollout)
    kl = float(_per_response(rollout.logprobs - rollout.ref_logprobs, rollout.mask).mean())
    stats = {
        "score": float(rollout.scores.mean()),
        "score_std": float(rollout.scores.std()) if len(rollout.scores) > 1 else 0.0,
        "reward": float(_per_response(rollout.rewards, rollout.mask).mean()),
        "kl": kl,
        "kl_k3": float(_per_response(masked.kl_k3(rollout.logprobs, rollout.ref_logprobs), rollout.mask).mean()),
        "kl_coef": trainer.kl_coef,
        "length": float(rollout.mask.sum(1).float().mean()),
        "ended_share": sum(response[-1] == trainer.eos for _, response in rollout.pairs) / len(rollout.pairs),
        "sample_seconds": sampled - began,
        "optimise_seconds": time.monotonic() - sampled,
        **learned,
    }
    trainer.kl_coef = adapted_kl_coef(trainer.kl_coef, kl, num_episodes=len(rollout.pairs), settings=s)
    if not all(math.isfinite(value) for value in stats.values()):
        raise NotANumberError(f"PPO stopped being made of numbers at update {update + 1}.")
    return stats


@torch.no_grad()
def collect(trainer: Trainer, prompts: Sequence[Prompt], *, score_fn: ScoreFunction | None = None) -> Rollout:
    """Sample one response per prompt and work out everything that the update needs of it."""
    s = trainer.settings
    encoded = [encode_prompt(trainer.tokenizer, prompt, max_length=s.max_prompt_length) for prompt in prompts]
    responses = generate(
        trainer.policy, trainer.tokenizer, encoded, trainer.sampling(), num_responses=1, generator=trainer.generator
    )
    pairs = list(zip(encoded, responses, strict=True))
    lengths = torch.tensor([len(response) for response in responses])
    mask = torch.arange(int(lengths.max()))[None, :] < lengths[:, None]
    logprobs, ref_logprobs, values = (torch.zeros(mask.shape) for _ in range(3))
    for rows in optim.micro_batches(range(len(pairs)), s.micro_batch_size):
        batch, part = collate([pairs[i] for i in rows], pad=trainer.pad), list(rows)
        for target, flat in (
            (logprobs, token_logprobs(trainer.policy, batch, temperature=s.temperature)[0]),
            (ref_logprobs, token_logprobs(trainer.reference, batch, temperature=s.temperature)[0]),
            (values, token_values(trainer.critic, batch)),
        ):
            _scatter(target, flat.cpu(), mask, part)
    scores = _scores(trainer, prompts, pairs, score_fn)
    rewards = token_rewards(scores, logprobs, ref_logprobs, mask, kl_coef=trainer.kl_coef)
    advantages = masked.gae(rewards, values, mask, gamma=s.gamma, gae_lambda=s.gae_lambda)
    returns = advantages + values
    return Rollout(
        pairs, mask, logprobs, ref_logprobs, values, scores, rewards, masked.whiten(advantages, mask), returns
    )


def token_values(critic: RewardModel, batch: Batch) -> Tensor:
    """(n,) value of the state before each response token, row by row: the same places as the log-probabilities."""
    place = critic.head.weight.device
    mask = batch.attention_mask.to(place)
    states = critic.trunk(
        input_ids=batch.ids.to(place), attention_mask=mask.long(), position_ids=position_ids(mask), use_cache=False
    ).last_hidden_state
    return critic.normalised(critic.raw(states[:, :-1][batch.response_mask.to(place)[:, 1:]]))


def token_rewards(scores: Tensor, logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor, *, kl_coef: float) -> Tensor:
    """(B, R): minus kl_coef (log pi - log ref) at each token, plus the score at the last one.

    Their sum over a response is its score minus kl_coef times its KL estimate.
    """
    rewards = torch.where(mask, -kl_coef * masked.kl_k1(logprobs, ref_logprobs), 0.0)
    rewards[torch.arange(len(scores)), mask.sum(1) - 1] += scores
    return rewards


def optimise(trainer: Trainer, rollout: Rollout) -> dict[str, float]:
    """Epochs of minibatches, each one optimizer step for policy and critic; stops early when it went far."""
    s, steps = trainer.settings, 0
    totals: dict[str, float] = {}
    first_ratio_error = 0.0
    for epoch in range(s.epochs):
        order = torch.randperm(len(rollout.pairs), generator=_cpu_generator(trainer)).tolist()
        far = False
        for rows in optim.micro_batches(order, s.minibatch_size):
            stats = _minibatch(trainer, rollout, list(rows))
            if epoch == 0 and steps == 0:
                first_ratio_error = stats["ratio_error"]
            for name, value in stats.items():
                totals[name] = totals.get(name, 0.0) + value
            steps += 1
            far = far or stats["approx_kl"] > s.stop_kl
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


def _minibatch(trainer: Trainer, rollout: Rollout, rows: list[int]) -> dict[str, float]:
    """One step of each optimizer. All micro batches divide by the minibatch's tokens, so their number is no matter."""
    s = trainer.settings
    num_tokens = int(rollout.mask[rows].sum())
    trainer.policy_optimizer.zero_grad(set_to_none=True)
    trainer.critic_optimizer.zero_grad(set_to_none=True)
    sums = dict.fromkeys(("policy_loss", "value_loss", "approx_kl", "clip_fraction", "entropy"), 0.0)
    ratio_error = 0.0
    for part in optim.micro_batches(rows, s.micro_batch_size):
        batch = collate([rollout.pairs[i] for i in part], pad=trainer.pad)
        place, picked = trainer.policy.device, list(part)
        mask = rollout.mask[picked]
        old, advantages, old_values, returns = (
            tensor[picked][mask].to(place)
            for tensor in (rollout.logprobs, rollout.advantages, rollout.values, rollout.returns)
        )
        logprobs, entropy = token_logprobs(trainer.policy, batch, temperature=s.temperature)
        policy_loss = masked.ppo_policy_loss(logprobs, old, advantages, clip_range=s.clip_range).sum() / num_tokens
        policy_loss.backward()
        values = token_values(trainer.critic, batch)
        value_loss = (
            masked.ppo_value_loss(values, old_values, returns, clip_range=s.value_clip_range).sum() / num_tokens
        )
        value_loss.backward()
        with torch.no_grad():
            ratio = (logprobs - old).exp()
            ratio_error = max(ratio_error, float((ratio - 1).abs().max()))
            clipped = ((ratio - 1).abs() > s.clip_range).float()
            for name, value in (
                ("policy_loss", policy_loss),
                ("value_loss", value_loss),
                ("approx_kl", masked.kl_k3(old, logprobs).sum() / num_tokens),
                ("clip_fraction", clipped.sum() / num_tokens),
                ("entropy", entropy.sum() / num_tokens),
            ):
                sums[name] += float(value.detach())
    norms = [optim.clip_gradients(model, s.max_grad_norm) for model in (trainer.policy, trainer.critic)]
    if not all(map(math.isfinite, norms)):
        raise NotANumberError("PPO's gradients stopped being numbers; no step was taken with them.")
    trainer.policy_optimizer.step()
    trainer.critic_optimizer.step()
    return {**sums, "ratio_error": ratio_error}


def adapted_kl_coef(kl_coef: float, kl: float, *, num_episodes: int, settings: PPOSettings) -> float:
    """The coefficient after seeing this KL: up when beyond the target, down when short of it, 20 % error at most.

    Source: lm-human-preferences, `AdaptiveKLController`.
    """
    if not settings.target_kl:
        return kl_coef
    error = min(max(kl / settings.target_kl - 1, -0.2), 0.2)
    return kl_coef * (1 + error * num_episodes / settings.kl_horizon)


class Best:
    """The version that is kept: the highest score on the fixed prompts among those within the KL budget."""

    def __init__(self) -> None:
        self.step = 0
        self.stats: dict[str, float] = {}
        self.start: dict[str, float] = {}
        self.tensors: dict[str, Tensor] = {}

    def consider(self, trainer: Trainer, stats: dict[str, float], step: int) -> None:
        """Keep these weights if they are the best so far."""
        if "eval_score" not in stats or stats["eval_kl"] > trainer.settings.max_kl:
            return
        if not self.stats or stats["eval_score"] > self.stats["eval_score"]:
            self.step = step
            self.stats = {name: stats[name] for name in ("eval_score", "eval_kl", "eval_length")}
            self.tensors = {name: tensor.clone() for name, tensor in module_tensors(trainer.policy, "best").items()}

    def restore(self, trainer: Trainer) -> None:
        """Put the best weights into the policy; the last ones stay when none was evaluated within the budget."""
        if self.tensors:
            restore_module(trainer.policy, self.tensors, "best")

    def report(self, last: dict[str, float]) -> dict[str, float]:
        """For the last stats: where it started, where the kept version stands."""
        end = self.stats.get("eval_score", last.get("score", 0.0))
        return {
            "score_start": self.start.get("eval_score", 0.0),
            "score_end": end,
            "kl": self.stats.get("eval_kl", last.get("kl", 0.0)),
            "mean_length": self.stats.get("eval_length", last.get("length", 0.0)),
            "kept_update": float(self.step),
        }


@torch.no_grad()
def _evaluate(trainer: Trainer, prompts: Sequence[Prompt], score_fn: ScoreFunction | None) -> dict[str, float]:
    """Score, KL and length on fixed prompts with fixed random numbers; {} without prompts."""
    if not prompts:
        return {}
    s = trainer.settings
    encoded = [encode_prompt(trainer.tokenizer, prompt, max_length=s.max_prompt_length) for prompt in prompts]
    generator = torch.Generator(device=trainer.policy.device).manual_seed(s.seed + 1)
    responses: list[list[int]] = []
    for part in optim.micro_batches(encoded, 64):
        responses += generate(
            trainer.policy, trainer.tokenizer, part, trainer.sampling(), num_responses=1, generator=generator
        )
    pairs = list(zip(encoded, responses, strict=True))
    kl = 0.0
    for rows in optim.micro_batches(pairs, s.micro_batch_size):
        batch = collate(rows, pad=trainer.pad)
        mine, _ = token_logprobs(trainer.policy, batch, temperature=s.temperature)
        reference, _ = token_logprobs(trainer.reference, batch, temperature=s.temperature)
        kl += float((mine - reference).sum())
    scores = _scores(trainer, prompts, pairs, score_fn)
    mean_length = sum(map(len, responses)) / len(responses)
    return {"eval_score": float(scores.mean()), "eval_kl": kl / len(pairs), "eval_length": mean_length}


def _scores(
    trainer: Trainer,
    prompts: Sequence[Prompt],
    pairs: Sequence[tuple[list[int], list[int]]],
    score_fn: ScoreFunction | None,
) -> Tensor:
    """(B,) scores, clipped, less the penalty for responses that were cut. Empty responses are scored like any other."""
    s, eos = trainer.settings, trainer.eos
    if score_fn is not None:
        texts = [trainer.tokenizer.decode(response, skip_special_tokens=True).strip() for _, response in pairs]
        scores = torch.tensor(score_fn(list(prompts), texts), dtype=torch.float32)
    else:
        ended = [(prompt, response if response[-1] == eos else [*response, eos]) for prompt, response in pairs]
        parts = []
        for part in optim.micro_batches(ended, s.micro_batch_size):
            batch = collate(part, pad=trainer.pad)
            place = trainer.reward_model.head.weight.device
            parts.append(score_ids(trainer.reward_model, batch.ids.to(place), batch.attention_mask.to(place)).cpu())
        scores = torch.cat(parts)
    was_cut = torch.tensor([response[-1] != eos for _, response in pairs])
    return scores.clamp(-s.score_clip, s.score_clip) - s.missing_eos_penalty * was_cut


def _scatter(target: Tensor, flat: Tensor, mask: Tensor, rows: list[int]) -> None:
    """Put values that lie row after row into their places of a (B, R) tensor."""
    part = torch.zeros(len(rows), mask.shape[1])
    part[mask[rows]] = flat
    target[rows] = part


def _per_response(values: Tensor, mask: Tensor) -> Tensor:
    """(B,) sums over response tokens."""
    return torch.where(mask, values, 0.0).sum(1)


def _cpu_generator(trainer: Trainer) -> torch.Generator:
    """Shuffling draws from the same stream as sampling, so that one stored state resumes both."""
    seed = int(torch.randint(2**31, (1,), generator=trainer.generator, device=trainer.generator.device))
    return torch.Generator().manual_seed(seed)


def _save(trainer: Trainer, best: Best, store: CheckpointStore, step: int) -> None:
    tensors = (
        module_tensors(trainer.policy, "policy")
        | module_tensors(trainer.critic, "critic")
        | optimizer_tensors(trainer.policy_optimizer, "policy_optimizer")
        | optimizer_tensors(trainer.critic_optimizer, "critic_optimizer")
        | best.tensors
        | {"generator": trainer.generator.get_state()}
    )
    values = {"kl_coef": trainer.kl_coef, "best_step": best.step, "best": best.stats, "start": best.start}
    store.save(step, tensors, values)


def _resume(trainer: Trainer, best: Best, store: CheckpointStore | None) -> int:
    found = store.latest() if store is not None else None
    if found is None:
        return 0
    restore_module(trainer.policy, found.tensors, "policy")
    restore_module(trainer.critic, found.tensors, "critic")
    restore_optimizer(trainer.policy_optimizer, found.tensors, "policy_optimizer")
    restore_optimizer(trainer.critic_optimizer, found.tensors, "critic_optimizer")
    trainer.generator.set_state(found.tensors["generator"])
    trainer.kl_coef = found.values["kl_coef"]
    best.step, best.stats, best.start = found.values["best_step"], found.values["best"], found.values["start"]
    best.tensors = {name: tensor for name, tensor in found.tensors.items() if name.startswith("best.")}
    return found.step
