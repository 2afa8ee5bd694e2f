"""Trains with our library on the ids, the order and the batches that TRL had, and prints one line of results.

    python ours_run.py PEERS reward|ppo|judge '{...}'

A script, so that `PYTHONPATH` chooses the working tree whose `worker.rlhf` is measured. Texts go through our own file
formats and our own tokenising; the digest of the ids then shows that they are TRL's. The peers' `common` splits,
shuffles and measures accuracy on the folder that was saved.
"""

import functools
import hashlib
import itertools
import json
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

import torch


def main() -> None:
    peers, kind, text = sys.argv[1:]
    sys.path.append(peers)
    torch.set_num_threads(1)
    print(json.dumps({"reward": train_reward, "ppo": train_ppo, "judge": judge}[kind](json.loads(text))))


def train_reward(given: dict) -> dict:
    """`given`: data, model, limit, eval_limit, ctx, seed, settings; keep (a folder), if the model is wanted."""
    import common

    from worker.rlhf.reward_model import RewardSettings, train_reward_model
    from worker.rlhf.tokens import load_tokenizer
    from worker.rlhf.types import read_rankings, settings_from

    train, held_out = common.split(common.load_rankings(given["data"]))
    order = train[: given["limit"]]
    random.Random(given["seed"]).shuffle(order)
    settings = settings_from(RewardSettings, given["settings"])
    tokenizer = load_tokenizer(given["model"])
    with tempfile.TemporaryDirectory() as folder:
        file, out = Path(folder) / "rankings.jsonl", Path(given.get("keep") or Path(folder) / "model")
        write_rows(file, permuted(order, settings), lambda row: ranking_row(row.prompt, row.responses))
        rankings = read_rankings(file)
        began = clock()
        seen = [(clock(), stats) for stats in train_reward_model(given["model"], rankings, settings, out=out)]
        took = clock() - began
        digest = ids_digest(tokenizer, rankings, settings)
        accuracy = held_out_accuracy(common, out, held_out[: given["eval_limit"]], given["ctx"])
    steps = [(at, stats) for at, stats in seen if stats["phase"] == "reward"]
    first = min(len(order), settings.batch_size)
    seconds = (steps[-1][0] - steps[0][0]) * len(order) / (len(order) - first)
    return {
        "side": "ours",
        "steps": len(steps),
        "train_rankings": len(order),
        "cpu_s": round(seconds, 2),
        "cpu_s_with_loading_and_saving": round(took, 2),
        "rankings_per_cpu_s": round(len(order) / seconds, 3),
        "first_loss": steps[0][1]["loss"],
        "final_loss": sum(stats["loss"] for _, stats in steps[-max(1, len(steps) // 10) :]) / max(1, len(steps) // 10),
        "eval_accuracy": round(accuracy, 4),
        "ids_digest": digest,
        "settings": given["settings"],
        **memory(),
    }


def permuted(order: list, settings) -> list:
    """`order`, laid out so that the trainer's own permutation of it gives `order` back, batch by batch."""
    from worker.rlhf import optim

    rows: list = [None] * len(order)
    for index, row in zip(taken(optim, len(order), settings), order, strict=True):
        rows[index] = row
    return rows


def taken(optim, number: int, settings) -> list[int]:
    """The indices in the order in which one epoch takes them."""
    steps = range(optim.num_batches(number, settings.batch_size))
    batches = [
        optim.batch_of_step(range(number), step, batch_size=settings.batch_size, seed=settings.seed) for step in steps
    ]
    return [index for batch in batches for index in batch]


def ids_digest(tokenizer, rankings: list, settings) -> str:
    """As the peers' side takes it: all pairs of all rankings, in the order of training."""
    from worker.rlhf import optim
    from worker.rlhf.reward_model import encode_ranking

    pairs = []
    for index in taken(optim, len(rankings), settings):
        item = encode_ranking(tokenizer, rankings[index], settings.max_length)
        rows = [list(item.prompt) + list(response) for response in item.responses]
        pairs += [[rows[better], rows[worse]] for better, worse in item.pairs]
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:16]


def held_out_accuracy(common, folder: Path, held_out: list, ctx: int) -> float:
    """By the peers' function, with the class that they use, on the folder that we saved."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).to(place())
    encoded = [common.encode(tokenizer, ranking, ctx) for ranking in held_out]
    with torch.device(place()):
        return common.pairwise_accuracy(model, encoded, tokenizer.pad_token_id)


def train_ppo(given: dict) -> dict:
    """`given`: data, policy, reward, order (TRL's prompts by update), settings; stops where the order ends.

    keep (a folder), if the policy as it then is is wanted.
    """
    import common

    from worker.rlhf import ppo
    from worker.rlhf.tokens import load_tokenizer
    from worker.rlhf.types import read_prompts, settings_from

    settings = settings_from(ppo.PPOSettings, given["settings"])
    tokenizer = load_tokenizer(given["policy"])
    updates = json.loads(Path(given["order"]).read_text())
    texts = texts_of(updates, common.load_rankings(given["data"]), tokenizer, settings)
    phases, started = timed_phases(ppo)
    trainers = noted_trainers(ppo)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "prompts.jsonl"
        write_rows(file, arranged(texts, ppo, settings), lambda text: {"prompt": text})
        prompts = read_prompts(file)
        training = ppo.train_ppo(given["policy"], given["reward"], prompts, settings, out=Path(folder) / "model")
        steps = [(stats, clock()) for stats in itertools.islice(training, len(updates))]
    seconds, episodes = steps[-1][1] - started[0], len(texts)
    if given.get("keep"):
        ppo.save_policy(trainers[0].finished_policy(), tokenizer, Path(given["keep"]))
    return {
        "side": "ours",
        "updates": len(steps),
        "episodes": episodes,
        "cpu_s": round(seconds, 2),
        "episodes_per_cpu_s": round(episodes / seconds, 3),
        "phases": {name: round(value, 2) for name, value in phases.items()},
        "optimizer_steps": sum(stats["optimizer_steps"] for stats, _ in steps),
        "first_ratio_error": steps[0][0]["first_ratio_error"],
        "updates_log": [{"score": stats["score"], "kl": stats["kl"]} for stats, _ in steps],
        "queries_digest": queries_digest(prompts, len(updates), ppo, tokenizer, settings),
        "settings": given["settings"],
        **memory(),
    }


def judge(given: dict) -> dict:
    """Mean score of a policy's responses to held-out prompts. `given`: policy, reference, reward, data, samples, settings."""
    import common

    from worker.rlhf import ppo
    from worker.rlhf.actors import Trainer
    from worker.rlhf.episodes import collect
    from worker.rlhf.types import read_prompts, settings_from

    settings = settings_from(ppo.PPOSettings, given["settings"])
    _, held_out = common.split(common.load_rankings(given["data"]))
    texts = [ranking.prompt for ranking in held_out]
    asked = list(itertools.islice(itertools.cycle(texts), given["samples"]))
    trainer = Trainer(given["policy"], given["reward"], settings, reference_dir=given["reference"])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "prompts.jsonl"
        write_rows(file, asked, lambda text: {"prompt": text})
        prompts = read_prompts(file)
    size = settings.batch_size
    rollouts = [collect(trainer, prompts[start : start + size]) for start in range(0, len(prompts), size)]
    scores = torch.cat([rollout.scores for rollout in rollouts])
    told = [(len(rollout.pairs), ppo.described(rollout, trainer)) for rollout in rollouts]
    means = {key: sum(n * stats[key] for n, stats in told) / len(prompts) for key in ("kl", "length", "ended_share")}
    return {"score": float(scores.mean()), "se": float(scores.std()) / len(scores) ** 0.5, **means}


def noted_trainers(ppo) -> list:
    """The trainer that is made, for what it holds when training stops in the middle."""
    made, build = [], ppo.Trainer
    ppo.Trainer = lambda *arguments, **named: made.append(build(*arguments, **named)) or made[-1]
    return made


def texts_of(updates: list, rankings: list, tokenizer, settings) -> list[str]:
    """The prompts whose last tokens TRL was given, in its order."""
    by_ids = {}
    for ranking in rankings:
        ids = tokenizer(ranking.prompt, add_special_tokens=False)["input_ids"][-settings.max_prompt_length :]
        by_ids[tuple(ids)] = ranking.prompt
    return [by_ids[tuple(ids)] for update in updates for ids in update]


def arranged(texts: list[str], ppo, settings) -> list[str]:
    """`texts`, laid out so that the trainer's own permutation of them gives them back in this order."""
    rows = [""] * len(texts)
    for update in range(len(texts) // settings.batch_size):
        places = prompts_of(ppo, range(len(texts)), update, settings)
        for step, index in enumerate(places):
            rows[index] = texts[update * settings.batch_size + step]
    return rows


def queries_digest(prompts: list, num_updates: int, ppo, tokenizer, settings) -> str:
    """As the peers' side takes it: the ids of the prompts of each update, as the trainer cuts them."""
    from worker.rlhf.tokens import encode_prompt

    updates = [prompts_of(ppo, prompts, update, settings) for update in range(num_updates)]
    ids = [[encode_prompt(tokenizer, row, max_length=settings.max_prompt_length) for row in rows] for rows in updates]
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:16]


def prompts_of(ppo, prompts, update: int, settings) -> list:
    return ppo.prompts_of_update(prompts, update, batch_size=settings.batch_size, seed=settings.seed)


def timed_phases(ppo) -> tuple[dict[str, float], list[float]]:
    """Clocks around sampling, the rest of collecting, and optimising; and when the first update began."""
    phases = dict.fromkeys(("sample_cpu_s", "score_cpu_s", "optimise_cpu_s"), 0.0)
    started: list[float] = []

    def timed(module, name: str, phase: str, *, less: str = "") -> None:
        function = getattr(module, name)

        @functools.wraps(function)
        def wrapper(*arguments, **named):
            began = clock()
            started[:] = started or [began]
            result = function(*arguments, **named)
            phases[phase] += clock() - began
            if less:
                phases[less] -= clock() - began
            return result

        setattr(module, name, wrapper)

    episodes = sys.modules.get("worker.rlhf.episodes", ppo)
    timed(episodes, "generate", "sample_cpu_s", less="score_cpu_s")
    timed(ppo, "collect", "score_cpu_s")
    timed(ppo, "optimise", "optimise_cpu_s")
    return phases, started


def ranking_row(prompt: str, responses: tuple[str, ...]) -> dict:
    return {"prompt": prompt, "responses": list(responses), "ranks": list(range(1, len(responses) + 1))}


def write_rows(file: Path, rows: list, row_of) -> None:
    file.write_text("".join(json.dumps(row_of(row)) + "\n" for row in rows), encoding="utf-8")


def place() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def clock() -> float:
    """Seconds of the processor; on a GPU, of the wall once its queue is empty."""
    if place() == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def memory() -> dict:
    peak = {"peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}
    return peak if place() == "cpu" else peak | {"peak_gpu_mb": round(torch.cuda.max_memory_allocated() / 2**20)}


if __name__ == "__main__":
    main()
