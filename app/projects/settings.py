"""A project's sampling and training settings: names, meanings, limits and defaults, validated in one place.

The worker passes them to the learning library by name, so each name here is a field there.
"""

from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.errors import Invalid


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


S = TypeVar("S", bound=_Settings)  # PEP 695 needs Python 3.12.
Precision = Literal["float32", "bfloat16"]
PRECISION = "Of matrix products. `bfloat16` is faster on GPUs, and on processors with units for it."


class Sampling(_Settings):
    """How policies write responses."""

    temperature: float = Field(
        1.0, gt=0, le=5, title="Temperature", description="Above 1 is more varied, below 1 more careful."
    )
    top_p: float = Field(
        1.0, gt=0, le=1, title="Top-p", description="Sample from the smallest set of tokens with this probability."
    )
    top_k: int = Field(0, ge=0, le=1000, title="Top-k", description="Sample from this many tokens; 0 means all.")
    max_new_tokens: int = Field(64, ge=1, le=4096, title="Longest response", description="Longest response, in tokens.")
    num_prompts: int = Field(
        100,
        ge=1,
        le=100_000,
        title="Prompts per policy",
        description="Prompts that each new policy answers for raters.",
    )


class Sft(_Settings):
    """Supervised fine-tuning of the base model on demonstrations, before the loop."""

    learning_rate: float = Field(1e-3, gt=0, le=1, title="Learning rate", description="Peak learning rate of AdamW.")
    batch_size: int = Field(64, ge=1, le=4096, title="Batch size", description="Demonstrations per optimizer step.")
    epochs: int = Field(1, ge=1, le=100, title="Passes", description="Passes over the demonstrations.")
    max_steps: int = Field(
        250, ge=0, le=1_000_000, title="Most steps", description="Stop after this many steps; 0 means no limit."
    )
    max_length: int = Field(
        256, ge=8, le=131_072, title="Longest example", description="Longest prompt and response together, in tokens."
    )


class Reward(_Settings):
    """The reward model."""

    learning_rate: float = Field(3e-4, gt=0, le=1, title="Learning rate", description="Peak learning rate of AdamW.")
    batch_size: int = Field(16, ge=1, le=4096, title="Batch size", description="Rankings per optimizer step.")
    epochs: int = Field(
        1, ge=1, le=100, title="Passes", description="Passes over the rankings. More than one tends to overfit."
    )
    max_length: int = Field(
        256, ge=8, le=131_072, title="Longest example", description="Longest prompt and response together, in tokens."
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=0.5, title="Label smoothing", description="Share of preferences assumed to be mistaken."
    )
    lora_rank: int = Field(
        0,
        ge=0,
        le=1024,
        title="Adapter rank (LoRA)",
        description="Train adapters of this rank only, for large models; 0 is all.",
    )
    num_heads: int = Field(
        1, ge=1, le=64, title="Heads", description="Heads whose disagreement shows how unsure a score is."
    )
    margin: float = Field(
        0.0,
        ge=0,
        le=10,
        title="Margin",
        description="How far apart scores should be, for each step of strength that raters gave (1 barely to 4 much).",
    )
    loss: Literal["bradley-terry", "plackett-luce"] = Field(
        "bradley-terry", title="Loss", description="Over pairs of responses, or (`plackett-luce`) over whole orders."
    )
    ties: Literal["ignore", "davidson", "rao-kupper"] = Field(
        "ignore", title="Ties", description="`ignore` them, or learn from them by one of two models of ties."
    )
    labels: Literal["separate", "soft"] = Field(
        "separate",
        title="Raters of one comparison",
        description="Learn from each rater's ranking, or (`soft`) from the share of raters behind each pair.",
    )
    attribute_coef: float = Field(
        0.0,
        ge=0,
        le=10,
        title="Weight of attributes",
        description="Weight of learning the attributes beside the ranking, a head for each; 0 leaves them out.",
    )
    retrain: Literal["anew", "further"] = Field(
        "anew",
        title="New rankings",
        description="Train anew on all rankings, or (`further`) the newest reward model on the new ones.",
    )
    replay_share: float = Field(
        1.0,
        ge=0,
        le=100,
        title="Old rankings beside",
        description="Where it is trained further: old rankings for each new one, against forgetting.",
    )
    precision: Precision = Field("float32", title="Precision", description=PRECISION)


class Ppo(_Settings):
    """Proximal policy optimisation against the reward model."""

    learning_rate: float = Field(
        1e-4, gt=0, le=1, title="Learning rate", description="Learning rate of policy and critic."
    )
    num_updates: int = Field(30, ge=1, le=100_000, title="Updates", description="Updates; each samples fresh episodes.")
    batch_size: int = Field(64, ge=1, le=65_536, title="Episodes per update", description="Episodes per update.")
    minibatch_size: int = Field(
        32, ge=1, le=65_536, title="Episodes per step", description="Episodes per optimizer step."
    )
    epochs: int = Field(2, ge=1, le=32, title="Passes", description="Passes over each update's episodes.")
    kl_coef: float = Field(
        0.05, ge=0, le=1e6, title="Price of KL", description="Price of moving away from the reference policy."
    )
    target_kl: float = Field(
        6.0, ge=0, le=1000, title="Target KL", description="KL per response the coefficient steers to; 0 is fixed."
    )
    max_kl: float = Field(20.0, gt=0, le=10_000, title="KL budget", description="Versions beyond this KL are not kept.")
    lora_rank: int = Field(
        0,
        ge=0,
        le=1024,
        title="Adapter rank (LoRA)",
        description="Train adapters of this rank, for less memory; 0 trains all.",
    )
    length_penalty: float = Field(
        0.0, ge=0, le=10, title="Price of length", description="Taken off the score for each token of a response."
    )
    sft_coef: float = Field(
        0.0,
        ge=0,
        le=100,
        title="Weight of demonstrations",
        description="Weight of learning from demonstrations beside PPO.",
    )
    uncertainty_penalty: float = Field(
        0.0,
        ge=0,
        le=100,
        title="Price of doubt",
        description="Taken off the score, times the spread of the reward model's heads.",
    )
    critic: Literal["separate", "shared"] = Field(
        "separate",
        title="Critic",
        description="A model of its own, or (`shared`) a head on the policy, for about half the memory and time.",
    )
    precision: Precision = Field("float32", title="Precision", description=PRECISION)


class Tiny(_Settings):
    """The model that is made on the spot when a project's base model is `tiny`."""

    vocab_size: int = Field(
        1024, ge=300, le=100_000, title="Vocabulary", description="Tokens, learned from the demonstrations."
    )
    hidden: int = Field(128, ge=16, le=4096, title="Width", description="Width of the hidden state.")
    layers: int = Field(4, ge=1, le=64, title="Layers", description="Transformer layers.")
    heads: int = Field(4, ge=1, le=64, title="Attention heads", description="Attention heads; they share the width.")
    max_positions: int = Field(
        256, ge=32, le=8192, title="Longest sequence", description="Longest sequence, in tokens."
    )


class Training(_Settings):
    """Settings of the training runs."""

    seed: int = Field(0, ge=0, le=2**31 - 1, title="Seed", description="Same labels, same seed, same weights.")
    heldout_share: float = Field(
        0.1, ge=0, le=0.5, title="Held-out share", description="Share of prompts kept for evaluation, never learned."
    )
    num_eval_prompts: int = Field(
        100, ge=1, le=10_000, title="Evaluation prompts", description="Held-out prompts for evaluating a policy."
    )
    tiny: Tiny = Field(default_factory=Tiny)
    sft: Sft = Field(default_factory=Sft)
    reward: Reward = Field(default_factory=Reward)
    ppo: Ppo = Field(default_factory=Ppo)

    @model_validator(mode="after")
    def _doubt_needs_heads(self) -> Self:
        if self.ppo.uncertainty_penalty and self.reward.num_heads == 1:
            raise ValueError("ppo.uncertainty_penalty needs reward.num_heads above 1, whose spread is what it prices")
        return self

    @model_validator(mode="after")
    def _attributes_need_each_rater(self) -> Self:
        if self.reward.attribute_coef and self.reward.labels == "soft":
            raise ValueError("reward.attribute_coef needs reward.labels `separate`: attributes are not merged")
        return self


def sampling_of(values: dict[str, Any]) -> Sampling:
    """Validated sampling settings, defaults filled in."""
    return _validated(Sampling, values, where="sampling")


def training_of(values: dict[str, Any]) -> Training:
    """Validated training settings, defaults filled in."""
    return _validated(Training, values, where="training")


def _validated(shape: type[S], values: dict[str, Any], *, where: str) -> S:
    try:
        return shape.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join([where, *(str(part) for part in first["loc"])])
        raise Invalid(f"{name}: {first['msg']} (given: {first.get('input')!r:.60}).", field=name) from None
