"""Tables of what must change in networks for other data sets: each change with its reason, and the layers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from cnnlab import params
from cnnlab.data.store import Card, imagenet_card, read_card
from cnnlab.errors import UserError
from cnnlab.files import write_text
from cnnlab.nets.anatomy import layer_table
from cnnlab.nets.registry import build
from cnnlab.studies.transfer.adapt import adapt

Rows = list[dict[str, object]]


def describe(variants: Mapping[str, params.Variant], targets: Sequence[str], folder: Path) -> None:
    """Write changes.csv and layers.csv for each variant on each available target, and on ImageNet.

    ImageNet's images are not needed. layers.csv contains the original network, then the adapted ones. Variants that
    cannot be adapted, or whose own data set is unavailable, are left out.
    """
    cards, _ = available_cards([*targets, *(variant.data for variant in variants.values())])
    adaptable = {name: v for name, v in variants.items() if v.data in cards and v.network.adaptable}
    on = [cards[target] for target in targets if target in cards]
    if "imagenet" not in targets:
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
    integers = dict.fromkeys(("receptive_field", "jump", "start"), "Int64")  # empty for global layers
    write_text(folder / "changes.csv", pd.DataFrame(changes).to_csv(index=False))
    write_text(folder / "layers.csv", pd.DataFrame(layers).astype(integers).to_csv(index=False))


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
