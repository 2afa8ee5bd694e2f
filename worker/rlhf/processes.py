"""Several processes, each with a whole model, that together do what one would: `accelerate launch -m worker.rlhf ...`.

Each takes its share of the rows. Losses are divided by the tokens of the whole batch before, so summed gradients are
those of one process, and all take the same step. Random numbers are drawn alike everywhere and belong to rows, not
to processes. With one process, every function here does nothing.
"""

import os
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist

T = TypeVar("T")


def start() -> None:
    """Join the other processes, when a launcher has set up this one as one of several."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        from accelerate import PartialState

        # Else transformers lets the first process alone load a model, for a wrapper that would send it to the others.
        os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
        PartialState(cpu=not torch.cuda.is_available())


def rank() -> int:
    """Which of the processes this is, from 0."""
    return dist.get_rank() if dist.is_initialized() else int(os.environ.get("RANK", "0"))


def size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this process is the one that writes files and tells of progress."""
    return rank() == 0


def share(items: Sequence[T]) -> list[T]:
    """This process's items: every `size()`-th."""
    return list(items[rank() :: size()]) if size() > 1 else list(items)


def gathered(mine: Sequence[T]) -> list[T]:
    """All processes' items, in the order that `share` took them from."""
    if size() == 1:
        return list(mine)
    parts = gathered_from_all(list(mine))
    return [parts[index % size()][index // size()] for index in range(sum(map(len, parts)))]


def sum_gradients(modules: Iterable[nn.Module]) -> None:
    """Add up the gradients of all processes, in one message. A process without rows counts as zeros.

    Those of sharded weights (`sharding.py`) were summed on the way.
    """
    if size() == 1:
        return
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad and not is_shard(p)]
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    dist.all_reduce(flat)
    for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = part.view_as(parameter)


def is_shard(tensor: Tensor) -> bool:
    """Whether other processes hold the rest of it (`sharding.py`)."""
    return hasattr(tensor, "full_tensor")


def full(tensor: Tensor) -> Tensor:
    """The tensor with the parts of all processes; all must ask."""
    return tensor.full_tensor() if is_shard(tensor) else tensor  # type: ignore[attr-defined, no-any-return]


def summed(values: dict[str, float]) -> dict[str, float]:
    """Sums over processes."""
    if size() == 1:
        return values
    parts = gathered_from_all(values)
    return {name: sum(part[name] for part in parts) for name in values}


def gathered_from_all(value: T) -> list[T]:
    """What each process holds."""
    if size() == 1:
        return [value]
    parts: list[Any] = [None] * size()
    dist.all_gather_object(parts, value)
    return parts


def first_says(value: T) -> T:
    """The first process's value: what depends on a clock must be decided by one."""
    return gathered_from_all(value)[0]


def wait_for_all() -> None:
    """Until every process is here: files of the first are then there for all."""
    if size() > 1:
        dist.barrier()
