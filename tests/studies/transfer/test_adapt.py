"""What changes in a variant for another data set, and that what comes out fits it."""

from pathlib import Path

import pytest
from cards import card, pictures
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnlab import params
from cnnlab.data.store import Card, imagenet_card
from cnnlab.errors import UserError
from cnnlab.nets.anatomy import layer_table, training_flop
from cnnlab.nets.families.homework import Homework
from cnnlab.nets.registry import build
from cnnlab.studies.transfer.adapt import LARGEST_DENSE, LARGEST_MAP, MEMORY, Adapted, adapt

SHIPPED = params.load(Path(__file__).parents[3] / "params.yaml")
HOME = card("cifar10")


def adapted(variant: str, target: Card) -> Adapted:
    return adapt(SHIPPED.variants[variant], HOME, target)


def changes_of(found: Adapted) -> dict[str, tuple[str, str]]:
    return {change.part: (change.before, change.after) for change in found.changes}


def network(found: Adapted) -> Homework:
    assert isinstance(found.variant.network, Homework)
    return found.variant.network


@pytest.mark.parametrize(
    ("name", "target"),
    [("improved_mnist", card("mnist")), ("improved_cifar100", card("cifar100")), ("improved_imagenette", pictures(96))],
)
def test_the_shipped_variants_for_other_data_are_the_adapted_ones(name: str, target: Card) -> None:
    shipped, found = SHIPPED.on_demand[name], adapted("improved", target)
    assert shipped.network == found.variant.network
    assert (shipped.augment.flip, shipped.augment.crop) == (found.variant.augment.flip, found.variant.augment.crop)


def test_adapting_to_imagenet_needs_no_images() -> None:
    found = adapted("lesson", imagenet_card())
    model = build(network(found), imagenet_card())
    assert (model.input_shape, model.output_shape) == ((None, 224, 224, 3), (None, 1000))
    assert changes_of(found)["classifier"] == ("10", "1000")


def test_nothing_changes_at_home() -> None:
    for name in ("lesson", "improved"):
        found = adapted(name, HOME)
        assert (found.variant, found.changes) == (SHIPPED.variants[name], [])


def test_digits_are_not_mirrored() -> None:
    found = adapted("lesson", card("mnist"))
    assert changes_of(found) == {
        "input": ("32×32×3", "28×28×1"),
        "flip": ("random", "none"),
        "cost": ("124 MFLOP", "89 MFLOP"),
    }
    assert (found.variant.augment.flip, found.variant.augment.shift) == (None, 0.1)
    assert found.variant.network == SHIPPED.variants["lesson"].network


def test_digits_are_not_mirrored_for_predictions_either() -> None:
    """`improved` averages over the image and its mirror image."""
    found = adapted("improved", card("mnist"))
    assert changes_of(found)["test-time augmentation"] == ("flip", "none")
    assert not found.variant.tta.flip


def test_a_hundred_classes() -> None:
    found = adapted("improved", card("cifar100"))
    assert changes_of(found) == {"classifier": ("10", "100")}
    assert found.changes[0].values == {"chance": 1.0}
    assert build(network(found), card("cifar100")).output_shape == (None, 100)


def test_imagenet_by_hand() -> None:
    found = adapted("lesson", pictures(224, 1000))
    changes = {change.part: change for change in found.changes}
    # 224 → 222 → 111 → 109 → 54
    assert changes["head"].values["parameters"] == 54**2 * 64 * 512 + 512
    assert changes_of(found)["first layer"] == ("3×3, stride 1", "7×7, stride 4")
    assert changes_of(found)["stages"][0] == "32–64"
    assert (network(found).head, network(found).dense_units) == ("global_average", 0)
    assert (found.variant.augment.crop, found.variant.augment.shift) == (0.35, 0.0)
    cost = training_flop(build(network(found), pictures(224, 1000)))
    assert changes_of(found)["cost"][1] == f"{cost / 1e6:.0f} MFLOP"


@settings(max_examples=12)
@given(name=st.sampled_from(["lesson", "improved"]), side=st.integers(8, 256), classes=st.integers(2, 1001))
def test_the_adapted_network_fits(name: str, side: int, classes: int) -> None:
    target = pictures(side, classes)
    found = adapted(name, target)
    model = build(network(found), target)
    assert model.output_shape == (None, classes)
    rows = layer_table(model.layers, model.input_shape[1:])
    assert side / network(found).stem_stride <= LARGEST_MAP
    hidden = [row["parameters"] for row in rows if row["layer"] == "Dense"][:-1]
    assert all(count <= LARGEST_DENSE for count in hidden)
    assert found.variant.batch_size * 2 * sum(row["bytes"] for row in rows) <= MEMORY
    if network(found).head != "flatten":
        seen = [row for row in rows if row["receptive_field"]][-1]
        assert seen["receptive_field"] >= side or int(seen["output"].split("×")[0]) < 4
    assert all(change.reason.format(**change.values) for change in found.changes)


def test_a_large_batch_is_reduced_and_the_rate_with_it() -> None:
    wide = SHIPPED.variants["improved"].model_copy(update={"batch_size": 4096})
    found = adapt(wide, HOME, pictures(64))
    share = found.variant.batch_size / 4096
    assert share < 1
    assert found.variant.optimizer.learning_rate == pytest.approx(share * wide.optimizer.learning_rate)
    assert changes_of(found)["batch"] == ("4096", str(found.variant.batch_size))


def test_only_the_homework_network_can_be_adapted() -> None:
    expected = r"^Invalid variant to adapt\. Expected network homework\. Received: slides\.$"
    with pytest.raises(UserError, match=expected):
        adapt(SHIPPED.variants["slides"], card("mnist"), HOME)


def test_small_images_are_shifted_instead_of_cropped() -> None:
    home = SHIPPED.on_demand["improved_imagenette"].model_copy(update={"validation": 5000})
    found = adapt(home, pictures(96), HOME)
    assert (found.variant.augment.crop, found.variant.augment.shift) == (0.0, 0.1)
    assert changes_of(found)["shift"] == ("crop 0.35", "0.1")
    assert found.variant.validation is None  # it was a number of the other set's images
