"""Checkpoints: all a training needs to go on, in one file that is whole or absent."""

import json
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np

from cnnlab.errors import UserError
from cnnlab.files import atomic
from cnnlab.train.loop import History


@dataclass(frozen=True)
class State:
    """Where a training stands: its history so far and its MLflow run."""

    history: History
    run_id: str


def save(path: Path, model: keras.Model, state: State, fingerprint: str) -> None:
    """Write the model's and the optimizer's variables, dropout's random state included, with `state` to `path`.

    `fingerprint` names the recipe and data they belong to. Atomic: a kill or a full disk leaves the earlier file.
    """
    record = json.dumps({"fingerprint": fingerprint, **asdict(state)})
    with atomic(path) as stream:
        np.savez(stream, state=np.array(record), **{name: v.numpy() for name, v in _variables(model).items()})


def restore(path: Path, model: keras.Model, fingerprint: str) -> State | None:
    """Load the checkpoint at `path` into `model` and its optimizer; None where there is none for `fingerprint`.

    A checkpoint of another recipe, network or data set is left alone and not used. Raises UserError for a damaged file.
    """
    if not path.exists():
        return None
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            record = json.loads(str(file["state"]))
            if record.pop("fingerprint") != fingerprint:
                print(f"{path} belongs to another recipe: starting anew")
                return None
            values = {name: file[name] for name in _variables(model)}
            for name, variable in _variables(model).items():
                if values[name].shape != variable.shape:
                    raise ValueError(f"{name} of shape {values[name].shape} instead of {variable.shape}")
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(
            f"Invalid checkpoint {path}. Expected a file that cnnlab wrote. Received: {error}. Delete it to start anew."
        ) from error
    for name, variable in _variables(model).items():
        variable.assign(values[name])
    return State(History(**record["history"]), record["run_id"])


def _variables(model: keras.Model) -> dict[str, keras.Variable]:
    return {
        f"{owner}/{i}": variable  # not its path: Keras numbers the layers of a process
        for owner, variables in (("model", model.variables), ("optimizer", model.optimizer.variables))
        for i, variable in enumerate(variables)
    }
