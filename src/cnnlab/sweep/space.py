"""The space of a sweep: keys of a variant as in params.yaml, each with what it is searched over."""

import difflib
import math
from collections.abc import Callable, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

import optuna
from pydantic import ValidationError

from cnnlab.errors import UserError
from cnnlab.params import Searched, Variant

Space = Mapping[str, Searched]
Values = dict[str, Any]
Chooser = Callable[[str, Searched], Any]

_MISSING = object()


def suggest(trial: optuna.Trial, space: Space, base: Variant) -> Values:
    """The trial's value of every key whose conditions hold, asked of Optuna."""

    def ask(key: str, searched: Searched) -> Any:
        if searched.low is None or searched.high is None:
            return trial.suggest_categorical(key, searched.choices)
        if searched.whole:
            step = int(searched.step or 1)
            return trial.suggest_int(key, int(searched.low), int(searched.high), step=step, log=searched.log)
        return trial.suggest_float(key, searched.low, searched.high, step=searched.step, log=searched.log)

    return _walk(space, base, ask)


def baseline(space: Space, base: Variant) -> Values:
    """The base variant's own value of every key whose conditions hold: trial 0."""
    tree = base.model_dump()
    return _walk(space, base, lambda key, _: _own(tree, key))


def apply(base: Variant, values: Mapping[str, Any], section: str = "sweep.space") -> Variant:
    """The variant with `values` in place of its own; None as an item of a list leaves the item out.

    Raises UserError, which names the `section` of params.yaml, where the values together make no valid variant.
    """
    tree = base.model_dump()
    for key, value in values.items():
        check_key(tree, key, section)
        *path, last = key.split(".")
        node: Any = tree
        for part in path:
            node = node[part]
        if isinstance(node, dict):
            node[last] = value
        elif value is not None:
            node[int(last) : int(last) + 1] = [value]
    try:
        return Variant.model_validate(tree)
    except ValidationError as error:
        mistake = error.errors()[0]
        told = ", ".join(f"{key}: {value}" for key, value in values.items())
        raise UserError(
            f"Invalid combination in {section}. Expected a valid variant. Received: {told}. "
            f"{'.'.join(map(str, mistake['loc']))}: {mistake['msg']}."
        ) from error


def check(space: Space, base: Variant) -> None:
    """Raise UserError for a key or value that no variant has, a condition that never holds, or a baseline outside."""
    tree = base.model_dump()
    for key, searched in space.items():
        for name in (key, *searched.when):
            check_key(tree, name, "sweep.space")
    for key, searched in space.items():
        for value in _candidates(searched):
            apply(base, _with(space, base, key, value))
    own = baseline(space, base)
    for key, value in own.items():
        if not _holds(space[key], value):
            raise UserError(
                f"Invalid sweep.space.{key}. Expected the base variant's own value among the searched ones, because "
                f"trial 0 is the base itself. Received: {_told(space[key])} without {value!r}. Add it."
            )


def _walk(space: Space, base: Variant, choose: Chooser) -> Values:
    tree = base.model_dump()
    values: Values = {}
    for key in _ordered(space):
        searched = space[key]
        # A searched key whose own conditions fail has no value, so what depends on it has none either.
        known = {
            parent: values.get(parent, _MISSING) if parent in space else _own(tree, parent) for parent in searched.when
        }
        if all(known[parent] in allowed for parent, allowed in searched.when.items()):
            values[key] = choose(key, searched)
    return values


def _ordered(space: Space) -> list[str]:
    """The keys, each after those its conditions name."""
    parents = {key: [name for name in searched.when if name in space] for key, searched in space.items()}
    try:
        return list(TopologicalSorter(parents).static_order())
    except CycleError as error:
        raise UserError(
            "Invalid sweep.space. Expected conditions that do not depend on each other. Received a circle: "
            f"{' → '.join(error.args[1])}."
        ) from error


def _with(space: Space, base: Variant, key: str, value: Any) -> Values:
    """A trial's values in which `key` is `value`: its conditions are made to hold, the rest stays the base's own."""
    forced = {key: value}
    for name in reversed(_ordered(space)):
        if name in forced:
            forced = {
                parent: next((v for v in allowed if _holds(space[parent], v)), _MISSING)
                for parent, allowed in space[name].when.items()
                if parent in space
            } | forced
    tree = base.model_dump()

    def choose(name: str, searched: Searched) -> Any:
        own = _own(tree, name)
        return forced.get(name, own if _holds(searched, own) else _candidates(searched)[0])

    values = _walk(space, base, choose)
    if key not in values:
        raise UserError(
            f"Invalid sweep.space.{key}.when. Expected conditions that can hold together, on other keys of the space "
            f"or of the base variant. Received: {dict(space[key].when)}."
        )
    return values


def check_key(tree: Mapping[str, Any], key: str, section: str) -> None:
    """Raise UserError where a variant's `tree` has no value at `key`; past the end of a list there may be one."""
    node: Any = tree
    *path, last = key.split(".")
    for part in path:
        node = node.get(part) if isinstance(node, dict) else None
    if isinstance(node, list) and last.isdecimal() and last.isascii():
        return
    if not isinstance(node, dict) or last not in node or isinstance(node[last], dict | list):
        known = list(_leaves(tree))
        near = difflib.get_close_matches(key, known, n=1)
        raise UserError(
            f"Unknown key {key} in {section}. Expected one of: {', '.join(known)}. Received: {key!r}."
            + (f" Did you mean {near[0]!r}?" if near else "")
        )


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> list[str]:
    names: list[str] = []
    for key, value in tree.items():
        if isinstance(value, dict):
            names += _leaves(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            names += [f"{prefix}{key}.{i}" for i in range(len(value))]
        else:
            names.append(f"{prefix}{key}")
    return names


def _own(tree: Mapping[str, Any], key: str) -> Any:
    """The variant's value at `key`; None past the end of a list."""
    node: Any = tree
    for part in key.split("."):
        missing = isinstance(node, list) and int(part) >= len(node)
        node = None if missing else node[int(part) if isinstance(node, list) else part]
    return node


def _candidates(searched: Searched) -> list[Any]:
    return searched.choices or [searched.low, searched.high]


def _holds(searched: Searched, value: Any) -> bool:
    if searched.low is None or searched.high is None:
        return any(
            value == choice and isinstance(value, bool) is isinstance(choice, bool) for choice in searched.choices
        )
    number = isinstance(value, int if searched.whole else int | float) and not isinstance(value, bool)
    if not number or not searched.low <= value <= searched.high:
        return False
    steps = (value - searched.low) / searched.step if searched.step else 0.0
    return math.isclose(steps, round(steps), abs_tol=1e-8)


def _told(searched: Searched) -> str:
    if searched.choices:
        return f"choices {searched.choices}"
    return f"the range from {searched.low} to {searched.high}" + (f" by {searched.step}" if searched.step else "")
