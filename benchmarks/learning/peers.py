"""TRL in environments of its own, and the peers' scripts in them. Nothing of it enters our environment."""

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ENVIRONMENTS = {"trl-rm": "trl==1.16.0", "trl-ppo": "trl==1.12.0"}  # The last PPO of TRL is in 1.12.
SHARED = ("torch", "transformers")  # Ours and TRL's runs use the same versions of these.
HERE = Path(__file__).resolve().parent


class BenchError(RuntimeError):
    """A measurement cannot be made; the sentence says why."""


def python_of(work: Path, name: str) -> Path:
    """The interpreter of one of TRL's environments, which is made the first time."""
    folder = work / name
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if _is_ready(python, ENVIRONMENTS[name]):
        return python
    print(f"installing {ENVIRONMENTS[name]} into an environment of its own", flush=True)
    venv.create(folder, with_pip=True)
    pinned = [f"{package}=={importlib.metadata.version(package).partition('+')[0]}" for package in SHARED]
    packages = [ENVIRONMENTS[name], *pinned, "peft", "accelerate", "datasets"]
    if subprocess.run([*_installer(python), *packages], check=False, env=_index_settings()).returncode:
        raise BenchError(f"{ENVIRONMENTS[name]} could not be installed; what the installer said is above.")
    return python


def _is_ready(python: Path, package: str) -> bool:
    name, _, version = package.partition("==")
    question = f"import importlib.metadata as m; print(m.version('{name}'), m.version('torch'), m.version('peft'))"
    if not python.exists():
        return False
    asked = subprocess.run([python, "-c", question], check=False, capture_output=True, text=True)
    return asked.returncode == 0 and asked.stdout.split()[0] == version


def _installer(python: Path) -> list[str]:
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv:
        return [uv, "pip", "install", "--quiet", "--python", str(python)]
    return [str(python), "-m", "pip", "install", "--quiet"]


def _index_settings() -> dict[str, str]:
    """uv does not read pip's settings, so they are handed on."""
    settings = dict(os.environ)
    for ours, theirs in (("PIP_FIND_LINKS", "UV_FIND_LINKS"), ("PIP_INDEX_URL", "UV_DEFAULT_INDEX")):
        if ours in settings:
            settings.setdefault(theirs, settings[ours])
    return settings


def has_bf16_units() -> bool:
    """Whether the processor multiplies in bf16 (AVX512-BF16, AMX, Arm's); Apple's do, and say so nowhere."""
    info = Path("/proc/cpuinfo")
    return platform.machine() == "arm64" or (info.exists() and "bf16" in info.read_text())


def run_line(command: list[object], *, threads: int = 1, tree: Path | None = None) -> dict:
    """Run a program on `threads` threads and read the JSON line that it ends with."""
    settings = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    settings.pop("PYTHONPATH", None)
    if tree is not None:
        settings["PYTHONPATH"] = str(tree)
    ran = subprocess.run([str(part) for part in command], check=False, capture_output=True, text=True, env=settings)
    if ran.returncode:
        raise BenchError(f"{Path(str(command[1])).name} failed:\n{ran.stderr[-3000:]}")
    return json.loads(ran.stdout.strip().splitlines()[-1])
