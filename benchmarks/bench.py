"""The benchmark: cnnlab's training against others and against what the machine can do, as one table.

Printed, and written to benchmarks/results/<date>-<processor>.md with the raw figures beside it as .json. Needs
data/processed/cifar10 (dvc repro preprocess@cifar10). PyTorch is optional: pip install torch==2.13.0, in this
interpreter or in another one that --torch-python or CNNLAB_TORCH_PYTHON names.
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
from report import Answers, Result, markdown, result

from cnnlab import errors
from cnnlab.data.store import open_processed
from cnnlab.files import PROCESSED, write_text

HERE = Path(__file__).parent
DATA = "cifar10"
IMAGES = {"CPU": 4096, "GPU": 45_000}  # rounds of seconds
METHOD = """\
Training is of the homework network on CIFAR-10 as by variant `lesson` of params.yaml, but for the batch and what a
row says; a round is an epoch of its images, none of them read from disk. Each side is a process of its own; the sides
of a comparison do a round each, in alternating order, after a first one that compiles and is not counted. Figures are
medians, a ratio is the median of the pairs' ratios with the lowest and the highest. All sides get the same images and
cores.

The lesson's script is the handout's: `fit` on an `ImageDataGenerator`. Keras `fit` on tf.data has the augmentation in
`Dataset.map`, once by Keras's own layers and once by cnnlab's function, and takes the faster of 1 and 32 steps per
execution; the first round decides. PyTorch: channels last, data in memory, whole batches augmented by one
`grid_sample`, OpenMP's threads waiting passively. The peak is TensorFlow's best square product of float32 matrices on
the same threads (on a GPU: TF32), measured in turns with the training; operations are those of convolutions and dense
layers, 2 for a multiplication with addition, training as 3 times forward. The airbench network trains by SGD on a
quarter of the images of a round (at least a batch), flipped and shifted by whole pixels. Workers share the batch on
this machine's loopback interface. Tracking: seconds of the training thread in the callbacks, and all processor time of
the thread that sends to a new SQLite store, for the 45 records of an epoch of 45,000 images at batch 32, to whose
length the seconds of a round's epoch are scaled. To a level: all of a training of variant `improved` in 2 epochs in
place of 4, validation included, which ends above 79 % on the test set (every round's accuracy is in the raw figures),
against 50 epochs of the lesson's script, extrapolated from a round. Input alone: cnnlab's training loop with a network
that takes the mean of the pixels, on eight times the images of a round. Pictures: an epoch of Imagenette's JPEG files,
read, decoded, cropped at random and scaled to 96×96 pixels, against the training of variant `improved_imagenette` on
the same pictures in memory; both have all cores to themselves.
"""


def command(side: Side, machine: Machine, images: int) -> Command:
    """What starts a side."""
    match side.name:
        case "torch":
            program = [machine.torch_python, HERE / "torch_side.py", PROCESSED / DATA]
        case "tracking":
            program = [sys.executable, HERE / "tracking_side.py"]
        case name:
            program = [sys.executable, HERE / "sides.py", name]
    return Command([*map(str, program), str(side.batch), str(images)], side.workers)


def compare(name: str, machine: Machine, pairs: int, images: int) -> tuple[list[Result], Answers]:
    """Measure one comparison: its rows' results, and all answers."""
    comparison = COMPARISONS[name]
    present = {label: side for label, side in comparison.sides.items() if label not in machine.absent}
    commands = {label: command(side, machine, images) for label, side in present.items()}
    answers = measure(name, commands, pairs)
    return [result(row, answers, machine.absent) for row in comparison.rows], answers


def write(stem: Path, page: str, raw: Mapping[str, Any]) -> None:
    """Write the page and the raw figures side by side."""
    write_text(stem.with_suffix(".md"), page)
    write_text(stem.with_suffix(".json"), json.dumps(raw, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog="PyTorch is optional: pip install torch==2.13.0, in this interpreter or the one of --torch-python.",
    )
    parser.add_argument("--only", choices=COMPARISONS, help="one comparison; its name goes into the file's")
    parser.add_argument("--pairs", type=int, default=5, help="rounds that count (default: 5)")
    parser.add_argument(
        "--images", type=int, help=f"images of a round (default: {IMAGES['CPU']}, {IMAGES['GPU']} on GPUs)"
    )
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder of the files to write")
    parser.add_argument(
        "--torch-python",
        default=os.environ.get("CNNLAB_TORCH_PYTHON", sys.executable),
        help="the interpreter that has PyTorch and NumPy (default: CNNLAB_TORCH_PYTHON, else this one)",
    )
    return parser.parse_args()


def main() -> None:
    """Measure, print and write."""
    asked = arguments()
    open_processed(DATA)  # says at once what is missing
    machine = inspect(asked.torch_python)
    images = asked.images or IMAGES[machine.kind]
    names = [asked.only] if asked.only else [n for n, c in COMPARISONS.items() if c.only in (None, machine.kind)]
    results: list[Result] = []
    rounds: dict[str, Answers] = {}
    for name in names:
        measured, rounds[name] = compare(name, machine, asked.pairs, images)
        results += measured
    today = datetime.date.today().isoformat()
    facts = [
        *(f"{name}: {value}" for name, value in machine.facts.items()),
        f"pairs: {asked.pairs}",
        f"images per round: {images:,}",
    ]
    page = markdown(results, f"cnnlab benchmark, {today}", facts, METHOD)
    raw = {"date": today, "machine": machine.facts, "pairs": asked.pairs, "images": images}
    print(page)
    parts = [today, slug(machine), *([asked.only] if asked.only else [])]
    write(asked.results / "-".join(parts), page, {**raw, "rows": [r.asdict() for r in results], "rounds": rounds})


if __name__ == "__main__":
    errors.run(main)
