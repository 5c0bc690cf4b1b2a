"""Variants with some values replaced, by dotted keys as in params.yaml."""

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from cnnlab.errors import UserError
from cnnlab.params import Variant


def apply(base: Variant, values: Mapping[str, Any], section: str = "sweep.space") -> Variant:
    """Replace `values` in a variant; an index past the end of a list appends, None removes the item at its index.

    Raises UserError, which names the `section` of params.yaml, if the result is no valid variant.
    """
    tree = base.model_dump()
    lists: list[list[Any]] = []
    for key, value in sorted(values.items(), key=_index):
        check_key(tree, key, section)
        *path, last = key.split(".")
        node: Any = tree
        for part in path:
            node = node[part]
        if isinstance(node, dict):
            node[last] = value
        else:
            node[int(last) : int(last) + 1] = [value]
            lists.append(node)
    for items in lists:
        items[:] = [item for item in items if item is not None]
    try:
        return Variant.model_validate(tree)
    except ValidationError as error:
        mistake = error.errors()[0]
        received = ", ".join(f"{key}: {value}" for key, value in values.items())
        raise UserError(
            f"Invalid combination in {section}. Expected a valid variant. Received: {received}. "
            f"{'.'.join(map(str, mistake['loc']))}: {mistake['msg']}."
        ) from error


def _index(item: tuple[str, Any]) -> int:
    last = item[0].rpartition(".")[2]
    return int(last) if last.isdecimal() else 0


def value(variant: Variant, key: str) -> Any:
    """The value of a variant at a dotted key; None if it has none there."""
    node: Any = variant.model_dump()
    for part in key.split("."):
        if isinstance(node, list):
            node = node[int(part)] if int(part) < len(node) else None
        else:
            node = node.get(part) if isinstance(node, dict) else None
    return node


def check_key(tree: Mapping[str, Any], key: str, section: str) -> None:
    """Raise UserError if a variant's `tree` has no value at `key`; an index past the end of a list is valid."""
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
