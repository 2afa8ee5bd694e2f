"""A process among several: PPO is stopped after its first update, and another run of it goes on from the checkpoint."""

import json
import sys
from itertools import islice
from pathlib import Path

from worker.rlhf import processes
from worker.rlhf.checkpoint import CheckpointStore
from worker.rlhf.ppo import train_ppo
from worker.rlhf.settings import PPOSettings
from worker.rlhf.types import read_prompts


def main() -> None:
    policy, reward, prompts, out = (Path(argument) for argument in sys.argv[1:5])
    processes.start()
    given = dict(zip(("num_updates", "batch_size", "minibatch_size", "max_new_tokens"), (2, 8, 5, 8), strict=True))
    settings = PPOSettings(**given, seed=1, checkpoint_seconds=0)  # type: ignore[arg-type]
    store, rows = CheckpointStore(out / "checkpoints"), read_prompts(prompts)
    for count in (1, None):
        steps = train_ppo(policy, reward, rows, settings, out=out, checkpoints=store, eval_prompts=rows)
        told = list(islice(steps, count))
    if processes.is_first():
        print(json.dumps({"steps": [stats["step"] for stats in told]}))


if __name__ == "__main__":
    main()
