"""Short trainings: parameters, shuffled pixels, and what a permutation does to a dense network."""

import numpy as np
import pandas as pd
import pytest

from cnnlab.course import lesson_networks, trainings
from cnnlab.nets.anatomy import layer_table


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainings, "EPOCHS", 1)


def noise(count: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """Standardised images whose class is the brighter of their halves."""
    images = np.random.default_rng(0).standard_normal((count, 8, 8, 1)).astype(np.float32)
    return images, (images[:, :4].mean(axis=(1, 2, 3)) > images[:, 4:].mean(axis=(1, 2, 3))).astype(int)


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3), (324,)])
def test_the_dense_network_has_about_as_many_parameters(shape: tuple[int, ...]) -> None:
    image = shape if len(shape) == 3 else (28, 28, 1)
    size = trainings.convolutional(image, 10).count_params()
    assert trainings.dense(shape, 10, size).count_params() == pytest.approx(size, rel=0.03)


def test_the_convolutional_network_by_hand() -> None:
    """3·3·1·8 + 8, 3·3·8·16 + 16, 7·7·16·64 + 64, 64·10 + 10."""
    assert trainings.convolutional((28, 28, 1), 10).count_params() == 80 + 1168 + 50_240 + 650


def test_pixels_are_shuffled_alike_in_all_images() -> None:
    images = np.arange(3 * 4 * 5 * 2).reshape(3, 4, 5, 2)
    mixed = trainings.shuffled(images, seed=1)
    assert not np.array_equal(mixed, images)
    for image, other in zip(images, mixed, strict=True):
        assert sorted(map(tuple, image.reshape(-1, 2))) == sorted(map(tuple, other.reshape(-1, 2)))
    assert np.array_equal(mixed[1] - mixed[0], np.full((4, 5, 2), 40))
    assert np.array_equal(mixed, trainings.shuffled(images, seed=1))


def test_a_dense_network_learns_the_same_from_shuffled_pixels() -> None:
    """With the rows of its matrix permuted alike, all weights after the training are the same numbers."""
    images, labels = noise()
    places = trainings.shuffled(np.arange(64).reshape(1, 8, 8, 1), seed=3).ravel()
    plain, mixed = (trainings.compiled(trainings.dense((8, 8, 1), 2, 700)) for _ in range(2))
    first, *others = plain.get_weights()
    mixed.set_weights([first[places], *others])
    trainings.fit(plain, images, labels, seed=0)
    trainings.fit(mixed, trainings.shuffled(images, seed=3), labels, seed=0)
    learnt, again = plain.get_weights(), mixed.get_weights()
    assert not np.allclose(learnt[0], first, atol=1e-4)
    assert again[0] == pytest.approx(learnt[0][places], abs=1e-5)
    for own, other in zip(learnt[1:], again[1:], strict=True):
        assert other == pytest.approx(own, abs=1e-5)


def test_a_second_training_starts_afresh() -> None:
    images, labels = noise()
    model = trainings.compiled(trainings.convolutional((8, 8, 1), 2))
    start, results = model.get_weights(), []
    for _ in range(2):
        model.set_weights(start)
        trainings.fit(model, images, labels, seed=5)
        results.append(model.get_weights())
    for first, second in zip(*results, strict=True):
        assert second == pytest.approx(first, abs=1e-6)


def test_contrasts_are_differences_of_the_means() -> None:
    accuracies = {"dense, pixels": (0.5, 0.52, 0.54), "dense, HOG": (0.7, 0.73, 0.73)}
    runs = pd.DataFrame([
        {"data": "mnist", "setting": f"mnist, {name}", "seed": seed, "accuracy": value, "chance": 0.1,
         "seconds": 1.0, "parameters": 10}
        for name, values in accuracies.items() for seed, value in enumerate(values)
    ])  # fmt: skip
    (row,) = trainings.contrasts(runs).to_dict("records")
    assert (row["compared"], row["n"], row["verdict"]) == ("HOG", 3, "improves")
    assert row["difference"] == pytest.approx(20)
    assert (row["accuracy"], row["base_accuracy"]) == (pytest.approx(0.72), pytest.approx(0.52))
    assert row["low"] < 20 < row["high"]


def test_lenet5_with_stride_2_has_the_published_maps() -> None:
    """LeCun et al. 1998: 14×14 after S2, 5×5 after S4, 1×1 after C5. All C3 maps read all S2 maps here: 61,706."""
    model = lesson_networks.lenet5_with_stride_2()
    outputs = [row["output"] for row in layer_table(model.layers, model.input_shape[1:])]
    assert outputs[:5] == ["28×28×6", "14×14×6", "10×10×16", "5×5×16", "1×1×120"]
    assert model.count_params() == 156 + 2416 + 48_120 + 10_164 + 850 == 61_706
