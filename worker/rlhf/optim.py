"""AdamW as language-model training wants it, a schedule, and batches in a seeded order."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from worker.rlhf.processes import full, is_shard

T = TypeVar("T")


def device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def adamw(module: nn.Module, *, learning_rate: float, weight_decay: float = 0.0) -> torch.optim.AdamW:
    """AdamW with eps 1e-5 ("The N implementation details of RLHF with PPO", detail 5), in one pass over the weights."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [{"params": group} for group in _apart(parameters)]
    return torch.optim.AdamW(groups, lr=learning_rate, eps=1e-5, weight_decay=weight_decay, fused=True)


def _apart(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    """Whole tensors, then those that are spread over processes: one kernel cannot take both."""
    groups: tuple[list[Tensor], list[Tensor]] = ([], [])
    for tensor in tensors:
        groups[is_shard(tensor)].append(tensor)
    return [group for group in groups if group]


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """For schedules: the rate is a function of the step, so that a resumed run needs no scheduler state."""
    for group in optimizer.param_groups:
        group["lr"] = value


def warmup_then_linear(step: int, total: int, *, peak: float, warmup_ratio: float) -> float:
    """The learning rate before step `step` (from 0): up to `peak`, then down in a line to 0."""
    warmup = max(1, round(total * warmup_ratio))
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * max(0.0, (total - step) / max(1, total - warmup))


def clip_gradients(module: nn.Module, max_norm: float) -> float:
    """Scale gradients down to `max_norm`; returns the norm before."""
    groups = _apart(parameter.grad for parameter in module.parameters() if parameter.grad is not None)
    norms = [nn.utils.get_total_norm(group) for group in groups]
    norm = torch.stack([full(n) for n in norms]).norm() if len(norms) > 1 else full(norms[0])
    for parameters in _apart(parameter for parameter in module.parameters() if parameter.grad is not None):
        nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    return float(norm)


def num_batches(num_items: int, batch_size: int) -> int:
    """Batches in one pass; the last may be smaller."""
    return -(-num_items // batch_size)


def batch_of_step(items: Sequence[T], step: int, *, batch_size: int, seed: int) -> list[T]:
    """The items of optimizer step `step` (from 0): each epoch is a fresh permutation drawn from `seed` and epoch.

    A function of the step alone, so that a resumed run continues at the right place without stored state.
    """
    epoch, place = divmod(step, num_batches(len(items), batch_size))
    generator = torch.Generator().manual_seed(seed * 100_003 + epoch)
    order = torch.randperm(len(items), generator=generator).tolist()
    return [items[index] for index in order[place * batch_size : (place + 1) * batch_size]]


def micro_batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Consecutive parts of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
