"""What a sweep is called, and which cores and GPUs each of its trials gets."""

import os
from pathlib import Path
from typing import Any

import pytest

from cnnlab import params
from cnnlab.errors import UserError
from cnnlab.params import Searched
from cnnlab.studies.plan import Slot, slots
from cnnlab.studies.search.plan import make_plan

SHIPPED = params.load(Path(__file__).parents[2] / "params.yaml")
LAPTOP = SHIPPED.sweep.budgets["laptop"]
CORES = len(os.sched_getaffinity(0))
GPUS = ["0", "1", "2", "3"]


def changed(**changes: Any) -> params.Params:
    """The shipped parameters with `changes` of section sweep."""
    return SHIPPED.model_copy(update={"sweep": SHIPPED.sweep.model_copy(update=changes)})


def named(parameters: params.Params, budget: str | None = None, trials: int | None = None) -> str:
    return make_plan(parameters, budget, trials, "wide", "").study


def dealt(gpus: list[str], asked: int | None = None, **changes: Any) -> list[Slot]:
    """The slots of this host with such GPUs, if the command asks for `asked` workers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", ",".join(gpus) or "-1")
        return slots(changed(**changes).sweep, asked)


def refusal(gpus: list[str], asked: int | None = None, **changes: Any) -> str:
    with pytest.raises(UserError) as caught:
        dealt(gpus, asked, **changes)
    return str(caught.value)


# Its name


@pytest.mark.parametrize(
    "changes",
    [
        {"space": {**SHIPPED.sweep.space, "network.kernel": Searched(choices=[3, 7])}},
        {"space": {key: entry for key, entry in SHIPPED.sweep.space.items() if key != "network.kernel"}},
        {"base": "lenet5"},
        {"minimise": "parameters"},
        {"pruner": "none"},
        {"seed": 1},
        {"budgets": {"laptop": LAPTOP.model_copy(update={"epochs": 77})}},
        {"budgets": {"laptop": LAPTOP.model_copy(update={"train_images": 77})}},
        {"budgets": {"laptop": LAPTOP.model_copy(update={"validation": 77})}},
    ],
    ids=["choices", "keys", "base", "minimise", "pruner", "seed", "epochs", "images", "validation"],
)
def test_what_changes_the_meaning_of_trials_begins_another_study(changes: dict[str, Any]) -> None:
    assert named(changed(**changes), "laptop") != named(SHIPPED, "laptop")


def test_what_only_changes_the_work_continues_the_study() -> None:
    own = named(SHIPPED, "laptop")
    assert own.startswith("wide-")
    assert named(SHIPPED, "laptop", trials=99) == own
    assert named(changed(workers=1, gpus_per_trial=2), "laptop") == own
    assert named(changed(budgets={"laptop": LAPTOP.model_copy(update={"trials": 99})}), "laptop") == own


def test_a_data_sets_own_validation_is_kept_and_begins_another_study() -> None:
    own = SHIPPED.model_copy(update={"data": {**SHIPPED.data, "cifar10": params.DataSource(validation=77)}})
    assert make_plan(own, "full", None, "wide", "").validation == 77
    assert named(own, "full") != named(SHIPPED, "full")
    assert make_plan(own, "laptop", None, "wide", "").validation == LAPTOP.validation


def test_an_unknown_budget() -> None:
    with pytest.raises(UserError, match=r"Expected one of: smoke, laptop, full. Received: 'huge'"):
        named(SHIPPED, "huge")


# Its slots on the host


@pytest.mark.parametrize("workers", range(1, CORES + 1))
def test_the_cores_are_dealt_out(workers: int) -> None:
    found = dealt([], workers)
    assert len(found) == workers
    assert sorted(core for share in found for core in share.cores) == sorted(os.sched_getaffinity(0))
    sizes = {len(share.cores) for share in found}
    assert max(sizes) - min(sizes) <= 1
    assert all(share.gpus == [] for share in found)


@pytest.mark.parametrize("gpus_per_trial", [1, 2, 3, 4])
def test_gpus_are_dealt_out_in_whole_groups(gpus_per_trial: int) -> None:
    found = dealt(GPUS, gpus_per_trial=gpus_per_trial)
    assert len(found) == min(len(GPUS) // gpus_per_trial, CORES)
    given = [gpu for share in found for gpu in share.gpus]
    assert all(len(share.gpus) == gpus_per_trial for share in found)
    assert len(set(given)) == len(given)
    assert set(given) <= set(GPUS)
    assert sorted(core for share in found for core in share.cores) == sorted(os.sched_getaffinity(0))


def test_fewer_workers_leave_gpus_unused() -> None:
    (only,) = dealt(GPUS, asked=1, gpus_per_trial=2)
    assert len(only.gpus) == 2


def test_the_number_of_workers_is_asked_for_or_that_of_params_yaml() -> None:
    assert len(dealt([], workers=1)) == 1
    assert len(dealt([], asked=1, workers=CORES)) == 1


@pytest.mark.parametrize("gpus", [[], GPUS], ids=["cores", "GPUs"])
def test_too_many_workers(gpus: list[str]) -> None:
    most = min(CORES, len(gpus)) if gpus else CORES
    message = refusal(gpus, asked=CORES + 5)
    assert f"Expected 1 to {most}" in message
    assert f"{CORES} cores" in message
    assert f"Received: {CORES + 5}" in message
    if gpus:
        assert f"{len(gpus)} GPUs" in message


def test_more_gpus_a_trial_than_there_are() -> None:
    message = refusal(GPUS, gpus_per_trial=5)
    assert "Expected" in message
    assert "Received" in message
    assert "4 GPUs" in message
    assert "5 GPUs" in message
