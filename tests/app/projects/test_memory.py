"""The estimate of memory: by hand for weights, against measured peaks for all."""

import subprocess
import sys
from pathlib import Path

import pytest

from app.projects.memory import in_words, memory_of_run
from app.projects.settings import Training, training_of

FACTOR = 2.0  # How far an estimate may be from the measured peak.


def weights(kind: str, training: Training) -> int:
    return memory_of_run(kind, training, num_parameters=10**9, max_new_tokens=64, vocab_size=1000).weights


def test_weights_by_hand() -> None:
    training = Training()
    assert weights("sample", training) == 4 * 10**9
    assert weights("sft", training) == weights("reward", training) == 16 * 10**9
    # Policy and critic with two moments and a gradient each; reference, reward model and best version without.
    assert weights("ppo", training) == (4 + 4 + 4 + 4) * 2 * 10**9 + 3 * 4 * 10**9
    # With the critic on the policy's trunk, one model with gradient and moments less.
    assert weights("ppo", training_of({"ppo": {"critic": "shared"}})) == weights("ppo", training) - 16 * 10**9
    assert weights("ppo", training_of({"ppo": {"lora_rank": 8}})) < weights("ppo", training) / 2


def test_longer_and_larger_batches_need_more_up_to_what_goes_through_at_once() -> None:
    def activations(**sft: int) -> int:
        given = {"num_parameters": 10**8, "max_new_tokens": 64, "vocab_size": 1000}
        return memory_of_run("sft", training_of({"sft": sft}), **given).activations

    assert activations(batch_size=1, max_length=256) * 4 == pytest.approx(
        activations(batch_size=4, max_length=256), rel=1e-6
    )
    assert activations(batch_size=64, max_length=256) == activations(batch_size=4096, max_length=256)
    assert activations(batch_size=1, max_length=8192) > activations(batch_size=1, max_length=4096)


@pytest.mark.parametrize(("size", "words"), [(5 * 2**20, "5 MiB"), (3 * 2**29, "1.5 GiB")])
def test_sizes_in_words(size: int, words: str) -> None:
    assert in_words(size) == words


MEASURE = """
import resource, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from worker.rlhf.tiny import build_tiny_base
from worker.rlhf.sft import SFTSettings, train_sft
from worker.rlhf.types import Demonstration
hidden, layers, out = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
build_tiny_base(["one two three"], out / "base", vocab_size=300, hidden=hidden, layers=layers)
rows = [Demonstration([{"role": "user", "content": "one two " * 50}], "three " * 100)] * 16  # About 256 tokens.
for _ in train_sft(out / "base", rows, SFTSettings(batch_size=16), out=out / "sft"):
    pass
from safetensors.torch import load_file
print(sum(t.numel() for t in load_file(out / "sft" / "model.safetensors").values()))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("hidden", "layers"), [(128, 4), (512, 8)])
def test_the_estimate_is_within_a_factor_of_the_measured_peak(tmp_path: Path, hidden: int, layers: int) -> None:
    command = [sys.executable, "-c", MEASURE, str(hidden), str(layers), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    num_parameters, peak = map(int, done.stdout.split())
    training = training_of({"sft": {"batch_size": 16, "max_length": 256}})
    found = memory_of_run("sft", training, num_parameters=num_parameters, max_new_tokens=64, vocab_size=300)
    assert peak / FACTOR < found.total < peak * FACTOR
