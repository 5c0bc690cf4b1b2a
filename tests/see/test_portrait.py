"""Portraits of trained networks, grey and colour, and the course's tables and pictures, on real data."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from evidence.finished import is_picture
from PIL import Image
from see.small_nets import convolutional

from cnnlab import params
from cnnlab.data import store
from cnnlab.data.catalog import CATALOG
from cnnlab.errors import UserError
from cnnlab.evidence.words import Language
from cnnlab.see import course, portrait
from cnnlab.see.classic import METHODS

PICTURES = {"attribution", "exciting", "filters", "maps", "plane", "tuning", "wanted"}
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
            evaluated = folder / "reports/evaluation" / variant / "metrics.json"
            evaluated.parent.mkdir(parents=True)
            evaluated.write_text(json.dumps({"validation_accuracy": 0.5 + place / 10}))
    return folder


@pytest.fixture
def inside(top: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(top)
    return top


@pytest.mark.parametrize(("data", "variant"), [("mnist", "slides"), ("cifar10", "lesson")])
def test_a_portrait_has_every_picture_and_is_the_same_again(
    inside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str, variant: str
) -> None:
    monkeypatch.setattr(portrait, "IMAGES", 300)
    model, run_id = portrait.load(data, variant)
    assert run_id == f"run-{variant}"
    figures = []
    for name in ("first", "again"):
        processed = store.open_processed(data)
        figures.append(portrait.portrait(model, processed, tmp_path / name, validation=5000, say=Language("en")))
    for name in PICTURES:
        first, again = (tmp_path / folder / f"{name}.png" for folder in ("first", "again"))
        assert first.read_bytes() == again.read_bytes(), name
        with Image.open(first) as drawn:
            assert len(np.unique(np.asarray(drawn.convert("L")))) > 10, name
    assert {path.stem for path in (tmp_path / "first").iterdir()} == PICTURES
    told = [{key: value for key, value in row.items() if key != "images_per_s"} for row in figures]
    assert told[0] == told[1]
    assert told[0]["images"] == 300
    assert told[0]["units"] == 5
    assert 0 <= told[0]["selective"] <= 1
    assert 0.05 < told[0]["neighbours"] <= 1
    assert all(row["images_per_s"] > 0 for row in figures)


def test_any_picture_can_be_looked_at(
    inside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parameters: params.Params
) -> None:
    """A large transparent one, for a network of grey digits."""
    monkeypatch.setattr(portrait, "IMAGES", 60)
    Image.effect_noise((300, 200), 90).convert("RGBA").save(tmp_path / "cat.png")
    drawn = portrait.look(parameters, "slides", tmp_path / "cat.png", tmp_path / "out", Language("ru"))
    assert {path.stem for path in drawn} == PICTURES
    with pytest.raises(UserError, match=r"^Invalid picture .*none\.png\. Expected: a picture file"):
        portrait.look(parameters, "slides", tmp_path / "none.png", tmp_path / "out", Language("en"))


def test_an_untrained_variant_is_told(inside: Path) -> None:
    with pytest.raises(
        UserError, match=r"^No trained network in models/cifar10/improved: .* make train VARIANT=improved"
    ):
        portrait.load("cifar10", "improved")


@pytest.fixture(scope="module")
def parameters() -> params.Params:
    """The shipped parameters, smoke, with the three variants alone."""
    shipped = params.load(Path(__file__).parents[2] / "params.yaml")
    variants = {name: shipped.variants[name] for name in ("slides", "lenet5", "lesson")}
    return shipped.model_copy(update={"budget": "smoke", "variants": variants, "on_demand": {}})


def test_the_course_has_every_table_and_picture(
    inside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parameters: params.Params
) -> None:
    monkeypatch.setattr(portrait, "IMAGES", 60)
    monkeypatch.setattr(course, "PIXELS", 2048 * 28 * 28)  # as many as the budget's digits, fewer coloured pictures
    course.write_course(parameters, tmp_path, Language("en"))
    methods = pd.read_csv(tmp_path / "methods.csv")
    assert methods.groupby("data")["method"].apply(list).to_dict() == {"mnist": [*METHODS], "cifar10": [*METHODS]}
    learnt = methods.groupby("data")["train_images"].unique().to_dict()
    assert {name: list(counts) for name, counts in learnt.items()} == {"mnist": [2048], "cifar10": [522]}
    assert (methods["low"] < methods["accuracy"]).all()
    assert (methods["accuracy"] < methods["high"]).all()
    seen = pd.read_csv(tmp_path / "seen.csv")
    assert seen[["data", "variant", "run_id"]].to_numpy().tolist() == [
        ["mnist", "lenet5", "run-lenet5"],  # the higher validation accuracy
        ["cifar10", "lesson", "run-lesson"],
    ]
    for name in ("activations", "convolution", "detector", "exercise", "pooling", "templates-mnist", "lenet5/fields"):
        with Image.open(tmp_path / f"{name}.png") as drawn:
            assert len(np.unique(np.asarray(drawn.convert("L")))) > 10, name
    assert is_picture(tmp_path / "activations.png")
    assert set(json.loads((tmp_path / "anatomy.json").read_text())) == {"slides", "lenet5", "lesson"}
    assert json.loads((tmp_path / "networks.json").read_text())["homework"]["course_accuracy"] == 0.4304


def test_the_exercise_by_hand() -> None:
    """A 3×3 layer sees 3 pixels across, and each further one a pixel more on both sides."""
    assert course.exercise_fields() == [3, 5, 7, 9]


def test_a_variant_that_is_not_trained_stops_the_course(inside: Path, parameters: params.Params) -> None:
    more = {**parameters.variants, "improved": parameters.variants["lesson"]}
    with pytest.raises(UserError, match=r"improved.metrics\.json is missing\. .* Run: dvc repro$"):
        course.best_variants(parameters.model_copy(update={"variants": more}))
