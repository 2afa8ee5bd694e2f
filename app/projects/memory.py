"""How much memory a run will need, from its settings and the number of parameters. Pure arithmetic, no torch.

The browser shows it while settings are edited, and the trainer looks at it before it starts.
"""

from dataclasses import dataclass

from app.projects.settings import Training

BASE_BYTES = 450 * 2**20  # Python, torch and transformers, before any model.
MICRO_BATCH_TOKENS = 2048  # Per forward at most, as the trainers have it.
FLOATS_PER_WIDTH = 34  # Kept for the backward pass per token and layer, in widths (arXiv:2205.05198, eq. 2).


@dataclass(frozen=True)
class Memory:
    """Bytes: `weights` for weights, gradients and optimizer states, which is certain; `activations` roughly."""

    weights: int
    activations: int

    @property
    def total(self) -> int:
        """All, the libraries included."""
        return BASE_BYTES + self.weights + self.activations

    @property
    def weights_in_words(self) -> str:
        """For pages."""
        return in_words(self.weights)

    @property
    def total_in_words(self) -> str:
        """For pages."""
        return in_words(self.total)


def memory_of_run(
    kind: str, training: Training, *, num_parameters: int, max_new_tokens: int, vocab_size: int
) -> Memory:
    """What a run of `kind` (sft, reward, ppo, loop or sample) needs at its peak."""
    if kind == "sample":
        return Memory(4 * num_parameters, 0)
    trained, length, rows, scored = _shape(kind, training, max_new_tokens)
    tokens = min(rows * length, max(MICRO_BATCH_TOKENS, length))
    return Memory(
        trained * num_parameters, _activations(num_parameters, tokens, scored_share=scored, vocab_size=vocab_size)
    )


def _shape(kind: str, training: Training, max_new_tokens: int) -> tuple[int, int, int, float]:
    """(bytes per parameter, longest row, rows at once, share of tokens with logits).

    Trained weights take 16 bytes in float32: the weight, its gradient and AdamW's two moments; frozen ones 4.
    """
    if kind == "sft":
        return 16, training.sft.max_length, training.sft.batch_size, 0.5
    if kind == "reward":
        return 16, training.reward.max_length, training.reward.batch_size * 4, 0.0
    length = 192 + max_new_tokens
    learned = 2 if training.ppo.critic == "separate" else 1  # A critic of its own is as large as the policy.
    models = (2 + learned) * 4 if training.ppo.lora_rank else learned * 16 + 3 * 4
    return models, length, training.ppo.minibatch_size, max_new_tokens / length


def _activations(num_parameters: int, tokens: int, *, scored_share: float, vocab_size: int) -> int:
    """Bytes for a forward and its backward, for a model of usual shape: 64 times as wide as deep, 12 widths squared a layer."""
    layers = max((num_parameters / (12 * 64**2)) ** (1 / 3), 1.0)
    per_token = 4 * FLOATS_PER_WIDTH * 64 * layers * layers
    logits = 3 * 4 * vocab_size * scored_share
    return int(tokens * (per_token + logits))


def in_words(size: int) -> str:
    """Bytes as a person reads them."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
