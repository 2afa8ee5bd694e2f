"""The sampler behind the OpenAI protocol, against a server that answers with a real policy and its adapter."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from tests.worker.rlhf.test_ppo import SMALL
from tests.worker.rlhf.worlds import PROMPTS, make_policy, make_reward_model
from worker.rlhf.actors import Trainer
from worker.rlhf.episodes import collect
from worker.rlhf.modeling import load_policy
from worker.rlhf.ppo import one_update
from worker.rlhf.remote import RemoteSampler
from worker.rlhf.rollout import SamplingSettings, generate, token_logprobs
from worker.rlhf.tokens import collate, load_tokenizer


class Server(HTTPServer):
    """Holds the base model; the newest adapter that was loaded answers."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.folder, self.asked, self.adapter = folder, list[str](), ""

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        tokenizer = load_tokenizer(self.folder)
        base = load_policy(self.folder, tokenizer=tokenizer)
        PeftModel.from_pretrained(base, self.adapter).eval()
        settings = SamplingSettings(temperature=body["temperature"], max_new_tokens=body["max_tokens"])
        generator = torch.Generator().manual_seed(body["seed"])
        rows = generate(base, tokenizer, body["prompt"], settings, num_responses=1, generator=generator)
        pairs = list(zip(body["prompt"], rows, strict=True))
        with torch.no_grad():
            flat, _ = token_logprobs(base, collate(pairs, pad=tokenizer.pad_token_id), temperature=body["temperature"])
        choices = [
            {"index": index, "token_ids": row, "logprobs": {"token_logprobs": part.tolist()}}
            for index, (row, part) in enumerate(zip(rows, flat.split(list(map(len, rows))), strict=True))
        ]
        return {"choices": choices[::-1]}


class Answers(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(self.path)
        text = "done"
        if self.path == "/v1/load_lora_adapter":
            self.server.adapter = body["lora_path"]
        elif self.path == "/v1/completions":
            text = json.dumps(self.server.complete(body))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    found = Server(make_policy(tmp_path / "policy"))
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    yield found
    found.shutdown()
    found.server_close()


def test_another_program_samples_the_present_policy(server: Server, tmp_path: Path) -> None:
    settings = replace(SMALL, lora_rank=2, learning_rate=1e-2)
    reward = make_reward_model(server.folder, tmp_path / "reward")
    trainer = Trainer(server.folder, reward, settings, reference_dir=None)
    sampler = RemoteSampler(f"http://127.0.0.1:{server.server_port}/v1", tmp_path / "adapters")
    stats = one_update(trainer, PROMPTS, update=0, sampler=sampler)
    assert stats["kl"] == 0.0
    assert stats["first_ratio_error"] < 1e-4
    moved = collect(trainer, PROMPTS, sampler=sampler)
    assert not torch.equal(moved.logprobs, moved.ref_logprobs)
    # The server had the adapter as it is now: with an older one, the weights would not be 1.
    assert torch.allclose(moved.weights, torch.ones_like(moved.weights), atol=1e-3)
    assert server.asked.count("/v1/load_lora_adapter") == 2


def test_without_an_adapter_there_is_nothing_to_send(server: Server, tmp_path: Path) -> None:
    reward = make_reward_model(server.folder, tmp_path / "reward")
    trainer = Trainer(server.folder, reward, SMALL, reference_dir=None)
    with pytest.raises(ValueError, match="needs LoRA"):
        collect(trainer, PROMPTS, sampler=RemoteSampler("http://127.0.0.1:9/v1", tmp_path))


def test_bad_addresses_and_silence_get_sentences(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected http"):
        RemoteSampler("file:///etc/passwd", tmp_path)
    with pytest.raises(ValueError, match="does not answer"):
        RemoteSampler("http://127.0.0.1:9/v1", tmp_path)._post("completions", {})
