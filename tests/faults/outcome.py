"""What a training left in its folder, read without Keras and without cnnlab."""

import csv
import io
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

TIMES = ("seconds", "images_per_s", "time")


def weights(folder: Path) -> dict[str, np.ndarray]:
    """Every array of model.keras."""
    found: dict[str, np.ndarray] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with zipfile.ZipFile(folder / "model.keras") as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(content) as file:
        file.visititems(keep)
    return found


def rows(path: Path) -> list[dict[str, str]]:
    """A table without its times."""
    with path.open() as stream:
        return [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(stream)]
