"""params.yaml: what is accepted, the runs of a variant, and how the scripts report an invalid file."""

import copy
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.hydra import apply_overrides
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML
from shipped import ROOT, SHIPPED, TEXT, load, with_value

from cnnlab import params
from cnnlab.errors import UserError


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


def test_experiments_change_any_setting_of_a_variant(file: Path) -> None:
    """`dvc exp run -S` ignores a mapping that a later variant inherits: shipped variants share none."""
    settings = {
        f"variants.{variant}.{section}.{name}": value
        for variant, recipe in SHIPPED["variants"].items()
        for section in ("network", "optimizer", "augment")
        for name, value in recipe.get(section, {}).items()
        if type(value) in (int, float)
    }
    file.write_text(TEXT)
    apply_overrides(file, [f"{name}={value + 1}" for name, value in settings.items()])
    expected = copy.deepcopy(SHIPPED)
    for name, value in settings.items():
        _, variant, section, setting = name.split(".")
        expected["variants"][variant][section][setting] = value + 1
    assert YAML(typ="safe").load(file) == expected


def test_long_variants_have_the_recipes_that_they_repeat() -> None:
    """They cannot inherit from `lesson` and `improved`, as `dvc exp run -S` could not change these then."""
    shipped = params.load(ROOT / "params.yaml")
    lesson, improved = shipped.variants["lesson"], shipped.variants["improved"]
    rung = shipped.on_demand["smoothed"]
    assert rung.model_copy(update={"epochs": 4, "tta": improved.tta}) == improved
    assert shipped.on_demand["improved_cifar100"] == improved.model_copy(update={"data": "cifar100"})
    for name in ("normalised", "lesson_50"):
        same = {"network": lesson.network, "epochs": lesson.epochs}
        assert shipped.on_demand[name].model_copy(update=same) == lesson
    assert shipped.on_demand["lesson_50"].network == lesson.network == shipped.variants["lesson_longer"].network


def test_on_demand_variants_are_known_but_not_the_pipelines(file: Path) -> None:
    read = load(file, SHIPPED)
    assert list(read.on_demand) == list(SHIPPED["on_demand"])
    assert not read.on_demand.keys() & params.variants(read).keys()
    for name in read.on_demand:
        assert params.runs(read, name)[0].variant == name


def test_a_name_is_used_in_only_one_section(file: Path) -> None:
    tree = copy.deepcopy(SHIPPED)
    tree["on_demand"]["lesson"] = tree["variants"]["lesson"]
    with pytest.raises(UserError, match="lesson in only one of variants and on_demand"):
        load(file, tree)


def test_nothing_changes_after_reading(file: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(file, SHIPPED).budget = "full"


budgeted = st.none() | st.integers(1, 100_000)


@given(own=st.integers(1, 300), epochs=budgeted, images=budgeted, seeds=st.integers(1, 20), folds=st.booleans())
def test_a_budget_caps_and_never_raises(
    file: Path, own: int, epochs: int | None, images: int | None, seeds: int, folds: bool
) -> None:
    tree = with_value("variants.slides.epochs", own)
    tree["budgets"]["laptop"] = {"epochs": epochs, "train_images": images, "seeds": seeds, "folds": folds}
    runs = params.runs(load(file, tree), "slides")
    assert [run.seed for run in runs] == [*range(seeds)]
    assert {run.epochs for run in runs} == {own if epochs is None or own < epochs else epochs}
    assert {run.train_images for run in runs} == {images}
    assert [run.fold for run in runs] == ([*range(seeds)] if folds else [0] * seeds)
    assert len({run.model_copy(update={"seed": 0, "fold": 0}).model_dump_json() for run in runs}) == 1


@pytest.mark.parametrize("devices", ["all", "one", ["GPU:0"], ["GPU:0", "GPU:12"]])
def test_devices_are_all_or_one_or_named(file: Path, devices: Any) -> None:
    assert load(file, with_value("strategy.devices", devices)).strategy.devices == devices


def test_a_run_contains_only_what_determines_its_result(file: Path) -> None:
    tree = with_value("strategy", {"devices": "one", "replicas": 3})
    tree["train"] = {"feeding": "streamed", "checkpoint_minutes": 1}
    (lesson,), (slides,) = (params.runs(load(file, tree), name) for name in ("lesson", "slides"))
    assert [lesson] == params.runs(load(file, SHIPPED), "lesson")
    assert (lesson.validation, slides.validation) == (SHIPPED["preprocess"]["validation"], 12_000)
    assert (lesson.variant, lesson.data, lesson.batch_size) == ("lesson", "cifar10", 32)
    assert lesson.network == load(file, tree).variants["lesson"].network


@pytest.mark.parametrize("budget", ["smoke", "laptop", "full"])
def test_the_scale_is_that_of_the_chosen_budget(file: Path, budget: str) -> None:
    found = load(file, with_value("budget", budget))
    assert found.scale.training.model_dump(exclude_defaults=True) == SHIPPED["budgets"][budget]
    for stage in ("sweep", "ablation", "transfer"):
        assert getattr(found.scale, stage).model_dump(exclude_defaults=True) == SHIPPED[stage]["budgets"][budget]


@pytest.mark.parametrize(
    ("data", "preferred", "expected"),
    [
        ("imagenette", (), 400),
        ("imagenette", (None, None), 400),
        ("imagenette", (None, 30), 30),
        ("imagenette", (20, 30), 20),
        ("cifar10", (None,), SHIPPED["preprocess"]["validation"]),
    ],
)
def test_a_data_sets_validation_overrides_that_of_preprocess(
    file: Path, data: str, preferred: tuple[int | None, ...], expected: int
) -> None:
    assert params.set_aside(load(file, SHIPPED), data, *preferred) == expected


# Runs


def test_the_number_of_seeds() -> None:
    shipped = params.load(ROOT / "params.yaml")
    assert [run.seed for run in params.runs(shipped, "lesson", 3)] == [0, 1, 2]
    assert len(params.runs(shipped, "lesson")) == shipped.scale.training.seeds
    with pytest.raises(UserError, match=r"Invalid number of seeds\. Expected 1 or more\. Received: 0\."):
        params.runs(shipped, "lesson", 0)


def test_an_unknown_variant(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)  # where no sweep has found a variant `tuned`
    with pytest.raises(UserError) as refusal:
        params.runs(load(file, SHIPPED), "lessson")
    known = ", ".join([*SHIPPED["variants"], *SHIPPED["on_demand"]])
    assert str(refusal.value) == f"Unknown variant. Expected one of: {known}. Received: 'lessson'."


# Invalid files


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
def test_a_file_that_is_not_a_mapping(file: Path, content: bytes, line: str) -> None:
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
        ("epochs: 5\n", "epochs: 0\n", "lesson", r"params\.yaml: Invalid variants\.slides\.epochs\. Expected: .*: 0\."),
        ("batch_size: 32\n    optimizer: {name: adam", "batchsize: 32\n    optimizer: {name: adam", "lesson", None),
        (
            "",
            "",
            "lessson",
            r"Unknown variant\. Expected one of: lenet5, slides, lesson, .*speedrun, quick, .*\. Received: 'lessson'\.",
        ),
        (TEXT, None, "lesson", r"params\.yaml not found\. Run the command in the project folder\."),
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
