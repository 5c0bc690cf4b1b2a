"""Portraits of networks for grey and colour images, and the tables and figures of the lesson, on real data."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from finished import is_picture
from PIL import Image
from see.small_nets import convolutional

from cnnlab import params
from cnnlab.catalog import CATALOG
from cnnlab.course import compute as course
from cnnlab.course.classic import METHODS
from cnnlab.data import store
from cnnlab.errors import UserError
from cnnlab.files import write_manifest
from cnnlab.report.language import Language
from cnnlab.see import best, portrait
from cnnlab.train.outputs import Outputs

pytestmark = pytest.mark.filterwarnings("ignore:::keras")  # saving, with this NumPy


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory, real_mnist: Path, real_cifar10: Path) -> Path:
    """A working folder with MNIST and CIFAR-10 processed, and untrained networks in place of variants'."""
    folder = tmp_path_factory.mktemp("course")
    for name, raw, variants in (("mnist", real_mnist, ["slides", "lenet5"]), ("cifar10", real_cifar10, ["lesson"])):
        store.preprocess(CATALOG[name], raw, folder / "data/processed" / name, validation=5000, seed=0)
        height, _, channels = CATALOG[name].shape
        for place, variant in enumerate(variants):
            models = folder / "models" / name / variant
            models.mkdir(parents=True)
            convolutional(channels, height, 10, seed=place).save(models / "model.keras")
            (models / "run.json").write_text(json.dumps({"run_id": f"run-{variant}"}))
            write_manifest(models)
            evaluated = folder / "reports/evaluation" / variant / "metrics.json"
            evaluated.parent.mkdir(parents=True)
            evaluated.write_text(json.dumps({"validation_accuracy": 0.5 + place / 10}))
            write_manifest(evaluated.parent)
    return folder


@pytest.fixture
def inside(top: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(top)
    return top


@pytest.mark.parametrize(("data", "variant"), [("mnist", "slides"), ("cifar10", "lesson")])
def test_a_portrait_has_every_figure_and_is_reproducible(
    inside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str, variant: str
) -> None:
    monkeypatch.setattr(portrait, "IMAGES", 300)
    model, run_id = portrait.load(data, variant)
    assert run_id == f"run-{variant}"
    rows = []
    for name in ("first", "again"):
        processed = store.open_processed(data)
        rows.append(portrait.portrait(model, processed, tmp_path / name, validation=5000, say=Language("en")))
    for name in best.FIGURES:
        first, again = (tmp_path / folder / f"{name}.png" for folder in ("first", "again"))
        assert first.read_bytes() == again.read_bytes(), name
        with Image.open(first) as drawn:
            assert len(np.unique(np.asarray(drawn.convert("L")))) > 10, name
    assert {path.stem for path in (tmp_path / "first").iterdir()} == {*best.FIGURES}
    numbers = [{key: value for key, value in row.items() if key != "images_per_s"} for row in rows]
    assert numbers[0] == numbers[1]
    assert numbers[0]["images"] == 300
    assert numbers[0]["units"] == 5
    assert 0 <= numbers[0]["selective"] <= 1
    assert 0.05 < numbers[0]["neighbours"] <= 1
    assert all(row["images_per_s"] > 0 for row in rows)


def test_any_image_can_be_used(
    inside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parameters: params.Params
) -> None:
    """A large transparent one, for a network of grey digits."""
    monkeypatch.setattr(portrait, "IMAGES", 60)
    Image.effect_noise((300, 200), 90).convert("RGBA").save(tmp_path / "cat.png")
    drawn = portrait.look(parameters, "slides", tmp_path / "cat.png", tmp_path / "out", Language("ru"))
    assert {path.stem for path in drawn} == {*best.FIGURES}
    with pytest.raises(UserError, match=r"^Invalid image .*none\.png\. Expected: an image file"):
        portrait.look(parameters, "slides", tmp_path / "none.png", tmp_path / "out", Language("en"))


def test_an_untrained_variant_is_refused(inside: Path) -> None:
    with pytest.raises(
        UserError, match=r"^Run improved seed 0 is missing\. .*models/cifar10/improved.* make train VARIANT=improved"
    ):
        portrait.load("cifar10", "improved")


@pytest.fixture(scope="module")
def parameters() -> params.Params:
    """The shipped parameters, budget smoke, with only the three variants."""
    shipped = params.load(Path(__file__).parents[2] / "params.yaml")
    variants = {name: shipped.variants[name] for name in ("slides", "lenet5", "lesson")}
    return shipped.model_copy(update={"budget": "smoke", "variants": variants, "on_demand": {}})


def test_the_lesson_has_every_table_and_figure_without_models(
    inside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parameters: params.Params
) -> None:
    monkeypatch.setattr(course, "VALUES", 2048 * 28 * 28)  # as many as the budget's digits, fewer colour images
    monkeypatch.setattr(Outputs, "folder", property(lambda _: Path("nowhere")))
    course.write_course(parameters, tmp_path, Language("en"))
    methods = pd.read_csv(tmp_path / "methods.csv")
    assert methods.groupby("data")["method"].apply(list).to_dict() == {"mnist": [*METHODS], "cifar10": [*METHODS]}
    learnt = methods.groupby("data")["train_images"].unique().to_dict()
    assert {name: list(counts) for name, counts in learnt.items()} == {"mnist": [2048], "cifar10": [522]}
    assert (methods["low"] < methods["accuracy"]).all()
    assert (methods["accuracy"] < methods["high"]).all()
    for name in ("activations", "convolution", "detector", "exercise", "pooling", "templates-mnist"):
        with Image.open(tmp_path / f"{name}.png") as drawn:
            assert len(np.unique(np.asarray(drawn.convert("L")))) > 10, name
    assert is_picture(tmp_path / "activations.png")
    assert set(json.loads((tmp_path / "anatomy.json").read_text())) == {"slides", "lenet5", "lesson"}
    assert json.loads((tmp_path / "networks.json").read_text())["homework"]["course_accuracy"] == 0.4304


def test_stage_see_draws_the_best_variant_of_each_data_set(
    inside: Path, monkeypatch: pytest.MonkeyPatch, parameters: params.Params
) -> None:
    monkeypatch.setattr(portrait, "IMAGES", 60)
    best.write_portraits(parameters, Language("en"))
    rows = best.seen()
    assert [(row["data"], row["variant"], row["run_id"]) for row in rows] == [
        ("mnist", "lenet5", "run-lenet5"),  # the higher validation accuracy
        ("cifar10", "lesson", "run-lesson"),
    ]
    drawn = {path.relative_to(best.SEE).as_posix() for path in best.SEE.rglob("*.png")}
    assert drawn == {f"{row['variant']}/{name}.png" for row in rows for name in best.FIGURES}


def test_the_receptive_fields_of_the_exercise() -> None:
    """A 3×3 layer sees 3 pixels across, and each further one a pixel more on both sides."""
    assert course.exercise_fields() == [3, 5, 7, 9]


def test_a_variant_that_is_not_evaluated_is_refused(inside: Path, parameters: params.Params) -> None:
    more = {**parameters.variants, "improved": parameters.variants["lesson"]}
    with pytest.raises(UserError, match=r"evaluation/improved/metrics\.json.* python pipeline/evaluate\.py improved$"):
        best.best_variants(parameters.model_copy(update={"variants": more}))
