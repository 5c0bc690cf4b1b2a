"""The space of a sweep: what is suggested, what it makes of the base variant, and which mistakes are told how."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from ruamel.yaml import YAML

from cnnlab import params
from cnnlab.errors import UserError
from cnnlab.params import Searched, Variant
from cnnlab.sweep import space

ROOT = Path(__file__).parents[2]
TREE: dict[str, Any] = YAML(typ="safe").load(ROOT / "params.yaml")
SHIPPED = params.load(ROOT / "params.yaml")
LESSON = SHIPPED.variants["lesson"]
SPACE = SHIPPED.sweep.space
ABSENT = object()
WHEN = "Invalid sweep.space.network.kernel.when. Expected conditions that can hold"


def read(entries: dict[str, Any]) -> dict[str, Searched]:
    """A space from what stands in params.yaml."""
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
    """The keys whose every condition holds, told from the values alone."""

    def holds(parent: str, allowed: list[Any]) -> bool:
        known = values.get(parent, ABSENT) if parent in searched else value_at(base, parent)
        return any(known == value for value in allowed)

    return [key for key, entry in searched.items() if all(holds(*condition) for condition in entry.when.items())]


def lies_in(entry: Searched, value: Any) -> bool:
    if entry.choices:
        return any(value == choice and type(value) is type(choice) for choice in entry.choices)
    return isinstance(value, int if entry.whole else float) and entry.low <= value <= entry.high


def refusal(searched: space.Space, base: Variant = LESSON) -> str:
    with pytest.raises(UserError) as told:
        space.check(searched, base)
    assert "\n" not in str(told.value)
    return str(told.value)


# The shipped space


def test_the_shipped_space_is_valid_and_its_trial_0_is_the_base() -> None:
    space.check(SPACE, LESSON)
    own = space.baseline(SPACE, LESSON)
    assert space.apply(LESSON, own) == LESSON
    assert sorted(own) == sorted(keys_that_hold(SPACE, own))
    assert set(SPACE) - set(own) == {
        "network.blocks.2",
        "network.conv_dropout.2",
        "network.kernel",
        "optimizer.momentum",
    }


@given(seed=st.integers(0, 2**31 - 1))
def test_what_is_suggested_is_a_valid_variant_with_those_values(seed: int) -> None:
    values = suggested(SPACE, seed)
    assert sorted(values) == sorted(keys_that_hold(SPACE, values))
    variant = space.apply(LESSON, values)
    for key, value in values.items():
        assert lies_in(SPACE[key], value)
        assert value_at(variant, key) == (ABSENT if key == "network.filters.2" and value is None else value)
    stages = 3 if values["network.filters.2"] else 2
    assert [len(variant.network.model_dump()[name]) for name in ("filters", "blocks", "conv_dropout")] == [stages] * 3
    untouched = {"data", "epochs", "batch_size", "precision", "views", "validation"}
    assert variant.model_dump(include=untouched) == LESSON.model_dump(include=untouched)


def test_every_choice_of_the_shipped_space_occurs() -> None:
    seen: dict[str, set[Any]] = {}
    for seed in range(200):
        for key, value in suggested(SPACE, seed).items():
            seen.setdefault(key, set()).add(value)
    for key, entry in SPACE.items():
        if entry.choices:
            assert seen[key] == set(entry.choices)


def test_the_base_is_not_changed() -> None:
    before = LESSON.model_dump()
    space.apply(LESSON, {"network.filters.0": 1, "network.filters.1": 2, "augment.flip": None})
    assert LESSON.model_dump() == before


# Ranges


@st.composite
def ranges(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["whole", "stepped", "float", "log", "whole log"]))
    if kind in ("float", "log"):
        low = draw(st.floats(1e-9, 1e3))
        return {"low": low, "high": low * draw(st.floats(1.5, 1e4)), "log": kind == "log"}
    low, step = draw(st.integers(1, 100)), draw(st.integers(1, 7)) if kind == "stepped" else None
    high = low + (step or 1) * draw(st.integers(1, 50))
    return {"low": low, "high": high, "log": kind == "whole log", "step": step}


@given(entry=ranges(), seed=st.integers(0, 1000))
def test_numbers_lie_in_their_range_and_on_its_steps(entry: dict[str, Any], seed: int) -> None:
    searched = read({"augment.mixup": entry})
    value = suggested(searched, seed)["augment.mixup"]
    assert lies_in(searched["augment.mixup"], value)
    if entry.get("step"):
        assert (value - entry["low"]) % entry["step"] == 0


def test_both_ends_of_a_range_of_whole_numbers_are_searched() -> None:
    searched = read({"network.blocks.0": {"low": 1, "high": 3}})
    assert {suggested(searched, seed)["network.blocks.0"] for seed in range(60)} == {1, 2, 3}


def test_a_float_range_may_have_steps() -> None:
    searched = read({"augment.shift": {"low": 0.0, "high": 0.2, "step": 0.1}})
    assert {suggested(searched, seed)["augment.shift"] for seed in range(60)} == {0.0, 0.1, 0.2}


def test_a_log_range_is_searched_by_its_logarithm() -> None:
    searched = read({"optimizer.learning_rate": {"low": 1e-6, "high": 1.0, "log": True}})
    values = [suggested(searched, seed)["optimizer.learning_rate"] for seed in range(200)]
    assert 60 < sum(value < 1e-3 for value in values) < 140  # half of them; of a plain range, none


# Lists


@pytest.mark.parametrize(
    ("values", "filters"),
    [
        ({"network.filters.0": 7}, [7, 64]),
        ({"network.filters.1": 7}, [32, 7]),
        ({"network.filters.2": None}, [32, 64]),
        ({"network.filters.2": 7, "network.blocks.2": 1, "network.conv_dropout.2": 0.5}, [32, 64, 7]),
        (
            {f"network.{name}.{i}": 1 for i in (2, 3) for name in ("filters", "blocks")}
            | {f"network.conv_dropout.{i}": 0.0 for i in (2, 3)},
            [32, 64, 1, 1],
        ),
    ],
)
def test_an_index_past_the_end_appends_and_null_leaves_out(values: dict[str, Any], filters: list[int]) -> None:
    network = space.apply(LESSON, values).network.model_dump()
    assert network["filters"] == filters
    assert len(network["blocks"]) == len(network["conv_dropout"]) == len(filters)


def test_null_is_a_value_where_there_is_no_list() -> None:
    assert space.apply(LESSON, {"augment.flip": None}).augment.flip is None


def test_values_that_make_no_variant_together_are_told() -> None:
    with pytest.raises(UserError) as told:
        space.apply(LESSON, {"optimizer.name": "adam", "optimizer.momentum": 0.9})
    assert str(told.value).startswith(
        "Invalid combination in sweep.space. Expected a valid variant. Received: optimizer.name: adam, "
        "optimizer.momentum: 0.9. optimizer: "
    )
    assert "no momentum, which belongs to optimizers sgd and muon" in str(told.value)


# Conditions


def test_conditions_may_chain_and_name_several_keys() -> None:
    searched = read(
        {
            "network.padding": {"choices": ["valid", "same"]},
            "network.kernel": {"choices": [3, 5], "when": {"network.padding": ["same"]}},
            "augment.shift": {"low": 0.0, "high": 0.2, "when": {"network.kernel": [5], "network.padding": ["same"]}},
            "augment.cutout": {"choices": [0.0, 0.5], "when": {"optimizer.name": ["rmsprop"]}},  # the base's own
        }
    )
    space.check(searched, LESSON)
    found = {frozenset(suggested(searched, seed)) for seed in range(100)}
    first, last = "network.padding", "augment.cutout"
    assert found == {
        frozenset({first, last}),
        frozenset({first, "network.kernel", last}),
        frozenset({first, "network.kernel", "augment.shift", last}),
    }


@pytest.mark.parametrize(
    "when",
    [
        {"network.head": ["global_max"]},  # not the base's, and not searched
        {"optimizer.clip_norm": [1.0]},
        {"network.padding": ["same"], "network.head": ["global_max"]},
        {"network.pooling": ["stride"]},  # a value of the variant, but none of the space
        {"augment.shift": [0.9]},
    ],
)
def test_a_condition_that_can_never_hold(when: dict[str, list[Any]]) -> None:
    searched = read(
        {
            "network.padding": {"choices": ["valid", "same"]},
            "network.pooling": {"choices": ["max", "average"]},
            "augment.shift": {"low": 0.0, "high": 0.2},
            "network.kernel": {"choices": [3, 5], "when": when},
            "label_smoothing": {"choices": [0.0, 0.1]},
        }
    )
    assert refusal(searched).startswith(WHEN)


@pytest.mark.parametrize(
    "circle",
    [
        ["network.padding"],
        ["network.padding", "network.kernel"],
        ["network.padding", "network.kernel", "network.pooling"],
    ],
    ids=len,
)
def test_conditions_in_a_circle(circle: list[str]) -> None:
    choices: dict[str, list[Any]] = {
        "network.padding": ["valid", "same"],
        "network.kernel": [3, 5],
        "network.pooling": ["max", "average"],
    }
    before = dict(zip(circle, [circle[-1], *circle[:-1]], strict=True))
    searched = read(
        {
            "label_smoothing": {"choices": [0.0, 0.1]},
            **{key: {"choices": choices[key], "when": {before[key]: choices[before[key]]}} for key in circle},
        }
    )
    told = refusal(searched)
    assert told.startswith(
        "Invalid sweep.space. Expected conditions that do not depend on each other. Received a circle: "
    )
    assert set(told.rstrip(".").rpartition(": ")[2].split(" → ")) == set(circle)


def test_a_condition_needs_only_one_value_of_those_named() -> None:
    searched = read(
        {
            "network.pooling": {"choices": ["max", "average"]},
            "network.kernel": {"choices": [3, 5], "when": {"network.pooling": ["stride", "average"]}},
        }
    )
    space.check(searched, LESSON)


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
    told = refusal(among_all(wrong, entry) if shipped else read({wrong: entry}))
    assert told.startswith(f"Unknown key {wrong} in sweep.space. Expected one of: data, network.name, ")
    assert f"Received: {wrong!r}." in told
    hint = re.search(r"Did you mean '(.*)'\?$", told)
    assert (hint and hint[1].rstrip("01")) == (near and near.rstrip("01"))


@pytest.mark.parametrize("shipped", [True, False])
def test_an_unknown_key_in_a_condition(shipped: bool) -> None:
    entry = {"choices": [3, 5], "when": {"network.paddding": ["same"]}}
    told = refusal(among_all("network.kernel", entry) if shipped else read({"network.kernel": entry}))
    assert told.startswith("Unknown key network.paddding in sweep.space. Expected one of: data, ")
    assert told.endswith("Received: 'network.paddding'. Did you mean 'network.padding'?")


@pytest.mark.parametrize(
    ("key", "entry", "parts"),
    [
        ("network.activation", {"choices": ["relu", "relux"]}, ["network.activation: relux", "'softsign'"]),
        ("network.dense_dropout", {"low": 0.0, "high": 1.5}, ["network.dense_dropout: 1.5", "less than 1"]),
        ("network.blocks.0", {"low": 0, "high": 2}, ["network.blocks.0: 0", "greater than or equal to 1"]),
        ("network.kernel", {"low": 1, "high": 3.5}, ["network.kernel: 3.5", "valid integer"]),
        ("network.filters.9", {"choices": [None, 64]}, ["network.filters.9: 64", "one entry a stage"]),
        ("optimizer.momentum", {"choices": [0.0, 0.9]}, ["optimizer.momentum: 0.9", "sgd and muon"]),
    ],
)
def test_a_value_that_no_variant_allows(key: str, entry: Any, parts: list[str]) -> None:
    for searched in (read({key: entry}), among_all(key, entry)):
        told = refusal(searched)
        assert told.startswith("Invalid combination in sweep.space. Expected a valid variant. Received: ")
        assert all(part in told for part in parts), told


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
    told = refusal(among_all(key, entry))
    assert told.startswith(f"Invalid sweep.space.{key}. Expected the base variant's own value among the searched ones")
    assert received is None or f"Received: {received}. Add it." in told


@pytest.mark.parametrize(
    ("key", "entry"),
    [
        ("network.blocks.0", {"low": 1, "high": 5, "step": 2}),  # 1, 3, 5, but the base has 2
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
        ({"low": 1, "high": 5, "step": 0.5}, "whole between whole numbers"),
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
    with pytest.raises(UserError) as told:
        load(file, "augment.shift", entry)
    lines = str(told.value).splitlines()
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
