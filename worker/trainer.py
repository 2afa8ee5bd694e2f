"""The process that trains one run: `python -m worker.trainer RUN_ID FENCE`. Started by `worker.tasks`.

Ends when its supervisor does (end of file on standard input), even by kill -9; when its fence is stale; and when
somebody cancels.
"""

import logging
import os
import signal
import sys
import threading
import traceback

from app.config import get_settings
from app.training import runs
from app.training.models import Run, State
from worker.database import in_transaction
from worker.registry import StaleRunError

log = logging.getLogger("attune.trainer")


def main(arguments: list[str]) -> int:
    """Train; the exit status is 0 whenever the run's row says how it ended."""
    run_id, fence = int(arguments[0]), int(arguments[1])
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    threading.Thread(target=_end_with_supervisor, daemon=True).start()
    _prepare_libraries()
    from worker import pipeline, work
    from worker.rlhf import processes

    processes.start()

    run = in_transaction(lambda session: session.get(Run, run_id))
    if run is None or run.fence != fence or run.state != State.RUNNING:
        log.warning("Run %s is not ours (fence %s); nothing is done.", run_id, fence)
        return 0
    try:
        result = pipeline.execute(run)
    except StaleRunError:
        log.warning("Run %s was taken over by another process; stopping.", run_id)
        return 0
    except Exception as error:  # noqa: BLE001 - whatever it is, the run's row must say so
        log.error("Run %s failed.\n%s", run_id, traceback.format_exc())
        if not processes.is_first():
            return 1  # The first process says how the run ended, and where it cannot, the supervisor does.
        error_class, reason = classify(error)
        in_transaction(
            lambda session: runs.fail_run(session, run_id, fence=fence, error_class=error_class, reason=reason)
        )
        return 0
    if processes.is_first() and in_transaction(lambda session: pipeline.conclude(session, run, result)):
        work.clear(run)
    return 0


def classify(error: BaseException) -> tuple[str, str]:
    """(class, sentence) of a failure, for the operator."""
    from worker.rlhf.types import DataError, NotANumberError

    name, text = type(error).__name__, str(error)
    if isinstance(error, MemoryError) or "OutOfMemory" in name or "out of memory" in text.lower():
        return "oom", ""
    if isinstance(error, OSError) and error.errno in {28, 122}:
        return "disk", ""
    if isinstance(error, NotANumberError):
        return "nan", text
    if "CUDA" in text or "cuda" in name.lower():
        return "cuda", text.splitlines()[0] if text else ""
    if isinstance(error, ValueError | DataError):
        return "data", text
    return "bug", f"{name}: {text.splitlines()[0] if text else ''}"


def _prepare_libraries() -> None:
    """Threads as the settings say, deterministic algorithms, no progress bars, no network."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import torch
    import torch._dynamo  # Else imported in the middle of loading the first model, with many modules of its own.
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    torch.manual_seed(0)
    if threads := get_settings().trainer_threads:
        torch.set_num_threads(threads)


def _end_with_supervisor() -> None:
    """Block until standard input ends. os.read, because a buffered reader aborts the interpreter at its exit."""
    while os.read(0, 1):
        pass
    os._exit(143)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
