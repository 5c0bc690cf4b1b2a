"""Adapt a variant to another data set, with a reason for each change."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from cnnlab.data.store import Card
from cnnlab.errors import UserError
from cnnlab.nets.anatomy import layer_table, training_flop
from cnnlab.nets.families.homework import Homework
from cnnlab.nets.registry import build
from cnnlab.params import TTA, Augment, Variant
from cnnlab.params.recipe import Network

LARGEST_MAP = 64  # side of the first feature map, so that later stages cost at most as much as for 64×64 images
LARGEST_DENSE = 4_000_000  # parameters of the hidden dense layer; the lesson's has 1.2 million
MOST_FILTERS = 256
SMALLEST_MAP = 4  # side of a feature map that a further stage may halve
MEMORY = 2**31  # bytes of a batch's activations and their gradients in float32
CROP = 0.35  # smallest area of a random crop; ImageNet's usual 0.08 is for 90 epochs
USUAL_SHIFT = 0.1


@dataclass(frozen=True)
class Change:
    """A change of one part of the recipe; `reason` is a sentence with placeholders for `values`."""

    part: str
    before: str
    after: str
    reason: str
    values: dict[str, float | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Adapted:
    """A variant adapted to a data set, and the changes; an empty list if none are needed."""

    variant: Variant
    changes: list[Change]


def adapt(variant: Variant, home: Card, target: Card) -> Adapted:
    """Adapt a variant from data set `home` to `target`, keeping its settings where possible.

    Raises UserError for a network other than `homework`: only that has the settings for it.
    """
    if not isinstance(variant.network, Homework):
        raise UserError(f"Invalid variant to adapt. Expected network homework. Received: {variant.network.name}.")
    changes = [*_input(home, target)]
    network = variant.network
    for step in (_fewer_stages, _head, _first_layer, _more_stages):
        network, found = step(network, target)
        changes += found
    changes += _classes(home, target)
    augment, found = _augmentation(variant.augment, home, target)
    changes += found
    tta, found = _test_time(variant.tta, target)
    changes += found
    update = {"data": target["name"], "network": network, "augment": augment, "tta": tta}
    if home["name"] != target["name"]:
        update["validation"] = None  # a number of images of the other set
    made = variant.model_copy(update=update)
    made, found = _batch(made, target)
    return Adapted(made, [*changes, *found, *_cost(variant, made, home, target)])


def _input(home: Card, target: Card) -> Iterator[Change]:
    if home["shape"] != target["shape"]:
        yield Change("input", _shape(home), _shape(target), "Images of {data} have this size.", _data(target))


def _first_layer(network: Homework, target: Card) -> tuple[Homework, list[Change]]:
    side, stride = target["shape"][0], network.stem_stride
    while side / stride > LARGEST_MAP:
        stride *= 2
    if stride == network.stem_stride:
        return network, []
    made = network.model_copy(update={"stem_stride": stride})
    ratio = _flop(network, target) / _flop(made, target)
    reason = (
        "Later layers process {map}×{map} instead of {side}×{side} positions: an image takes {ratio} times fewer "
        "operations."
    )
    values: dict[str, float | str] = {"map": side // stride, "side": side, "ratio": round(ratio, 1)}
    return made, [Change("first layer", _stem(network), _stem(made), reason, values)]


def _head(network: Homework, target: Card) -> tuple[Homework, list[Change]]:
    if network.head != "flatten" or not network.dense_units:
        return network, []
    dense = next(row for row in _table(network, target) if row["layer"] == "Dense")["parameters"]
    if dense <= LARGEST_DENSE:
        return network, []
    update = {"head": "global_average", "dense_units": 0, "dense_dropout": 0.0}
    reason = "At {side}×{side} pixels, the hidden layer of {units} units would have {parameters} parameters."
    values: dict[str, float | str] = {"side": target["shape"][0], "units": network.dense_units, "parameters": dense}
    before = f"flatten, dense {network.dense_units}"
    return network.model_copy(update=update), [Change("head", before, "global average", reason, values)]


def _fewer_stages(network: Homework, target: Card) -> tuple[Homework, list[Change]]:
    """Remove stages that the images are too small for."""
    made = network
    while len(made.filters) > 1 and not _fits(made, target):
        made = made.model_copy(
            update={name: getattr(made, name)[:-1] for name in ("filters", "depths", "conv_dropout")}
        )
    if made == network:
        return network, []
    reason = "{side}×{side} pixels are too few to be halved more often."
    return made, [Change("stages", _counts(network), _counts(made), reason, {"side": target["shape"][0]})]


def _more_stages(network: Homework, target: Card) -> tuple[Homework, list[Change]]:
    """Add stages until the receptive field before global pooling covers the image, or the maps cannot be halved."""
    if network.head == "flatten":
        return network, []  # the dense layers see all of the image
    made, side, seen = network, target["shape"][0], _field(network, target)
    while _field(made, target) < side and _map(made, target) >= SMALLEST_MAP:
        more = {
            "filters": [*made.filters, min(2 * made.filters[-1], max(MOST_FILTERS, made.filters[-1]))],
            "depths": [*made.depths, made.depths[-1]],
            "conv_dropout": [*made.conv_dropout, made.conv_dropout[-1]],
        }
        if not _fits(made.model_copy(update=more), target):
            break
        made = made.model_copy(update=more)
    if made == network:
        return network, []
    reason = (
        "Before global pooling, the receptive field would be {seen}×{seen} of {side}×{side} pixels; with the added "
        "stages it is {now}×{now}."
    )
    values: dict[str, float | str] = {"seen": seen, "side": side, "now": _field(made, target)}
    return made, [Change("stages", _counts(network), _counts(made), reason, values)]


def _classes(home: Card, target: Card) -> Iterator[Change]:
    before, after = len(home["classes"]), len(target["classes"])
    if before != after:
        reason = "One logit per class; softmax and cross-entropy stay. Random guessing achieves {chance} %."
        yield Change("classifier", str(before), str(after), reason, {"chance": round(100 / after, 1)})


def _augmentation(augment: Augment, home: Card, target: Card) -> tuple[Augment, list[Change]]:
    made, changes = augment, []
    if augment.flip and not target["mirrored"]:
        made = made.model_copy(update={"flip": None})
        reason = "The mirror image of an image of {data} does not belong to its class."
        changes.append(Change("flip", augment.flip, "none", reason, _data(target)))
    if augment.crop and not _is_folder(target):
        made = made.model_copy(update={"crop": 0.0, "shift": USUAL_SHIFT})
        reason = "Small images are held in memory at their own size; they are shifted, not cropped."
        changes.append(Change("shift", f"crop {augment.crop:g}", f"{USUAL_SHIFT:g}", reason))
    if _is_folder(target) and not _is_folder(home) and not augment.crop:
        made = made.model_copy(update={"crop": CROP, "shift": 0.0})
        reason = "In photographs, objects vary in size: a random crop changes the size, too."
        changes.append(Change("shift", f"{augment.shift:g}", f"crop {CROP:g}", reason))
    return made, changes


def _test_time(tta: TTA, target: Card) -> tuple[TTA, list[Change]]:
    if not tta.flip or target["mirrored"]:
        return tta, []
    reason = "The mirror image of an image of {data} does not belong to its class."
    change = Change("test-time augmentation", "flip", "none", reason, _data(target))
    return tta.model_copy(update={"flip": False}), [change]


def _batch(variant: Variant, target: Card) -> tuple[Variant, list[Change]]:
    each = 2 * sum(row["bytes"] for row in _table(variant.network, target))
    batch = variant.batch_size
    while batch > 1 and batch * each > MEMORY:
        batch //= 2
    if batch == variant.batch_size:
        return variant, []
    share = batch / variant.batch_size
    rate = variant.optimizer.learning_rate * share
    optimizer = variant.optimizer.model_copy(update={"learning_rate": rate})
    reason = (
        "The activations and gradients of one image take {megabytes} MB; the learning rate is scaled with the batch "
        "size (Goyal et al. 2017, arXiv:1706.02677)."
    )
    change = Change("batch", str(variant.batch_size), str(batch), reason, {"megabytes": round(each / 2**20)})
    return variant.model_copy(update={"batch_size": batch, "optimizer": optimizer}), [change]


def _cost(before: Variant, after: Variant, home: Card, target: Card) -> Iterator[Change]:
    old, new = _mega(_flop(before.network, home)), _mega(_flop(after.network, target))
    if old != new:
        reason = "Training operations per image; an epoch has {images} images."
        images = sum(target["counts"]["train"])
        yield Change("cost", old, new, reason, {"images": images})


def _table(network: Network, card: Card) -> list[dict[str, Any]]:
    model = build(network, card)
    return layer_table(model.layers, model.input_shape[1:])


def _flop(network: Network, card: Card) -> int:
    return training_flop(build(network, card))


def _fits(network: Homework, card: Card) -> bool:
    try:
        build(network, card)
    except UserError:
        return False
    return True


def _field(network: Homework, card: Card) -> int:
    """Side of the receptive field before the head, in pixels."""
    return int([row["receptive_field"] for row in _table(network, card) if row["receptive_field"]][-1])


def _map(network: Homework, card: Card) -> int:
    """Side of the feature map before the head."""
    last = [row for row in _table(network, card) if row["receptive_field"]][-1]
    return int(last["output"].split("×")[0])


def _is_folder(card: Card) -> bool:
    return not card["raw"]


def _data(card: Card) -> dict[str, float | str]:
    return {"data": card["name"]}


def _shape(card: Card) -> str:
    return "×".join(str(size) for size in card["shape"])


def _stem(network: Homework) -> str:
    side = max(network.kernel, 2 * network.stem_stride - 1)
    return f"{side}×{side}, stride {network.stem_stride}"


def _counts(network: Homework) -> str:
    return "–".join(str(count) for count in network.filters)


def _mega(flop: int) -> str:
    return f"{flop / 1e6:.0f} MFLOP"
