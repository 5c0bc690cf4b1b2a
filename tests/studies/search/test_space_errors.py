"""Errors in the search space of a sweep, and in the section of params.yaml."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from studies.search.spaces import TREE, read, refusal

from cnnlab import params
from cnnlab.errors import UserError
from cnnlab.params import Searched

# Mistakes


def among_all(key: str, entry: Any) -> dict[str, Searched]:
    """The shipped space with another entry at a key."""
    return read({**TREE["sweep"]["space"], key: entry})


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("network.activatoin", "network.activation"),
        ("network.filters", "network.filters.0"),
        ("augment.shft", "augment.shift"),
        ("optimizer.schedule", "optimizer.schedule.name"),
        ("label_smoothin", "label_smoothing"),
        ("network.filters.first", "network.filters.1"),
        ("network.filters.²", "network.filters.0"),
        ("network.kernel.0", "network.kernel"),
        ("nothing like it", None),
    ],
)
@pytest.mark.parametrize("shipped", [True, False])
def test_an_unknown_key(wrong: str, near: str | None, shipped: bool) -> None:
    entry = {"choices": [1, 2]}
    message = refusal(among_all(wrong, entry) if shipped else read({wrong: entry}))
    assert message.startswith(f"Unknown key {wrong} in sweep.space. Expected one of: data, network.name, ")
    assert f"Received: {wrong!r}." in message
    hint = re.search(r"Did you mean '(.*)'\?$", message)
    assert (hint and hint[1].rstrip("01")) == (near and near.rstrip("01"))


@pytest.mark.parametrize("shipped", [True, False])
def test_an_unknown_key_in_a_condition(shipped: bool) -> None:
    entry = {"choices": [3, 5], "when": {"network.paddding": ["same"]}}
    message = refusal(among_all("network.kernel", entry) if shipped else read({"network.kernel": entry}))
    assert message.startswith("Unknown key network.paddding in sweep.space. Expected one of: data, ")
    assert message.endswith("Received: 'network.paddding'. Did you mean 'network.padding'?")


@pytest.mark.parametrize(
    ("key", "entry", "parts"),
    [
        ("network.activation", {"choices": ["relu", "relux"]}, ["network.activation: relux", "'softsign'"]),
        ("network.dense_dropout", {"low": 0.0, "high": 1.5}, ["network.dense_dropout: 1.5", "less than 1"]),
        ("network.depths.0", {"low": 0, "high": 2}, ["network.depths.0: 0", "greater than or equal to 1"]),
        ("network.kernel", {"low": 1, "high": 3.5}, ["network.kernel: 3.5", "valid integer"]),
        ("network.filters.9", {"choices": [None, 64]}, ["network.filters.9: 64", "per stage"]),
        ("optimizer.momentum", {"choices": [0.0, 0.9]}, ["optimizer.momentum: 0.9", "sgd and muon"]),
    ],
)
def test_a_value_that_no_variant_allows(key: str, entry: Any, parts: list[str]) -> None:
    for searched in (read({key: entry}), among_all(key, entry)):
        message = refusal(searched)
        assert message.startswith("Invalid combination in sweep.space. Expected a valid variant. Received: ")
        assert all(part in message for part in parts), message


@pytest.mark.parametrize(
    ("key", "entry", "received"),
    [
        ("augment.shift", {"low": 0.2, "high": 0.3}, "the range from 0.2 to 0.3 without 0.1"),
        ("network.activation", {"choices": ["elu", "tanh"]}, "choices ['elu', 'tanh'] without 'relu'"),
        ("augment.flip", {"choices": [None, "alternating"]}, "choices [None, 'alternating'] without 'random'"),
        ("network.filters.2", {"low": 64, "high": 128}, None),  # a range has no null, which is the base's
    ],
)
def test_a_base_outside_the_space(key: str, entry: Any, received: str | None) -> None:
    message = refusal(among_all(key, entry))
    assert message.startswith(
        f"Invalid sweep.space.{key}. Expected the base variant's own value among the searched ones"
    )
    assert received is None or f"Received: {received}. Add it." in message


@pytest.mark.parametrize(
    ("key", "entry"),
    [
        ("network.depths.0", {"low": 1, "high": 5, "step": 2}),  # 1, 3, 5, but the base has 2
        ("augment.shift", {"low": 0.0, "high": 0.4, "step": 0.2}),
    ],
)
def test_a_base_between_the_steps(key: str, entry: Any) -> None:
    assert refusal(read({key: entry})).startswith(f"Invalid sweep.space.{key}. Expected the base variant's own value")


# As params.yaml has it


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("params") / "params.yaml"


def load(file: Path, key: str, entry: Any) -> params.Params:
    """The shipped params.yaml with another entry in the space."""
    tree = copy.deepcopy(TREE)
    tree["sweep"]["space"][key] = entry
    file.write_text(json.dumps(tree))  # JSON is YAML 1.2
    return params.load(file)


def test_params_yaml_tells_whole_numbers_from_others(file: Path) -> None:
    entry = load(file, "augment.shift", {"low": 0.0, "high": 1}).sweep.space["augment.shift"]
    assert not entry.whole
    entry = load(file, "network.kernel", {"low": 1, "high": 7, "step": 2}).sweep.space["network.kernel"]
    assert entry.whole


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"choices": []}, "choices, or low and high"),
        ({"choices": [0.1]}, "two choices or more"),
        ({"choices": [0.1, 0.1]}, "all different"),
        ({"choices": [0.1, 0.2, None, None]}, "all different"),
        ({"choices": [0, 0.0, 0.1]}, "all different"),
        ({"choices": [0.1, 0.2], "low": 0.1}, "either choices, or low and high"),
        ({"choices": [0.1, [1]]}, "Received: [1]"),
        ({"choices": [0.1, 0.2], "wen": {}}, "Did you mean 'when'?"),
        ({"choices": 0.1}, "Received: 0.1"),
        ({"low": 0.5, "high": 0.1}, "low below high"),
        ({"low": 0.1, "high": 0.1}, "low below high"),
        ({"low": 0.0, "high": 0.1, "log": True}, "log with a low above 0"),
        ({"low": 1e-5, "high": 0.1, "log": True, "step": 0.1}, "without step"),
        ({"low": 1, "high": 5, "step": 0.5}, "an integer between integers"),
        ({"low": 0.0, "high": 0.1, "step": 0}, "a step above 0"),
        ({"low": 0.0}, "choices, or low and high"),
        ({"low": 0.0, "high": float("inf")}, "a number"),
        ({"choices": [0.1, 0.2], "when": {"augment.flip": []}}, "at least 1 item"),
        ({"low": 0.0, "hihg": 0.1}, "Did you mean 'high'?"),
        ({"low": "a", "high": 0.1}, "Received: 'a'"),
        ({"low": False, "high": 0.1}, "Received: False"),
        (0.1, "Received: 0.1"),
        (None, "Received: None"),
    ],
)
def test_params_yaml_names_the_key_of_a_mistake(file: Path, entry: Any, said: str) -> None:
    with pytest.raises(UserError) as message:
        load(file, "augment.shift", entry)
    lines = str(message.value).splitlines()
    for line in lines:
        found = re.match(rf"{re.escape(str(file))}: (?:Invalid|Missing key|Unknown key) (\S+)\. Expected", line)
        assert found, line
        *_, after = found[1].partition("sweep.space.augment.shift")
        assert after.strip(".") in (
            "",
            "choices",
            "choices.1",
            "wen",
            "low",
            "high",
            "hihg",
            "step",
            "log",
            "when.augment.flip",
        ), line
    assert any(said in line for line in lines), lines


def test_an_empty_space(file: Path) -> None:
    tree = copy.deepcopy(TREE)
    tree["sweep"]["space"] = {}
    file.write_text(json.dumps(tree))
    with pytest.raises(UserError, match=r"Invalid sweep\.space\. Expected"):
        params.load(file)
