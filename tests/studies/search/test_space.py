"""Search space of a sweep: what is suggested, and the variants that it makes of the base."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from studies.search.spaces import (
    ABSENT,
    LESSON,
    SPACE,
    WHEN,
    keys_that_hold,
    lies_in,
    read,
    refusal,
    suggested,
    value_at,
)

from cnnlab.errors import UserError
from cnnlab.studies import overrides
from cnnlab.studies.search import space

# The shipped space


def test_the_shipped_space_is_valid_and_its_trial_0_is_the_base() -> None:
    space.check(SPACE, LESSON)
    own = space.baseline(SPACE, LESSON)
    assert overrides.apply(LESSON, own) == LESSON
    assert sorted(own) == sorted(keys_that_hold(SPACE, own))
    assert set(SPACE) - set(own) == {
        "network.depths.2",
        "network.conv_dropout.2",
        "network.kernel",
        "optimizer.momentum",
    }


@given(seed=st.integers(0, 2**31 - 1))
def test_what_is_suggested_is_a_valid_variant_with_those_values(seed: int) -> None:
    values = suggested(SPACE, seed)
    assert sorted(values) == sorted(keys_that_hold(SPACE, values))
    variant = overrides.apply(LESSON, values)
    for key, value in values.items():
        assert lies_in(SPACE[key], value)
        assert value_at(variant, key) == (ABSENT if key == "network.filters.2" and value is None else value)
    stages = 3 if values["network.filters.2"] else 2
    assert [len(variant.network.model_dump()[name]) for name in ("filters", "depths", "conv_dropout")] == [stages] * 3
    untouched = {"data", "epochs", "batch_size", "precision", "tta", "validation"}
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
    overrides.apply(LESSON, {"network.filters.0": 1, "network.filters.1": 2, "augment.flip": None})
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
    searched = read({"network.depths.0": {"low": 1, "high": 3}})
    assert {suggested(searched, seed)["network.depths.0"] for seed in range(60)} == {1, 2, 3}


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
        ({"network.filters.1": None, "network.depths.0": None, "network.conv_dropout.1": None}, [32]),
        (
            {f"network.{name}.{i}": None for name in ("filters", "depths", "conv_dropout") for i in (0, 1)}
            | {"network.filters.2": 7, "network.depths.2": 1, "network.conv_dropout.2": 0.5},
            [7],
        ),
        ({"network.filters.2": 7, "network.depths.2": 1, "network.conv_dropout.2": 0.5}, [32, 64, 7]),
        (
            {f"network.{name}.{i}": 1 for i in (2, 3) for name in ("filters", "depths")}
            | {f"network.conv_dropout.{i}": 0.0 for i in (2, 3)},
            [32, 64, 1, 1],
        ),
    ],
)
def test_an_index_past_the_end_appends_and_null_removes(values: dict[str, Any], filters: list[int]) -> None:
    network = overrides.apply(LESSON, values).network.model_dump()
    assert network["filters"] == filters
    assert len(network["depths"]) == len(network["conv_dropout"]) == len(filters)


@pytest.mark.parametrize("filters", [None, 64])
def test_without_a_stage_of_the_base_there_is_nothing_else_of_it(filters: int | None) -> None:
    """By hand: the space searches the third stage of a base that has one."""
    stages = {"network.filters.2": 128, "network.depths.2": 2, "network.conv_dropout.2": 0.5}
    base = overrides.apply(LESSON, stages)
    searched = {key: SPACE[key] for key in stages}
    space.check(searched, base)
    values = {"network.filters.2": filters} | (
        {"network.depths.2": 1, "network.conv_dropout.2": 0.0} if filters else {}
    )
    network = space.variant(values, searched, base).network.model_dump()
    assert network["filters"] == [32, 64, *([64] if filters else [])]
    assert network["depths"] == [2, 2, *([1] if filters else [])]
    assert network["conv_dropout"] == [0.25, 0.25, *([0.0] if filters else [])]


def test_null_is_a_value_where_there_is_no_list() -> None:
    assert overrides.apply(LESSON, {"augment.flip": None}).augment.flip is None


def test_values_that_make_no_variant_together_are_refused() -> None:
    with pytest.raises(UserError) as error:
        overrides.apply(LESSON, {"optimizer.name": "adam", "optimizer.momentum": 0.9})
    assert str(error.value).startswith(
        "Invalid combination in sweep.space. Expected a valid variant. Received: optimizer.name: adam, "
        "optimizer.momentum: 0.9. optimizer: "
    )
    assert "no momentum, a setting of optimizers sgd and muon" in str(error.value)


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
def test_conditions_in_a_cycle(circle: list[str]) -> None:
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
    message = refusal(searched)
    assert message.startswith(
        "Invalid sweep.space. Expected conditions that do not depend on each other. Received a cycle: "
    )
    assert set(message.rstrip(".").rpartition(": ")[2].split(" → ")) == set(circle)


def test_a_condition_needs_only_one_value_of_those_named() -> None:
    searched = read(
        {
            "network.pooling": {"choices": ["max", "average"]},
            "network.kernel": {"choices": [3, 5], "when": {"network.pooling": ["stride", "average"]}},
        }
    )
    space.check(searched, LESSON)
