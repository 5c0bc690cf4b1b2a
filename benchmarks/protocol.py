"""Protocol between bench.py and a side: one line on standard input requests a round, one line of JSON returns it.

Shared by the sides of TensorFlow and PyTorch, so it imports neither.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

# Measurements of one round by unit, and optionally a note.
Measurement = dict[str, float | str]


def cores() -> int:
    """Number of processors available to this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def first_images(folder: Path, images: int) -> tuple[np.ndarray, np.ndarray]:
    """The first training images, uint8 (images, height, width, channels), and int64 labels of a processed data set."""
    arrays = (np.load(folder / f"train_{part}.npy", mmap_mode="r")[:images] for part in ("images", "labels"))
    first, labels = map(np.array, arrays)
    return first, labels.astype(np.int64)


def serve(build: Callable[[], Callable[[], Measurement]]) -> None:
    """Build a side, report that it is ready, and measure one round per line of standard input until it is closed.

    Standard output is reserved for the protocol; anything else printed goes to standard error.
    """
    output = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    measure = build()
    print("ready", file=output)
    for _ in sys.stdin:
        print(json.dumps(measure()), file=output)
