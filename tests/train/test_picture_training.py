"""Training on picture files: the same under one replica and two."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from PIL import Image
from train.small import make_loop, values

from cnnlab.data.batches import Decoded, place
from cnnlab.data.images import ImageFiles
from cnnlab.params import Augment, Optimizer
from cnnlab.train.loop import Loop, fit

SIZE, COUNT = 12, 30
LABELS = np.arange(COUNT, dtype=np.int32) % 3


def network() -> keras.Model:
    return keras.Sequential(
        [keras.Input((SIZE, SIZE, 3)), layers.Conv2D(4, 3, activation="tanh"), layers.Flatten(), layers.Dense(3)]
    )


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageFiles:
    root = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for i in range(COUNT):
        Image.fromarray(random.integers(0, 256, (20 + i, 50 - i, 3), np.uint8)).save(root / f"{i}.png")
    return ImageFiles(root, [f"{i}.png" for i in range(COUNT)], SIZE)


def trained(strategy: tf.distribute.Strategy, images: ImageFiles, augment: Augment) -> Loop:
    loop = make_loop(
        strategy,
        (images, LABELS),
        Optimizer(name="sgd", learning_rate=0.05),
        batch_size=7,
        network=network,
        augment=augment,
    )
    loop.data = place(images, LABELS, strategy, smallest_crop=augment.crop)
    assert isinstance(loop.data, Decoded)
    fit(loop, np.arange(24), np.arange(24, COUNT), 2)
    return loop


@pytest.mark.parametrize("augment", [Augment(), Augment(crop=0.3, flip="random"), Augment(crop=0.3, mixup=0.5)])
def test_replicas_see_the_same_pictures(
    one_replica: tf.distribute.Strategy, two_replicas: tf.distribute.Strategy, images: ImageFiles, augment: Augment
) -> None:
    one, two = (trained(strategy, images, augment) for strategy in (one_replica, two_replicas))
    for a, b in zip(values(one.model), values(two.model), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    for loop in (one, two):
        expected = loop.model(images[24:].astype(np.float32) / 255)
        np.testing.assert_allclose(loop.logits(loop.data, np.arange(24, COUNT)), expected.numpy(), atol=1e-4)


def test_crops_change_what_is_learnt(one_replica: tf.distribute.Strategy, images: ImageFiles) -> None:
    plain, cropped = (trained(one_replica, images, Augment(crop=crop)) for crop in (0.0, 0.3))
    assert not np.allclose(values(plain.model)[0], values(cropped.model)[0], atol=1e-4)
