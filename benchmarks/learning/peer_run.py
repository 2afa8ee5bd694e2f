"""Runs one of the peers' scripts as it is, in TRL's environment, and adds to its line of results what that leaves out.

    python peer_run.py PEERS reward|ppo [--order FILE] [--keep FOLDER] [--gpu] -- ARGUMENTS OF THE SCRIPT

Added for reward models: a digest of the token ids that TRL was given, in order. For PPO: processor seconds of each
phase, score and KL of each update, and (to FILE) the prompts of each update, so that ours can follow the same order; the
policy as it is at the end goes to FOLDER.
"""

import argparse
import contextlib
import hashlib
import importlib
import io
import json
import sys
import time
from functools import partial
from pathlib import Path


def main() -> None:
    cut = sys.argv.index("--")
    parser = argparse.ArgumentParser()
    parser.add_argument("peers")
    parser.add_argument("kind", choices=["reward", "ppo"])
    parser.add_argument("--order")
    parser.add_argument("--keep")
    parser.add_argument("--gpu", action="store_true")
    options = parser.parse_args(sys.argv[1:cut])
    sys.path.insert(0, options.peers)
    script = importlib.import_module(f"trl_{options.kind}")
    sys.argv = [script.__name__, *sys.argv[cut + 1 :]]
    if options.gpu:
        use_gpu(script)
    watch = watch_reward if options.kind == "reward" else watch_ppo
    with contextlib.redirect_stdout(io.StringIO()) as printed, watch(script, options) as added:
        script.main()
    line = json.loads(printed.getvalue().strip().splitlines()[-1])
    print(json.dumps(line | added | (gpu_memory() if options.gpu else {})))


@contextlib.contextmanager
def watch_reward(script, _options):
    """Note which ids TRL was given, pair by pair: better, worse, better, ..."""
    added = {}
    build = script.Dataset.from_dict

    def noted(columns):
        pairs = zip(columns["chosen_ids"], columns["rejected_ids"], strict=True)
        added["ids_digest"] = hashlib.sha256(json.dumps([list(pair) for pair in pairs]).encode()).hexdigest()[:16]
        return build(columns)

    script.Dataset = type("Dataset", (), {"from_dict": staticmethod(noted)})
    yield added


@contextlib.contextmanager
def watch_ppo(script, options):
    """Split the processor time at three places of an update: sampled, advantages whitened, logged."""
    phases = dict.fromkeys(("sample_cpu_s", "score_cpu_s", "optimise_cpu_s"), 0.0)
    updates, queries, mark = [], [], [0.0]
    module, kept_clock = script.ppo_trainer, clock(options.gpu)
    sample, whiten = module.batch_generation, module.masked_whiten

    def spent(phase):
        now = kept_clock()
        phases[phase] += now - mark[0]
        mark[0] = now

    def sampled(model, rows, micro, pad, config):
        queries.append([[token for token in row if token != pad] for row in rows.tolist()])
        mark[0] = kept_clock()
        result = sample(model, rows, micro, pad, config)
        spent("sample_cpu_s")
        return result

    def whitened(*arguments, **named):
        result = whiten(*arguments, **named)
        spent("score_cpu_s")
        return result

    class Record(script.Record):
        def on_log(self, args, state, control, logs=None, **kwargs):
            if "objective/kl" in (logs or {}):
                spent("optimise_cpu_s")
                updates.append({"score": logs["objective/scores"], "kl": logs["objective/kl"]})
            super().on_log(args, state, control, logs=logs, **kwargs)

    class Trainer(script.PPOTrainer):
        def train(self):
            super().train()
            if options.keep:
                self.policy_model.save_pretrained(options.keep)

    script.Record, script.PPOTrainer, module.masked_whiten = Record, Trainer, whitened
    module.batch_generation = sampled
    added = {"updates_log": updates, "phases": phases}
    yield added
    added["queries_digest"] = hashlib.sha256(json.dumps(queries).encode()).hexdigest()[:16]
    if options.order:
        with Path(options.order).open("w", encoding="utf-8") as file:
            json.dump(queries, file)


def clock(is_gpu):
    """Seconds of the processor; on a GPU, of the wall once its queue is empty."""
    if not is_gpu:
        return time.process_time
    import torch

    def now():
        torch.cuda.synchronize()
        return time.perf_counter()

    return now


def use_gpu(script):
    """The scripts say `use_cpu`; and their accuracy is taken wherever tensors are made by default."""
    import torch

    name = "RewardConfig" if hasattr(script, "RewardConfig") else "PPOConfig"
    config = getattr(script, name)

    def on_gpu(**settings):
        return config(**(settings | {"use_cpu": False}))

    setattr(script, name, on_gpu)
    if hasattr(script, "pairwise_accuracy"):
        script.pairwise_accuracy = partial(accuracy_on_gpu, script.pairwise_accuracy, torch)


def accuracy_on_gpu(accuracy, torch, model, *arguments):
    with torch.device("cuda"):
        return accuracy(model.to("cuda"), *arguments)


def gpu_memory():
    import torch

    return {"peak_gpu_mb": round(torch.cuda.max_memory_allocated() / 2**20)}


if __name__ == "__main__":
    main()
