"""Cards of data sets, for building networks without preprocessing any data."""

import json
from pathlib import Path
from typing import cast

from cnnlab import files
from cnnlab.catalog import CATALOG
from cnnlab.data.store import Card


def card(name: str, mean: list[float] | None = None, std: list[float] | None = None) -> Card:
    """A card with the shape and classes of the catalog's data set `name`; `mean` and `std` default to ½ per channel."""
    known = CATALOG[name]
    half = [0.5] * known.shape[-1]
    facts = {
        "name": name,
        "shape": list(known.shape),
        "classes": list(known.classes),
        "mirrored": known.mirrored,
        "raw": {file.name: file.sha256 for file in known.files},
        "superclasses": known.superclasses,
        "counts": {"train": [known.counts["train"]], "validation": [0]},
    }
    return cast(Card, facts | {"mean": mean or half, "std": std or half})


def write_card(top: Path, name: str) -> None:
    """Write such a card to the processed data of the checkout `top`."""
    folder = top / files.PROCESSED / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "card.json").write_text(json.dumps(card(name)))
    files.write_manifest(folder)


def pictures(side: int, classes: int = 10) -> Card:
    """The card of an image folder with images of `side`×`side` pixels."""
    facts = {"name": "pictures", "shape": [side, side, 3], "classes": [str(i) for i in range(classes)], "raw": {}}
    return cast(Card, card("cifar10") | facts | {"counts": {"train": [1000]}})
