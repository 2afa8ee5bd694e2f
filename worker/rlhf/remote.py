"""A sampler behind the OpenAI protocol, such as vLLM: another program, on a GPU of its own, writes the episodes.

It must hold the present policy. That is what LoRA is for here: before each update the adapter is saved to a folder
that both programs see, and loaded there under a new name. Start it so:

    VLLM_ALLOW_RUNTIME_LORA_UPDATING=True vllm serve MODEL --enable-lora --logprobs-mode processed_logprobs
"""

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from worker.rlhf.actors import Trainer


class RemoteSampler:
    """Asks `url` (up to and including `/v1`) for responses; adapters go through the folder `exchange`."""

    def __init__(self, url: str, exchange: Path, *, timeout_seconds: float = 600.0) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"The sampler's address is {url!r}; expected http://HOST:PORT/v1.")
        self.url = url.rstrip("/")
        self.exchange = exchange
        self.timeout_seconds = timeout_seconds
        self.number = 0

    def sample(self, trainer: Trainer, prompts: Sequence[list[int]]) -> tuple[list[list[int]], list[list[float]]]:
        """One response to each prompt, and the sampler's log-probability of each of its tokens.

        Raises:
            ValueError: the sampler does not answer as it should.
        """
        s = trainer.settings
        answer = self._post(
            "completions",
            {
                "model": self._load(trainer),
                "prompt": [list(ids) for ids in prompts],
                "max_tokens": s.max_new_tokens,
                "temperature": s.temperature,
                "top_p": 1.0,
                "logprobs": 0,
                "return_token_ids": True,
                "seed": s.seed + self.number,
            },
        )
        choices = sorted(answer.get("choices", []), key=lambda choice: choice["index"])
        if len(choices) != len(prompts):
            raise ValueError(f"The sampler gave {len(choices)} responses to {len(prompts)} prompts.")
        found = [_tokens(choice, eos=trainer.eos) for choice in choices]
        return [ids for ids, _ in found], [logprobs for _, logprobs in found]

    def _load(self, trainer: Trainer) -> str:
        """Give the sampler the present adapter; its name there."""
        if trainer.adapted is None:
            raise ValueError("A sampler of its own needs LoRA: set lora_rank, so that the policy can be sent to it.")
        self.number += 1
        name = f"policy-{self.number}"
        trainer.adapted.save_pretrained(self.exchange / name)
        self._post("load_lora_adapter", {"lora_name": name, "lora_path": str((self.exchange / name).absolute())})
        if self.number > 1:
            self._post("unload_lora_adapter", {"lora_name": f"policy-{self.number - 1}"})
        return name

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked
            f"{self.url}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_seconds) as response:  # noqa: S310
                text = response.read().decode()
        except urllib.error.HTTPError as error:
            raise ValueError(f"The sampler refused {path}: {error.read().decode(errors='replace')[:300]}") from error
        except OSError as error:
            raise ValueError(f"The sampler at {self.url} does not answer: {error}.") from error
        try:
            answer = json.loads(text)
        except ValueError:
            return {}  # The adapter's routes answer in plain words.
        return answer if isinstance(answer, dict) else {}


def _tokens(choice: dict[str, Any], *, eos: int) -> tuple[list[int], list[float]]:
    """Ids and log-probabilities of a response, cut after its end token."""
    ids, logprobs = choice.get("token_ids"), (choice.get("logprobs") or {}).get("token_logprobs")
    if not ids or not logprobs or len(ids) != len(logprobs) or None in logprobs:
        raise ValueError("The sampler gave no token ids with log-probabilities; it must be vLLM 0.10.2 or newer.")
    length = ids.index(eos) + 1 if eos in ids else len(ids)
    return ids[:length], logprobs[:length]
