"""What a model folder may hold, told from names, JSON and headers before any library loads a byte of it.

`trust_remote_code=False` and `use_safetensors=True` are no boundary by themselves: keys of config.json have run code in
spite of both (CVE-2026-4372, CVE-2026-5241), and a config of absurd size takes the machine's memory.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PICKLES_AND_CODE = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".py", ".ckpt", ".h5", ".npy", ".so"}
HARMLESS_PRIVATE_KEYS = {
    "_name_or_path",
    "_commit_hash",
    "_num_labels",
    "_from_model_config",
    "_sliding_window_pattern",
}
CODE_KEYS = {"auto_map", "trust_remote_code", "custom_generate", "custom_pipelines"}
SIZES = {
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "head_dim", "max_position_embeddings", "n_embd", "n_layer", "n_head", "n_positions", "d_model", "num_layers",
}  # fmt: skip
MAX_SIZE = 100_000_000
MAX_JSON_BYTES = 1_000_000
MAX_TOKENIZER_BYTES = 200_000_000
LISTS = {"modules.json", "data_config.json"}
"""Files of sentence encoders that hold a list."""
INDEX = "model.safetensors.index.json"


def check_model_folder(source: str | Path) -> None:
    """Refuse a folder that could run code, or whose parts do not fit. A name that is no folder is the library's affair.

    Raises:
        ValueError: naming the file and what is wrong with it.
    """
    folder = Path(source)
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if path.suffix in PICKLES_AND_CODE:
            raise ValueError(
                f"{folder.name} holds {path.name}, which could run code. Convert the model to safetensors."
            )
        if path.suffix == ".json":
            _check_json(path)
    if (folder / "config.json").exists():
        config = read_json(folder / "config.json")
        _check_sizes(config, folder)
        _check_weights(config, folder)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of a model folder: bounded, an object, no key twice.

    Raises:
        ValueError: naming the file.
    """
    where = f"{path.parent.name}/{path.name}"
    limit = MAX_TOKENIZER_BYTES if path.name in {"tokenizer.json", "vocab.json"} else MAX_JSON_BYTES
    if not path.is_file() or path.stat().st_size > limit:
        raise ValueError(f"{where} is not a file, or has more than {limit:,} bytes.")
    try:
        value = json.loads(path.read_bytes(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ValueError(f"{where} is damaged: {reason}. Copy or download the model again.") from None
    if isinstance(value, list) and path.name in LISTS:
        return {"items": value}
    if not isinstance(value, dict):
        raise ValueError(f"{where} is damaged: expected a JSON object, found {type(value).__name__}.")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key stands there twice")
    return made


def _check_json(path: Path) -> None:
    """No key, at any depth, may ask for code. Tokenizer files hold words as keys, so only their settings are read."""
    if path.name in {"tokenizer.json", "vocab.json", "added_tokens.json"}:
        return
    for key in _keys(read_json(path)):
        if key in CODE_KEYS or key.startswith("_attn_implementation_internal"):
            raise ValueError(
                f"{path.parent.name}/{path.name} asks for code of its own to be run ({key}). Use a model without."
            )
        if path.name == "config.json" and key.startswith("_") and key not in HARMLESS_PRIVATE_KEYS:
            raise ValueError(
                f"{path.parent.name}/config.json sets {key}, which is private to the library. Remove that line."
            )


def _keys(value: Any) -> Iterator[str]:
    """All keys at all depths; a JSON file's depth is bounded by its parser."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield from item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _check_sizes(config: dict[str, Any], folder: Path) -> None:
    for name in sorted(SIZES & set(config)):
        value = config[name]
        if value is not None and (type(value) is not int or not 1 <= value <= MAX_SIZE):
            raise ValueError(
                f"{folder.name}/config.json: {name} is {value!r:.40}; a whole number from 1 to {MAX_SIZE:,} is expected."
            )
    if not isinstance(config.get("model_type"), str):
        raise ValueError(f"{folder.name}/config.json does not say its model_type, such as llama or gpt2.")


def _check_weights(config: dict[str, Any], folder: Path) -> None:
    """The weights are there and whole, and large enough for what the config promises."""
    num_tensors = num_numbers = 0
    for path in _weight_files(folder):
        for shape in _shapes(path):
            num_tensors, size = num_tensors + 1, 1
            for dimension in shape:
                size *= dimension
            num_numbers += size
    layers = config.get("num_hidden_layers", config.get("n_layer")) or 1
    embedding = (config.get("vocab_size") or 1) * (config.get("hidden_size", config.get("n_embd")) or 1)
    if layers > num_tensors or embedding > num_numbers:
        raise ValueError(
            f"{folder.name}/config.json promises {layers:,} layers and {embedding:,} numbers of embeddings; the weights "
            f"hold {num_tensors:,} tensors of {num_numbers:,} numbers. They do not belong together."
        )


def _weight_files(folder: Path) -> list[Path]:
    if not (folder / INDEX).exists():
        files = sorted(folder.glob("*.safetensors"))
    else:
        named = read_json(folder / INDEX).get("weight_map")
        if not isinstance(named, dict) or not all(isinstance(n, str) and "/" not in n for n in named.values()):
            raise ValueError(f"{folder.name}/{INDEX} must name files of this folder.")
        files = [folder / name for name in sorted(set(named.values()))]
    if not files:
        raise ValueError(f"{folder.name} holds no weights: expected model.safetensors. Copy or download them too.")
    if missing := [path.name for path in files if not path.is_file()]:
        raise ValueError(f"{folder.name}/{missing[0]} is missing. Copy or download the model again.")
    return files


def _shapes(path: Path) -> list[list[int]]:
    """From the header alone, which safetensors checks: lengths, offsets, overlaps, the file's end."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(
            f"{path.parent.name}/{path.name} is damaged ({error}). Copy or download the model again."
        ) from None
