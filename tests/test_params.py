"""params.yaml: what is accepted, and how each mistake is told."""

import copy
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from cnnlab import params
from cnnlab.errors import UserError

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "params.yaml").read_text()
SHIPPED: dict[str, Any] = json.loads(json.dumps(YAML(typ="safe").load(TEXT)))  # without the sharing of YAML's anchors
INF, NAN = float("inf"), float("nan")
BUDGETS = "'smoke', 'laptop' or 'full'"
NETWORKS = "lenet5, slides, homework, speedrun"
KNOBS = (
    "name, filters, blocks, conv_dropout, kernel, stem_stride, padding, activation, batch_norm, pooling, head, "
    "dense_units, dense_dropout, inputs"
)
OPTIMIZERS = "'sgd', 'adam', 'rmsprop' or 'muon'"
SCHEDULES = "'constant', 'inverse_time', 'cosine', 'linear' or 'one_cycle'"
DEVICES = "all, one, or a list of GPUs as in [GPU:0, GPU:2]"
FLIPS = "'random' or 'alternating', or null"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("params") / "params.yaml"


def with_value(key: str, value: Any) -> dict[str, Any]:
    """The shipped parameters with another value at a dotted key."""
    tree = copy.deepcopy(SHIPPED)
    *path, last = key.split(".")
    section: Any = tree
    for part in path:
        section = section[part]
    section[last] = value
    return tree


def load(file: Path, tree: Any) -> params.Params:
    file.write_text(json.dumps(tree).replace("NaN", ".nan").replace("Infinity", ".inf"))  # JSON is YAML 1.2
    return params.load(file)


def told(file: Path, tree: Any) -> list[str]:
    """The lines of the refusal, without the file's name."""
    with pytest.raises(UserError) as refusal:
        load(file, tree)
    lines = str(refusal.value).splitlines()
    assert all(line.startswith(f"{file}: ") for line in lines)
    return [line.removeprefix(f"{file}: ") for line in lines]


# What is accepted


def test_the_shipped_file_is_the_recipe_of_the_course() -> None:
    shipped = params.load(ROOT / "params.yaml")
    lenet5, slides, lesson = (shipped.variants[name] for name in ("lenet5", "slides", "lesson"))
    assert [(v.epochs, v.batch_size) for v in (lenet5, slides, lesson)] == [(1, 128), (5, 32), (1, 32)]
    assert lenet5.optimizer == params.Optimizer(name="sgd", learning_rate=0.01)  # Keras's defaults, as in the course
    assert slides.optimizer == params.Optimizer(name="adam", learning_rate=0.001)
    assert lesson.optimizer == params.Optimizer(
        name="rmsprop", learning_rate=1e-4, schedule=params.Schedule(name="inverse_time", decay=1e-6)
    )
    assert slides.validation == 60_000 * 0.2
    assert lesson.augment == params.Augment(shift=0.1, flip="random")
    assert lenet5.augment == slides.augment == params.Augment()


def test_a_variant_states_only_its_differences(file: Path) -> None:
    file.write_text(f"{TEXT}\n  plain:\n    <<: *lesson\n    augment: {{}}\n    epochs: 7\n")
    read = params.load(file)
    expected = read.variants["lesson"].model_copy(update={"augment": params.Augment(), "epochs": 7})
    assert params.variant(read, "plain") == expected


def test_on_demand_variants_are_known_but_not_the_pipelines(file: Path) -> None:
    read = load(file, SHIPPED)
    assert list(read.on_demand) == list(SHIPPED["on_demand"])
    assert not read.on_demand.keys() & params.variants(read).keys()
    for name in read.on_demand:
        assert params.runs(read, name)[0].variant == name


def test_a_name_stands_in_one_section_only(file: Path) -> None:
    tree = copy.deepcopy(SHIPPED)
    tree["on_demand"]["lesson"] = tree["variants"]["lesson"]
    with pytest.raises(UserError, match="lesson in either variants or on_demand"):
        load(file, tree)


def test_nothing_changes_after_reading(file: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(file, SHIPPED).budget = "full"


budgeted = st.none() | st.integers(1, 100_000)


@given(own=st.integers(1, 300), epochs=budgeted, images=budgeted, seeds=st.integers(1, 20))
def test_a_budget_caps_and_never_raises(
    file: Path, own: int, epochs: int | None, images: int | None, seeds: int
) -> None:
    tree = with_value("variants.slides.epochs", own)
    tree["budgets"]["laptop"] = {"epochs": epochs, "train_images": images, "seeds": seeds}
    runs = params.runs(load(file, tree), "slides")
    assert [run.seed for run in runs] == [*range(seeds)]
    assert {run.epochs for run in runs} == {own if epochs is None or own < epochs else epochs}
    assert {run.train_images for run in runs} == {images}
    assert len({run.model_copy(update={"seed": 0}).model_dump_json() for run in runs}) == 1


@pytest.mark.parametrize("devices", ["all", "one", ["GPU:0"], ["GPU:0", "GPU:12"]])
def test_devices_are_all_or_one_or_named(file: Path, devices: Any) -> None:
    assert load(file, with_value("strategy.devices", devices)).strategy.devices == devices


def test_a_run_holds_what_decides_its_result_and_no_more(file: Path) -> None:
    tree = with_value("strategy", {"devices": "one", "replicas": 3})
    tree["train"] = {"feeding": "streamed", "checkpoint_minutes": 1}
    (lesson,), (slides,) = (params.runs(load(file, tree), name) for name in ("lesson", "slides"))
    assert [lesson] == params.runs(load(file, SHIPPED), "lesson")
    assert (lesson.validation, slides.validation) == (SHIPPED["preprocess"]["validation"], 12_000)
    assert (lesson.variant, lesson.data, lesson.batch_size) == ("lesson", "cifar10", 32)
    assert lesson.network == load(file, tree).variants["lesson"].network


# What is refused


def test_as_many_seeds_as_told() -> None:
    shipped = params.load(ROOT / "params.yaml")
    assert [run.seed for run in params.runs(shipped, "lesson", 3)] == [0, 1, 2]
    assert len(params.runs(shipped, "lesson")) == shipped.budgets[shipped.budget].seeds
    with pytest.raises(UserError, match=r"Invalid number of seeds\. Expected 1 or more\. Received: 0\."):
        params.runs(shipped, "lesson", 0)


def test_an_unknown_variant(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)  # where no sweep has found a variant `tuned`
    with pytest.raises(UserError) as refusal:
        params.runs(load(file, SHIPPED), "lessson")
    known = ", ".join([*SHIPPED["variants"], *SHIPPED["on_demand"]])
    assert str(refusal.value) == f"Unknown variant. Expected one of: {known}. Received: 'lessson'."


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("budget", "big", f"Expected: {BUDGETS}. Received: 'big'."),
        ("budgets.smoke.seeds", 0, "Expected: greater than or equal to 1. Received: 0."),
        ("data", {}, "Expected: have at least 1 item after validation, not 0. Received: {}."),
        ("data", ["mnist"], "Expected: a valid dictionary. Received: ['mnist']."),
        ("optional_data.imagenette.size", 7, "Expected: greater than or equal to 8, or null. Received: 7."),
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
        ("variants.lesson.optimizer.name", "sdg", f"Expected: {OPTIMIZERS}. Received: 'sdg'."),
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
def test_an_impossible_value(file: Path, key: str, value: Any, expected: str) -> None:
    assert told(file, with_value(key, value)) == [f"Invalid {key}. {expected}"]


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
            "Unknown key seed. Expected one of: budget, budgets, data, optional_data, fetch, preprocess, strategy, "
            "train, sweep, ablation, transfer, report",
        ),
        (
            "variants.lesson.views",
            {"flip": 1},
            "Invalid variants.lesson.views.flip. Expected: a valid boolean. Received: 1.",
        ),
        (
            "variants.lesson.optimizer.decay",
            1e-6,
            "Unknown key variants.lesson.optimizer.decay. Expected one of: name, ",
        ),
    ],
)
def test_a_mistake_in_a_list_a_name_or_a_section(file: Path, key: str, value: Any, line: str) -> None:
    (only,) = told(file, with_value(key, value))
    assert only.startswith(line)


@pytest.mark.parametrize(
    ("knobs", "expected"),
    [
        ({"name": "cosine", "decay": 0.1}, "no decay, which belongs to schedule inverse_time"),
        ({"name": "constant", "final": 0.1}, "no final, which belongs to schedules cosine and linear"),
        ({"name": "one_cycle"}, "a warm_up above 0, because one_cycle rises before it falls"),
    ],
)
def test_a_knob_of_another_schedule(file: Path, knobs: dict[str, Any], expected: str) -> None:
    where = "variants.lesson.optimizer.schedule"
    assert told(file, with_value(where, knobs)) == [f"Invalid {where}. Expected {expected}. Received: {knobs!r}."]


@pytest.mark.parametrize("name", ["adam", "rmsprop"])
def test_a_knob_of_another_optimizer(file: Path, name: str) -> None:
    where, knobs = "variants.lesson.optimizer", {"name": name, "learning_rate": 0.1, "momentum": 0.9}
    expected = "no momentum, which belongs to optimizers sgd and muon"
    assert told(file, with_value(where, knobs)) == [f"Invalid {where}. Expected {expected}. Received: {knobs!r}."]


@pytest.mark.parametrize("knob", [{"adam_share": 0.5}, {"rms_rate": None}, {"ns_steps": 3}])
def test_what_belongs_to_muon(file: Path, knob: dict[str, Any]) -> None:
    where, knobs = "variants.lesson.optimizer", {"name": "adam", "learning_rate": 0.1, **knob}
    expected = f"no {next(iter(knob))}, which belongs to optimizer muon"
    assert told(file, with_value(where, knobs)) == [f"Invalid {where}. Expected {expected}. Received: {knobs!r}."]


def test_an_ablation_of_a_factor_that_is_not_there(file: Path) -> None:
    tree = copy.deepcopy(SHIPPED)
    tree["ablation"]["budgets"]["laptop"]["factors"] = ["no dropuot"]
    (line,) = told(file, tree)
    assert "in budgets.laptop.factors names of ablation.factors, not 'no dropuot'" in line


WHERE = "transfer.budgets.laptop"


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        (f"{WHERE}.targets", ["mnist", "flowers"], f"sets of data or optional_data in {WHERE}.targets, not 'flowers'"),
        (f"{WHERE}.targets", ["mnist", "mnist"], f"each data set once in {WHERE}.targets"),
        (f"{WHERE}.variants", {"improved": ["better"]}, f"variants in {WHERE}.variants, not 'better'"),
        (
            f"{WHERE}.variants",
            {"lenet5": []},
            f"variants with network homework and without start in {WHERE}.variants, not 'lenet5'",
        ),
        (
            f"{WHERE}.variants",
            {"finetuned_imagenette": []},
            f"variants with network homework and without start in {WHERE}.variants, not 'finetuned_imagenette'",
        ),
        (
            "on_demand.muon.start",
            {"variant": "lesson"},
            "variants without start in ablation.ladder, not 'muon'",
        ),
        (
            "on_demand.quick.start",
            {"variant": "quick"},
            "another variant in on_demand.quick.start, not 'quick'",
        ),
        (
            "variants.slides.start",
            {"variant": "lenet5"},
            "no start in variants.slides: it belongs to on_demand",
        ),
    ],
)
def test_a_transfer_that_is_not_possible(file: Path, key: str, value: Any, expected: str) -> None:
    assert told(file, with_value(key, value)) == [f"Invalid file. Expected {expected}."]


def test_the_chosen_budget_of_transfers_must_be_defined(file: Path) -> None:
    tree = copy.deepcopy(SHIPPED)
    del tree["transfer"]["budgets"]["laptop"]
    expected = "Invalid file. Expected a section transfer.budgets.laptop, because budget is laptop."
    assert told(file, tree) == [expected]


@pytest.mark.parametrize("name", ["SGD, slow", "head: global", "a; b", "a | b"])
def test_a_factor_whose_name_would_break_a_table(file: Path, name: str) -> None:
    tree = copy.deepcopy(SHIPPED)
    tree["ablation"]["factors"][name] = {"network.kernel": 5}
    (line,) = told(file, tree)
    assert f"factors' names without , : ; | and line ends, not {name!r}" in line


def test_a_list_without_one_entry_a_stage(file: Path) -> None:
    where, knobs = "variants.lesson.network", {"name": "homework", "filters": [4, 8], "blocks": [2, 2, 2]}
    knobs["conv_dropout"] = [0.1, 0.1]
    expected = "blocks with one entry a stage, as filters has: 2"
    assert told(file, with_value(where, knobs)) == [f"Invalid {where}. Expected {expected}. Received: {knobs!r}."]


OPTIONAL = {
    name
    for kind in (
        params.Variant,
        params.HomeworkNetwork,
        params.Optimizer,
        params.Schedule,
        params.Augment,
        params.Views,
        params.DataSource,
    )
    for name, field in kind.model_fields.items()
    if not field.is_required()
}


def sections(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of every section whose keys are fixed: all but mappings whose keys are names."""
    if isinstance(tree, dict):
        if path == ("ablation", "factors"):
            return
        named = [("variants",), ("on_demand",), ("data",), ("optional_data",), ("sweep", "space")]
        of_names = (
            path in named or path[-1:] == ("when",) or (path[0:1] == ("transfer",) and path[-1:] == ("variants",))
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
def test_any_misspelt_key_at_any_level_is_refused(file: Path, data: st.DataObject, word: str) -> None:
    path = data.draw(st.sampled_from([*sections(SHIPPED)]))
    section = section_at(path, SHIPPED)
    key = data.draw(st.sampled_from([*section]))
    typing_errors = [key + word, key[1:], key[:-1], key.upper(), word]
    wrong = data.draw(st.sampled_from([w for w in typing_errors if w not in {*section, "", *OPTIONAL}]))
    misspelt_key_is_refused(file, path, key, wrong)


def test_each_key_misspelt_is_refused(file: Path) -> None:
    for path in sections(SHIPPED):
        for key in section_at(path, SHIPPED):
            misspelt_key_is_refused(file, path, key, f"{key}_")


def misspelt_key_is_refused(file: Path, path: tuple[str, ...], key: str, wrong: str) -> None:
    """The section's key written wrongly gets a line that names it and the right one."""
    tree = copy.deepcopy(SHIPPED)
    section = section_at(path, tree)
    section[wrong] = section.pop(key)
    lines = told(file, tree)
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


def test_every_mistake_gets_a_line(file: Path) -> None:
    tree = with_value("variants.lesson.epochs", 0)
    tree["variants"]["slides"]["batch_size"] = 0
    del tree["strategy"]
    assert sorted(told(file, tree)) == [
        "Invalid variants.lesson.epochs. Expected: greater than or equal to 1. Received: 0.",
        "Invalid variants.slides.batch_size. Expected: greater than or equal to 1. Received: 0.",
        "Missing key strategy. Expected a value. Received: nothing.",
    ]


def test_the_chosen_budget_must_be_defined(file: Path) -> None:
    tree = copy.deepcopy(SHIPPED)
    del tree["budgets"]["laptop"]
    assert told(file, tree) == ["Invalid file. Expected a section budgets.laptop, because budget is laptop."]


def test_a_variants_data_must_be_fetched(file: Path) -> None:
    expected = "Invalid file. Expected one of mnist in variants.lesson.data, not 'cifar10'."
    assert told(file, with_value("data", {"mnist": {}})) == [expected]


def test_what_may_be_out_of_reach_is_for_on_demand_alone(file: Path) -> None:
    expected = "Invalid file. Expected one of mnist, cifar10 in variants.slides.data, not 'cifar100'."
    assert told(file, with_value("variants.slides.data", "cifar100")) == [expected]
    assert load(file, with_value("on_demand.speedrun.data", "cifar100")).on_demand["speedrun"].data == "cifar100"


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("data.mnist", {"size": 28}, "nothing in data.mnist, as the catalog knows the set"),
        (
            "data.flowers",
            {"size": 64},
            "in data one of mnist, cifar10, cifar100, imagenette, or a path for flowers, a folder of pictures",
        ),
        ("data.flowers", {"path": "/x"}, "a size in data.flowers, the side in pixels that its pictures are trained at"),
        ("data.cifar100", {}, "cifar100 in either data or optional_data"),
        (
            "variants.lesson.augment.crop",
            0.5,
            "no augment.crop in variants.lesson: it belongs to folders of pictures",
        ),
    ],
)
def test_a_data_set_is_of_the_catalog_or_a_folder(file: Path, key: str, value: Any, expected: str) -> None:
    assert told(file, with_value(key, value)) == [f"Invalid file. Expected {expected}."]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "{file}: Invalid file. Expected: a valid dictionary "),
        (b"- 1\n", "{file}: Invalid file. Expected: a valid dictionary "),
        (b"budget: [", "{file} is not valid YAML: "),
        (b"budget: smoke\nbudget: full\n", "{file} is not valid YAML: .*duplicate key"),
        (b"budget: \xff\xfe\n", "{file} is not valid YAML: "),
    ],
)
def test_a_file_that_is_no_mapping(file: Path, content: bytes, line: str) -> None:
    file.write_bytes(content)
    with pytest.raises(UserError, match=f"^{line.format(file=file)}") as refusal:
        params.load(file)
    assert "\n" not in str(refusal.value)


# The script


def run_train(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pipeline/train.py in `folder`; exit status 99 if it imported TensorFlow."""
    watch = (
        "import runpy, sys; sys.argv = sys.argv[1:]\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "finally:\n    if 'tensorflow' in sys.modules: import os; os._exit(99)\n"
    )
    command = [sys.executable, "-c", watch, str(ROOT / "pipeline" / "train.py"), *arguments]
    return subprocess.run(command, cwd=folder, env=os.environ, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("old", "new", "argument", "line"),
    [
        ("epochs: 5", "epochs: 0", "lesson", r"params\.yaml: Invalid variants\.slides\.epochs\. Expected: .*: 0\."),
        ("batch_size: 32\n    optimizer: {name: adam", "batchsize: 32\n    optimizer: {name: adam", "lesson", None),
        (
            "",
            "",
            "lessson",
            r"Unknown variant\. Expected one of: lenet5, slides, lesson, .*speedrun, quick, .*\. Received: 'lessson'\.",
        ),
        (TEXT, None, "lesson", r"params\.yaml not found\. Run from the top of the checkout\."),
    ],
)
def test_the_script_refuses_at_once_and_writes_nothing(
    tmp_path: Path, old: str, new: str | None, argument: str, line: str | None
) -> None:
    if new is not None:
        (tmp_path / "params.yaml").write_text(TEXT.replace(old, new))
    before = sorted(tmp_path.rglob("*"))
    done = run_train(tmp_path, argument)
    assert done.returncode == 2
    assert done.stdout == ""
    if line:
        assert re.fullmatch(f"error: {line}\n", done.stderr), done.stderr
    else:  # a misspelt key is missing under its right name too
        assert done.stderr.count("\n") == done.stderr.count("Received: ") == 2
    assert sorted(tmp_path.rglob("*")) == before
