"""Checkpoints: everything that a training needs to resume, in one file with its digest, written atomically."""

import hashlib
import io
import json
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import keras
import numpy as np

from cnnlab.errors import UserError
from cnnlab.files import atomic, problem
from cnnlab.train.history import History

_HEX = 64  # characters of a SHA-256


@dataclass
class State:
    """Progress of a training: its history, and its MLflow run by our key and, once known, by MLflow's id."""

    history: History = field(default_factory=History)
    key: str = field(default_factory=lambda: uuid4().hex)
    run_id: str | None = None


def save(path: Path, model: keras.Model, state: State, fingerprint: str) -> None:
    """Write the variables of model and optimizer, dropout's random state included, and `state` to `path`.

    `fingerprint` identifies recipe and data. Atomic: a kill or a full disk leaves the earlier file. The file is an .npz
    archive whose comment is the SHA-256 of what precedes it.
    """
    own = {"fingerprint": fingerprint, "history": state.history.asdict(), "key": state.key, "run_id": state.run_id}
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, state=np.array(json.dumps(own)), **_values(model))
    content = stream.getvalue()[:-2]  # without the length of the comment, 0
    with atomic(path) as file:
        file.write(content + struct.pack("<H", _HEX) + hashlib.sha256(content).hexdigest().encode())


def read(path: Path, fingerprint: str) -> bytes:
    """Content of the checkpoint at `path`; empty if there is none, or one of another recipe, network or data set.

    Raises UserError for a damaged file: nothing is deleted, in case a copy of it exists.
    """
    if not os.path.lexists(path):
        return b""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _invalid(path, problem(error)) from error
    if hashlib.sha256(content[: -_HEX - 2]).hexdigest().encode() != content[-_HEX:]:
        raise _invalid(path, "another digest, or none")
    if _parse(content)[0]["fingerprint"] != fingerprint:
        print(f"{path} belongs to another recipe: training starts from scratch")
        return b""
    return content


def restore(content: bytes, model: keras.Model, path: Path) -> State:
    """Load what `read` returned into `model` and its optimizer. Raises UserError if it does not fit."""
    record, values = _parse(content)
    variables = _variables(model)
    shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
    if shapes != {name: value.shape for name, value in values.items()}:
        raise _invalid(path, "variables of another network")
    for name, variable in variables.items():
        variable.assign(values[name])
    return State(History.fromdict(record["history"]), record["key"], record["run_id"])


def is_finite(model: keras.Model) -> bool:
    """Whether all weights are finite."""
    return all(np.isfinite(v.numpy()).all() for v in model.trainable_variables)


def _parse(content: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        values = {name: file[name] for name in file.files}
    return json.loads(str(values.pop("state"))), values


def _invalid(path: Path, received: str) -> UserError:
    return UserError(
        f"Invalid checkpoint {path}. Expected a file that cnnlab wrote, with its sha256. Received: {received}. "
        f"To start this training from scratch, run: rm -r {path}"
    )


def _values(model: keras.Model) -> dict[str, np.ndarray]:
    return {name: variable.numpy() for name, variable in _variables(model).items()}


def _variables(model: keras.Model) -> dict[str, keras.Variable]:
    return {
        f"{owner}/{i}": variable  # not its path: Keras numbers the layers of a process
        for owner, variables in (("model", model.variables), ("optimizer", model.optimizer.variables))
        for i, variable in enumerate(variables)
    }
