"""Benchmark cnnlab's training against other implementations and against the machine's peak performance.

Prints a table and writes it to benchmarks/results/<date>-<processor>.md, with the raw figures as .json. Needs
data/processed/cifar10 (dvc repro preprocess@cifar10). PyTorch is optional: pip install torch==2.13.0, in this
interpreter or in the one given by --torch-python or CNNLAB_TORCH_PYTHON.
"""

import argparse
import datetime
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from comparisons import COMPARISONS, Side
from machine import Machine, inspect, slug
from pairing import Command, measure
from report import Result, Rounds, markdown, result

from cnnlab import errors
from cnnlab.data.store import open_processed
from cnnlab.files import PROCESSED, write_text

HERE = Path(__file__).parent
DATA = "cifar10"
IMAGES = {"CPU": 4096, "GPU": 45_000}  # per round, which takes seconds
METHOD = """\
Unless a row says otherwise, the homework network is trained on CIFAR-10 with the recipe of variant `lesson` in
params.yaml, except for the batch size. A round is one epoch on images in memory. Each side is a separate process; the
sides of a comparison take turns, one round each, in alternating order, after a warm-up round that compiles. Figures are
medians; a ratio is the median over the pairs of rounds, with its range. All sides use the same images and cores.

Lesson's script: the handout's `fit` on an `ImageDataGenerator`. Keras `fit` on tf.data: augmentation in `Dataset.map`,
with Keras's layers or with cnnlab's function, and the faster of 1 and 32 steps per execution, chosen in the first
round. PyTorch: channels last, data in memory, one `grid_sample` per batch for augmentation, passive OpenMP threads.
Peak: TensorFlow's fastest square float32 matrix product on the same threads (on a GPU: TF32), measured in turns with
the training. FLOPs: convolutions and dense layers, 2 per multiply-add, training as 3 forward passes. The airbench
network: SGD on a quarter of the images (at least one batch), with flips and shifts by whole pixels. Workers share the
batch over the loopback interface. Tracking: seconds in the callbacks of the training thread, plus all CPU time of the
thread that uploads to a new SQLite store, for the 45 records of an epoch of 45,000 images at batch 32; the seconds of
the round are scaled to that epoch. Time to accuracy: a training of variant `improved`, cut to 2 epochs, validation
included, which exceeds 79 % on the test set (accuracies are in the raw figures), against 50 epochs of the lesson's
script, extrapolated from one round. Input only: cnnlab's training loop with a network that averages the pixels, on
eight times the images. Image folders: one epoch of Imagenette's JPEG files, read, decoded, cropped at random and scaled
to 96×96 pixels, against training variant `improved_imagenette` on the same images in memory; both use all cores.
"""


def command(side: Side, machine: Machine, images: int) -> Command:
    """The command that starts a side."""
    match side.name:
        case "torch":
            program = [machine.torch_python, HERE / "torch_side.py", PROCESSED / DATA]
        case "tracking":
            program = [sys.executable, HERE / "tracking_side.py"]
        case name:
            program = [sys.executable, HERE / "sides.py", name]
    return Command([*map(str, program), str(side.batch), str(images)], side.workers)


def compare(name: str, machine: Machine, pairs: int, images: int) -> tuple[list[Result], Rounds]:
    """Measure one comparison; returns the results of its rows and all measurements."""
    comparison = COMPARISONS[name]
    present = {label: side for label, side in comparison.sides.items() if label not in machine.absent}
    commands = {label: command(side, machine, images) for label, side in present.items()}
    rounds = measure(name, commands, pairs)
    return [result(row, rounds, machine.absent) for row in comparison.rows], rounds


def write(stem: Path, page: str, raw: Mapping[str, Any]) -> None:
    """Write the page (.md) and the raw figures (.json)."""
    write_text(stem.with_suffix(".md"), page)
    write_text(stem.with_suffix(".json"), json.dumps(raw, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog="PyTorch is optional: pip install torch==2.13.0, in this interpreter or the one of --torch-python.",
    )
    parser.add_argument("--only", choices=COMPARISONS, help="run a single comparison; the file names include its name")
    parser.add_argument("--pairs", type=int, default=5, help="measured rounds (default: 5)")
    parser.add_argument(
        "--images", type=int, help=f"images per round (default: {IMAGES['CPU']}, {IMAGES['GPU']} on GPUs)"
    )
    parser.add_argument("--results", type=Path, default=HERE / "results", help="output folder")
    parser.add_argument(
        "--torch-python",
        default=os.environ.get("CNNLAB_TORCH_PYTHON", sys.executable),
        help="an interpreter with PyTorch and NumPy (default: CNNLAB_TORCH_PYTHON, else this one)",
    )
    return parser.parse_args()


def main() -> None:
    """Measure, print and write the table."""
    options = arguments()
    open_processed(DATA)  # fails early if it is missing
    machine = inspect(options.torch_python)
    images = options.images or IMAGES[machine.kind]
    names = [options.only] if options.only else [n for n, c in COMPARISONS.items() if c.only in (None, machine.kind)]
    results: list[Result] = []
    rounds: dict[str, Rounds] = {}
    for name in names:
        measured, rounds[name] = compare(name, machine, options.pairs, images)
        results += measured
    today = datetime.date.today().isoformat()
    facts = [
        *(f"{name}: {value}" for name, value in machine.facts.items()),
        f"pairs: {options.pairs}",
        f"images per round: {images:,}",
    ]
    page = markdown(results, f"cnnlab benchmark, {today}", facts, METHOD)
    raw = {"date": today, "machine": machine.facts, "pairs": options.pairs, "images": images}
    print(page)
    parts = [today, slug(machine), *([options.only] if options.only else [])]
    write(options.results / "-".join(parts), page, {**raw, "rows": [r.asdict() for r in results], "rounds": rounds})


if __name__ == "__main__":
    errors.run(main)
