"""Hostile and broken model folders are refused in a sentence, before a library loads them."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from worker.rlhf.model_folder import check_model_folder
from worker.rlhf.modeling import load_policy, load_reward_model
from worker.rlhf.tokens import load_tokenizer


@pytest.fixture
def folder(tiny_base: Path, tmp_path: Path) -> Path:
    """A copy of a good folder, to be spoiled."""
    return shutil.copytree(tiny_base, tmp_path / "copy")


def config(folder: Path, **changed: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


def header(folder: Path, length: int, text: bytes = b"{}") -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", length) + text)


def tensors(folder: Path, **entries: Any) -> None:
    text = json.dumps(entries).encode()
    header(folder, len(text), text + b"\x00" * 64)


def index(folder: Path, weight_map: Any) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def link(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


F32 = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "code by auto_map": (lambda f: config(f, auto_map={"AutoModel": "x.Evil"}), "asks for code"),
    "the same, deeper": (lambda f: config(f, text_config={"a": [{"auto_map": {}}]}), "asks for code"),
    "the same, escaped": (
        lambda f: (f / "config.json").write_text('{"model_type": "llama", "auto\\u005fmap": {}}'),
        "asks for code",
    ),
    "code by the tokenizer": (
        lambda f: (f / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["x.E", null]}}'),
        "asks for code",
    ),
    "code by attention": (lambda f: config(f, _attn_implementation_internal="evil/kernel"), "asks for code"),
    "a private key": (lambda f: config(f, _experts_implementation="evil/kernel"), "private"),
    "a key twice": (lambda f: (f / "config.json").write_text('{"a": 1, "a": 2}'), "twice"),
    "broken JSON": (lambda f: (f / "config.json").write_text("{"), "damaged"),
    "deep JSON": (lambda f: (f / "config.json").write_text("[" * 200_000), "damaged"),
    "a list": (lambda f: (f / "config.json").write_text("[]"), "expected a JSON object"),
    "not text": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), "damaged"),
    "a large config": (lambda f: config(f, note="x" * 2_000_000), "more than"),
    "no model type": (lambda f: config(f, model_type=None), "model_type"),
    "an endless vocabulary": (lambda f: config(f, vocab_size=10**12), "vocab_size"),
    "a vocabulary that is not there": (lambda f: config(f, vocab_size=90_000_000), "do not belong together"),
    "negative layers": (lambda f: config(f, num_hidden_layers=-1), "num_hidden_layers"),
    "layers that are not there": (lambda f: config(f, num_hidden_layers=90_000_000), "do not belong together"),
    "half a layer": (lambda f: config(f, num_hidden_layers=0.5), "num_hidden_layers"),
    "heads as text": (lambda f: config(f, num_attention_heads="4"), "num_attention_heads"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "holds no weights"),
    "empty weights": (lambda f: (f / "model.safetensors").write_bytes(b""), "damaged"),
    "half the weights": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-100]),
        "damaged",
    ),
    "an endless header": (lambda f: header(f, 2**63), "damaged"),
    "a header that is no JSON": (lambda f: header(f, 2, b"{x"), "damaged"),
    "overlapping tensors": (lambda f: tensors(f, a=F32, b=F32), "damaged"),
    "data beyond the file": (lambda f: tensors(f, a={**F32, "data_offsets": [0, 10**9]}), "damaged"),
    "a tensor of 10^12": (lambda f: tensors(f, a={**F32, "shape": [10**12]}), "damaged"),
    "an unknown type": (lambda f: tensors(f, a={**F32, "dtype": "EVIL"}), "damaged"),
    "a shard outside": (lambda f: index(f, {"a": "../other/model.safetensors"}), "files of this folder"),
    "a shard that is missing": (lambda f: index(f, {"a": "model-2.safetensors"}), "missing"),
    "an index of nothing": (lambda f: index(f, {}), "holds no weights"),
    "an index that is a list": (lambda f: index(f, []), "files of this folder"),
    "a link to a system file": (
        lambda f: link(f / "config.json", "/etc/passwd"),
        "damaged",
    ),
    "a folder for a file": (lambda f: (f / "x.json").mkdir(), "not a file"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_folder_is_refused_before_it_is_loaded(folder: Path, name: str) -> None:
    spoil, expected = SPOILED[name]
    check_model_folder(folder)
    spoil(folder)
    with pytest.raises(ValueError, match=expected) as refusal:
        check_model_folder(folder)
    assert "root:" not in str(refusal.value), "nothing of a file's content is told"


@pytest.mark.parametrize("load", [load_policy, load_tokenizer])
def test_every_loader_looks_first(folder: Path, load: Callable[[Path], Any]) -> None:
    config(folder, auto_map={})
    with pytest.raises(ValueError, match="asks for code"):
        load(folder)


def weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    held = load_file(folder / "model.safetensors")
    change(held)
    save_file(held, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_numbers_are_refused(folder: Path, value: float) -> None:
    weights(folder, lambda held: held["model.norm.weight"].__setitem__(3, value))
    with pytest.raises(ValueError, match=r"not numbers, in model\.norm\.weight"):
        load_policy(folder)


def test_weights_that_lack_a_layer_are_not_made_up(folder: Path) -> None:
    weights(folder, lambda held: held.pop("model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(ValueError, match=r"lack model\.layers\.1\.mlp\.up_proj\.weight"):
        load_policy(folder)


def test_weights_of_another_size_are_refused(folder: Path) -> None:
    weights(folder, lambda held: held.update({"model.norm.weight": torch.ones(7)}))
    with pytest.raises(ValueError, match="copy cannot be loaded"):
        load_policy(folder)


def test_an_architecture_that_nobody_knows_is_told(folder: Path) -> None:
    config(folder, model_type="wizard", architectures=["WizardForCausalLM"])
    with pytest.raises(ValueError, match=r"copy cannot be loaded: .*wizard"):
        load_policy(folder)


def test_a_policy_is_no_reward_model(folder: Path) -> None:
    """Its head would be made up, and its scores would mean nothing."""
    with pytest.raises(ValueError, match=r"lack score\.weight"):
        load_reward_model(folder, tokenizer=load_tokenizer(folder))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"model": {"type": "BPE"}}', b"\xff"])
def test_a_broken_tokenizer_is_told(folder: Path, content: bytes) -> None:
    (folder / "tokenizer.json").write_bytes(content)
    with pytest.raises(ValueError, match="tokenizer of copy cannot be loaded"):
        load_tokenizer(folder)


def test_a_name_that_is_nowhere_is_told() -> None:
    with pytest.raises(ValueError, match="cannot be loaded"):
        load_tokenizer("nobody/nothing")
