"""Mistakes in params.yaml in words: the key, what is invalid, what is valid, what was received."""

import difflib
import re
import types
import typing
from typing import Any

from cnnlab.params.recipe import NETWORKS, Section


def explain(error: Any, tree: Any, whole: type[Section]) -> str:
    """One line for one pydantic error: key, what is invalid, what is valid, what was received."""
    key, received, valid_keys, optional = _locate(error["loc"], tree, whole)
    match error["type"]:
        case "extra_forbidden":
            near = difflib.get_close_matches(key.rpartition(".")[2], valid_keys, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            return f"Unknown key {key}. Expected one of: {', '.join(valid_keys)}. Received: {received!r}.{hint}"
        case "missing":
            return f"Missing key {key}. Expected a value. Received: nothing."
        case "union_tag_invalid" | "union_tag_not_found":
            networks = [name for k in NETWORKS for name in typing.get_args(k.model_fields["name"].annotation)]
            name = received.get("name") if isinstance(received, dict) else received
            return f"Invalid {key}.name. Expected one of: {', '.join(networks)}. Received: {name!r}."
        case "value_error":
            return f"Invalid {key or 'file'}. Expected {error['ctx']['error']}." + (
                f" Received: {received!r}." if key else ""
            )
        case _:
            expected = re.sub(r"^\w+ should (be )?", "", error["msg"]) + (", or null" if optional else "")
            return f"Invalid {key or 'file'}. Expected: {expected}. Received: {received!r}."


def _locate(location: tuple[Any, ...], tree: Any, whole: type[Section]) -> tuple[str, Any, list[str], bool]:
    """The dotted key of an error, the value received there, the keys valid in the innermost section around it, and
    whether the value may be null."""
    kind: Any = whole
    keys: list[str] = []
    valid: list[str] = []
    for part in location:
        kind = _without_null(kind)
        if isinstance(kind, types.UnionType):
            pass  # the union's tag: the network's name, no key of the file
        elif isinstance(tree, list) or (isinstance(tree, dict) and part in tree):
            tree = tree[part]
            keys.append(str(part))
        elif part != "[key]":  # pydantic's mark of a wrong mapping key; anything else is a missing key
            keys.append(str(part))
        if isinstance(kind, type) and issubclass(kind, Section):
            valid = list(kind.model_fields)
        kind = _member(kind, part)
    if location and location[-1] == "[key]":  # the mapping's key is wrong, not what stands under it
        return ".".join(keys[:-1]), keys[-1], valid, False
    return ".".join(keys), tree, valid, type(None) in typing.get_args(kind)


def _without_null(kind: Any) -> Any:
    """`Start` of `Start | None`; any other type unchanged."""
    members = [k for k in typing.get_args(kind) if k is not types.NoneType]
    return members[0] if isinstance(kind, types.UnionType) and len(members) == 1 else kind


def _member(kind: Any, part: str | int) -> Any:
    """The type found at `part` of a section, mapping, list or union of networks; None where there is none."""
    if isinstance(kind, types.UnionType):
        return next((k for k in kind.__args__ if part in k.model_fields["name"].annotation.__args__), None)
    if isinstance(kind, type) and issubclass(kind, Section):
        return kind.model_fields[str(part)].annotation if part in kind.model_fields else None
    arguments = typing.get_args(kind)
    return arguments[-1] if arguments else None
