"""The same on a GPU: a model of about 110 million parameters, bf16, more work in each case."""

from benchmarks.learning.cases import BF16, PPO, Case, Reward

GPU_SIZE = {"layers": 12, "hidden": 768, "intermediate": 3072, "heads": 12, "sft-steps": 300}

GPU_CASES: list[Case] = [
    Reward(
        "rm-k4",
        "K=4, bf16, same order",
        task="k4",
        num_rankings=960,
        rankings_per_step=16,
        is_bf16=True,
        ours={"precision": "bfloat16"},
        goal=5.0,
        learning_rate=1e-4,
    ),
    Reward(
        "rm-pairs",
        "HH pairs, bf16, like lengths together",
        task="hh",
        num_rankings=1920,
        rankings_per_step=32,
        **BF16,
        goal=1.7,
        learning_rate=1e-4,
    ),
    PPO(
        "ppo",
        "PPO, separate critic",
        {"optimise": 1.8, "end to end": 1.7},
        batch_size=128,
        micro_batch_size=64,
        learning_rate=3e-5,
    ),
    PPO(
        "ppo-shared",
        "PPO, shared trunk",
        {"optimise": 3.5},
        {"critic": "shared"},
        peer="ppo",
        batch_size=128,
        micro_batch_size=64,
        learning_rate=3e-5,
    ),
]
