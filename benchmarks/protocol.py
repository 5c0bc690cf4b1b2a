"""What a side of a comparison speaks with bench.py: a line on standard input asks for one round, a JSON line answers.

Imports neither TensorFlow nor PyTorch, whose sides both use it.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

# What one round measured, by the name of its unit; a side may add a word on how it works.
Answer = dict[str, float | str]


def cores() -> int:
    """The processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def first_images(folder: Path, images: int) -> tuple[np.ndarray, np.ndarray]:
    """The first training images (images, height, width, channels) uint8 and labels, int64, of a processed data set."""
    arrays = (np.load(folder / f"train_{part}.npy", mmap_mode="r")[:images] for part in ("images", "labels"))
    pictures, labels = map(np.array, arrays)
    return pictures, labels.astype(np.int64)


def serve(build: Callable[[], Callable[[], Answer]]) -> None:
    """Build a side and say that it is ready, then measure a round for each line read, until there are no more.

    Standard output belongs to the protocol: whatever else is printed goes to standard error.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    measure = build()
    print("ready", file=answers)
    for _ in sys.stdin:
        print(json.dumps(measure()), file=answers)
