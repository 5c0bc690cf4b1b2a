"""Search space of a sweep: keys of a variant, as in params.yaml, with their choices or ranges."""

import math
from collections.abc import Callable, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

import optuna

from cnnlab.errors import UserError
from cnnlab.params import Searched, Variant
from cnnlab.studies.overrides import apply, check_key

Space = Mapping[str, Searched]
Values = dict[str, Any]
Chooser = Callable[[str, Searched], Any]

_MISSING = object()


def suggest(trial: optuna.Trial, space: Space, base: Variant) -> Values:
    """Let Optuna suggest a value for every key whose conditions hold."""

    def suggested(key: str, searched: Searched) -> Any:
        if searched.low is None or searched.high is None:
            return trial.suggest_categorical(key, searched.choices)
        if searched.whole:
            step = int(searched.step or 1)
            return trial.suggest_int(key, int(searched.low), int(searched.high), step=step, log=searched.log)
        return trial.suggest_float(key, searched.low, searched.high, step=searched.step, log=searched.log)

    return _walk(space, base, suggested)


def variant(values: Values, space: Space, base: Variant) -> Variant:
    """The base with the values of a trial.

    With an item of a list, the items whose conditions name it are removed: without a third stage there is no depth of
    it. Raises UserError if the result is no valid variant.
    """
    removed = {
        key: None
        for key, searched in space.items()
        if _is_item(key) and any(_is_item(name) and values.get(name, _MISSING) is None for name in searched.when)
    }
    return apply(base, values | removed)


def _is_item(key: str) -> bool:
    return key.rpartition(".")[2].isdecimal()


def baseline(space: Space, base: Variant) -> Values:
    """The base variant's own values of the keys whose conditions hold, for trial 0."""
    tree = base.model_dump()
    return _walk(space, base, lambda key, _: _own(tree, key))


def check(space: Space, base: Variant) -> None:
    """Check a search space.

    Raises UserError for a key or value that no variant has, a condition that never holds, or a base outside the space.
    """
    tree = base.model_dump()
    for key, searched in space.items():
        for name in (key, *searched.when):
            check_key(tree, name, "sweep.space")
    for key, searched in space.items():
        for value in _candidates(searched):
            variant(_with(space, base, key, value), space, base)
    own = baseline(space, base)
    for key, value in own.items():
        if not _holds(space[key], value):
            raise UserError(
                f"Invalid sweep.space.{key}. Expected the base variant's own value among the searched ones, because "
                f"trial 0 is the base itself. Received: {_describe(space[key])} without {value!r}. Add it."
            )


def _walk(space: Space, base: Variant, choose: Chooser) -> Values:
    tree = base.model_dump()
    values: Values = {}
    for key in _ordered(space):
        searched = space[key]
        # A key whose own conditions fail has no value, so neither have the keys that depend on it.
        known = {
            parent: values.get(parent, _MISSING) if parent in space else _own(tree, parent) for parent in searched.when
        }
        if all(known[parent] in allowed for parent, allowed in searched.when.items()):
            values[key] = choose(key, searched)
    return values


def _ordered(space: Space) -> list[str]:
    """The keys, each after those in its conditions."""
    parents = {key: [name for name in searched.when if name in space] for key, searched in space.items()}
    try:
        return list(TopologicalSorter(parents).static_order())
    except CycleError as error:
        raise UserError(
            "Invalid sweep.space. Expected conditions that do not depend on each other. Received a cycle: "
            f"{' → '.join(error.args[1])}."
        ) from error


def _with(space: Space, base: Variant, key: str, value: Any) -> Values:
    """Values of a trial with `key` set to `value`, its conditions met, and the base's own values otherwise."""
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


def _own(tree: Mapping[str, Any], key: str) -> Any:
    """Value of a variant at `key`; None past the end of a list."""
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


def _describe(searched: Searched) -> str:
    if searched.choices:
        return f"choices {searched.choices}"
    return f"the range from {searched.low} to {searched.high}" + (f" by {searched.step}" if searched.step else "")
