"""The reward model's details, numbered as in worker/rlhf/README.md, each shown another way than the code does it."""

import math
from collections.abc import Sequence
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.worker.rlhf.conftest import ask
from worker.rlhf import optim
from worker.rlhf.checkpoint import CheckpointStore
from worker.rlhf.losses import batch_loss, preference_pairs, ranking_loss
from worker.rlhf.modeling import RewardModel, load_reward_model, new_reward_model, score
from worker.rlhf.packing import Encoded
from worker.rlhf.reward_model import RewardSettings, encode_ranking, train_reward_model
from worker.rlhf.scoring import can_share_prompts, separate_scores, shared_scores
from worker.rlhf.types import NotANumberError, Ranking, Stats

REPLIES = ("one", "one two", "one two three, thank you", "rain")


def ranking(*ranks: int | None, number: int = 0, weight: float = 1.0) -> Ranking:
    texts = tuple(f"{text} {number}" for text in REPLIES[: len(ranks)])
    return Ranking(ask(f"Why is rain number {number} blue?"), texts, ranks, weight)


def rankings(count: int) -> list[Ranking]:
    orders = list(permutations((1, 2, 3)))
    return [ranking(*orders[number % len(orders)], number=number) for number in range(count)]


def encoded(tokenizer: Any, *items: Ranking) -> list[Encoded]:
    return [encode_ranking(tokenizer, item, 64) for item in items]


def run(base: Path, data: Sequence[Ranking], out: Path, **changes: Any) -> list[Stats]:
    given = {name: changes.pop(name) for name in ("checkpoints", "heldout", "calibration") if name in changes}
    settings = RewardSettings(**{"batch_size": 2, "micro_batch_size": 2, "max_length": 64, **changes})
    return list(train_reward_model(base, data, settings, out=out, **given))


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


# 1. All pairs of one ranking in one batch element, each response forwarded once.


def test_loss_is_the_mean_over_explicit_pairs() -> None:
    values = torch.tensor([0.3, -1.2, 2.0, 0.1], dtype=torch.float64)
    pairs = preference_pairs((1, 2, 3, 4))
    by_hand = [math.log(1 + math.exp(values[b] - values[a])) for a, b in combinations(range(4), 2)]
    assert float(ranking_loss(values, torch.tensor(pairs))) == pytest.approx(sum(by_hand) / 6, abs=1e-12)


def test_gradient_is_that_of_the_pairs_forwarded_one_by_one(reward_model: RewardModel, tokenizer: Any) -> None:
    (item,) = encoded(tokenizer, ranking(2, 1, 3))
    batch_loss(shared_scores(reward_model, [item], pad=0), [item], label_smoothing=0).backward()
    together = {name: p.grad.clone() for name, p in reward_model.named_parameters() if p.grad is not None}
    reward_model.zero_grad()
    for better, worse in item.pairs:
        two = Encoded(item.prompt, [item.responses[better], item.responses[worse]], [(0, 1)], 1.0)
        loss = batch_loss(separate_scores(reward_model, [two], pad=0), [two], label_smoothing=0) / len(item.pairs)
        loss.backward()
    for name, parameter in reward_model.named_parameters():
        if name in together:
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, together[name], atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("is_shared", [True, False])
def test_each_response_is_forwarded_once_whatever_the_number_of_pairs(
    reward_model: RewardModel, tokenizer: Any, is_shared: bool
) -> None:
    items, seen = encoded(tokenizer, ranking(1, 2, 3, 4)), []
    reward_model.trunk.register_forward_pre_hook(
        lambda _module, _arguments, given: seen.append(given["input_ids"].shape), with_kwargs=True
    )
    (shared_scores if is_shared else separate_scores)(reward_model, items, pad=tokenizer.pad_token_id)
    prompt, responses = items[0].prompt, items[0].responses
    longest = max(len(response) for response in responses)
    alone, together = (4, len(prompt) + longest), (1, len(prompt) + sum(map(len, responses)))
    assert seen == [together if is_shared else alone]


def test_shared_prompts_give_the_scores_of_separate_forwards(reward_model: RewardModel, tokenizer: Any) -> None:
    items = encoded(tokenizer, ranking(1, 2, 3, 4), ranking(1, 2, number=7))
    with torch.no_grad():
        shared = shared_scores(reward_model, items, pad=tokenizer.pad_token_id)
        separate = separate_scores(reward_model, items, pad=tokenizer.pad_token_id)
    assert [len(values) for values in shared] == [4, 2]
    assert max(float((a - b).abs().max()) for a, b in zip(shared, separate, strict=True)) < 1e-5


def test_models_with_a_sliding_window_do_not_share_prompts(reward_model: RewardModel, tokenizer: Any) -> None:
    items = encoded(tokenizer, ranking(1, 2, 3))
    assert can_share_prompts(reward_model, items, pad=tokenizer.pad_token_id)
    reward_model.config.sliding_window = 4096
    assert not can_share_prompts(reward_model, items, pad=tokenizer.pad_token_id)


def test_prompts_are_not_shared_where_the_scores_would_differ(
    reward_model: RewardModel, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = encoded(tokenizer, ranking(1, 2, 3))
    forward = reward_model.trunk.forward

    def without_the_mask(**given: Any) -> Any:
        return forward(**{**given, "attention_mask": None})

    monkeypatch.setattr(reward_model.trunk, "forward", without_the_mask)
    assert not can_share_prompts(reward_model, items, pad=tokenizer.pad_token_id)


# 2. Averaged within the ranking first.


def test_a_ranking_of_four_weighs_as_much_as_a_pair() -> None:
    pair, four = ranking(1, 2), ranking(1, 2, 3, 4)
    scores = [torch.tensor([0.5, -0.5]), torch.tensor([1.0, 0.0, 2.0, -1.0])]
    items = [Encoded([1], [[2]] * len(r.ranks), preference_pairs(r.ranks), 1.0) for r in (pair, four)]
    # By hand: a ranking is the mean of its pairs, better above worse, whether it has one or six.
    terms = [[math.log1p(math.exp(float(s[b] - s[a]))) for a, b in i.pairs] for s, i in zip(scores, items, strict=True)]
    alone = [sum(row) / len(row) for row in terms]
    assert [len(row) for row in terms] == [1, 6]
    assert float(batch_loss(scores, items, label_smoothing=0)) / 2 == pytest.approx(sum(alone) / 2, abs=1e-6)


def test_micro_batches_give_the_weights_of_the_whole_batch(tiny_base: Path, tmp_path: Path) -> None:
    data = [ranking(1, 2, 3, number=1), ranking(2, 1, number=2, weight=3.0), ranking(1, 2, 3, 4, number=3)]
    models = []
    for size in (3, 1):
        run(tiny_base, data, tmp_path / str(size), batch_size=3, micro_batch_size=size)
        models.append(load_reward_model(tmp_path / str(size), tokenizer=_tokenizer(tiny_base)))
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=0)


# 3. Ties and partial orders.


def test_a_tie_and_an_unranked_response_prefer_nothing() -> None:
    assert preference_pairs((1, 1, 1)) == []
    assert preference_pairs((2, None, 1)) == [(2, 0)]
    assert set(preference_pairs((1, 2, 2, 3))) == {(0, 1), (0, 2), (0, 3), (1, 3), (2, 3)}


def test_a_full_tie_has_no_loss_and_no_gradient() -> None:
    scores = torch.tensor([1.0, -2.0, 0.5], requires_grad=True)
    loss = ranking_loss(scores, torch.empty((0, 2), dtype=torch.long))
    loss.backward()
    assert float(loss.detach()) == 0
    assert scores.grad is not None
    assert scores.grad.tolist() == [0, 0, 0]


def test_order_within_a_tie_changes_nothing() -> None:
    scores = torch.tensor([0.2, 1.5, -0.7])
    straight = ranking_loss(scores, torch.tensor(preference_pairs((1, 2, 2))))
    swapped = ranking_loss(scores[[0, 2, 1]], torch.tensor(preference_pairs((1, 2, 2))))
    assert float(straight) == pytest.approx(float(swapped), abs=1e-7)


def test_rankings_that_prefer_nothing_are_refused(tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No ranking prefers one response to another"):
        run(tiny_base, [ranking(1, 1, 1)], tmp_path / "out")


# 4. logsigmoid in float32.


@pytest.mark.parametrize("difference", [1e4, -1e4])
def test_loss_and_gradient_stay_finite_at_huge_differences(difference: float) -> None:
    scores = torch.tensor([difference, 0.0], requires_grad=True)
    loss = ranking_loss(scores, torch.tensor([[0, 1]]))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(max(0.0, -difference))
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


def test_scores_of_a_bfloat16_model_are_float32(tiny_base: Path, tokenizer: Any) -> None:
    model = new_reward_model(tiny_base, tokenizer=tokenizer, seed=0, dtype=torch.bfloat16)
    items = encoded(tokenizer, ranking(1, 2, 3))
    for scores in (separate_scores, shared_scores):
        (values,) = scores(model, items, pad=tokenizer.pad_token_id)
        assert values.dtype == torch.float32
        assert values.isfinite().all()


# 10. Head init.


def test_head_starts_so_that_the_loss_is_near_ln_2(tiny_base: Path, tokenizer: Any) -> None:
    items, squares, losses = encoded(tokenizer, *rankings(6)), [], []
    for seed in range(20):
        model = new_reward_model(tiny_base, tokenizer=tokenizer, seed=seed)
        squares.append(float(model.head.weight.detach().square().mean()))
        with torch.no_grad():
            scores = separate_scores(model, items, pad=tokenizer.pad_token_id)
        losses.append(float(batch_loss(scores, items, label_smoothing=0).detach()) / len(items))
    assert math.sqrt(sum(squares) / 20) == pytest.approx(1 / math.sqrt(33), rel=0.1)
    assert sum(losses) / 20 == pytest.approx(math.log(2), abs=0.02)


# 11. Dropout off, one epoch, Adam's eps.


def test_two_forwards_agree_and_the_defaults_are_the_papers(reward_model: RewardModel, tokenizer: Any) -> None:
    items = encoded(tokenizer, ranking(1, 2))
    (first,), (second,) = (separate_scores(reward_model, items, pad=0) for _ in range(2))
    assert torch.equal(first, second)
    assert not any(module.training for module in reward_model.trunk.modules())
    assert RewardSettings().epochs == 1
    assert optim.adamw(reward_model, learning_rate=1e-3).defaults["eps"] == 1e-5


# 12. Normalised on calibration samples.


def test_scores_are_normalised_on_the_calibration_samples_after_reload(tiny_base: Path, tmp_path: Path) -> None:
    samples = [(ask(f"Count to {n}"), f"{'one ' * n}stop") for n in range(1, 9)]
    run(tiny_base, rankings(6), tmp_path / "with", calibration=samples)
    run(tiny_base, rankings(6), tmp_path / "without")
    prompts, texts = zip(*samples, strict=True)
    tokenizer, columns = _tokenizer(tiny_base), []
    for name in ("with", "without"):
        model = load_reward_model(tmp_path / name, tokenizer=tokenizer)
        columns.append(torch.tensor(score(model, tokenizer, prompts, texts)))
    assert abs(float(columns[0].mean())) < 1e-3
    assert float(columns[0].std()) == pytest.approx(1, abs=1e-3)
    assert columns[0].argsort().tolist() == columns[1].argsort().tolist()


# 14. Accuracy weighs comparisons. 16. Length bias.


def test_heldout_accuracy_counts_each_comparison_once(tiny_base: Path, tmp_path: Path) -> None:
    heldout = rankings(7)
    done = run(tiny_base, rankings(6), tmp_path / "out", heldout=heldout)[-1]
    tokenizer = _tokenizer(tiny_base)
    model = load_reward_model(tmp_path / "out", tokenizer=tokenizer)
    shares = []
    for item in heldout:
        values = score(model, tokenizer, [item.prompt] * 3, item.responses)
        assert all(rank is not None for rank in item.ranks)
        order = [values[item.ranks.index(rank)] for rank in (1, 2, 3)]
        shares.append(((order[0] > order[1]) + (order[0] > order[2]) + (order[1] > order[2])) / 3)
    assert done["accuracy"] == pytest.approx(sum(shares) / 7, abs=1e-6)
    assert float(done["accuracy_low"]) < float(done["accuracy"]) < float(done["accuracy_high"])


def test_labels_that_follow_length_alone_show_in_the_correlation(tiny_base: Path, tmp_path: Path) -> None:
    data = [Ranking(ask(f"Why {n}?"), (f"because {'rain ' * (n % 5 + 3)}", "because"), (1, 2)) for n in range(48)]
    done = run(tiny_base, data[:40], tmp_path / "out", batch_size=4, epochs=6, learning_rate=3e-3, heldout=data[40:])[
        -1
    ]
    assert done["accuracy_longer"] == 1
    assert done["accuracy_shorter"] == 0
    assert float(done["accuracy"]) > 0.9
    assert float(done["length_correlation"]) > 0.5


# 15. Label smoothing and weights.


def test_full_label_smoothing_has_no_gradient_between_equals() -> None:
    scores = torch.zeros(2, requires_grad=True)
    ranking_loss(scores, torch.tensor([[0, 1]]), label_smoothing=0.5).backward()
    assert scores.grad is not None
    assert scores.grad.tolist() == [0, 0]


def test_weight_zero_is_as_if_the_ranking_were_not_there(tiny_base: Path, tmp_path: Path) -> None:
    data = rankings(4)
    run(tiny_base, data, tmp_path / "without")
    run(tiny_base, [data[0], ranking(2, 1, number=99, weight=0.0), *data[1:]], tmp_path / "with")
    assert weights(tmp_path / "with") == weights(tmp_path / "without")


def test_weight_two_is_as_if_the_ranking_were_there_twice(tokenizer: Any) -> None:
    once, twice = encoded(tokenizer, ranking(1, 2), ranking(1, 2, weight=2.0))
    values = torch.tensor([0.4, 1.1])
    doubled = batch_loss([values], [twice], label_smoothing=0.1)
    both = batch_loss([values, values], [once, once], label_smoothing=0.1)
    assert float(doubled) == pytest.approx(float(both), abs=1e-6)


# 17. Deterministic retrain, and exact resume.


def test_retraining_gives_identical_weights(tiny_base: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        run(tiny_base, rankings(6), tmp_path / name)
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    run(tiny_base, rankings(6), tmp_path / "c", seed=1)
    assert weights(tmp_path / "c") != weights(tmp_path / "a")


@pytest.mark.parametrize("stop_after", [1, 2, 4])
def test_a_run_that_was_stopped_resumes_to_the_same_weights(tiny_base: Path, tmp_path: Path, stop_after: int) -> None:
    uninterrupted = run(tiny_base, rankings(5), tmp_path / "whole", epochs=2)
    settings = RewardSettings(batch_size=2, micro_batch_size=2, max_length=64, epochs=2, checkpoint_seconds=0)
    for attempt in range(2):
        store = CheckpointStore(tmp_path / "checkpoints")
        steps = train_reward_model(tiny_base, rankings(5), settings, out=tmp_path / "parts", checkpoints=store)
        if attempt == 0:
            for _ in range(stop_after):
                next(steps)
            steps.close()
        else:
            rest = list(steps)
    assert [stats["step"] for stats in rest] == [stats["step"] for stats in uninterrupted[stop_after:]]
    assert [s.get("loss") for s in rest] == [s.get("loss") for s in uninterrupted[stop_after:]]
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")


def test_a_loss_that_is_not_a_number_ends_the_run_by_name(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CheckpointStore(tmp_path / "checkpoints")
    settings = RewardSettings(batch_size=2, micro_batch_size=2, max_length=64, checkpoint_seconds=0)
    steps = train_reward_model(tiny_base, rankings(6), settings, out=tmp_path / "out", checkpoints=store)
    next(steps)
    monkeypatch.setattr("worker.rlhf.losses.ranking_loss", lambda scores, *_, **__: scores.sum() * float("nan"))
    with pytest.raises(NotANumberError, match="reward model stopped being a number at step 2"):
        next(steps)
    found = store.latest()
    assert found is not None
    assert found.step == 1
    assert all(tensor.isfinite().all() for tensor in found.tensors.values())
    assert not (tmp_path / "out").exists()


def test_training_learns_what_raters_prefer(tiny_base: Path, tmp_path: Path) -> None:
    data = [Ranking(ask(f"Say {n}"), ("thank you", "rain", "bad"), (1, 2, 3)) for n in range(40)]
    *steps, done = run(
        tiny_base, data[:32], tmp_path / "out", batch_size=4, epochs=4, learning_rate=3e-3, heldout=data[32:]
    )
    assert done["phase"] == "reward_done"
    assert float(done["accuracy"]) > 0.9
    assert float(steps[-1]["train_accuracy"]) > 0.9


def _tokenizer(folder: Path) -> Any:
    from worker.rlhf.tokens import load_tokenizer

    return load_tokenizer(folder)
