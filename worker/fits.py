"""Whether a run fits into memory, asked before it starts."""

from app.projects.memory import Memory, in_words, memory_of_run
from app.projects.settings import sampling_of
from worker.work import Work


def check_memory(work: Work, kind: str, num_parameters: int | None, *, vocab_size: int = 32_000) -> None:
    """Refuse a run whose weights alone cannot fit; say so in its log when only the estimate of the rest does not.

    Raises:
        ValueError: with what it needs, what there is and what to lower.
    """
    if not num_parameters:
        return
    sampling = sampling_of(work.project.sampling)
    need = memory_of_run(
        kind,
        work.training,
        num_parameters=num_parameters,
        max_new_tokens=sampling.max_new_tokens,
        vocab_size=vocab_size,
    )
    if sentence := verdict(need, available_bytes()):
        if need.weights > available_bytes():
            raise ValueError(sentence)
        work.recorder.say(sentence)


def verdict(need: Memory, available: int) -> str:
    """Empty when it fits; else a sentence."""
    if need.total <= available:
        return ""
    certainly = "needs" if need.weights > available else "may need"
    return (
        f"This run {certainly} about {in_words(need.total)} of memory, and {in_words(available)} are free. "
        "Use a smaller model, LoRA (training.ppo.lora_rank), or smaller batches and lengths."
    )


def available_bytes() -> int:
    """Free on the GPU where there is one, else in this machine."""
    import psutil
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    return int(psutil.virtual_memory().available)
