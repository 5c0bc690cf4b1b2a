"""A working folder with finished runs of the shipped variants, two seeds each, and an MLflow store of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cards import write_card
from finished import write_run
from ruamel.yaml import YAML

from cnnlab import params
from cnnlab.catalog import CATALOG
from cnnlab.data import store
from cnnlab.files import PROCESSED

ROOT = Path(__file__).parents[1]
RIGHT = {  # of 50 test images, by seed
    "lenet5": (45, 46), "slides": (49, 50), "lesson": (22, 23), "lesson_longer": (27, 28), "improved": (40, 44),
}  # fmt: skip


@pytest.fixture(scope="session")
def two_seeds(tmp_path_factory: pytest.TempPathFactory) -> params.Params:
    """The shipped parameters with two seeds."""
    path = tmp_path_factory.mktemp("params") / "params.yaml"
    tree = YAML(typ="safe").load(ROOT / "params.yaml")
    tree["budgets"]["laptop"]["seeds"] = 2
    YAML().dump(tree, path)
    return params.load(path)


@pytest.fixture(scope="session")
def processed_cifar10(real_cifar10: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The processed folder of the real CIFAR-10."""
    folder = tmp_path_factory.mktemp("processed") / "cifar10"
    store.preprocess(CATALOG["cifar10"], real_cifar10, folder, validation=5000, seed=0)
    return folder


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory, processed_cifar10: Path) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "")
        patch.delenv("MLFLOW_TRACKING_URI")
        patch.chdir(folder := tmp_path_factory.mktemp("checkout"))
        (folder / "docs").symlink_to(ROOT / "docs")
        PROCESSED.mkdir(parents=True)
        (PROCESSED / "cifar10").symlink_to(processed_cifar10)
        write_card(folder, "mnist")
        yield folder


@pytest.fixture(scope="module")
def run_ids(top: Path, two_seeds: params.Params) -> dict[str, list[str]]:
    """Finished runs of every variant below the working folder, and their MLflow ids by variant."""
    return {
        name: [write_run(run, right) for run, right in zip(params.runs(two_seeds, name), rights, strict=True)]
        for name, rights in RIGHT.items()
    }
