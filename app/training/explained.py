"""What each metric means, in words, for the run page."""

METRICS: dict[str, str] = {
    "loss": "Reward model: how surprised it is by the raters' choices; 0.69 is a coin toss, lower is better. SFT: nats per token.",
    "train_accuracy": "Share of this step's preferences that the reward model orders as the raters did.",
    "gradient_norm": "Size of the step that was asked for, before it was clipped. Sudden peaks mean trouble.",
    "learning_rate": "How far each step goes.",
    "score": "Mean reward-model score of the fresh responses. Should rise; a sudden jump may be a trick, so read some.",
    "reward": "The score less the price of moving away from the reference policy: what PPO really climbs.",
    "kl": "How far the policy has moved from where it began, in nats per response. Rising slowly is learning; racing is breaking.",
    "kl_coef": "The price of a nat of KL; adapts to hold KL near its target.",
    "length": "Mean tokens per response. Creeping up without need means that length is being rewarded.",
    "entropy": "How undecided the policy is about each token. Near 0 it always says the same.",
    "clip_fraction": "Share of tokens whose step was clipped. Above 0.3, lower the learning rate.",
    "approx_kl": "How far one update moved the policy, per token.",
    "explained_variance": "How well the critic foresees returns: 1 perfectly, 0 not at all.",
    "ended_share": "Share of responses that ended by themselves, not at the length limit.",
    "eval_score": "Score on the fixed prompts, which chooses the version that is kept.",
    "eval_kl": "KL on the fixed prompts.",
}
