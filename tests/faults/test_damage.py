"""Files that cnnlab reads back, each damaged in every way: one line names the file, and nothing of it is used.

Outputs of trainings, processed data, downloads, studies and tables of reports have such tests beside their readers.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import mlflow
import pytest
from damage import DAMAGES
from see.small_nets import noise
from use.registered import CHANNELS, SIDE, finish, network

from cnnlab.errors import UserError
from cnnlab.tracking import registry, spool
from cnnlab.tracking import runs as track
from cnnlab.tracking import store as tracking_store
from cnnlab.train import checkpoints
from cnnlab.use.network import champion

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow", "ignore:::keras")  # their own
EVERY_DAMAGE = pytest.mark.parametrize("damage", DAMAGES)
LEFT = [name for name in DAMAGES if name != "deleted"]  # where a missing file is a fresh start
CHECKPOINT = Path(".checkpoints/seed-0.npz")


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with a checkpoint and a champion."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "")  # MLflow sets it when it logs a model: forgotten with this fixture
        patch.delenv("MLFLOW_TRACKING_URI")
        patch.chdir(folder := tmp_path_factory.mktemp("checkout"))
        finish("best", 0.5)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        model.compile("adam")
        model.optimizer.build(model.trainable_variables)
        checkpoints.save(CHECKPOINT, model, checkpoints.State(), "recipe")
        yield folder
        mlflow.set_tracking_uri(None)


@pytest.fixture(scope="module")
def journal(top: Path) -> Path:
    """The folder of a run whose first record was sent before MLflow went down."""
    run = track.TrackedRun.start("queued", "queued", "queued", {}, {})
    run.finish()

    def send(record: spool.Record) -> str | None:
        return None if record["kind"] == "tags" else "down"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(track, "_record_sender", lambda *_: send)
        run = track.TrackedRun(run.id)
        run.set_tags({"a": "1"})
        run.log_metrics([(1, {"loss": 0.5})])
        network().save("model.keras")
        run.log_model(Path("model.keras"), noise(2, SIDE, CHANNELS))
        run.finish()
    return spool.SPOOL / run.id


@contextmanager
def damaged(path: Path, damage: str) -> Iterator[None]:
    """Damage a file; the block's end repairs it."""
    content = path.read_bytes()
    DAMAGES[damage](path)
    try:
        yield
    finally:
        if path.is_dir():
            path.rmdir()
        path.unlink(missing_ok=True)
        path.write_bytes(content)


def check_refused(read: Callable[[], object], path: Path) -> str:
    """Reading ends in one line that names the file and says what to run."""
    with pytest.raises(UserError) as refusal:
        read()
    message = str(refusal.value)
    assert "\n" not in message
    assert str(path) in message
    assert "Expected" in message
    assert "Received: " in message
    assert "run: " in message or "start an empty store: " in message
    return message


@pytest.mark.usefixtures("top")
@pytest.mark.parametrize("damage", LEFT)
def test_checkpoint(damage: str) -> None:
    assert checkpoints.read(CHECKPOINT, "recipe")
    with damaged(CHECKPOINT, damage):
        message = check_refused(lambda: checkpoints.read(CHECKPOINT, "recipe"), CHECKPOINT)
    assert message.endswith(f"To start this training from scratch, run: rm -r {CHECKPOINT}")


@pytest.mark.usefixtures("top")
@EVERY_DAMAGE
@pytest.mark.parametrize(
    "name", ["artifacts/network.keras", "artifacts/classes.json", "MLmodel", "classifier.py", "SHA256SUMS"]
)
def test_champion(name: str, damage: str) -> None:
    version = registry.champion(tracking_store.client(), "pets")
    assert version
    path = Path(version.source.removeprefix("file://")) / name
    with damaged(path, damage):
        message = check_refused(lambda: champion("pets"), path)
    assert message.endswith("run: make train VARIANT=best")


@pytest.mark.parametrize("damage", ["flip", "deleted folder"])
def test_a_damaged_champion_is_replaced_by_the_next_finished_run(top: Path, damage: str) -> None:
    data = damage.replace(" ", "-")
    finish("first", 0.5, data=data)
    store = tracking_store.client()
    version = registry.champion(store, data)
    assert version
    folder = Path(version.source.removeprefix("file://"))
    if damage == "flip":
        DAMAGES["flip"](folder / "classifier.py")
    else:
        shutil.rmtree(folder)
    finish("second", 0.4, data=data)
    replaced = registry.champion(store, data)
    assert replaced
    assert replaced.tags["variant"] == "second"
    champion(data)


def test_a_champion_without_digests_is_not_damaged(top: Path) -> None:
    """As registered by earlier versions of cnnlab."""
    finish("first", 0.5, data="earlier")
    store = tracking_store.client()
    version = registry.champion(store, "earlier")
    assert version
    store.delete_model_version_tag(version.name, version.version, "files.sha256")
    finish("second", 0.4, data="earlier")
    kept = registry.champion(store, "earlier")
    assert kept
    assert kept.version == version.version


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["records.jsonl", "acknowledged", "files/2/example.npy", "files/2/model.keras"])
def test_spool(journal: Path, name: str, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    if (name, damage) == ("acknowledged", "deleted"):
        pytest.skip("everything is sent again, which changes nothing: tests/faults/test_tracking.py")
    shutil.copytree(journal, "copy")
    try:
        with damaged(journal / name, damage), pytest.raises(UserError, match=r"1 of 1 runs remain in mlruns/spool/"):
            track.sync()
    finally:
        shutil.rmtree(journal)
        shutil.move("copy", journal)
    printed = capsys.readouterr().out.splitlines()
    assert str(journal / name) in printed[-1]
    assert "run: rm -r " in printed[-1]
    store = tracking_store.client()
    assert store.search_logged_models([store.get_run(journal.name).info.experiment_id]) == []


@pytest.fixture
def database(top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the store that nothing has opened, in a working folder of its own."""
    shutil.copytree(top / "mlruns", tmp_path / "mlruns")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow sets it when it logs a model
    return tmp_path / "mlruns/mlflow.db"


def flip_header(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", ["half", "empty", "zeros", "directory", "dangling link", "header"])
def test_database(database: Path, damage: str) -> None:
    start = time.monotonic()
    {**DAMAGES, "header": flip_header}[damage](database)
    check_refused(tracking_store.client, database)
    assert time.monotonic() - start < 10


def test_a_command_ends_in_one_line(database: Path) -> None:
    DAMAGES["half"](database)
    command = [sys.executable, "-m", "cnnlab.cli", "compare"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: Damaged MLflow store {database}. Expected an SQLite database")
