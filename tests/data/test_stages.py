"""Stages fetch and preprocess by params.yaml, and what becomes of a set whose sources are out of reach."""

from pathlib import Path
from typing import Any

import pytest
from small_sets import UNREACHABLE, Small
from test_pictures import picture, write

from cnnlab import files, params
from cnnlab.data import catalog, stages, store
from cnnlab.errors import UserError

SHIPPED = params.load(Path(__file__).parents[2] / "params.yaml")
pytestmark = pytest.mark.usefixtures("own_cache", "fake_npm", "top")


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def asking(**sections: dict[str, dict[str, Any]]) -> params.Params:
    """The shipped parameters with these sections data and optional_data."""
    made = {name: {s: params.DataSource(**knobs) for s, knobs in sets.items()} for name, sets in sections.items()}
    return SHIPPED.model_copy(update={"data": {}, "optional_data": {}, **made})


def offer(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the catalog's set a small one, at an address that cannot be reached."""
    monkeypatch.setitem(catalog.CATALOG, small.data_set.name, small.data_set)


def test_a_set_out_of_reach_stops_nothing_if_it_is_optional(
    small_cifar100: Small, top: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    offer(small_cifar100, monkeypatch)
    with pytest.raises(UserError, match="Cannot fetch cifar100"):
        stages.fetch("cifar100", asking(data={"cifar100": {}}))
    assert not (files.RAW / "cifar100").exists()
    asked = asking(optional_data={"cifar100": {}})
    stages.fetch("cifar100", asked)
    stages.preprocess("cifar100", asked)
    assert "cifar100 is not available, and the pipeline goes on without it" in capsys.readouterr().out
    with pytest.raises(UserError, match=rf"(?s)^Data set cifar100 is not available\. .*{UNREACHABLE}.* dvc repro$"):
        store.open_processed("cifar100")
    # Nothing is taken for done: once it is there, the same stages give it.
    monkeypatch.setenv("CNNLAB_MIRROR", str(small_cifar100.zipped(top / "mirror")))
    asked = asked.model_copy(update={"preprocess": params.Preprocess(validation=5, seed=0)})
    stages.fetch("cifar100", asked)
    stages.preprocess("cifar100", asked)
    data = store.open_processed("cifar100")
    assert data.train_images.shape == (30, 32, 32, 3)
    assert data.card["superclasses"]["people"] == ["baby", "boy", "girl", "man", "woman"]
    assert data.card["duplicates"]["train"]["pairs"] == 1


def test_a_folder_stays_where_it_is(top: Path) -> None:
    for label, name in enumerate(("cat", "dog")):
        for i in range(4):
            write(top / "mine" / ("train" if i < 3 else "val") / name / f"{i}.jpg", picture(9 * label + i))
    asked = asking(data={"pets": {"path": str(top / "mine"), "size": 16, "validation": 2}})
    stages.fetch("pets", asked)
    (listing,) = (files.RAW / "pets").iterdir()
    before = listing.read_bytes()
    stages.preprocess("pets", asked)
    data = store.open_processed("pets")
    assert (data.train_images.shape, sum(data.card["counts"]["validation"])) == ((6, 16, 16, 3), 2)
    stages.fetch("pets", asked)
    assert listing.read_bytes() == before
    write(top / "mine" / "train" / "cat" / "0.jpg", picture(77))
    stages.fetch("pets", asked)
    assert listing.read_bytes() != before  # so DVC preprocesses again
    asked = asking(data={"pets": {"path": str(top / "gone"), "size": 16}})
    with pytest.raises(UserError, match=r"^Invalid folder of pictures .*no folder .*gone/train"):
        stages.fetch("pets", asked)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UserError, match=r"^Unknown data set\. Expected one of: mnist, pets\. Received: 'cats'\.$"):
        stages.fetch("cats", asking(data={"mnist": {}}, optional_data={"pets": {"path": "x", "size": 16}}))
