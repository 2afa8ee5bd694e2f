"""What is kept of a PPO run: the best version within the KL budget, and checkpoints that resume bit for bit."""

from torch import Tensor

from worker.rlhf.actors import Trainer
from worker.rlhf.checkpoint import CheckpointStore, module_tensors, optimizer_tensors, restore_module, restore_optimizer


class Best:
    """The version that is kept: the highest score on the fixed prompts among those within the KL budget."""

    def __init__(self) -> None:
        self.step = 0
        self.stats: dict[str, float] = {}
        self.start: dict[str, float] = {}
        self.tensors: dict[str, Tensor] = {}

    def consider(self, trainer: Trainer, stats: dict[str, float], step: int) -> None:
        """Keep these weights if they are the best so far."""
        if "eval_score" not in stats or stats["eval_kl"] > trainer.settings.max_kl:
            return
        if not self.stats or stats["eval_score"] > self.stats["eval_score"]:
            self.step = step
            self.stats = {name: stats[name] for name in ("eval_score", "eval_kl", "eval_length")}
            self.tensors = {name: tensor.clone() for name, tensor in module_tensors(trainer.policy, "best").items()}

    def restore(self, trainer: Trainer) -> None:
        """Put the best weights into the policy; the last ones stay when none was evaluated within the budget."""
        if self.tensors:
            restore_module(trainer.policy, self.tensors, "best")

    def report(self, last: dict[str, float]) -> dict[str, float]:
        """For the last stats: where it started, where the kept version stands."""
        end = self.stats.get("eval_score", last.get("score", 0.0))
        return {
            "score_start": self.start.get("eval_score", 0.0),
            "score_end": end,
            "kl": self.stats.get("eval_kl", last.get("kl", 0.0)),
            "mean_length": self.stats.get("eval_length", last.get("length", 0.0)),
            "kept_update": float(self.step),
        }


def save(trainer: Trainer, best: Best, store: CheckpointStore, step: int) -> None:
    """Policy, critic, both optimizers, the random state, the KL coefficient and the best version so far.

    Schedules, prompts and demonstrations are functions of the step, so they need nothing stored.
    """
    tensors = (
        module_tensors(trainer.policy, "policy")
        | module_tensors(trainer.critic, "critic")
        | optimizer_tensors(trainer.policy_optimizer, "policy_optimizer")
        | optimizer_tensors(trainer.critic_optimizer, "critic_optimizer")
        | best.tensors
        | {"generator": trainer.generator.get_state()}
    )
    values = {"kl_coef": trainer.kl_coef, "best_step": best.step, "best": best.stats, "start": best.start}
    store.save(step, tensors, values)


def resume(trainer: Trainer, best: Best, store: CheckpointStore | None) -> int:
    """Go back to the newest checkpoint, where there is one; the number of updates that it holds."""
    found = store.latest() if store is not None else None
    if found is None:
        return 0
    restore_module(trainer.policy, found.tensors, "policy")
    restore_module(trainer.critic, found.tensors, "critic")
    restore_optimizer(trainer.policy_optimizer, found.tensors, "policy_optimizer")
    restore_optimizer(trainer.critic_optimizer, found.tensors, "critic_optimizer")
    trainer.generator.set_state(found.tensors["generator"])
    trainer.kl_coef = found.values["kl_coef"]
    best.step, best.stats, best.start = found.values["best_step"], found.values["best"], found.values["start"]
    best.tensors = {name: tensor for name, tensor in found.tensors.items() if name.startswith("best.")}
    return found.step
