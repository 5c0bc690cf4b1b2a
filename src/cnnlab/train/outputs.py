"""Files of a finished run in `models/<set>/<variant>/`; no other module opens them.

Seed 0 is in the folder itself, further seeds in `seed-<n>/`: model.keras, history.csv (one row per epoch), curve.csv
(see `history.History`), metrics.json, predictions.npz (logits and labels), run.json (MLflow's run id, the recipe) and
SHA256SUMS, with which every file is compared before it is used. The folder itself also has identity.txt: see
`identity`.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd

from cnnlab.data.store import read_card
from cnnlab.errors import UserError
from cnnlab.files import MODELS, verified, write_manifest, write_text
from cnnlab.fingerprint import SOURCE, fingerprint
from cnnlab.params import Run, Strategy

MODEL, HISTORY, CURVE, METRICS = "model.keras", "history.csv", "curve.csv", "metrics.json"
PREDICTIONS, RECORD, IDENTITY = "predictions.npz", "run.json", "identity.txt"


@dataclass(frozen=True)
class Outputs:
    """Files of one finished run. Every reader raises UserError if its file is missing or damaged."""

    data: str
    variant: str
    seed: int = 0

    @classmethod
    def of(cls, run: Run) -> Self:
        """Outputs of a run."""
        return cls(run.data, run.variant, run.seed)

    @classmethod
    def at(cls, origin: str) -> Self:
        """Outputs of seed 0 of a variant, given as <set>/<variant>."""
        data, _, variant = origin.partition("/")
        return cls(data, variant)

    @property
    def folder(self) -> Path:
        """The folder of the files."""
        top = MODELS / self.data / self.variant
        return top / f"seed-{self.seed}" if self.seed else top

    @property
    def command(self) -> str:
        """The command that rebuilds the files."""
        top = MODELS / self.data / self.variant
        seeds = 1 + max(self.seed, len([*top.glob("seed-*")]))  # fewer would delete the others
        return f"make train VARIANT={self.variant}" + (f" SEEDS={seeds}" if seeds > 1 else "")

    def exist(self) -> bool:
        """Whether the run was trained here; its files may still be damaged."""
        return self.folder.exists()

    def model(self) -> Path:
        """Path of the trained network, for `keras.saving.load_model`."""
        return self._file(MODEL)

    def metrics(self) -> dict[str, float]:
        """Accuracies, losses and costs."""
        return dict(json.loads(self._file(METRICS).read_text()))

    def record(self) -> dict[str, Any]:
        """MLflow's run id and the recipe."""
        return dict(json.loads(self._file(RECORD).read_text()))

    def run_id(self) -> str:
        """MLflow's id of the run."""
        return str(self.record()["run_id"])

    def predictions(self, part: Literal["validation", "test"] = "test") -> tuple[np.ndarray, np.ndarray]:
        """Logits and labels of the test or validation images."""
        with np.load(self._file(PREDICTIONS), allow_pickle=False) as file:
            return file[f"{part}_logits"], file[f"{part}_labels"]

    def curves(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The history, one row per epoch, and the finer curve."""
        return pd.read_csv(self._file(HISTORY)), pd.read_csv(self._file(CURVE))

    def _file(self, name: str) -> Path:
        if not self.exist():
            raise UserError(
                f"Run {self.variant} seed {self.seed} is missing. Expected: {self.folder / name}. Received: no such "
                f"folder. To fix this, run: {self.command}"
            )
        return verified(self.folder / name, self.command)


def identity(runs: Sequence[Run], devices: Strategy) -> str:
    """Digest of everything that decides the results of a variant: recipe, seeds, data, weights, devices and code."""
    origin = runs[0].origin
    facts = {
        **{str(run.seed): run.model_dump() for run in runs},
        "data": dict(read_card(runs[0].data)),
        "origin": Outputs.at(origin).run_id() if origin else None,
        "devices": devices.model_dump(),
        "code": fingerprint([SOURCE / "train" / "experiment.py"]),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def write_identity(top: Path, digest: str) -> None:
    """Write an `identity` to `top`, the folder that becomes the variant's."""
    write_text(top / IDENTITY, digest + "\n")
    write_manifest(top)


def are_finished(runs: Sequence[Run], devices: Strategy) -> bool:
    """Whether `models/` has the undamaged outputs of a training with the same `identity`."""
    first = Outputs.of(runs[0])
    try:
        for run in runs:
            for name in (MODEL, HISTORY, CURVE, METRICS, PREDICTIONS, RECORD):
                verified(Outputs.of(run).folder / name, "")
        return verified(first.folder / IDENTITY, "").read_text().strip() == identity(runs, devices)
    except UserError:
        return False


def write(
    folder: Path,
    *,
    network: Any,
    history: pd.DataFrame,
    curve: pd.DataFrame,
    metrics: Mapping[str, float],
    arrays: Mapping[str, np.ndarray],
    record: Mapping[str, Any],
) -> Path:
    """Write a run's files, among them the Keras model `network`, and their digests to `folder`.

    Returns the path of the network.
    """
    folder.mkdir(exist_ok=True)
    network.save(folder / MODEL)
    history.to_csv(folder / HISTORY, index=False)
    curve.to_csv(folder / CURVE, index=False)
    named: dict[str, Any] = dict(arrays)
    np.savez(folder / PREDICTIONS, **named)
    write_text(folder / METRICS, json.dumps(metrics, indent=2) + "\n")
    write_text(folder / RECORD, json.dumps(record, indent=2) + "\n")
    write_manifest(folder)
    return folder / MODEL
