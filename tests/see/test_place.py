"""Shifted and shuffled images, and networks for which the effect is known."""

import keras
import numpy as np
from keras import layers
from see.small_nets import noise

from cnnlab.see import place


def test_shifts_by_hand() -> None:
    """A bright pixel moves by two pixels up, down, left or right; edges are repeated."""
    images = np.zeros((40, 7, 7, 1), np.uint8)
    images[:, 3, 3] = 255
    found = place.shifted(images, 2, seed=0)
    assert {tuple(np.argwhere(image[..., 0])[0]) for image in found} == {(1, 3), (5, 3), (3, 1), (3, 5)}
    assert (found.sum(axis=(1, 2, 3)) == 255).all()
    row = np.arange(5, dtype=np.uint8).reshape(1, 1, 5, 1).repeat(5, axis=1)
    assert {tuple(image[0, :, 0]) for seed in range(20) for image in place.shifted(row, 1, seed)} == {
        (0, 1, 2, 3, 4),
        (0, 0, 1, 2, 3),
        (1, 2, 3, 4, 4),
    }


def test_patches_move_as_a_whole_and_each_image_in_its_own_way() -> None:
    image = np.kron(np.arange(4, dtype=np.uint8).reshape(2, 2), np.ones((3, 3), np.uint8))[None, :, :, None]
    found = place.shuffled(np.repeat(image, 50, axis=0), 2, seed=0)
    corners = {tuple(each[::3, ::3, 0].ravel()) for each in found}
    assert len(corners) > 10
    assert all(sorted(each) == [0, 1, 2, 3] for each in corners)
    for each in found:
        assert np.array_equal(np.kron(each[::3, ::3, 0], np.ones((3, 3), int)), each[..., 0])


def test_a_remainder_stays_where_it_is() -> None:
    images = noise(5, side=7)
    found = place.shuffled(images, 2, seed=0)
    assert np.array_equal(found[:, 6:], images[:, 6:])
    assert np.array_equal(found[:, :, 6:], images[:, :, 6:])
    assert not np.array_equal(found, images)


def test_a_bag_of_pixels_does_not_mind_and_a_template_does() -> None:
    """A mean over all places is the same after every shuffle; weights for each place are not."""
    images = noise(200, side=8)
    images[::2] //= 2
    labels = np.arange(200) % 2
    bag = keras.Sequential([keras.Input((8, 8, 1)), layers.GlobalAveragePooling2D(), layers.Dense(2)])
    bag.set_weights([np.array([[-1.0, 1.0]], np.float32), np.array([0.375, -0.375], np.float32)])
    rows = {(row["kind"], row["size"]): row["accuracy"] for row in place.accuracies(bag, images, labels, seed=0)}
    assert rows[place.UNCHANGED, 0] > 0.95
    assert {rows[place.SHUFFLED, size] for size in (2, 4, 8)} == {rows[place.UNCHANGED, 0]}
    halves = noise(200, side=8) // 4
    halves[::2, :4] += 128
    halves[1::2, 4:] += 128
    template = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(2)])
    upper = np.repeat([1.0, -1.0], 32)
    template.set_weights([np.stack([upper, -upper], axis=1).astype(np.float32), np.zeros(2, np.float32)])
    rows = {(row["kind"], row["size"]): row for row in place.accuracies(template, halves, labels, seed=0)}
    assert rows[place.UNCHANGED, 0]["accuracy"] == 1
    assert rows[place.SHIFTED, 1]["accuracy"] == 1
    assert rows[place.SHUFFLED, 8]["low"] < 0.5 < rows[place.SHUFFLED, 8]["high"]
