"""Cards of data sets that were not preprocessed: what networks are built from."""

import json
from pathlib import Path
from typing import cast

from cnnlab import files
from cnnlab.data.catalog import lookup
from cnnlab.data.store import Card


def card(name: str, mean: list[float] | None = None, std: list[float] | None = None) -> Card:
    """Shape and classes of the catalog's data set `name`, with this mean and deviation, ½ each if none are given."""
    known = lookup(name)
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
    """Put such a card where the checkout `top` has its processed data."""
    folder = top / files.PROCESSED / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "card.json").write_text(json.dumps(card(name)))


def pictures(side: int, classes: int = 10) -> Card:
    """The card of a folder of pictures."""
    facts = {"name": "pictures", "shape": [side, side, 3], "classes": [str(i) for i in range(classes)], "raw": {}}
    return cast(Card, card("cifar10") | facts | {"counts": {"train": [1000]}})
