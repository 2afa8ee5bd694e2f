"""The sampler process: OpenAI's protocol, policies by id only, two streams at once."""

import json
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
import torch
from sqlalchemy import Engine

from app.projects.models import Project
from tests.app.conftest import db, make_project  # noqa: F401 - fixtures
from tests.worker.policies import KEY, TEXTS, add_policy, sampler
from worker.rlhf.modeling import load_policy
from worker.rlhf.rollout import SamplingSettings, generate, stream_tokens
from worker.rlhf.tiny import build_tiny_base
from worker.rlhf.tokens import encode_prompt, load_tokenizer
from worker.rlhf.types import Message

ASKED: list[Message] = [{"role": "user", "content": "Where is the pool?"}]
Served = tuple[str, subprocess.Popen[bytes], int]


@pytest.fixture
def served(
    database_url: str,
    db: Engine,  # noqa: F811
    make_project: Callable[..., Project],  # noqa: F811
    tmp_path: Path,
) -> Iterator[Served]:
    """Address, process, and the id of a policy."""
    version_id = add_policy(db, make_project(), tmp_path)
    with sampler(database_url, tmp_path) as (url, process):
        yield url, process, version_id


def post(url: str, body: dict[str, Any], *, key: str = KEY, host: str = "") -> httpx2.Response:
    headers = {"Authorization": f"Bearer {key}"} | ({"Host": host} if host else {})
    return httpx2.post(f"{url}/chat/completions", json=body, headers=headers, timeout=120, trust_env=False)


def events(text: str) -> list[dict[str, Any]]:
    lines = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_it_streams_what_it_says_at_once_and_loads_torch_only_when_asked(served: Served) -> None:
    url, process, version_id = served
    idle = psutil.Process(process.pid).memory_info().rss
    assert not any("libtorch" in part.path for part in psutil.Process(process.pid).memory_maps())
    assert idle < 200 * 2**20
    ask = {"model": f"attune-{version_id}", "messages": ASKED, "max_tokens": 40, "seed": 7}
    whole = post(url, ask)
    assert whole.status_code == 200, whole.text
    choice = whole.json()["choices"][0]
    with ThreadPoolExecutor(2) as pool:  # Two streams at once.
        streamed = list(pool.map(lambda _: post(url, {**ask, "stream": True}), range(2)))
    for answer in streamed:
        pieces = events(answer.text)
        said = "".join(piece["choices"][0]["delta"]["content"] for piece in pieces)
        assert said.strip() == choice["message"]["content"].strip()
        assert len(pieces) > 3
        assert [piece["choices"][0]["finish_reason"] for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
        assert pieces[-1]["choices"][0]["finish_reason"] == choice["finish_reason"]


REFUSED: list[tuple[dict[str, Any], int]] = [
    ({"model": "../../etc/passwd"}, 422),
    ({"model": "/data/artifacts/models/1"}, 422),
    ({"model": "attune-1/../2"}, 422),
    ({"model": "attune-999999"}, 404),
    ({"messages": []}, 422),
    ({"messages": [{"role": "emperor", "content": "x"}]}, 422),
    ({"temperature": -1}, 422),
    ({"max_tokens": 10**9}, 422),
]


def test_only_policies_of_the_registry_are_served_and_only_to_us(served: Served, tmp_path: Path) -> None:
    url, _, version_id = served
    ask = {"model": f"attune-{version_id}", "messages": ASKED}
    assert [post(url, {**ask, **change}).status_code for change, _ in REFUSED] == [status for _, status in REFUSED]
    assert post(url, ask, key="another").status_code == 403
    assert post(url, ask, host="evil.example").status_code == 400
    (tmp_path / "artifacts" / "models" / str(version_id) / "config.json").write_text("{}")
    refused = post(url, ask)
    assert refused.status_code == 503
    assert "damaged" in refused.json()["error"]["message"]


def test_a_stream_draws_the_tokens_that_a_batch_draws(tmp_path: Path) -> None:
    build_tiny_base(TEXTS, tmp_path, vocab_size=300, hidden=16, layers=1, heads=2)
    tokenizer = load_tokenizer(tmp_path)
    policy = load_policy(tmp_path, tokenizer=tokenizer)
    prompt = encode_prompt(tokenizer, ASKED)
    settings = SamplingSettings(temperature=0.9, top_p=0.95, max_new_tokens=30)

    def numbers() -> torch.Generator:
        return torch.Generator().manual_seed(3)

    (batch,) = generate(policy, tokenizer, [prompt], settings, num_responses=1, generator=numbers())
    stream = stream_tokens(policy, prompt, settings, eos=tokenizer.eos_token_id, generator=numbers())
    assert list(stream) == batch
