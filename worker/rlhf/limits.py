"""The range of each number that the command line takes, by the name of its setting; the website has its own."""

import math
from collections.abc import Mapping
from typing import Any

MANY = 2**31 - 1
LIMITS: dict[str, tuple[float, float]] = {
    "batch_size": (1, MANY),
    "micro_batch_size": (1, MANY),
    "minibatch_size": (1, MANY),
    "micro_batch_tokens": (0, MANY),
    "lora_rank": (0, 65_536),
    "num_heads": (1, 64),
    "margin": (0, 1e6),
    "replay_share": (0, 1e6),
    "attribute_coef": (0, 1e6),
    "value_coef": (0, 1e6),
    "length_penalty": (0, 1e6),
    "uncertainty_penalty": (0, 1e6),
    "sft_coef": (0, 1e6),
    "importance_cap": (0, 1e6),
    "epochs": (1, 10_000),
    "max_steps": (0, MANY),
    "num_updates": (1, MANY),
    "num_responses": (1, 1000),
    "max_length": (8, MANY),
    "max_prompt_length": (8, MANY),
    "max_new_tokens": (1, MANY),
    "eval_every": (1, MANY),
    "kl_horizon": (1, MANY),
    "top_k": (0, MANY),
    "seed": (0, 2**63 - 1),
    "learning_rate": (0, 1),
    "critic_learning_rate": (0, 1),
    "temperature": (0, 100),
    "top_p": (0, 1),
    "warmup_ratio": (0, 1),
    "weight_decay": (0, 1),
    "label_smoothing": (0, 0.5),
    "max_grad_norm": (0, 1e6),
    "gamma": (0, 1),
    "gae_lambda": (0, 1),
    "clip_range": (0, 1e6),
    "value_clip_range": (0, 1e6),
    "kl_coef": (0, 1e6),
    "target_kl": (0, 1e6),
    "max_kl": (0, 1e6),
    "stop_kl": (0, 1e6),
    "score_clip": (0, 1e6),
    "missing_eos_penalty": (0, 1e6),
    "checkpoint_seconds": (0, 1e9),
}
ABOVE = {"learning_rate", "critic_learning_rate", "temperature", "top_p", "max_grad_norm", "clip_range", "max_kl"}
"""These divide, or are of no effect at their lower end: they must be above it."""


def check_limits(values: Mapping[str, Any]) -> None:
    """Refuse a number out of its range.

    Raises:
        ValueError: naming the option, its value and its range.
    """
    for name, (low, high) in LIMITS.items():
        value = values.get(name, high)
        fits = math.isfinite(value) and low <= value <= high and not (name in ABOVE and value == low)
        if not fits:
            floor = f"above {low:g}" if name in ABOVE else f"at least {low:g}"
            raise ValueError(f"--{name.replace('_', '-')} is {value}; it must be {floor} and at most {high:,}.")
