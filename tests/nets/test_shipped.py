"""Every network that params.yaml ships can be built, and the ladder climbs from the lesson's to the best."""

from itertools import pairwise
from pathlib import Path

import pytest
from cards import card, pictures

from cnnlab import params
from cnnlab.nets.registry import build
from cnnlab.studies.ablation import make_plan

SHIPPED = params.load(Path(__file__).parents[2] / "params.yaml")
FULL = make_plan(SHIPPED.model_copy(update={"budget": "full"}), "")
ALL = {**SHIPPED.variants, **SHIPPED.on_demand, **FULL.settings}
NETWORKS = {str(variant.network): name for name, variant in ALL.items()}  # each once


@pytest.mark.parametrize("name", NETWORKS.values())
def test_it_is_built_for_its_images(name: str) -> None:
    size = SHIPPED.data[ALL[name].data].size
    facts = pictures(size) if size else card(ALL[name].data)
    model = build(ALL[name].network, facts)
    assert model.input_shape == (None, *facts["shape"])
    assert model.output_shape == (None, len(facts["classes"]))


def test_every_rung_differs_from_the_one_below() -> None:
    variants = {**SHIPPED.variants, **SHIPPED.on_demand}
    steps = [variants[name] for name in SHIPPED.ablation.ladder]
    assert steps[0] == SHIPPED.variants["lesson"]
    assert steps[-1] == SHIPPED.variants["improved"]
    for below, step in pairwise(steps):
        assert below.model_copy(update={"epochs": step.epochs}) != step
