"""Stages fetch and preprocess by params.yaml, and what happens if a data set is unavailable."""

from pathlib import Path
from typing import Any

import pytest
from small_sets import UNREACHABLE, Small
from test_images import image, write

from cnnlab import catalog, files, params
from cnnlab.data import stages, store
from cnnlab.errors import UserError

SHIPPED = params.load(Path(__file__).parents[2] / "params.yaml")
pytestmark = pytest.mark.usefixtures("own_cache", "fake_npm", "top")


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def with_data(**sets: dict[str, Any]) -> params.Params:
    """The shipped parameters with these data sets."""
    return SHIPPED.model_copy(update={"data": {name: params.DataSource(**knobs) for name, knobs in sets.items()}})


def offer(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the catalog's set a small one, at an address that cannot be reached."""
    monkeypatch.setitem(catalog.CATALOG, small.data_set.name, small.data_set)


def test_only_an_optional_set_may_be_unavailable(
    small_cifar100: Small, top: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    offer(small_cifar100, monkeypatch)
    with pytest.raises(UserError, match="Cannot fetch cifar100"):
        stages.fetch("cifar100", with_data(cifar100={}))
    assert not (files.RAW / "cifar100").exists()
    parameters = with_data(cifar100={"optional": True})
    stages.fetch("cifar100", parameters)
    stages.preprocess("cifar100", parameters)
    assert "cifar100 is not available; the pipeline continues without it" in capsys.readouterr().out
    with pytest.raises(UserError, match=rf"(?s)^Data set cifar100 is not available\. .*{UNREACHABLE}.* dvc repro$"):
        store.open_processed("cifar100")
    # Once it is available, the same stages process it.
    monkeypatch.setenv("CNNLAB_MIRROR", str(small_cifar100.zipped(top / "mirror")))
    parameters = parameters.model_copy(update={"preprocess": params.Preprocess(validation=5, seed=0)})
    stages.fetch("cifar100", parameters)
    stages.preprocess("cifar100", parameters)
    data = store.open_processed("cifar100")
    assert data.train_images.shape == (30, 32, 32, 3)
    assert data.card["superclasses"]["people"] == ["baby", "boy", "girl", "man", "woman"]
    assert data.card["duplicates"]["train"]["pairs"] == 1


def test_a_folder_stays_where_it_is(top: Path) -> None:
    for label, name in enumerate(("cat", "dog")):
        for i in range(4):
            write(top / "mine" / ("train" if i < 3 else "val") / name / f"{i}.jpg", image(9 * label + i))
    parameters = with_data(pets={"path": str(top / "mine"), "size": 16, "validation": 2})
    stages.fetch("pets", parameters)
    (listing,) = (files.RAW / "pets").iterdir()
    before = listing.read_bytes()
    stages.preprocess("pets", parameters)
    data = store.open_processed("pets")
    assert (data.train_images.shape, sum(data.card["counts"]["validation"])) == ((6, 16, 16, 3), 2)
    stages.fetch("pets", parameters)
    assert listing.read_bytes() == before
    write(top / "mine" / "train" / "cat" / "0.jpg", image(77))
    stages.fetch("pets", parameters)
    assert listing.read_bytes() != before  # so DVC preprocesses again
    parameters = with_data(pets={"path": str(top / "gone"), "size": 16})
    with pytest.raises(UserError, match=r"^Invalid image folder .*no folder .*gone/train"):
        stages.fetch("pets", parameters)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UserError, match=r"^Unknown data set\. Expected one of: mnist, pets\. Received: 'cats'\.$"):
        stages.fetch("cats", with_data(mnist={}, pets={"path": "x", "size": 16}))
