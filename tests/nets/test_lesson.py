"""The lesson's networks against the code of the handout and the slides, ported letter for letter to Keras 3's names."""

from collections.abc import Callable

import keras
import numpy as np
import pytest
from cards import card
from keras import layers
from keras.layers import Activation, Conv2D, Dense, Dropout, Flatten, GlobalMaxPooling2D, MaxPooling2D
from keras.models import Sequential

from cnnlab.catalog import CATALOG
from cnnlab.course import lesson_networks as lesson
from cnnlab.errors import UserError
from cnnlab.nets import anatomy
from cnnlab.nets.families.homework import Homework, homework
from cnnlab.nets.families.lenet5 import LeNet5, lenet5
from cnnlab.nets.families.slides import Slides, slides
from cnnlab.nets.registry import build

Input = keras.Input  # Keras 3 expects it as a layer, where the course passes input_shape to the first one


def handout_detector() -> keras.Model:
    model = Sequential()
    model.add(Input((8, 8, 1)))
    model.add(Conv2D(1, (3, 3), activation="relu"))
    model.add(GlobalMaxPooling2D())
    detector = [[[[0]], [[1]], [[0]]], [[[0]], [[1]], [[0]]], [[[0]], [[1]], [[0]]]]
    model.set_weights([np.asarray(detector), np.asarray([0.0])])
    return model


def handout_lenet5() -> keras.Model:
    model = Sequential()
    model.add(Input((28, 28, 1)))
    model.add(layers.Conv2D(6, kernel_size=(5, 5), strides=(1, 1), activation="tanh", padding="same"))
    model.add(layers.AveragePooling2D(pool_size=(2, 2), strides=(1, 1), padding="valid"))
    model.add(layers.Conv2D(16, kernel_size=(5, 5), strides=(1, 1), activation="tanh", padding="valid"))
    model.add(layers.AveragePooling2D(pool_size=(2, 2), strides=(2, 2), padding="valid"))
    model.add(layers.Conv2D(120, kernel_size=(5, 5), strides=(1, 1), activation="tanh", padding="valid"))
    model.add(layers.Flatten())
    model.add(layers.Dense(84, activation="tanh"))
    model.add(layers.Dense(10, activation="softmax"))
    return model


def slides_mnist() -> keras.Model:
    return keras.Sequential(
        [
            Input((28, 28, 1)),
            Conv2D(32, (3, 3), padding="same", activation="relu"),
            MaxPooling2D((2, 2), strides=2),
            Conv2D(64, (3, 3), padding="same", activation="relu"),
            MaxPooling2D((2, 2), strides=2),
            Flatten(),
            Dense(128, activation="relu"),
            Dense(10, activation="softmax"),
        ]
    )


def handout_cifar10() -> keras.Model:
    num_classes = 10
    model = Sequential()
    model.add(Input((32, 32, 3)))
    model.add(Conv2D(32, (3, 3), padding="same"))
    model.add(Activation("relu"))
    model.add(Conv2D(32, (3, 3)))
    model.add(Activation("relu"))
    model.add(MaxPooling2D(pool_size=(2, 2)))
    model.add(Dropout(0.25))

    model.add(Conv2D(64, (3, 3), padding="same"))
    model.add(Activation("relu"))
    model.add(Conv2D(64, (3, 3)))
    model.add(Activation("relu"))
    model.add(MaxPooling2D(pool_size=(2, 2)))
    model.add(Dropout(0.25))

    model.add(Flatten())
    model.add(Dense(512))
    model.add(Activation("relu"))
    model.add(Dropout(0.5))
    model.add(Dense(num_classes))
    model.add(Activation("softmax"))
    return model


COURSE = {
    "detector": (handout_detector, 10),
    # 6·(5·5·1+1) + 16·(5·5·6+1) + 120·(5·5·16+1) = 50,692; 28→28→27→23→11→7, so 7·7·120 = 5,880 enter 84, then 10.
    "lenet5": (handout_lenet5, 156 + 2_416 + 48_120 + 84 * 5_881 + 10 * 85),
    "slides": (slides_mnist, 421_642),
    # 32·28 + 32·289 + 64·289 + 64·577 + 512·(6·6·64+1) + 10·513
    "homework": (handout_cifar10, 1_250_858),
}


@pytest.mark.parametrize("name", COURSE)
def test_each_layer_is_the_courses(name: str) -> None:
    (reference, parameters), ours = COURSE[name], lesson.LESSON[name].build()
    theirs = reference()
    assert ours.input_shape == theirs.input_shape
    assert [type(layer) for layer in ours.layers] == [type(layer) for layer in theirs.layers]
    for mine, its in zip(ours.layers, theirs.layers, strict=True):
        assert mine.get_config() | {"name": ""} == its.get_config() | {"name": ""}
        assert mine.output.shape == its.output.shape
        assert mine.count_params() == its.count_params()
    assert ours.count_params() == parameters
    assert parameters == 545_546 or name != "lenet5"


def test_the_slides_table_of_layers() -> None:
    table = anatomy.layer_table(slides().layers, (28, 28, 1))
    assert [(row["layer"], row["output"], row["parameters"]) for row in table] == [
        ("Conv2D", "28×28×32", 320),
        ("MaxPooling2D", "14×14×32", 0),
        ("Conv2D", "14×14×64", 18_496),
        ("MaxPooling2D", "7×7×64", 0),
        ("Flatten", "3136", 0),
        ("Dense", "128", 401_536),
        ("Dense", "10", 1_290),
    ]


def test_the_detector_finds_the_vertical_line() -> None:
    data = np.asarray([[0, 0, 0, 1, 1, 0, 0, 0]] * 8).reshape(1, 8, 8, 1)
    theirs, ours = handout_detector(), lesson.vertical_line_detector()
    assert np.array_equal(lesson.VERTICAL_LINE, data[0, :, :, 0])
    assert ours.predict(data, verbose=0).tolist() == theirs.predict(data, verbose=0).tolist() == [[3.0]]
    tables = lesson.computed_tables()
    assert tables["detector"]["course_output"] == tables["detector"]["output"] == 3.0


def test_the_tables_of_the_report() -> None:
    tables = lesson.computed_tables()
    assert {name: table["parameters"] for name, table in tables.items()} == {n: p for n, (_, p) in COURSE.items()}
    printed = {name: table["course_accuracy"] for name, table in tables.items()}
    assert printed == {"detector": None, "lenet5": 0.9069, "slides": None, "homework": 0.4304}
    for table in tables.values():
        assert sum(row["parameters"] for row in table["layers"]) == table["parameters"]


@pytest.mark.parametrize("network", [lenet5, slides, homework])
def test_logits_become_the_courses_probabilities_by_softmax(network: Callable[..., keras.Model]) -> None:
    probabilities, logits = network(), network(classifier_activation=None)
    logits.set_weights(probabilities.get_weights())
    images = np.random.default_rng(0).random((5, *probabilities.input_shape[1:]), np.float32)
    outputs = logits(images).numpy().astype(np.float64)
    softmax = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities(images).numpy(), softmax, rtol=1e-5)
    assert np.abs(outputs.sum(axis=1) - 1).max() > 1e-3  # logits are no probabilities


def test_settings_change_what_they_name() -> None:
    stages = {"filters": (4, 5, 6), "depths": (2, 2, 2), "conv_dropout": (0.1, 0.2, 0.3)}
    model = homework((28, 28, 1), 7, None, **stages, dense_units=9, dense_dropout=0.4)
    kinds = [layer for layer in model.layers if not isinstance(layer, Activation | Flatten | MaxPooling2D)]
    assert [getattr(layer, "filters", getattr(layer, "units", getattr(layer, "rate", None))) for layer in kinds] == [
        *(4, 4, 0.1),
        *(5, 5, 0.2),
        *(6, 6, 0.3),
        *(9, 0.4, 7),
    ]
    # 28 → 26 → 13 → 11 → 5 → 3 → 1: one position of 6 filters enters the dense layer
    assert model.count_params() == (40 + 148) + (185 + 230) + (276 + 330) + 9 * 7 + 7 * 10


@pytest.mark.parametrize("network", [LeNet5(name="lenet5"), Slides(name="slides")], ids=["lenet5", "slides"])
@pytest.mark.parametrize("data", ["mnist", "cifar10"])
def test_a_network_fits_the_images_of_its_data_set(network: LeNet5 | Slides, data: str) -> None:
    model = build(network, card(data))
    assert model.input_shape == (None, *CATALOG[data].shape)
    assert model.output_shape == (None, 10)
    assert model.layers[-1].activation is keras.activations.linear


def section(filters: list[int]) -> Homework:
    stages = len(filters)
    return Homework(name="homework", filters=filters, depths=[2] * stages, conv_dropout=[0.25] * stages)


def test_the_homework_section_builds_the_handouts_network() -> None:
    model = build(section([32, 64]), card("cifar10"))
    assert model.count_params() == 1_250_858
    assert model.layers[-1].activation is keras.activations.linear


def test_too_many_stages_are_refused() -> None:
    assert build(section([2, 2, 2]), card("cifar10")).output_shape == (None, 10)  # 32 → 15 → 6 → 2
    with pytest.raises(UserError) as refusal:
        build(section([2, 2, 2, 2]), card("cifar10"))
    message = str(refusal.value)
    assert message.startswith(
        "Network homework does not fit cifar10. Expected: layers for images of shape (32, 32, 3)."
    )
    assert "'filters': [2, 2, 2, 2]" in message
    assert "\n" not in message
