"""A finished run is read as it was written, or refused in one line that says which file and what to do."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from damage import DAMAGES

from cnnlab.errors import UserError
from cnnlab.files import MANIFEST
from cnnlab.train import outputs
from cnnlab.train.outputs import Outputs

LOGITS, LABELS = np.arange(6.0).reshape(3, 2), np.arange(3)
TABLE = pd.DataFrame({"epoch": [1, 2], "loss": [0.5, 0.25]})
READERS: dict[str, Callable[[Outputs], object]] = {
    outputs.MODEL: Outputs.model,
    outputs.HISTORY: Outputs.curves,
    outputs.CURVE: Outputs.curves,
    outputs.METRICS: Outputs.metrics,
    outputs.PREDICTIONS: Outputs.predictions,
    outputs.RECORD: Outputs.run_id,
}


class Network:
    """A stub of a network."""

    def save(self, filepath: Path) -> None:
        filepath.write_bytes(bytes(range(256)))


@pytest.fixture(params=[0, 2])
def finished(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Outputs:
    """A run's outputs below the working folder."""
    monkeypatch.chdir(tmp_path)
    run = Outputs("mnist", "small", request.param)
    run.folder.parent.mkdir(parents=True)
    arrays = {"test_logits": LOGITS, "test_labels": LABELS}
    record = {"run_id": "abc", "epochs": 2}
    outputs.write(
        run.folder,
        network=Network(),
        history=TABLE,
        curve=TABLE,
        metrics={"test_accuracy": 0.5},
        arrays=arrays,
        record=record,
    )
    return run


def test_what_was_written_comes_back(finished: Outputs) -> None:
    assert finished.exist()
    assert finished.model().read_bytes() == bytes(range(256))
    assert finished.metrics() == {"test_accuracy": 0.5}
    assert (finished.record(), finished.run_id()) == ({"run_id": "abc", "epochs": 2}, "abc")
    logits, labels = finished.predictions()
    assert np.array_equal(logits, LOGITS)
    assert np.array_equal(labels, LABELS)
    for table in finished.curves():
        pd.testing.assert_frame_equal(table, TABLE)


def test_sha256sum_reads_the_manifest(finished: Outputs) -> None:
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", MANIFEST], cwd=finished.folder, capture_output=True, text=True, check=True
    )
    assert sorted(done.stdout.splitlines()) == sorted(f"{name}: OK" for name in READERS)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_reported_in_one_line(finished: Outputs, name: str, damage: str) -> None:
    READERS[name](finished)  # the digest of what it was is known to this process
    path = finished.folder / name
    DAMAGES[damage](path)
    with pytest.raises(UserError) as refusal:
        READERS[name](finished)
    message = str(refusal.value)
    assert message.startswith(f"Invalid file {path}. Expected: sha256 ")
    received = {"deleted": "missing", "dangling link": "missing", "directory": "a directory"}.get(damage, "sha256 ")
    assert f"Received: {received}" in message
    assert message.endswith(f" To fix this, run: make train VARIANT=small{' SEEDS=3' if finished.seed else ''}")
    assert len(message.splitlines()) == 1


def _refusals(finished: Outputs) -> list[str]:
    """Of each reader that refuses what it says."""
    found = []
    for read in READERS.values():
        try:
            read(finished)
        except UserError as error:
            found.append(str(error))
    return found


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_digests_are_reported(finished: Outputs, damage: str) -> None:
    manifest = finished.folder / MANIFEST
    DAMAGES[damage](manifest)
    message = " ".join(_refusals(finished))
    assert str(finished.folder) in message
    assert message.endswith(f" To fix this, run: make train VARIANT=small{' SEEDS=3' if finished.seed else ''}")
    assert len(message.splitlines()) == 1


def test_a_run_that_was_never_trained_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    message = (
        r"Run a seed 1 is missing\. Expected: models/mnist/a/seed-1/run\.json\. Received: no such folder\. "
        r"To fix this, run: make train VARIANT=a SEEDS=2$"
    )
    with pytest.raises(UserError, match=message):
        Outputs("mnist", "a", 1).run_id()


def test_no_heavy_library_is_imported() -> None:
    code = "import sys, cnnlab.train.outputs; print({'tensorflow', 'keras', 'mlflow'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
