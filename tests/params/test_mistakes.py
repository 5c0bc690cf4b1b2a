"""The error messages for invalid keys and values in params.yaml."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shipped import SHIPPED, errors, explained, load, with_value

from cnnlab import params
from cnnlab.nets.families.homework import Homework

INF, NAN = float("inf"), float("nan")
BUDGETS = "'smoke', 'laptop' or 'full'"
NETWORKS = "homework, lenet5, slides, speedrun"
KNOBS = (
    "name, filters, depths, conv_dropout, kernel, stem_stride, padding, activation, batch_norm, pooling, head, "
    "dense_units, dense_dropout, inputs"
)
OPTIMIZERS = "sgd, adam, rmsprop, muon"
SCHEDULES = "'constant', 'inverse_time', 'cosine', 'linear' or 'one_cycle'"
DEVICES = "all, one, or a list of GPUs as in [GPU:0, GPU:2]"
FLIPS = "'random' or 'alternating', or null"


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("budget", "big", f"Expected: {BUDGETS}. Received: 'big'."),
        ("budgets.smoke.seeds", 0, "Expected: greater than or equal to 1. Received: 0."),
        ("data", {}, "Expected: have at least 1 item after validation, not 0. Received: {}."),
        ("data", ["mnist"], "Expected: a valid dictionary. Received: ['mnist']."),
        ("data.imagenette.size", 7, "Expected: greater than or equal to 8, or null. Received: 7."),
        ("fetch.timeout_s", INF, "Expected: a finite number. Received: inf."),
        ("preprocess.validation", True, "Expected: a valid integer. Received: True."),
        ("preprocess.seed", -1, "Expected: greater than or equal to 0. Received: -1."),
        ("strategy.replicas", 0, "Expected: greater than or equal to 1. Received: 0."),
        ("strategy.devices", "GPU:0", f"Expected {DEVICES}. Received: 'GPU:0'."),
        ("strategy.devices", ["cpu"], f"Expected {DEVICES}. Received: ['cpu']."),
        ("strategy.devices", ["GPU:0", 1], f"Expected {DEVICES}. Received: ['GPU:0', 1]."),
        ("strategy.devices", [], f"Expected {DEVICES}. Received: []."),
        ("strategy.devices", None, f"Expected {DEVICES}. Received: None."),
        ("train.feeding", "ram", "Expected: 'auto', 'resident' or 'streamed'. Received: 'ram'."),
        ("train.checkpoint_minutes", 0, "Expected: greater than 0. Received: 0."),
        ("variants.lesson.data", 10, "Expected: a valid string. Received: 10."),
        ("variants.lesson.epochs", 0, "Expected: greater than or equal to 1. Received: 0."),
        ("variants.lesson.epochs", 1.0, "Expected: a valid integer. Received: 1.0."),
        ("variants.lesson.batch_size", -32, "Expected: greater than or equal to 1. Received: -32."),
        ("variants.lesson.batch_size", "32", "Expected: a valid integer. Received: '32'."),
        ("variants.lesson.batch_size", None, "Expected: a valid integer. Received: None."),
        ("variants.lesson.network.name", "lenet6", f"Expected one of: {NETWORKS}. Received: 'lenet6'."),
        ("variants.lesson.network.conv_dropout", 0.25, "Expected: a valid list. Received: 0.25."),
        ("variants.lesson.network.dense_dropout", NAN, "Expected: less than 1. Received: nan."),
        ("variants.lesson.network.dense_units", -1, "Expected: greater than or equal to 0. Received: -1."),
        ("variants.lesson.optimizer.name", "sdg", f"Expected one of: {OPTIMIZERS}. Received: 'sdg'."),
        ("variants.lesson.optimizer.learning_rate", NAN, "Expected: a finite number. Received: nan."),
        ("variants.lesson.optimizer.learning_rate", INF, "Expected: a finite number. Received: inf."),
        ("variants.lesson.optimizer.learning_rate", 0, "Expected: greater than 0. Received: 0."),
        ("variants.lesson.optimizer.learning_rate", True, "Expected: a valid number. Received: True."),
        ("variants.lesson.optimizer.schedule.decay", -1e-6, "Expected: greater than or equal to 0. Received: -1e-06."),
        ("variants.lesson.optimizer.schedule.name", "cosin", f"Expected: {SCHEDULES}. Received: 'cosin'."),
        ("variants.lesson.optimizer.schedule.warm_up", 1, "Expected: less than 1. Received: 1."),
        ("variants.lesson.optimizer.momentum", 1, "Expected: less than 1. Received: 1."),
        ("variants.lesson.optimizer.clip_norm", 0, "Expected: greater than 0, or null. Received: 0."),
        ("variants.lesson.optimizer.ema", -0.1, "Expected: greater than or equal to 0. Received: -0.1."),
        ("variants.lesson.augment.shift", 1, "Expected: less than 1. Received: 1."),
        ("variants.lesson.augment.flip", "sometimes", f"Expected: {FLIPS}. Received: 'sometimes'."),
        ("variants.lesson.augment.flip", True, f"Expected: {FLIPS}. Received: True."),
        ("variants.lesson.augment.flip", False, f"Expected: {FLIPS}. Received: False."),
        ("variants.lesson.augment.rotation", 200, "Expected: less than or equal to 180. Received: 200."),
        ("variants.lesson.augment.fill", "zero", "Expected: 'nearest' or 'reflect'. Received: 'zero'."),
        ("variants.lesson.augment.mixup", -1, "Expected: greater than or equal to 0. Received: -1."),
        ("variants.lesson.label_smoothing", 1, "Expected: less than 1. Received: 1."),
        ("variants.lesson.early_stopping", 0, "Expected: greater than or equal to 1, or null. Received: 0."),
        ("variants.lesson.early_stopping", False, "Expected: a valid integer, or null. Received: False."),
        ("variants.lesson.precision", "float16", "Expected: 'float32' or 'bfloat16'. Received: 'float16'."),
    ],
)
def test_an_invalid_value(file: Path, key: str, value: Any, expected: str) -> None:
    assert errors(file, with_value(key, value)) == [f"Invalid {key}. {expected}"]


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        (
            "variants.lesson.network.filters",
            [8, -8],
            "Invalid variants.lesson.network.filters.1. Expected: greater than or equal to 1. Received: -8.",
        ),
        (
            "variants.lesson.network.conv_dropout",
            [0, 1.5],
            "Invalid variants.lesson.network.conv_dropout.1. Expected: less than 1. Received: 1.5.",
        ),
        ("budgets.huge", SHIPPED["budgets"]["full"], f"Invalid budgets. Expected: {BUDGETS}. Received: 'huge'."),
        ("variants.A b", SHIPPED["variants"]["slides"], "Invalid variants. Expected: match pattern "),
        ("variants.new", {**SHIPPED["variants"]["slides"], "network": {}}, "Invalid variants.new.network.name. Expec"),
        ("variants.new", {**SHIPPED["variants"]["slides"], "network": "lenet5"}, "Invalid variants.new.network. Expec"),
        (
            "variants.lenet5.network.conv_dropout",
            0.5,
            "Unknown key variants.lenet5.network.conv_dropout. Expected one of: name. Received: 0.5.",
        ),
        (
            "variants.lesson.network.filtres",
            [8],
            f"Unknown key variants.lesson.network.filtres. Expected one of: {KNOBS}. Received: [8]. "
            "Did you mean 'filters'?",
        ),
        (
            "seed",
            3,
            "Unknown key seed. Expected one of: budget, budgets, data, fetch, preprocess, strategy, train, "
            "sweep, ablation, transfer, report",
        ),
        (
            "variants.lesson.tta",
            {"flip": 1},
            "Invalid variants.lesson.tta.flip. Expected: a valid boolean. Received: 1.",
        ),
        (
            "variants.lesson.optimizer.decay",
            1e-6,
            "Unknown key variants.lesson.optimizer.decay. Expected one of: name, ",
        ),
    ],
)
def test_an_error_in_a_list_a_name_or_a_section(file: Path, key: str, value: Any, line: str) -> None:
    (only,) = errors(file, with_value(key, value))
    assert only.startswith(line)


@pytest.mark.parametrize(
    ("knobs", "expected"),
    [
        ({"name": "cosine", "decay": 0.1}, "no decay, a setting of schedule inverse_time"),
        ({"name": "constant", "final": 0.1}, "no final, a setting of schedules cosine and linear"),
        ({"name": "one_cycle"}, "a warm_up above 0, because one_cycle rises before it falls"),
    ],
)
def test_a_setting_of_another_schedule(file: Path, knobs: dict[str, Any], expected: str) -> None:
    where = "variants.lesson.optimizer.schedule"
    assert errors(file, with_value(where, knobs)) == [f"Invalid {where}. Expected {expected}. Received: {knobs!r}."]


@pytest.mark.parametrize("name", ["adam", "rmsprop"])
def test_a_setting_of_another_optimizer(file: Path, name: str) -> None:
    where, knobs = "variants.lesson.optimizer", {"name": name, "learning_rate": 0.1, "momentum": 0.9}
    expected = "no momentum, a setting of optimizers sgd and muon"
    assert errors(file, with_value(where, knobs)) == [f"Invalid {where}. Expected {expected}. Received: {knobs!r}."]


@pytest.mark.parametrize("knob", [{"adam_share": 0.5}, {"rms_rate": None}, {"ns_steps": 3}])
def test_settings_of_muon(file: Path, knob: dict[str, Any]) -> None:
    where, knobs = "variants.lesson.optimizer", {"name": "adam", "learning_rate": 0.1, **knob}
    expected = f"no {next(iter(knob))}, a setting of optimizer muon"
    assert errors(file, with_value(where, knobs)) == [f"Invalid {where}. Expected {expected}. Received: {knobs!r}."]


def test_an_unknown_ablation_factor(file: Path) -> None:
    tree = copy.deepcopy(SHIPPED)
    tree["ablation"]["budgets"]["laptop"]["factors"] = ["no dropuot"]
    (line,) = errors(file, tree)
    assert "names of ablation.factors in budgets.laptop.factors, not 'no dropuot'" in line


def test_an_unknown_ingredient(file: Path) -> None:
    tree = copy.deepcopy(SHIPPED)
    tree["ablation"]["budgets"]["laptop"]["leave_one_out"] = ["Moun"]
    (line,) = errors(file, tree)
    assert "names of ablation.leave_one_out in budgets.laptop.leave_one_out, not 'Moun'" in line


def test_ingredients_need_a_ladder(file: Path) -> None:
    (line,) = errors(file, with_value("ablation.ladder", []))
    assert "Expected a ladder, whose last variant has the ingredients in leave_one_out." in line


def test_a_change_to_try_that_is_not_defined(file: Path) -> None:
    (line,) = errors(file, with_value("transfer.budgets.laptop.tried", ["hlaf the filters"]))
    assert "names of transfer.tried in budgets.laptop.tried, not 'hlaf the filters'" in line


WHERE = "transfer.budgets.laptop"
TARGET = {"steps": 1, "shares": [1.0]}


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        (f"{WHERE}.targets", {"flowers": TARGET}, f"data sets of section data in {WHERE}.targets, not 'flowers'"),
        (f"{WHERE}.variants", {"improved": ["better"]}, f"variants in {WHERE}.variants, not 'better'"),
        (
            f"{WHERE}.variants",
            {"lenet5": []},
            f"variants with network homework and without init_from in {WHERE}.variants, not 'lenet5'",
        ),
        (
            f"{WHERE}.variants",
            {"finetuned_imagenette": []},
            f"variants with network homework and without init_from in {WHERE}.variants, not 'finetuned_imagenette'",
        ),
        (
            "on_demand.muon.init_from",
            {"variant": "lesson"},
            "variants without init_from in ablation.ladder, not 'muon'",
        ),
        (
            "on_demand.quick.init_from",
            {"variant": "quick"},
            "another variant in on_demand.quick.init_from, not 'quick'",
        ),
        (
            "variants.slides.init_from",
            {"variant": "lenet5"},
            "no init_from in variants.slides, only in on_demand",
        ),
    ],
)
def test_an_invalid_transfer(file: Path, key: str, value: Any, expected: str) -> None:
    assert errors(file, with_value(key, value)) == [f"Invalid file. Expected {expected}."]


@pytest.mark.parametrize("name", ["SGD, slow", "head: global", "a; b", "a | b"])
def test_a_factor_whose_name_would_break_a_table(file: Path, name: str) -> None:
    tree = copy.deepcopy(SHIPPED)
    tree["ablation"]["factors"][name] = {"network.kernel": 5}
    (line,) = errors(file, tree)
    assert f"names of changes without , : ; | and line breaks, not {name!r}" in line


def test_a_list_without_one_entry_per_stage(file: Path) -> None:
    where, knobs = "variants.lesson.network", {"name": "homework", "filters": [4, 8], "depths": [2, 2, 2]}
    knobs["conv_dropout"] = [0.1, 0.1]
    expected = "one entry of depths per stage, as in filters: 2"
    assert errors(file, with_value(where, knobs)) == [f"Invalid {where}. Expected {expected}. Received: {knobs!r}."]


OPTIONAL = {
    name
    for kind in (
        params.Variant,
        Homework,
        params.Optimizer,
        params.Schedule,
        params.Augment,
        params.TTA,
        params.DataSource,
    )
    for name, field in kind.model_fields.items()
    if not field.is_required()
}


def sections(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of every section whose keys are fixed: all but mappings whose keys are names."""
    if isinstance(tree, dict):
        if path[0:1] == ("ablation",) and path[-1] in ("factors", "leave_one_out", "changes"):
            return
        if path == ("transfer", "tried"):
            return
        named = [("variants",), ("on_demand",), ("data",), ("sweep", "space")]
        of_names = (
            path in named
            or path[-1:] == ("when",)
            or (path[0:1] == ("transfer",) and path[-1:] in (("variants",), ("targets",)))
        )
        if tree and not of_names:
            yield path
        for key, value in tree.items():
            yield from sections(value, (*path, key))


def section_at(path: tuple[str, ...], tree: Any) -> dict[str, Any]:
    """The section of `tree` at `path`."""
    for part in path:
        tree = tree[part]
    assert isinstance(tree, dict)
    return tree


@given(data=st.data(), word=st.from_regex(r"[a-z_]{1,12}", fullmatch=True))
def test_any_misspelt_key_at_any_level_is_refused(data: st.DataObject, word: str) -> None:
    path = data.draw(st.sampled_from([*sections(SHIPPED)]))
    section = section_at(path, SHIPPED)
    key = data.draw(st.sampled_from([*section]))
    typing_errors = [key + word, key[1:], key[:-1], key.upper(), word]
    wrong = data.draw(st.sampled_from([w for w in typing_errors if w not in {*section, "", *OPTIONAL}]))
    misspelt_key_is_refused(path, key, wrong)


def test_each_key_misspelt_is_refused() -> None:
    for path in sections(SHIPPED):
        for key in section_at(path, SHIPPED):
            misspelt_key_is_refused(path, key, f"{key}_")


def misspelt_key_is_refused(path: tuple[str, ...], key: str, wrong: str) -> None:
    """The section's key written wrongly gets a line that names it and the right one."""
    tree = copy.deepcopy(SHIPPED)
    section = section_at(path, tree)
    section[wrong] = section.pop(key)
    lines = explained(tree)
    where = ".".join((*path, wrong))
    if path[-1:] == ("budgets",):
        assert any(
            line.startswith(f"Invalid {'.'.join(path)}. Expected: {BUDGETS}. Received: {wrong!r}") for line in lines
        )
    elif path[-1:] == ("network",) and key == "name":
        assert f"Invalid {'.'.join(path)}.name. Expected one of: {NETWORKS}. Received: None." in lines
    else:
        (line,) = [line for line in lines if line.startswith(f"Unknown key {where}. Expected one of: ")]
        assert key in line.partition("Received")[0]


@pytest.mark.parametrize(
    ("key", "value", "new"),
    [
        ("optional_data", {"cifar100": {}}, "data.<name>.optional"),
        ("variants.lesson.network.blocks", [2, 2], "depths"),
        ("variants.lesson.views", {"flip": True}, "tta"),
        ("on_demand.quick.start", {"variant": "lesson"}, "init_from"),
    ],
)
def test_a_renamed_key_names_the_new_one(file: Path, key: str, value: Any, new: str) -> None:
    assert errors(file, with_value(key, value)) == [
        f"Unknown key {key}. Expected its new name, {new}. Received: {value!r}."
    ]


def test_an_old_name_elsewhere_is_an_unknown_key_like_others(file: Path) -> None:
    (line,) = errors(file, with_value("sweep.space", {"network.dense_units": {"start": 1, "high": 2}}))
    assert line.startswith("Unknown key sweep.space.network.dense_units.start. Expected one of: ")


def test_every_error_gets_a_line(file: Path) -> None:
    tree = with_value("variants.lesson.epochs", 0)
    tree["variants"]["slides"]["batch_size"] = 0
    del tree["strategy"]
    assert sorted(errors(file, tree)) == [
        "Invalid variants.lesson.epochs. Expected: greater than or equal to 1. Received: 0.",
        "Invalid variants.slides.batch_size. Expected: greater than or equal to 1. Received: 0.",
        "Missing key strategy. Expected a value. Received: nothing.",
    ]


@pytest.mark.parametrize("stage", ["", "sweep.", "ablation.", "transfer."])
def test_the_chosen_budget_must_be_defined(file: Path, stage: str) -> None:
    tree = copy.deepcopy(SHIPPED)
    del (tree[stage[:-1]] if stage else tree)["budgets"]["laptop"]
    assert errors(file, tree) == [f"Invalid file. Expected a section {stage}budgets.laptop, because budget is laptop."]


def test_a_variants_data_must_be_fetched(file: Path) -> None:
    expected = "Invalid file. Expected one of mnist in variants.lesson.data, not 'cifar10'."
    assert errors(file, with_value("data", {"mnist": {}})) == [expected]


def test_only_on_demand_variants_may_use_optional_data(file: Path) -> None:
    expected = "Invalid file. Expected one of mnist, cifar10 in variants.slides.data, not 'cifar100'."
    assert errors(file, with_value("variants.slides.data", "cifar100")) == [expected]
    assert load(file, with_value("on_demand.speedrun.data", "cifar100")).on_demand["speedrun"].data == "cifar100"


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("data.mnist", {"size": 28}, "no key but optional in data.mnist, which the catalog describes"),
        (
            "data.flowers",
            {"size": 64},
            "one of mnist, cifar10, cifar100, imagenette in data, or a path to an image folder in data.flowers",
        ),
        ("data.flowers", {"path": "/x"}, "a size in data.flowers: its images are resized to size×size pixels"),
        (
            "variants.lesson.augment.crop",
            0.5,
            "no augment.crop in variants.lesson, which is for image folders",
        ),
    ],
)
def test_a_data_set_is_in_the_catalog_or_a_folder(file: Path, key: str, value: Any, expected: str) -> None:
    assert errors(file, with_value(key, value)) == [f"Invalid file. Expected {expected}."]
