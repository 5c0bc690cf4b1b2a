"""What must change in networks for other data sets, as tables: every change with its reason, and layer by layer."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from cnnlab import params
from cnnlab.data.store import Card, imagenet_card, read_card
from cnnlab.errors import UserError
from cnnlab.files import write_text
from cnnlab.nets.adapt import adapt
from cnnlab.nets.anatomy import layer_table
from cnnlab.nets.build import build

Rows = list[dict[str, object]]


def describe(variants: Mapping[str, params.Variant], targets: Sequence[str], folder: Path) -> None:
    """Write changes.csv and layers.csv for each variant on each of `targets` that is there, and on ImageNet.

    ImageNet's pictures need not be there. layers.csv has the network as it was, too, before the adapted ones. Variants
    that have not the knobs, or whose own data is away, are left out.
    """
    cards, _ = at_hand([*targets, *(variant.data for variant in variants.values())])
    known = {name: v for name, v in variants.items() if v.data in cards and v.network.name == "homework"}
    on = [cards[target] for target in targets if target in cards]
    if "imagenet" not in targets:
        on.append(imagenet_card())
    changes: Rows = []
    layers: Rows = []
    for name, variant in known.items():
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
    whole = pd.DataFrame(layers).astype(
        dict.fromkeys(("receptive_field", "jump", "start"), "Int64")
    )  # empty where all is seen
    write_text(folder / "changes.csv", pd.DataFrame(changes).to_csv(index=False))
    write_text(folder / "layers.csv", whole.to_csv(index=False))


def at_hand(names: Sequence[str]) -> tuple[dict[str, Card], dict[str, str]]:
    """The cards of the data sets that are there, and for the others the reason."""
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
