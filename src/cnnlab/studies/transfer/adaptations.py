"""Tables of what must change in networks for other data sets: each change with its reason, and the layers."""

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from cnnlab import params
from cnnlab.data.store import Card, imagenet_card, read_card
from cnnlab.errors import UserError
from cnnlab.files import write_text
from cnnlab.nets.anatomy import layer_table
from cnnlab.nets.registry import build
from cnnlab.studies.transfer.adapt import adapt

IMAGENET = "imagenet"
USUAL_SIZE = (500, 375)  # width and height of most of its images
SAMPLE = 200  # images that are decoded to measure the speed

Rows = list[dict[str, object]]


def describe(variants: Mapping[str, params.Variant], targets: Sequence[str], folder: Path) -> None:
    """Write changes.csv and layers.csv for each variant on each available target, and on ImageNet.

    ImageNet's images are not needed. layers.csv contains the original network, then the adapted ones. Variants that
    cannot be adapted, or whose own data set is unavailable, are left out.
    """
    cards, _ = available_cards([*targets, *(variant.data for variant in variants.values())])
    adaptable = {name: v for name, v in variants.items() if v.data in cards and v.network.adaptable}
    on = [cards[target] for target in targets if target in cards]
    if IMAGENET not in targets:
        on.append(imagenet_card())
    changes: Rows = []
    layers: Rows = []
    for name, variant in adaptable.items():
        home = cards[variant.data]
        layers += _layers(name, variant, home)
        for target in on:
            if target["name"] == home["name"]:
                continue
            adapted = adapt(variant, home, target)
            layers += _layers(name, adapted.variant, target)
            changes += [
                {
                    "network": name,
                    "target": target["name"],
                    "part": change.part,
                    "before": change.before,
                    "after": change.after,
                    "reason": change.reason,
                    "values": json.dumps(change.values),
                }
                for change in adapted.changes
            ]
        if on[-1]["name"] == IMAGENET:
            changes.append({"network": name, "target": IMAGENET, **_decoding()})
    integers = dict.fromkeys(("receptive_field", "jump", "start"), "Int64")  # empty for global layers
    write_text(folder / "changes.csv", pd.DataFrame(changes).to_csv(index=False))
    write_text(folder / "layers.csv", pd.DataFrame(layers).astype(integers).to_csv(index=False))


def _decoding() -> dict[str, object]:
    """The change from arrays in memory to JPEG files, with the number of them that this machine decodes per second."""
    from cnnlab.data.images import ImageFiles  # noqa: PLC0415  # needs TensorFlow

    with tempfile.TemporaryDirectory() as temporary:
        noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
        file = Path(temporary) / "image.jpeg"
        Image.fromarray(noise).resize(USUAL_SIZE, Image.Resampling.BICUBIC).save(file, quality=95)
        images = ImageFiles(Path(temporary), [file.name] * SAMPLE, imagenet_card()["shape"][0])
        images[:8]  # starts TensorFlow's threads
        start = time.perf_counter()
        images[:]
        rate = SAMPLE / (time.perf_counter() - start)
    reason = "Its files do not fit into memory and are decoded during training: measured here, {width}×{height} pixels."
    values = {"rate": rate, "width": USUAL_SIZE[0], "height": USUAL_SIZE[1]}
    after = f"JPEG files, {rate:.0f} images/s"
    return {"part": "reading", "before": "arrays", "after": after, "reason": reason, "values": json.dumps(values)}


def available_cards(names: Sequence[str]) -> tuple[dict[str, Card], dict[str, str]]:
    """Cards of the available data sets, and the reasons why the others are not."""
    cards, lacking = {}, {}
    for name in names:
        try:
            cards[name] = read_card(name)
        except UserError as error:
            lacking[name] = str(error)
    return cards, lacking


def _layers(name: str, variant: params.Variant, card: Card) -> Rows:
    model = build(variant.network, card)
    rows = layer_table(model.layers, model.input_shape[1:])
    return [{"network": name, "target": card["name"], **row} for row in rows]
