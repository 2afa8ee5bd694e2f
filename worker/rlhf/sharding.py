"""Weights spread over processes (FSDP2), for models that one device cannot hold with their gradients and optimizer.

`accelerate launch --use_fsdp --fsdp_version 2` asks for it. Each process then keeps a part of every transformer block, of its
gradient and of its optimizer state. While learning, a block is gathered when its turn comes and let go after it; to sample and to
score, one model at a time is made whole (`whole`). Embeddings and heads stay whole everywhere, as without it. Losses are divided
by what the whole batch counts, so gradients are summed, and the numbers are those of one process.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import Tensor, nn

from worker.rlhf import optim, processes
from worker.rlhf.modeling import num_parameters

T = TypeVar("T")


def is_wanted() -> bool:
    """Whether the launcher asked for it.

    Raises:
        ValueError: it asked for what is not there.
    """
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() == "true":
        raise ValueError("DeepSpeed is not supported. FSDP2 does what its ZeRO stage 3 does: launch with --use_fsdp.")
    if os.environ.get("ACCELERATE_USE_FSDP", "").lower() != "true" or processes.size() == 1:
        return False
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise ValueError("The first FSDP is not supported; launch with --fsdp_version 2.")
    return True


def shard(*models: nn.Module | None) -> None:
    """Spread the transformer blocks of each model over the processes, in place, where it is wanted."""
    if not is_wanted():
        return
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(optim.device().type, (processes.size(),))
    for model in models:
        for block in _blocks(model) if model is not None else ():
            sharded = fully_shard(block, mesh=mesh, reshard_after_forward=True)
            sharded.set_gradient_divide_factor(1.0)
            sharded.set_force_sum_reduction_for_comms(True)  # Gloo, on processors, knows no scaled sums.


def _blocks(model: nn.Module) -> Sequence[nn.Module]:
    """The list of layers that holds most of the model's numbers."""
    lists: list[nn.Module] = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return list(max(lists, key=num_parameters).children()) if lists else []


@contextmanager
def whole(*models: nn.Module | None) -> Iterator[None]:
    """Every block gathered, for a while in which processes may differ in how often they call them, or that saves.

    All processes must enter and leave it together.
    """
    from torch.distributed.fsdp import FSDPModule

    found = [m for model in models if model is not None for m in model.modules() if isinstance(m, FSDPModule)]
    for block in found:
        block.set_reshard_after_forward(False)
        block.unshard()
    yield
    for block in found:
        block.reshard()
        block.set_reshard_after_forward(True)


def like(tensor: Tensor, example: Any) -> Tensor:
    """A whole tensor as the example holds its own: this process's part of it, where that is a part."""
    if not processes.is_shard(example) or processes.is_shard(tensor) or tensor.shape != example.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(example.device), example.device_mesh, example.placements)


def parts_alike(parts: Sequence[list[T]]) -> list[list[T]]:
    """As many parts as the process with the most has; those that are added are empty.

    Gathering a block takes all processes, so all must call the model equally often.
    """
    if not is_wanted():
        return list(parts)
    most = max(processes.gathered_from_all(len(parts)))
    return [*parts, *([] for _ in range(most - len(parts)))]
