"""An optional data set whose fetch failed is fetched again by every `dvc repro` until it is available."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import TOP
from dvc.repo import Repo
from ruamel.yaml import YAML
from test_images import image, write

from cnnlab import files
from cnnlab.data import store

REQUIRED = "pets"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The pipeline, with two image folders: one is required, the other optional and does not exist yet."""
    top = tmp_path / "checkout"
    shutil.copytree(TOP / "pipeline", top / "pipeline")
    shutil.copy(TOP / "dvc.yaml", top)
    monkeypatch.chdir(top)
    image_folder(tmp_path / REQUIRED)
    yaml = YAML(typ="safe")
    tree = yaml.load(TOP / "params.yaml")
    sets = {name: {"path": str(tmp_path / name), "size": 8, "validation": 1} for name in (REQUIRED, "flowers")}
    tree["data"] |= {REQUIRED: sets[REQUIRED], "flowers": {**sets["flowers"], "optional": True}}
    with (top / "params.yaml").open("w") as stream:
        yaml.dump(tree, stream)
    subprocess.run(["git", "init", "--quiet"], cwd=top, check=True)
    Repo.init(str(top)).close()
    monkeypatch.setenv("PYTHONPATH", str(TOP / "src"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")  # of the stages' `python`
    return top


def image_folder(root: Path) -> None:
    """Two classes, two images of each in either part."""
    for index, place in enumerate(("train/cat", "train/dog", "val/cat", "val/dog")):
        write(root / place / "0.png", image(index))
        write(root / place / "1.png", image(index + 9))


def repro(top: Path, *targets: str) -> set[str]:
    """The stages that `dvc repro` runs, besides the fingerprint."""
    with Repo(str(top)) as repo:
        return {stage.name for stage in repo.reproduce(list(targets))} - {"fingerprint"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # DVC's own
def test_a_failed_fetch_is_never_cached(checkout: Path) -> None:
    fetches = {f"fetch@{REQUIRED}", "fetch@flowers"}
    assert repro(checkout, *fetches) == fetches
    assert "no folder" in (store.unavailable(files.RAW / "flowers") or "")
    assert repro(checkout, *fetches) == {"fetch@flowers"}  # nor restored from the run cache
    assert "no folder" in (store.unavailable(files.RAW / "flowers") or "")
    image_folder(checkout.parent / "flowers")
    assert repro(checkout, *fetches, "preprocess@flowers") == {"fetch@flowers", "preprocess@flowers"}
    assert store.open_processed("flowers").train_images.shape == (4, 8, 8, 3)
    assert repro(checkout, *fetches, "preprocess@flowers") == set()
