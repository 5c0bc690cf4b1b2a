"""Checkpoints: all a training needs to go on, in one file that is whole or absent."""

import io
import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import keras
import numpy as np

from cnnlab.errors import UserError
from cnnlab.files import atomic
from cnnlab.train.history import History


@dataclass
class State:
    """Where a training stands: its history so far, and its MLflow run by our key and, once known, by MLflow's id."""

    history: History = field(default_factory=History)
    key: str = field(default_factory=lambda: uuid4().hex)
    run_id: str | None = None


def save(path: Path, model: keras.Model, state: State, fingerprint: str) -> None:
    """Write the model's and the optimizer's variables, dropout's random state included, with `state` to `path`.

    `fingerprint` names the recipe and data they belong to. Atomic: a kill or a full disk leaves the earlier file.
    """
    own = {"fingerprint": fingerprint, "history": state.history.asdict(), "key": state.key, "run_id": state.run_id}
    with atomic(path) as stream:
        np.savez(stream, allow_pickle=False, state=np.array(json.dumps(own)), **_values(model))


def read(path: Path, fingerprint: str) -> bytes:
    """The content of the checkpoint at `path`; empty where there is none for `fingerprint`.

    A checkpoint of another recipe, network or data set is left alone. Raises UserError for a damaged file.
    """
    if not path.exists():
        return b""
    content = path.read_bytes()
    if _parse(content, path)[0]["fingerprint"] != fingerprint:
        print(f"{path} belongs to another recipe: starting anew")
        return b""
    return content


def restore(content: bytes, model: keras.Model, path: Path) -> State:
    """Load what `read` gave into `model` and its optimizer. Raises UserError where it does not fit."""
    record, values = _parse(content, path)
    variables = _variables(model)
    shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
    if shapes != {name: value.shape for name, value in values.items()}:
        raise _invalid(path, "variables of another network")
    for name, variable in variables.items():
        variable.assign(values[name])
    return State(History.fromdict(record["history"]), record["key"], record["run_id"])


def is_finite(model: keras.Model) -> bool:
    """Whether no weight has overflowed."""
    return all(np.isfinite(v.numpy()).all() for v in model.trainable_variables)


def _parse(content: bytes, path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            values = {name: file[name] for name in file.files}
        return json.loads(str(values.pop("state"))), values
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise _invalid(path, str(error)) from error


def _invalid(path: Path, received: str) -> UserError:
    return UserError(
        f"Invalid checkpoint {path}. Expected a file that cnnlab wrote. Received: {received}. Delete it to start anew."
    )


def _values(model: keras.Model) -> dict[str, np.ndarray]:
    return {name: variable.numpy() for name, variable in _variables(model).items()}


def _variables(model: keras.Model) -> dict[str, keras.Variable]:
    return {
        f"{owner}/{i}": variable  # not its path: Keras numbers the layers of a process
        for owner, variables in (("model", model.variables), ("optimizer", model.optimizer.variables))
        for i, variable in enumerate(variables)
    }
