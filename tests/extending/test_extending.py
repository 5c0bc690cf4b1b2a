"""Every diff of docs/extending.md is one edit of one file, applies to this checkout, and does what the page says."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from babel.messages.pofile import read_po, write_po
from checkout import TOP, copy_checkout

EDITS = ("A network", "An optimizer", "An augmentation", "A metric", "A data set", "A variant", "A language")
GERMAN = Path("src/cnnlab/report/locale/de/LC_MESSAGES/cnnlab.po")


def diffs() -> dict[str, list[str]]:
    """The diffs below each heading of the page."""
    heading, *sections = re.split(r"^## (.+)$", (TOP / "docs/extending.md").read_text(), flags=re.MULTILINE)
    assert "```" not in heading
    found = zip(sections[::2], sections[1::2], strict=True)
    return {title: re.findall(r"^```diff\n(.*?)^```$", text, re.DOTALL | re.MULTILINE) for title, text in found}


def git_apply(folder: Path, diff: str, mode: str = "--apply") -> str:
    """Apply a diff, or check whether it applies; returns one line per changed file."""
    command = ["git", "apply", "--numstat", mode]
    done = subprocess.run(command, cwd=folder, input=diff, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{diff}\n{done.stderr}"
    return done.stdout


def dvc_stages(folder: Path) -> set[str]:
    command = [sys.executable, "-m", "dvc", "stage", "list", "--name-only"]
    environment = os.environ | {"DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return {*done.stdout.split()}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, without the edits until `extended` is requested."""
    folder = tmp_path_factory.mktemp("checkout")
    copy_checkout(folder)
    return folder


@pytest.fixture(scope="module")
def stages_before(copy: Path) -> set[str]:
    """The stages of the copy before any edit."""
    return dvc_stages(copy)


@pytest.fixture(scope="module")
def extended(copy: Path, stages_before: set[str]) -> Path:
    """A copy of the checkout with every edit; the folder of the data set is one below it."""
    assert "fetch@mnist" in stages_before
    for (diff,) in diffs().values():
        git_apply(copy, diff.replace("/data/flowers", str(copy / "flowers")))
    return copy


@pytest.fixture(scope="module")
def outcomes(extended: Path) -> dict[str, Any]:
    """What newcomer.py reports about the extended copy."""
    paths = [extended / "src", *(TOP / "tests" / name for name in ("", "train"))]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "CUDA_VISIBLE_DEVICES": "-1"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, str(Path(__file__).with_name("newcomer.py"))]
    done = subprocess.run(command, cwd=extended, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


def trains(losses: list[float]) -> bool:
    return len(losses) > 1 and all(map(math.isfinite, losses)) and len({*losses}) == len(losses)


def test_every_edit_is_one_diff_of_one_file(tmp_path: Path) -> None:
    copy_checkout(tmp_path)
    assert tuple(diffs()) == EDITS
    for title, found in diffs().items():
        assert len(found) == 1, title
        assert len(git_apply(tmp_path, found[0], "--check").splitlines()) == 1, title


def test_the_edited_files_pass_the_linter(extended: Path) -> None:
    for command in (["check"], ["format", "--check"]):
        subprocess.run([sys.executable, "-m", "ruff", *command, "src"], cwd=extended, check=True, capture_output=True)


def test_a_network_is_built_trained_and_among_the_valid_names(outcomes: dict[str, Any]) -> None:
    found = outcomes["network"]
    assert found["parameters"] == 28 * 28 * 16 + 16 + 16 * 10 + 10
    assert trains(found["losses"])
    assert re.search(r"network\.name\. Expected one of: .*perceptron.* Received: 'perceptrn'", found["invalid name"])
    assert "network.units. Expected: greater than or equal to 1. Received: 0" in found["invalid setting"]


def test_an_optimizer_trains_and_is_among_the_valid_names(outcomes: dict[str, Any]) -> None:
    found = outcomes["optimizer"]
    assert found["class"].endswith(".lion.Lion")
    assert found["weight decay"] == 0.1
    assert sum(found["losses"][-4:]) < sum(found["losses"][:4])
    assert re.search(r"optimizer\.name\. Expected one of: .*lion.*\. Received: 'lino'", found["invalid name"])
    assert "no momentum, a setting of optimizers sgd and muon" in found["invalid setting"]


def test_an_augmentation_changes_images_by_its_own_draws(outcomes: dict[str, Any]) -> None:
    found = outcomes["augmentation"]
    assert found["deterministic"]
    assert found["as the formula"]
    assert found["different powers"] == 8
    assert found["off by default"]
    assert found["existing draws"]
    assert trains(found["losses"])
    assert re.search(r"Unknown key .*augment\.gama\. .*cutmix, gamma.* Did you mean 'gamma'\?", found["invalid key"])


def test_a_metric_is_in_the_tables_of_evaluation(outcomes: dict[str, Any]) -> None:
    found = outcomes["metric"]
    assert all(0.8 < value <= 1 for value in found["runs.csv"])  # 40 of 50 are right
    assert found["metrics.json"] == pytest.approx(sum(found["runs.csv"]) / 2)
    assert {"confidence", "calibration_error", "test_accuracy"} <= {*found["columns"]}


def test_an_image_folder_is_fetched_and_preprocessed(outcomes: dict[str, Any]) -> None:
    found = outcomes["data_set"]
    assert found["classes"] == ["rose", "tulip"]
    assert found["shape"] == [64, 64, 3]
    assert found["images"] == [20, 100, 10]


def test_a_variant_trains(outcomes: dict[str, Any]) -> None:
    found = outcomes["new_variant"]
    assert found["filters"] == [64, 64, 128, 128]
    assert found["epochs"] == 1
    assert trains(found["losses"])


def test_a_variant_and_a_data_set_get_their_own_stages(extended: Path, stages_before: set[str]) -> None:
    own = {"train@wide", "evaluate@wide", "fetch@flowers", "preprocess@flowers"}
    assert dvc_stages(extended) - stages_before == own


def test_a_language_makes_a_page(outcomes: dict[str, Any]) -> None:
    page, missing = outcomes["language"]["page"], outcomes["language"]["missing"]
    assert '<html lang="de">' in page
    assert "Die Antwort" in page
    assert "Vogel: 12,35\N{NO-BREAK SPACE}%, 2 min 5 s" in page
    assert re.search(r"de/LC_MESSAGES/cnnlab\.po\. Expected a msgstr for: 'Appendix: a message", missing)


def test_the_language_test_fails_until_every_message_is_translated(extended: Path) -> None:
    def language_test() -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/report/test_language.py"]
        environment = os.environ | {"PYTHONPATH": str(extended / "src")}
        return subprocess.run(
            [*program, "-k", "[de]"], cwd=extended, env=environment, capture_output=True, text=True, check=False
        )

    first = extended / GERMAN
    shutil.copy2(first, extended / "first.po")
    before = language_test()
    with (extended / "first.po").open("rb") as stream:
        german = read_po(stream, locale="de")
    with (TOP / "src/cnnlab/report/locale/ru/LC_MESSAGES/cnnlab.po").open("rb") as stream:
        russian = read_po(stream)
    for message in russian:
        if message.id and not german.get(message.id, message.context):
            german.add(message.id, message.id, context=message.context)
    with first.open("wb") as stream:
        write_po(stream, german)
    after = language_test()
    shutil.move(extended / "first.po", first)
    assert before.returncode == 1, before.stdout + before.stderr
    assert re.search(r"^FAILED .*\[de\]", before.stdout, re.MULTILINE)
    assert "'The answer'" not in before.stdout
    assert after.returncode == 0, after.stdout[-4000:]
