"""What is measured: each case is one piece of work that both sides do, with the settings that make it the same work."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

CTX = 256  # Tokens of prompt and response together, in all cases.


@dataclass(frozen=True)
class Reward:
    """One epoch of reward-model training, `rankings_per_step` rankings (all their pairs) an optimizer step.

    In `same_order` both see precisely the same rankings at each step. Otherwise each groups rankings of like length
    in its own way, which is the fastest that either does.
    """

    name: str
    title: str
    task: str
    num_rankings: int
    rankings_per_step: int
    goal: float = 0.0  # Times TRL's rankings per processor second; 0 where there is no goal.
    is_bf16: bool = False
    same_order: bool = True
    num_seeds: int = 3  # At most, however many are asked for.
    eval_limit: int = 250  # Held-out rankings.
    ours: Mapping[str, Any] = field(default_factory=dict)  # Settings of ours on top of those that both share.
    learning_rate: float = 3e-4
    warmup_steps: int = 10

    def quick(self) -> "Reward":
        """A fifth of it: enough for a rate, too little for an accuracy."""
        return replace(self, name=f"{self.name}-quick", num_rankings=self.num_rankings // 5, num_seeds=1, eval_limit=50)

    def our_settings(self, seed: int) -> dict[str, Any]:
        """TRL's schedule and batch, in our words."""
        shared = {
            "learning_rate": self.learning_rate,
            "batch_size": self.rankings_per_step,
            "micro_batch_size": self.rankings_per_step,
            "max_length": CTX,
            "warmup_ratio": self.warmup_steps * self.rankings_per_step / self.num_rankings,
            "checkpoint_seconds": 1e9,
            "seed": seed,
        }
        return shared | dict(self.ours)

    def peer_arguments(self, seed: int) -> list[object]:
        """For `trl_reward.py`, after model, tokenizer and data."""
        flags = ["--in-order"] if self.same_order else ["--group-by-length"]
        return [
            *("--train-limit", self.num_rankings, "--eval-limit", self.eval_limit),
            *("--rankings-per-step", self.rankings_per_step, "--lr", self.learning_rate, "--seed", seed),
            *("--warmup-steps", self.warmup_steps, *flags, *(["--bf16"] if self.is_bf16 else [])),
        ]


@dataclass(frozen=True)
class PPO:
    """Updates of `batch_size` episodes on the same prompts in the same order, one optimizer step an epoch.

    One step, because TRL 1.12 takes no more whatever it is asked for (trl#5645).
    """

    name: str
    title: str
    goals: Mapping[str, float]  # By phase, times TRL's episodes per processor second.
    ours: Mapping[str, Any] = field(default_factory=dict)
    peer: str = ""  # The case whose TRL runs it is put beside; its own when empty.
    num_updates: int = 8
    batch_size: int = 32
    micro_batch_size: int = 16
    epochs: int = 4
    response_length: int = 64
    learning_rate: float = 1e-4
    kl_coef: float = 0.05
    missing_eos_penalty: float = 1.0
    num_seeds: int = 3

    def quick(self) -> "PPO":
        """Two updates."""
        return replace(self, name=f"{self.name}-quick", peer=f"{self.peer}-quick" * bool(self.peer), num_updates=2)

    def our_settings(self, seed: int) -> dict[str, Any]:
        """TRL's algorithm in our words: fixed KL coefficient, no early stop, no clipping of scores."""
        shared = {
            "learning_rate": self.learning_rate,
            "critic_learning_rate": self.learning_rate,
            "num_updates": 1_000_000,  # The rate falls in a line to its end, so it stays as constant as TRL's.
            "batch_size": self.batch_size,
            "minibatch_size": self.batch_size,
            "micro_batch_size": self.micro_batch_size,
            "epochs": self.epochs,
            "max_new_tokens": self.response_length,
            "max_prompt_length": CTX - self.response_length,
            "kl_coef": self.kl_coef,
            "target_kl": 0.0,
            "stop_kl": 1e9,
            "score_clip": 1e9,
            "missing_eos_penalty": self.missing_eos_penalty,
            "checkpoint_seconds": 1e9,
            "seed": seed,
        }
        return shared | dict(self.ours)

    def peer_arguments(self, seed: int) -> list[object]:
        """For `trl_ppo.py`, after models, tokenizer and data."""
        return [
            *("--episodes", self.num_updates * self.batch_size, "--batch-size", self.batch_size),
            *("--micro-batch-size", self.micro_batch_size, "--rollout-batch-size", self.batch_size),
            *("--ppo-epochs", self.epochs, "--response-length", self.response_length, "--lr", self.learning_rate),
            *("--kl-coef", self.kl_coef, "--missing-eos-penalty", self.missing_eos_penalty, "--seed", seed),
        ]


Case = Reward | PPO

PAIRS = {"task": "hh", "num_rankings": 800, "rankings_per_step": 8, "eval_limit": 324}
K4 = {"task": "k4", "num_rankings": 240, "rankings_per_step": 4}
BF16 = {"same_order": False, "is_bf16": True, "ours": {"precision": "bfloat16"}}
UNCLIPPED = {"max_grad_norm": 1e6}  # TRL's PPO clips no gradients.
TINY = {"sft-steps": 300}  # 4 layers of width 256: 5.2 million parameters.

CPU_CASES: list[Case] = [
    Reward("rm-k4", "K=4, fp32, same order", **K4, goal=5.0),
    Reward("rm-k4-bucketed", "K=4, fp32, like lengths together", **K4, same_order=False, goal=4.0),
    Reward("rm-k4-bf16", "K=4, bf16, like lengths together", **K4, **BF16, goal=4.0),
    Reward("rm-pairs", "HH pairs, fp32, same order", **PAIRS, num_seeds=1),
    Reward("rm-pairs-bucketed", "HH pairs, fp32, like lengths together", **PAIRS, same_order=False, goal=1.7),
    Reward("rm-pairs-bf16", "HH pairs, bf16, like lengths together", **PAIRS, **BF16, goal=1.7),
    Reward("rm-k9", "K=9, fp32, same order", task="k9", num_rankings=40, rankings_per_step=2, goal=10.0, num_seeds=1),
    PPO("ppo", "PPO, separate critic", {"optimise": 1.8, "end to end": 1.7}, UNCLIPPED),
    PPO("ppo-steps", "PPO, separate critic, four steps an epoch", {}, {"minibatch_size": 8, **UNCLIPPED}, peer="ppo"),
    PPO("ppo-shared", "PPO, shared trunk", {"optimise": 3.5}, {"critic": "shared"}, peer="ppo"),
]
