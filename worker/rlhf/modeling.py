"""Models: loading and saving policies and reward models, and the few views on them that training needs."""

import copy
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from worker.rlhf.encoders import add_mean_layer, linear_head, wants_mean
from worker.rlhf.model_folder import check_model_folder
from worker.rlhf.tokens import Batch, collate, encode_prompt, encode_response, first_id, fit, position_ids
from worker.rlhf.types import Prompt

NEW_HEADS = ("score.", "classifier.", "pooler.", "bert.pooler.", "pre_classifier.")
GAIN, BIAS = "attune_score_gain", "attune_score_bias"


def load_policy(source: str | Path, *, tokenizer: Any = None, dtype: torch.dtype = torch.float32) -> Any:
    """A causal language model with dropout off, safetensors only, no code from the folder.

    Dropout stays off in training too (`eval` is never left): with it, the first ratio of PPO is not 1.

    Raises:
        ValueError: the folder cannot be used, with the reason.
    """
    from transformers import AutoModelForCausalLM

    model = _from_folder(AutoModelForCausalLM, source, dtype=dtype)
    if tokenizer is not None and len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer))
    return model.eval()


def _from_folder(kind: Any, source: str | Path, *, may_be_new: Sequence[str] = (), **options: Any) -> Any:
    """A model that is all there: no weight made up (but for `may_be_new`), none that is not a number.

    Raises:
        ValueError: naming the folder and what is wrong.
    """
    check_model_folder(source)
    name = Path(source).name
    safely: dict[str, Any] = {"trust_remote_code": False, "use_safetensors": True}
    try:
        options |= {"attn_implementation": _attention_of(source)}
        model, report = kind.from_pretrained(str(source), output_loading_info=True, **safely, **options)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # Of a folder that does not fit together the library raises anything.
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ValueError(f"The model {name} cannot be loaded: {reason[:300]}") from error
    missing = sorted(key for key in report["missing_keys"] if not key.startswith(tuple(may_be_new)))
    if missing:
        raise ValueError(f"The weights of {name} lack {missing[0]} ({len(missing)} in all): they are of another model.")
    for key, parameter in model.named_parameters():
        if parameter.numel() and not all(map(math.isfinite, torch.stack(parameter.detach().aminmax()).tolist())):
            raise ValueError(f"The weights of {name} hold values that are not numbers, in {key}. Use another copy.")
    return model


def _attention_of(source: str | Path) -> str:
    """Fused attention, where the model's logits of attention have no soft cap (Gemma 2), which it would leave out."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(str(source), trust_remote_code=False)
    return "eager" if getattr(config, "attn_logit_softcapping", None) else "sdpa"


def save_policy(model: Any, tokenizer: Any, out: Path) -> None:
    """A Hugging Face folder that any tool loads: safetensors, tokenizer, chat template."""
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out, safe_serialization=True, state_dict=_state(model))
    tokenizer.save_pretrained(out)


def _state(model: nn.Module) -> dict[str, Tensor]:
    """What is saved, as it stands: `state_dict()` would take a sharded model's gathered weights apart again."""
    state: dict[str, Tensor] = {name: p.data for name, p in model.named_parameters(remove_duplicate=False)}
    for prefix, module in model.named_modules():
        kept = set(module._buffers) - module._non_persistent_buffers_set
        state |= {f"{prefix}.{name}".lstrip("."): module.get_buffer(name) for name in kept}
    return state


def trunk_of(model: Any) -> Any:
    """The model without its head: ids to hidden states."""
    return model.base_model


def softcap_of(model: Any) -> float | None:
    """Gemma's bound on its logits, where there is one."""
    cap = getattr(model.config, "final_logit_softcapping", None)
    return float(cap) if cap else None


def hidden_states(model: Any, ids: Tensor, attention_mask: Tensor) -> Tensor:
    """(batch, time, width) of a right- or left-padded batch, with positions that ignore the padding."""
    output = trunk_of(model)(
        input_ids=ids, attention_mask=attention_mask.long(), position_ids=position_ids(attention_mask), use_cache=False
    )
    states: Tensor = output.last_hidden_state
    return states


class RewardModel(nn.Module):
    """A trunk and a linear head: the score of a response is the head at its end token, times gain, plus bias.

    Wraps transformers' own sequence-classification model, so that its folder loads there as well. The bias only
    shifts all scores alike; it lives in the config, because that model's head has none.
    """

    def __init__(self, classifier: Any) -> None:
        super().__init__()
        self.classifier = classifier
        self.gain = float(getattr(classifier.config, GAIN, 1.0))
        self.bias = float(getattr(classifier.config, BIAS, 0.0))

    @property
    def config(self) -> Any:
        """The configuration of transformers."""
        return self.classifier.config

    @property
    def trunk(self) -> Any:
        """Ids to hidden states."""
        return self.classifier.base_model

    @property
    def is_encoder(self) -> bool:
        """Whether a score is what the classifier says of the whole sequence, not a head on its last token."""
        return not isinstance(getattr(self.classifier, "score", None), nn.Linear)

    @property
    def head(self) -> nn.Linear:
        """Hidden state to raw score."""
        return linear_head(self.classifier) if self.is_encoder else self.classifier.score

    def last_states(self, ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(batch, width), what the head reads: of a language model, the hidden states at the last real token."""
        if self.is_encoder:
            read: list[Tensor] = []
            hook = self.head.register_forward_pre_hook(lambda _, given: read.append(given[0]))
            self.classifier(input_ids=ids, attention_mask=attention_mask.long())
            hook.remove()
            return read[0]
        states = self.trunk(
            input_ids=ids,
            attention_mask=attention_mask.long(),
            position_ids=position_ids(attention_mask),
            use_cache=False,
        ).last_hidden_state
        places = torch.arange(ids.shape[1], device=ids.device)
        last = (places * attention_mask).argmax(dim=1)
        return states[torch.arange(len(ids), device=ids.device), last]

    def raw(self, states: Tensor) -> Tensor:
        """Scores before gain and bias, in float32: (...,) from (..., width)."""
        return self.head(states).squeeze(-1).float()

    def normalised(self, raw: Tensor) -> Tensor:
        """Scores as others see them."""
        return raw * self.gain + self.bias


def new_reward_model(
    source: str | Path, *, tokenizer: Any, seed: int, dtype: torch.dtype = torch.float32
) -> RewardModel:
    """A reward model on the trunk of a policy, with a fresh head N(0, 1 / sqrt(width + 1)).

    Source of the head's scale: summarize_from_feedback, `reward.py`; it starts the loss at ln 2.
    """
    classifier = _load_classifier(source, tokenizer=tokenizer, dtype=dtype, may_be_new=NEW_HEADS)
    model = RewardModel(classifier)
    if model.is_encoder and wants_mean(source):
        add_mean_layer(classifier)
    head = model.head
    generator = torch.Generator().manual_seed(seed)
    std = 1 / math.sqrt(head.in_features + 1)
    with torch.no_grad():
        head.weight.copy_(torch.randn(head.weight.shape, generator=generator) * std)
        if head.bias is not None:
            head.bias.zero_()
    return model


def load_reward_model(source: str | Path, *, tokenizer: Any, dtype: torch.dtype = torch.float32) -> RewardModel:
    """A reward model from its folder.

    Raises:
        ValueError: it has no trained head, or cannot be used otherwise.
    """
    return RewardModel(_load_classifier(source, tokenizer=tokenizer, dtype=dtype))


def _load_classifier(source: str | Path, *, tokenizer: Any, dtype: torch.dtype, may_be_new: Sequence[str] = ()) -> Any:
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    logging.set_verbosity_error()  # A fresh head is expected; the library warns of it at length.
    classifier = _from_folder(
        AutoModelForSequenceClassification, source, num_labels=1, dtype=dtype, may_be_new=may_be_new
    )
    linear_head(classifier)
    classifier.config.pad_token_id = tokenizer.pad_token_id
    if len(tokenizer) > classifier.get_input_embeddings().num_embeddings:
        classifier.resize_token_embeddings(len(tokenizer))
    return classifier.eval()


def save_reward_model(model: RewardModel, tokenizer: Any, out: Path) -> None:
    """A folder for `AutoModelForSequenceClassification`: the gain is folded into the head, the bias into the config."""
    head, bias = copy.deepcopy(model.head), model.bias
    with torch.no_grad():
        model.head.weight.mul_(model.gain)
        if model.head.bias is not None:
            model.head.bias.mul_(model.gain).add_(bias)
            bias = 0.0
    setattr(model.config, GAIN, 1.0)
    setattr(model.config, BIAS, bias)
    out.mkdir(parents=True, exist_ok=True)
    model.classifier.save_pretrained(out, safe_serialization=True, state_dict=_state(model.classifier))
    model.head.load_state_dict(head.state_dict())
    tokenizer.save_pretrained(out)


@torch.no_grad()
def score(
    model: RewardModel,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    responses: Sequence[str],
    *,
    max_length: int = 1024,
    batch_size: int = 32,
) -> list[float]:
    """The reward model's score of each response to its prompt."""
    max_length = min(max_length, longest_input(model))
    scores = [0.0] * len(prompts)
    place = model.head.weight.device
    batches = token_batches(tokenizer, prompts, responses, max_length=max_length, batch_size=batch_size)
    for rows, batch in batches:
        values = score_ids(model, batch.ids.to(place), batch.attention_mask.to(place))
        for row, value in zip(rows, values.tolist(), strict=True):
            scores[row] = value
    return scores


@torch.no_grad()
def read_ends(
    model: RewardModel,
    read: nn.Module,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    responses: Sequence[str],
    *,
    max_length: int,
) -> Tensor:
    """(responses, columns): what other heads say of the states that the model's own head reads."""
    place, read = model.head.weight.device, read.to(model.head.weight.device)
    found: dict[int, Tensor] = {}
    for rows, batch in token_batches(tokenizer, prompts, responses, max_length=max_length):
        values = read(model.last_states(batch.ids.to(place), batch.attention_mask.to(place))).cpu()
        found |= dict(zip(rows, values, strict=True))
    return torch.stack([found[row] for row in range(len(prompts))])


def token_batches(
    tokenizer: Any, prompts: Sequence[Prompt], responses: Sequence[str], *, max_length: int, batch_size: int = 32
) -> Iterator[tuple[list[int], Batch]]:
    """(places, batch) of prompts with their responses, alike in length within a batch."""
    eos, first = tokenizer.eos_token_id, first_id(tokenizer)
    pairs = [
        fit(
            encode_prompt(tokenizer, prompt),
            encode_response(tokenizer, response),
            max_length=max_length,
            eos=eos,
            first=first,
        )
        for prompt, response in zip(prompts, responses, strict=True)
    ]
    order = sorted(range(len(pairs)), key=lambda i: len(pairs[i][0]) + len(pairs[i][1]))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        yield rows, collate([pairs[row] for row in rows], pad=tokenizer.pad_token_id)


def longest_input(model: RewardModel) -> int:
    """Tokens that an encoder has positions for; a language model is not held to its number here."""
    positions = getattr(model.config, "max_position_embeddings", None)
    return int(positions) - 2 if model.is_encoder and positions else 2**31


def score_ids(model: RewardModel, ids: Tensor, attention_mask: Tensor) -> Tensor:
    """(batch,) scores at the last real token of each row, whatever the padding."""
    if model.is_encoder:
        logits = model.classifier(input_ids=ids, attention_mask=attention_mask.long()).logits
        return model.normalised(logits.squeeze(-1).float())
    return model.normalised(model.raw(model.last_states(ids, attention_mask)))


def num_parameters(model: nn.Module) -> int:
    """How many numbers the model holds."""
    return sum(parameter.numel() for parameter in model.parameters())
