"""Two policies judged by the oracle: reads {first, last, prompts} as JSON, writes one JSON line."""

import json
import os
import sys

from app.demo import oracle as oracles


def main() -> None:
    """Sample once from each policy per prompt, and compare."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from transformers.utils import logging

    logging.disable_progress_bar()
    from worker.rlhf.evaluate import compare_policies
    from worker.rlhf.modeling import load_policy
    from worker.rlhf.rollout import SamplingSettings
    from worker.rlhf.tokens import load_tokenizer

    job = json.load(sys.stdin)
    tokenizer = load_tokenizer(job["last"])
    stats = compare_policies(
        load_policy(job["last"], tokenizer=tokenizer),
        load_policy(job["first"], tokenizer=tokenizer),
        tokenizer,
        job["prompts"],
        lambda asked, texts: [oracles.warm_brief(m, t) for m, t in zip(asked, texts, strict=True)],  # type: ignore[arg-type]
        sampling=SamplingSettings(max_new_tokens=80, seed=3),
    )
    result = {
        "win_rate": round(float(stats["win_rate"]), 4),
        "interval": [round(float(stats["win_rate_low"]), 4), round(float(stats["win_rate_high"]), 4)],
        "kl": round(float(stats["kl"]), 3),
        "mean_length": round(float(stats["mean_length"]), 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
