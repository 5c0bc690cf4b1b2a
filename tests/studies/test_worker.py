"""What a trial may train on: as many images as cost what the base's cost."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from train.processed import TRAIN, VALIDATION, write_mnist

from cnnlab import params
from cnnlab.studies.search.plan import SearchPlan, make_plan
from cnnlab.studies.worker import _affordable_images

PLAN = make_plan(params.load(Path(__file__).parents[2] / "params.yaml"), "smoke", None, None, "")
SIDE, CLASSES = 28, 10
REST = TRAIN - VALIDATION  # the images that are left for training


@pytest.fixture(scope="module", autouse=True)
def _processed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small MNIST in the working folder."""
    top = tmp_path_factory.mktemp("project")
    write_mnist(top)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(top)
        yield


def networks(stages: int) -> st.SearchStrategy[dict[str, Any]]:
    """Homework networks of so many stages that MNIST's pictures can pass."""
    a_stage = {"filters": st.integers(1, 8), "depths": st.integers(1, 2), "conv_dropout": st.just(0.0)}
    lists = {name: st.lists(item, min_size=stages, max_size=stages) for name, item in a_stage.items()}
    return st.fixed_dictionaries(
        {
            **lists,
            "name": st.just("homework"),
            "kernel": st.integers(1, 3),
            "padding": st.sampled_from(["valid", "same"]),
            "pooling": st.sampled_from(["max", "average", "stride"]),
            "batch_norm": st.booleans(),
            "head": st.sampled_from(["flatten", "global_average", "global_max"]),
            "dense_units": st.integers(0, 32),
        }
    )


def variants() -> st.SearchStrategy[params.Variant]:
    recipe = {"data": "mnist", "epochs": 1, "batch_size": 8, "optimizer": {"name": "sgd", "learning_rate": 0.1}}
    drawn = st.integers(1, 3).flatmap(networks)
    return drawn.map(lambda network: params.Variant.model_validate({**recipe, "network": network}))


def a_plan(base: params.Variant, train_images: int | None) -> SearchPlan:
    return dataclasses.replace(PLAN, base=base, train_images=train_images, validation=VALIDATION)


def flop(variant: params.Variant) -> int:
    """Of training on one image, counted by hand: 2 a multiplication, the backward pass twice the forward one."""
    network, side, channels, forward = variant.network, SIDE, 1, 0
    assert network.name == "homework"
    for filters, depths in zip(network.filters, network.depths, strict=True):
        for left in reversed(range(depths)):
            side -= (network.kernel - 1) * (network.padding == "valid" and not left)
            forward += 2 * side**2 * network.kernel**2 * channels * filters
            channels = filters
        side //= 2
        if network.pooling == "stride":
            forward += 2 * side**2 * 2**2 * channels**2
    inputs = channels * side**2 if network.head == "flatten" else channels
    for units in filter(None, (network.dense_units, CLASSES)):
        forward += 2 * inputs * units
        inputs = units
    return 3 * forward


@settings(max_examples=40)
@given(base=variants(), own=variants(), train_images=st.none() | st.integers(1, REST))
def test_every_trial_costs_what_the_base_costs(
    base: params.Variant, own: params.Variant, train_images: int | None
) -> None:
    """As nearly as whole images allow, and as there are images."""
    budget = (train_images or REST) * flop(base)
    assume(flop(own) <= budget)  # who cannot afford a single image gets one
    images = _affordable_images(a_plan(base, train_images), own)
    assert 1 <= images <= REST
    assert images * flop(own) <= budget
    assert images == REST or (images + 1) * flop(own) > budget


@settings(max_examples=6)
@given(base=variants(), train_images=st.integers(1, REST))
def test_the_base_gets_exactly_its_own(base: params.Variant, train_images: int) -> None:
    assert _affordable_images(a_plan(base, train_images), base) == train_images
    assert _affordable_images(a_plan(base, None), base) == REST
