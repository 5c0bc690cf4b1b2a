"""Error messages for params.yaml: the key, what is invalid, what is expected, and what was received."""

import difflib
import re
import types
import typing
from typing import Any

from cnnlab.params.recipe import FAMILIES, Network, Section

RENAMED = {
    "blocks": "depths",
    "views": "tta",
    "start": "init_from",
    "optional_data": "data.<name>.optional",
}


def explain(error: Any, tree: Any, root: type[Section]) -> str:
    """Describe one pydantic error of the parameters `tree` of type `root` in one line."""
    key, received, valid_keys, optional = _locate(error["loc"], tree, root)
    name = key.rpartition(".")[2]
    match error["type"]:
        case "extra_forbidden" if RENAMED.get(name, "").partition(".")[0] in valid_keys:
            return f"Unknown key {key}. Expected its new name, {RENAMED[name]}. Received: {received!r}."
        case "extra_forbidden":
            near = difflib.get_close_matches(name, valid_keys, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            return f"Unknown key {key}. Expected one of: {', '.join(valid_keys)}. Received: {received!r}.{hint}"
        case "missing":
            return f"Missing key {key}. Expected a value. Received: nothing."
        case "unknown_network":
            network = received.get("name") if isinstance(received, dict) else received
            return f"Invalid {key}.name. Expected one of: {', '.join(FAMILIES)}. Received: {network!r}."
        case "value_error":
            suffix = f" Received: {received!r}." if key else ""
            return f"Invalid {key or 'file'}. Expected {error['ctx']['error']}.{suffix}"
        case _:
            expected = re.sub(r"^\w+ should (be )?", "", error["msg"]) + (", or null" if optional else "")
            return f"Invalid {key or 'file'}. Expected: {expected}. Received: {received!r}."


def _locate(location: tuple[Any, ...], tree: Any, root: type[Section]) -> tuple[str, Any, list[str], bool]:
    """The dotted key of an error, the value there, the valid keys of its section, and whether it may be null."""
    kind: Any = root
    keys: list[str] = []
    valid: list[str] = []
    for part in location:
        kind = _without_null(kind)
        if kind is Network:
            kind = FAMILIES[tree["name"]]
        if isinstance(tree, list) or (isinstance(tree, dict) and part in tree):
            tree = tree[part]
            keys.append(str(part))
        elif part != "[key]":  # pydantic's mark of an invalid mapping key; anything else is a missing key
            keys.append(str(part))
        if isinstance(kind, type) and issubclass(kind, Section):
            valid = list(kind.model_fields)
        kind = _member(kind, part)
    if location and location[-1] == "[key]":  # the key of a mapping is invalid, not its value
        return ".".join(keys[:-1]), keys[-1], valid, False
    return ".".join(keys), tree, valid, type(None) in typing.get_args(kind)


def _without_null(kind: Any) -> Any:
    """`InitFrom` for `InitFrom | None`; any other type unchanged."""
    members = [k for k in typing.get_args(kind) if k is not types.NoneType]
    return members[0] if isinstance(kind, types.UnionType) and len(members) == 1 else kind


def _member(kind: Any, part: str | int) -> Any:
    """The type at `part` of a section, mapping or list; None if there is none."""
    if isinstance(kind, type) and issubclass(kind, Section):
        return kind.model_fields[str(part)].annotation if part in kind.model_fields else None
    arguments = typing.get_args(kind)
    return arguments[-1] if arguments else None
