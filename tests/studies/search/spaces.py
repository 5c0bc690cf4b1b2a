"""Search spaces, and what may be suggested from them."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from pydantic import TypeAdapter
from ruamel.yaml import YAML

from cnnlab import params
from cnnlab.errors import UserError
from cnnlab.params import Searched, Variant
from cnnlab.studies.search import space

ROOT = Path(__file__).parents[3]
TREE: dict[str, Any] = YAML(typ="safe").load(ROOT / "params.yaml")
SHIPPED = params.load(ROOT / "params.yaml")
LESSON = SHIPPED.variants["lesson"]
SPACE = SHIPPED.sweep.space
ABSENT = object()
WHEN = "Invalid sweep.space.network.kernel.when. Expected conditions that can hold"


def read(entries: dict[str, Any]) -> dict[str, Searched]:
    """A space from its entries in params.yaml."""
    return TypeAdapter(dict[str, Searched]).validate_python(entries)


def suggested(searched: space.Space, seed: int, base: Variant = LESSON) -> dict[str, Any]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
    trial = study.ask()
    values = space.suggest(trial, searched, base)
    assert trial.params == values
    return values


def value_at(variant: Variant, key: str) -> Any:
    """The variant's value at a dotted key; ABSENT past the end of a list."""
    node: Any = variant
    for part in key.split("."):
        if not isinstance(node, list):
            node = getattr(node, part)
        elif int(part) < len(node):
            node = node[int(part)]
        else:
            return ABSENT
    return node


def keys_that_hold(searched: space.Space, values: dict[str, Any], base: Variant = LESSON) -> list[str]:
    """The keys whose conditions all hold, judged by the values only."""

    def holds(parent: str, allowed: list[Any]) -> bool:
        known = values.get(parent, ABSENT) if parent in searched else value_at(base, parent)
        return any(known == value for value in allowed)

    return [key for key, entry in searched.items() if all(holds(*condition) for condition in entry.when.items())]


def lies_in(entry: Searched, value: Any) -> bool:
    if entry.choices:
        return any(value == choice and type(value) is type(choice) for choice in entry.choices)
    return isinstance(value, int if entry.whole else float) and entry.low <= value <= entry.high


def refusal(searched: space.Space, base: Variant = LESSON) -> str:
    with pytest.raises(UserError) as error:
        space.check(searched, base)
    assert "\n" not in str(error.value)
    return str(error.value)
