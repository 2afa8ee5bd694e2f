"""The models of PPO: the policy that acts, the critic that guesses, the reference and the reward model that never move."""

import contextlib
import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from worker.rlhf import masked, optim, packed, sharding
from worker.rlhf.ensemble import load_heads
from worker.rlhf.modeling import RewardModel, load_policy, load_reward_model, softcap_of, trunk_of
from worker.rlhf.rollout import SamplingSettings
from worker.rlhf.settings import PPOSettings
from worker.rlhf.tokens import load_tokenizer

Pair = tuple[list[int], list[int]]


class ValueHead(nn.Module):
    """A critic on the policy's own states: one number per state, 0 at first (lm-human-preferences)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, states: Tensor) -> Tensor:
        """(n,) values of (n, width) states."""
        values: Tensor = self.linear(states).squeeze(-1).float()
        return values


@dataclass
class Outputs:
    """Of response tokens, row by row: (n,) each. `values` is None unless the critic shares the policy's trunk."""

    logprobs: Tensor
    entropies: Tensor
    values: Tensor | None


class Trainer:
    """What an update works on: models, optimizers, random state and the KL coefficient. `train_ppo` drives it."""

    def __init__(
        self, policy_dir: str | Path, reward_dir: str | Path, settings: PPOSettings, *, reference_dir: str | Path | None
    ) -> None:
        place = optim.device()
        self.settings = settings
        self.tokenizer = load_tokenizer(policy_dir)
        self.policy = load_policy(policy_dir, tokenizer=self.tokenizer).to(place)
        self.adapted = _with_adapter(self.policy, settings) if settings.lora_rank else None
        self.reference = None
        if self.adapted is None or reference_dir is not None:
            self.reference = load_policy(reference_dir or policy_dir, tokenizer=self.tokenizer).to(place)
            self.reference.requires_grad_(requires_grad=False)
        self.reward_model = _reward_model(reward_dir, self.tokenizer).to(place)
        self.reward_model.requires_grad_(requires_grad=False)
        heads = load_heads(reward_dir)
        self.heads = heads.to(place) if heads is not None else None
        self.is_packed = {id(model): packed.can_pack(model) for model in self._language_models()}
        self.critic = self._new_critic().to(place)
        sharding.shard(self.policy, self.reference, self.reward_model, self.critic)
        self.policy_optimizer = optim.adamw(self.policy, learning_rate=settings.learning_rate)
        self.critic_optimizer = optim.adamw(self.critic, learning_rate=settings.critic_learning_rate)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.kl_coef = settings.kl_coef
        self.pad: int = self.tokenizer.pad_token_id
        self.eos: int = self.tokenizer.eos_token_id
        if settings.recompute_activations:
            for model in (self.policy, getattr(self.critic, "classifier", None)):
                packed.recompute_activations(model)

    @property
    def has_shared_trunk(self) -> bool:
        """Whether one forward gives log-probabilities and values."""
        return isinstance(self.critic, ValueHead)

    def sampling(self, *, seed: int = 0) -> SamplingSettings:
        """The full distribution at the training temperature: a truncated one would bias the ratio."""
        s = self.settings
        return SamplingSettings(
            temperature=s.temperature, max_new_tokens=s.max_new_tokens, max_prompt_length=s.max_prompt_length, seed=seed
        )

    def act(self, pairs: Sequence[Pair], *, with_entropy: bool = False) -> Outputs:
        """The policy on prompts and responses."""
        return self._act(self.policy, pairs, with_entropy=with_entropy)

    @torch.no_grad()
    def reference_logprobs(self, pairs: Sequence[Pair]) -> Tensor:
        """(n,) log-probabilities under the reference: a copy, or the policy with its adapter switched off."""
        if self.reference is not None:
            return self._act(self.reference, pairs).logprobs
        assert self.adapted is not None
        with self.adapted.disable_adapter():
            return self._act(self.policy, pairs).logprobs

    def values(self, pairs: Sequence[Pair]) -> Tensor:
        """(n,) value of the state before each response token, by a critic of its own."""
        assert isinstance(self.critic, RewardModel)
        with self.precision():
            states, _ = self._states_before(self.critic.classifier, self.critic.trunk, pairs)
            return self.critic.normalised(self.critic.raw(states))

    @torch.no_grad()
    def scores(self, pairs: Sequence[Pair]) -> tuple[Tensor, Tensor]:
        """(rows,) the reward model's scores at the end token, which cut responses are given, and their spreads.

        The spread is the deviation over the reward model's heads, 0 where it has one head only.
        """
        model, ended = self.reward_model, [(p, r if r[-1] == self.eos else [*r, self.eos]) for p, r in pairs]
        with self.precision():
            states = packed.states_at_end(
                model.trunk, ended, pad=self.pad, is_packed=self.is_packed[id(model.classifier)]
            )
            scores = model.normalised(model.raw(states)).cpu()
            spreads = torch.zeros_like(scores) if self.heads is None else self.heads(states).std(dim=1).cpu()
            return scores, spreads * model.gain

    def finished_policy(self) -> Any:
        """The policy as it is saved: an adapter is merged into its weights."""
        return self.adapted.merge_and_unload() if self.adapted is not None else self.policy

    def _act(self, model: Any, pairs: Sequence[Pair], *, with_entropy: bool = False) -> Outputs:
        with self.precision():
            states, chosen = self._states_before(model, trunk_of(model), pairs)
            logprobs, entropies = masked.selected_logprobs(
                states,
                model.get_output_embeddings(),
                chosen,
                temperature=self.settings.temperature,
                softcap=softcap_of(model),
                with_entropy=with_entropy,
            )
            shared = isinstance(self.critic, ValueHead) and model is self.policy
            return Outputs(logprobs, entropies, self.critic(states) if shared else None)

    def _states_before(self, model: Any, trunk: Any, pairs: Sequence[Pair]) -> tuple[Tensor, Tensor]:
        return packed.states_before(trunk, pairs, pad=self.pad, is_packed=self.is_packed[id(model)])

    def precision(self) -> contextlib.AbstractContextManager[Any]:
        """Matrix products in bfloat16 where asked for; weights, losses and optimizer stay in float32."""
        wanted = self.settings.precision == "bfloat16"
        return torch.autocast(optim.device().type, torch.bfloat16, enabled=wanted)

    def _language_models(self) -> list[Any]:
        return [m for m in (self.policy, self.reference, self.reward_model.classifier) if m is not None]

    def _new_critic(self) -> nn.Module:
        if self.settings.critic == "shared":
            return ValueHead(self.policy.get_output_embeddings().weight.shape[1])
        critic = copy.deepcopy(self.reward_model)  # InstructGPT starts the value model from the reward model.
        self.is_packed[id(critic.classifier)] = self.is_packed[id(self.reward_model.classifier)]
        if self.settings.lora_rank:
            _with_adapter(critic.classifier, self.settings)
            critic.head.requires_grad_(requires_grad=True)
        else:
            critic.requires_grad_(requires_grad=True)
        return critic


def _reward_model(folder: str | Path, tokenizer: Any) -> RewardModel:
    own = load_tokenizer(folder)
    if own.get_vocab() != tokenizer.get_vocab():
        raise ValueError("The reward model has another vocabulary than the policy; train it on the same base model.")
    return load_reward_model(folder, tokenizer=own)


def _with_adapter(model: Any, settings: PPOSettings) -> Any:
    """Freeze `model` and put LoRA (arXiv:2106.09685) beside each linear layer of its trunk, in place.

    The second matrix starts at 0, so the adapted model starts as the model. The wrapper that switches it off is
    returned; the model itself is used as before.
    """
    from peft import LoraConfig, PeftModel

    head = model.get_output_embeddings() or getattr(model, "score", None)
    targets = [name for name, part in model.named_modules() if _is_linear(part) and part is not head]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        config = LoraConfig(r=settings.lora_rank, lora_alpha=2 * settings.lora_rank, target_modules=targets)
        return PeftModel(model, config).eval()


def _is_linear(part: nn.Module) -> bool:
    from transformers.pytorch_utils import Conv1D

    return isinstance(part, nn.Linear | Conv1D)
