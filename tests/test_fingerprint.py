"""The digest of the code that decides a result: what changes it, and what does not."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import copy_checkout

from cnnlab.fingerprint import MODULES, reached, statements

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkout")
    copy_checkout(folder)
    return folder


def digests(checkout: Path) -> dict[str, str]:
    """What stage fingerprint writes in a copy of the checkout, by stage."""
    shutil.rmtree(checkout / "data" / "code", ignore_errors=True)
    environment = os.environ | {"PYTHONPATH": str(checkout / "src")}
    subprocess.run([sys.executable, "pipeline/fingerprint.py"], cwd=checkout, env=environment, check=True)
    return {path.stem: path.read_text() for path in (checkout / "data" / "code").iterdir()}


def changed_by(checkout: Path, module: str, old: str, new: str) -> set[str]:
    """The stages whose digest an edit of a module changes; the edit is undone."""
    path, before = checkout / "src" / "cnnlab" / module, digests(checkout)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    after = digests(checkout)
    path.write_text(text)
    return {stage for stage in before if before[stage] != after[stage]}


def test_every_module_that_a_stage_loads_is_known(checkout: Path) -> None:
    """Against Python's own list of what it imported."""
    script = ROOT / "pipeline" / "report.py"
    program = f"import runpy, sys; runpy.run_path({str(script)!r}); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    families = {name for name in loaded if name.startswith("cnnlab.nets")}  # registered by cnnlab itself
    packages = {name for name in loaded if name in MODULES and MODULES[name].name == "__init__.py"}
    assert {name for name in loaded if name in MODULES} <= reached(script) | packages | families


def test_a_comment_a_docstring_and_a_line_end_change_no_digest(checkout: Path) -> None:
    assert changed_by(checkout, "train/loop.py", "import keras\n", "import keras  # of tensors\n\n\n") == set()
    first = (checkout / "src/cnnlab/train/loop.py").read_text().splitlines()[0]
    assert first.startswith('"""')
    assert changed_by(checkout, "train/loop.py", first, '"""Other words.') == set()


def test_a_statement_of_the_training_changes_what_trains(checkout: Path) -> None:
    changed = changed_by(checkout, "train/loop.py", "EVALUATION_BATCH = ", "EVALUATION_BATCH = 1 + ")
    assert {"train", "sweep", "ablate", "transfer"} <= changed
    assert not {"fetch", "preprocess", "evaluate", "report"} & changed


def test_a_metric_of_evaluation_retrains_nothing(checkout: Path) -> None:
    changed = changed_by(checkout, "evaluation/metrics.py", "import numpy as np\n", "import numpy as np\n\nNEW = 1\n")
    assert "evaluate" in changed
    assert not {"fetch", "preprocess", "train", "sweep", "ablate", "transfer"} & changed


def test_a_sentence_of_the_homework_changes_its_report_alone(checkout: Path) -> None:
    page = "homework/page.py"

    assert changed_by(checkout, page, "FOLDER = ", "SENTENCE = 'Another.'\nFOLDER = ") == {"report"}


def test_a_new_network_changes_what_builds_networks(checkout: Path) -> None:
    changed = changed_by(checkout, "nets/families/lenet5.py", "layers.Conv2D(6, 5", "layers.Conv2D(7, 5")
    assert "train" in changed
    assert not {"fetch", "preprocess", "evaluate"} & changed


def test_the_layout_of_a_file_is_no_statement() -> None:
    assert statements('"""A."""\nx = [1,\n     2]  # why\n') == statements("x = [1, 2]")
    assert statements("def f():\n    'Only words.'\n") == statements("def f():\n    pass\n")
    assert statements("x = 1") != statements("x = 2")
