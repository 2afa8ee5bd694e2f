"""What each metric is called and means, in words, for the run page. The order is that of the curves."""

from typing import NamedTuple

PHASES = {"sft": "Fine-tuning", "reward": "Reward model", "ppo": "PPO", "evaluate": "Evaluation"}
TRIGGERS = {
    "threshold": "by the threshold",
    "manual": "by hand",
    "api": "over the API",
    "command line": "from the command line",
    "approval": "by an approval",
    "first policy": "with the first policy",
    "demo": "by the demo",
}


class Metric(NamedTuple):
    """A short title, and what to see in it."""

    title: str
    words: str


METRICS: dict[str, Metric] = {
    "score": Metric(
        "score",
        "Mean reward-model score of the fresh responses. Should rise; a sudden jump may be a trick, so read some.",
    ),
    "reward": Metric(
        "reward", "The score less the price of moving away from the reference policy: what PPO really climbs."
    ),
    "kl": Metric(
        "KL",
        "How far the policy has moved from where it began, in nats per response. Rising slowly is learning; racing is breaking.",
    ),
    "eval_score": Metric(
        "score on fixed prompts", "Score on the fixed prompts, which chooses the version that is kept."
    ),
    "eval_kl": Metric("KL on fixed prompts", "KL on the fixed prompts; versions beyond the budget are not kept."),
    "loss": Metric(
        "loss",
        "Reward model: how surprised it is by the raters' choices; 0.69 is a coin toss, lower is better. SFT: nats per token.",
    ),
    "train_accuracy": Metric(
        "accuracy", "Share of this step's preferences that the reward model orders as the raters did."
    ),
    "length": Metric(
        "length", "Mean tokens per response. Creeping up without need means that length is being rewarded."
    ),
    "eval_length": Metric("length on fixed prompts", "Mean tokens per response on the fixed prompts."),
    "ended_share": Metric("ended", "Share of responses that ended by themselves, not at the length limit."),
    "entropy": Metric("entropy", "How undecided the policy is about each token. Near 0 it always says the same."),
    "score_std": Metric(
        "spread of scores", "Standard deviation of the scores of one update. Near 0 there is nothing to tell apart."
    ),
    "kl_k3": Metric(
        "KL, second estimate",
        "The same KL by an estimate that is never negative and varies less. It should stay close to the first.",
    ),
    "kl_coef": Metric("price of KL", "The price of a nat of KL; adapts to hold KL near its target."),
    "approx_kl": Metric("KL of one update", "How far one update moved the policy, per token."),
    "clip_fraction": Metric("clipped", "Share of tokens whose step was clipped. Above 0.3, lower the learning rate."),
    "explained_variance": Metric(
        "explained variance", "How well the critic foresees returns: 1 perfectly, 0 not at all."
    ),
    "policy_loss": Metric(
        "policy loss", "What the policy's steps lower. Its size says little: it stays near 0 even while all goes well."
    ),
    "value_loss": Metric("value loss", "Squared error of the critic's forecast of returns. Should fall, then stay."),
    "optimizer_steps": Metric(
        "optimizer steps", "Steps that the update took; fewer than planned when the policy had gone far enough."
    ),
    "first_ratio_error": Metric(
        "first ratio error",
        "How far the first step's probabilities are from those that were sampled with. Anything but tiny is a fault.",
    ),
    "gradient_norm": Metric(
        "gradient norm", "Size of the step that was asked for, before it was clipped. Sudden peaks mean trouble."
    ),
    "sample_seconds": Metric("seconds of sampling", "Time that one update took to write and score its responses."),
    "optimise_seconds": Metric("seconds of learning", "Time that one update took to learn from its responses."),
    "learning_rate": Metric("learning rate", "How far each step goes."),
}
