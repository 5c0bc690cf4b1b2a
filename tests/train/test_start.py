"""A training that starts with another variant's features."""

from pathlib import Path

import keras
import numpy as np
import pytest
from train.processed import VALIDATION

from cnnlab import files
from cnnlab.errors import UserError
from cnnlab.nets.families.homework import Homework
from cnnlab.params import InitFrom, Optimizer, Run, Strategy, Train
from cnnlab.train.experiment import train_variant

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow", "ignore:::keras")  # their own, in their own code
RUN = Run(
    variant="source",
    seed=0,
    data="mnist",
    network=Homework(
        name="homework",
        filters=[4],
        depths=[2],
        conv_dropout=[0.0],
        batch_norm=True,
        head="global_average",
        dense_units=0,
        dense_dropout=0.0,
    ),
    validation=VALIDATION,
    train_images=None,
    epochs=2,
    batch_size=16,
    optimizer=Optimizer(name="sgd", learning_rate=0.05, momentum=0.9),
)


@pytest.fixture(scope="module", autouse=True)
def top(top: Path) -> Path:
    """The working folder, with a trained source."""
    train([RUN])
    return top


def train(runs: list[Run]) -> None:
    train_variant(runs, Strategy(), Train(feeding="auto", checkpoint_minutes=5))


def weights(variant: str) -> list[np.ndarray]:
    model = keras.saving.load_model(files.MODELS / "mnist" / variant / "model.keras")
    return [np.asarray(w) for w in model.get_weights()]


def starting(variant: str, **changes: object) -> Run:
    frozen = bool(changes.pop("frozen", False))
    start = {"init_from": InitFrom(variant="source", frozen=frozen), "origin": "mnist/source", "variant": variant}
    return RUN.model_copy(update={**start, **changes})


def test_frozen_features_stay_and_the_classifier_learns() -> None:
    train([starting("frozen", frozen=True)])
    old, new = weights("source"), weights("frozen")
    for a, b in zip(old[:-2], new[:-2], strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(old[-2], new[-2])


def test_without_steps_the_features_are_the_sources() -> None:
    still = Optimizer(name="sgd", learning_rate=1e-30)
    train([starting("still", optimizer=still)])
    old, new = weights("source"), weights("still")
    kernels = [i for i, w in enumerate(old) if w.ndim == 4]
    assert kernels
    for i in kernels:
        np.testing.assert_allclose(old[i], new[i], atol=1e-20)
    train([starting("tuned")])
    assert not any(np.array_equal(old[i], weights("tuned")[i]) for i in kernels)


def test_a_source_that_is_missing_or_unlike_is_refused() -> None:
    with pytest.raises(UserError, match=r"models/mnist/lost/run\.json\. .* run: make train VARIANT=lost$"):
        train([starting("orphan", origin="mnist/lost")])
    wide = RUN.network.model_copy(update={"filters": [5]})
    with pytest.raises(UserError, match=r"^Invalid init_from of wide\. Expected a variant with the same first layers"):
        train([starting("wide", network=wide)])
    assert not (files.MODELS / "mnist" / "wide").exists()
