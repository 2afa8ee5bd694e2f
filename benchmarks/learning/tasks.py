"""The peers' model, tokenizer and tasks, in the shape that both sides read alike.

TRL's side cuts long prompts and responses in its own way, and so do we. The tasks are therefore cut beforehand, to
texts that tokenise to what the peers' `encode` makes of the originals: neither side then has anything left to cut.
"""

import importlib
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.learning.cases import CTX
from benchmarks.learning.peers import python_of, run_line

PLAIN = "{{ messages[0]['content'] }}"  # A chat template that adds nothing to the prompt's text.

TASKS = {"hh": 2, "k4": 4, "k9": 9}  # Responses of each ranking: pairs as they are; others shuffle ever more words.


@dataclass(frozen=True)
class Prepared:
    """Where everything lies. `reward_k4` and `order` come into being as the cases run."""

    peers: Path
    environments: Path
    work: Path
    source: Path
    tiny: Path

    def task(self, name: str) -> Path:
        return self.work / "tasks" / f"{name}.jsonl"

    def model(self, name: str) -> Path:
        """The peers' model with the tokenizer beside it, as we load models."""
        return self.work / "ours" / name

    def trained(self, case: str) -> Path:
        """TRL's reward model of a case, from which both sides' PPO starts."""
        return self.work / "trained" / case


def prepare(peers: Path, environments: Path, work: Path, source: Path, *, size: dict[str, int]) -> Prepared:
    """Make what is not there yet. `size` goes to `make_tiny_model.py`; another size wants another `work`."""
    ready = Prepared(peers, environments, work, source, work / "tiny")
    if not (ready.tiny / "manifest.json").exists():
        print("making the peers' tokenizer and tiny models", flush=True)
        options = [text for name, value in size.items() for text in (f"--{name}", value)]
        script = [
            python_of(environments, "trl-rm"),
            peers / "make_tiny_model.py",
            "--data",
            source,
            "--out",
            ready.tiny,
        ]
        run_line([*script, "--ctx", CTX, *options])
    _write_tasks(ready)
    for name in ("policy", "reward"):
        if not ready.model(name).exists():
            with_tokenizer(ready.tiny / name, ready.tiny / "tokenizer", ready.model(name))
    return ready


def with_tokenizer(model: Path, tokenizer: Path, out: Path) -> Path:
    """A copy of a model folder with the tokenizer in it, and the template that adds nothing; TRL's pickle stays behind."""
    from transformers import AutoTokenizer

    shutil.copytree(model, out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.bin"))
    loaded = AutoTokenizer.from_pretrained(str(tokenizer))
    loaded.chat_template = PLAIN
    loaded.save_pretrained(out)
    return out


def _write_tasks(ready: Prepared) -> None:
    missing = [name for name in TASKS if not ready.task(name).exists()]
    if not missing:
        return
    from transformers import AutoTokenizer

    common = import_common(ready.peers)
    tokenizer = AutoTokenizer.from_pretrained(str(ready.tiny / "tokenizer"))
    rankings = common.load_rankings(ready.source)
    ready.task(missing[0]).parent.mkdir(parents=True, exist_ok=True)
    for name in missing:
        k = TASKS[name]
        whole = common.synthetic_rankings(rankings, k, seed=0) if k > 2 else rankings
        cut = [short for ranking in whole if (short := cut_ranking(common, tokenizer, ranking))]
        common.write_rankings(ready.task(name), cut)


def cut_ranking(common: Any, tokenizer: Any, ranking: Any) -> Any:
    """The ranking with texts that fit; None if two responses became one, or nothing was left."""
    encoded = common.encode(tokenizer, ranking, CTX)
    prompt = fitting(tokenizer, encoded.prompt_ids, from_left=True)
    responses = tuple(fitting(tokenizer, ids[:-1], from_left=False) for ids in encoded.response_ids)
    if not prompt or not all(responses) or len(set(responses)) < len(responses):
        return None
    return common.Ranking(prompt, responses)


def fitting(tokenizer: Any, ids: list[int], *, from_left: bool) -> str:
    """The longest text within these ids that tokenises to no more of them: a cut may fall within a letter or word."""
    for dropped in range(len(ids)):
        kept = ids[dropped:] if from_left else ids[: len(ids) - dropped]
        text = tokenizer.decode(kept, clean_up_tokenization_spaces=False)
        if tokenizer(text, add_special_tokens=False)["input_ids"] == kept:
            return str(text)
    return ""


def import_common(peers: Path) -> Any:
    """The peers' `common.py`: reading, splitting and encoding as their scripts do."""
    if str(peers) not in sys.path:
        sys.path.append(str(peers))
    return importlib.import_module("common")


def manifest(ready: Prepared) -> dict[str, Any]:
    """Digests and sizes of the models that all cases start from."""
    return json.loads((ready.tiny / "manifest.json").read_text())
