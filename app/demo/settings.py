"""The demo's numbers: a model of about a million parameters, and settings under which it learns in minutes."""

MODEL = {"vocab_size": 768, "hidden": 128, "layers": 4, "heads": 4, "max_positions": 256}
NUM_DEMONSTRATIONS = 6_000
NUM_COMPARISONS = 240
NUM_PRACTICE_PROMPTS = 600
NUM_HELDOUT_PROMPTS = 200
SEED = 7

SFT = {"learning_rate": 3e-3, "batch_size": 64, "epochs": 3, "max_steps": 260, "max_length": 160}
REWARD = {"learning_rate": 1e-3, "batch_size": 16, "epochs": 5, "max_length": 160}
PPO = {
    "learning_rate": 3e-4,
    "num_updates": 40,
    "batch_size": 64,
    "minibatch_size": 32,
    "epochs": 2,
    "kl_coef": 0.1,
    "target_kl": 6.0,
    "max_kl": 30.0,
}
SAMPLING = {"temperature": 1.0, "max_new_tokens": 80, "num_prompts": 240}
