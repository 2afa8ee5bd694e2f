"""The settings of PPO, each with its meaning and the source of its default."""

from dataclasses import dataclass

CRITICS = ("separate", "shared")
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class PPOSettings:
    """Defaults for small models; a large one wants learning rates near 1e-6."""

    learning_rate: float = 2e-4  # Policy, for a model of a million parameters; falls in a line to 0.
    critic_learning_rate: float = 5e-4  # The critic may go faster: its errors do not move the policy directly.
    num_updates: int = 30  # Each samples `batch_size` fresh episodes.
    batch_size: int = 64  # Episodes per update.
    minibatch_size: int = 32  # Episodes per optimizer step.
    micro_batch_size: int = 32  # Episodes per forward at most; smaller needs less memory and changes nothing else.
    micro_batch_tokens: int = 2048  # Tokens per forward at most, 0 for no bound; bounds memory, changes nothing else.
    epochs: int = 2  # Passes over the episodes of one update (4 in lm-human-preferences).
    max_new_tokens: int = 64
    max_prompt_length: int = 192  # In tokens.
    temperature: float = 1.0  # In sampling and in training alike.
    gamma: float = 1.0  # lm-human-preferences.
    gae_lambda: float = 0.95  # lm-human-preferences.
    clip_range: float = 0.2  # PPO, arXiv:1707.06347.
    value_clip_range: float = 0.2  # lm-human-preferences.
    critic: str = "separate"  # InstructGPT's, started from the reward model; `shared`: a head on the policy's trunk.
    value_coef: float = 0.1  # Weight of the value loss beside the policy's on a shared trunk (lm-human-preferences).
    lora_rank: int = 0  # Train low-rank adapters of this rank instead of all weights (arXiv:2106.09685); 0 is off.
    precision: str = "float32"  # Or bfloat16, for matrix products only.
    recompute_activations: bool = False  # Activation checkpointing: less memory, about a third more time.
    kl_coef: float = 0.05  # Price per nat away from the reference; summarize_from_feedback's.
    target_kl: float = 6.0  # Nats per response that the coefficient steers to (lm-human-preferences); 0 keeps it fixed.
    kl_horizon: int = 2000  # Episodes over which it steers (10,000 in lm-human-preferences, which trains longer).
    max_kl: float = 20.0  # Versions farther than this from the reference are never kept.
    stop_kl: float = 0.03  # Nats per token from the sampling policy; an update's epochs end beyond 1.5 times this.
    score_clip: float = 5.0  # Scores are normalised to deviation 1; beyond this they are outliers.
    missing_eos_penalty: float = 1.0  # Subtracted when a response was cut.
    length_penalty: float = 0.0  # Subtracted from the score per response token, where raters do not want length.
    uncertainty_penalty: float = 0.0  # Times the spread of the reward model's heads (arXiv:2310.02743).
    sft_coef: float = 0.0  # Weight of the loss on demonstrations beside PPO's (InstructGPT's PPO-ptx); 0 is off.
    importance_cap: float = 2.0  # Bound on trainer over sampler probability per token, where another program samples.
    max_grad_norm: float = 1.0
    eval_every: int = 5  # Updates between evaluations on the fixed prompts, which choose the version that is kept.
    seed: int = 0
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        """Refuse words that mean nothing."""
        for name, known in (("critic", CRITICS), ("precision", PRECISIONS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(known)}.")
