"""The shipped params.yaml, changed and loaded."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from cnnlab import params
from cnnlab.errors import UserError
from cnnlab.params.mistakes import explain

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "params.yaml").read_text()
SHIPPED: dict[str, Any] = json.loads(json.dumps(YAML(typ="safe").load(TEXT)))  # without the sharing of YAML's anchors


def with_value(key: str, value: Any) -> dict[str, Any]:
    """The shipped parameters with another value at a dotted key."""
    tree = copy.deepcopy(SHIPPED)
    *path, last = key.split(".")
    section: Any = tree
    for part in path:
        section = section[part]
    section[last] = value
    return tree


def load(file: Path, tree: Any) -> params.Params:
    """Write the parameters to a file and load it."""
    file.write_text(json.dumps(tree).replace("NaN", ".nan").replace("Infinity", ".inf"))  # JSON is YAML 1.2
    return params.load(file)


def explained(tree: Any) -> list[str]:
    """The lines of the error as `errors`, without writing and parsing YAML, which takes most of a test's time."""
    with pytest.raises(ValidationError) as refusal:
        params.Params.model_validate(tree)
    return [explain(error, tree, params.Params) for error in refusal.value.errors()]


def errors(file: Path, tree: Any) -> list[str]:
    """The lines of the error, without the name of the file."""
    with pytest.raises(UserError) as refusal:
        load(file, tree)
    lines = str(refusal.value).splitlines()
    assert all(line.startswith(f"{file}: ") for line in lines)
    return [line.removeprefix(f"{file}: ") for line in lines]
