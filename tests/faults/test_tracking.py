"""Tracking while MLflow is down, slow, refusing, or the process is killed: nothing lost, nothing doubled.

A real `mlflow server` on a SQLite file, which plain sqlite3 reads as an independent truth.
"""

import contextlib
import hashlib
import http.server
import io
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import pytest
from mlflow_server import Server, rows

from cnnlab.errors import UserError
from cnnlab.tracking import runs as track
from cnnlab.tracking import spool
from cnnlab.tracking import store as tracking_store

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow", "ignore:::keras")  # their own
EXAMPLE = np.linspace(0, 1, 2 * 4 * 4, dtype=np.float32).reshape(2, 4, 4, 1)
ENDLESS = """
import sys
from cnnlab.tracking import runs as track
run = track.TrackedRun.start("crash", "crash", "crash", {"a": 1}, {})
print(run.id, flush=True)
for step in range(100_000):
    run.log_metrics([(step, {"loss": step / 7})], time_ms=step)
    print(step, flush=True)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("server"))
    started.start()
    yield started
    started.kill()


@pytest.fixture
def top(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder whose runs are kept by the server."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(name: str, known_id: str | None = None) -> track.TrackedRun:
    return track.TrackedRun.start(name, "faults", name, {"a": 1}, {}, known_id=known_id)


def log(run: track.TrackedRun, *steps: int) -> list[tuple[Any, ...]]:
    """Log one point per step; returns the rows that a database should hold for them."""
    for step in steps:
        run.log_metrics([(step, {"loss": step / 7})], time_ms=1000 + step)
    return [("loss", step / 7, 1000 + step, step) for step in steps]


def join(run: track.TrackedRun, seeds: int) -> None:
    """Join a parent whose mean is over `seeds`."""
    run.join(track.Parent("parent", {"of": run.id}, [run.id], {"seeds": seeds}, {}, "", time_ms=seeds))


def check_parent(run_id: str, seeds: int) -> None:
    """The run has one parent, with the last mean."""
    store = tracking_store.client()
    run = store.get_run(run_id)
    (parent,) = store.search_runs([run.info.experiment_id], f"params.of = '{run_id}'")
    assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert (parent.info.run_name, parent.info.status) == ("parent", "FINISHED")
    points = store.get_metric_history(parent.info.run_id, "seeds")
    assert [(point.value, point.timestamp) for point in points] == [(n, n) for n in range(1, seeds + 1)]
    assert parent.data.metrics == {"seeds": seeds}


def log_files(run: track.TrackedRun) -> keras.Model:
    """Log a note and a model, which is returned, from files that vanish after that."""
    Path("note.txt").write_text("hello")
    run.log_file(Path("note.txt"), "notes")
    model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    model.save("model.keras")
    run.log_model(Path("model.keras"), EXAMPLE)
    Path("note.txt").unlink()
    Path("model.keras").unlink()
    return model


def check_files(run_id: str, model: keras.Model) -> None:
    """The server has the note and exactly one model, with the outputs of the logged one."""
    store = tracking_store.client()
    assert Path(store.download_artifacts(run_id, "notes/note.txt")).read_text() == "hello"
    run = store.get_run(run_id)
    (output,) = run.outputs.model_outputs
    models = store.search_logged_models([run.info.experiment_id], f"source_run_id = '{run_id}'")
    assert [found.model_id for found in models] == [output.model_id]
    assert str(models[0].status) == "READY"
    mlflow.set_tracking_uri(tracking_store.tracking_uri())
    for uri in (f"models:/{output.model_id}", f"runs:/{run_id}/model"):
        loaded = mlflow.pyfunc.load_model(uri)
        np.testing.assert_array_equal(loaded.input_example, EXAMPLE)
        np.testing.assert_allclose(loaded.predict(EXAMPLE), np.asarray(model(EXAMPLE)), rtol=1e-5)


def sync_process(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "cnnlab.cli", "sync"], cwd=folder, capture_output=True, text=True)


def kept(top: Path) -> list[str]:
    return sorted(path.name for path in (top / "mlruns" / "spool").iterdir())


def test_a_server_killed_in_the_middle_of_a_run(top: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.StringIO()  # capsys loses what a thread writes while it is read
    monkeypatch.setattr(sys, "stdout", printed)
    run = start("mid-run")
    expected = log(run, 1, 2)
    server.kill()
    expected += log(run, 3, 4)
    Path("note.txt").write_text("hello")
    run.log_file(Path("note.txt"))
    while "MLflow fails: " not in printed.getvalue():
        time.sleep(0.05)
    server.start()
    while server.metrics(run.id) != expected:  # without any further call of ours
        time.sleep(0.05)
    expected += log(run, 5)
    run.finish()
    assert "MLflow works again" in printed.getvalue()
    assert server.metrics(run.id) == expected
    assert Path(tracking_store.client().download_artifacts(run.id, "note.txt")).read_text() == "hello"
    assert rows(server.database, "SELECT status FROM runs WHERE run_uuid = ?", run.id) == [("FINISHED",)]
    assert kept(top) == []


def test_a_server_down_at_the_end_gets_all_by_sync(
    top: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    run = start("down at the end")
    expected = log(run, 1)
    server.kill()
    expected += log(run, 2, 3)
    model = log_files(run)
    join(run, seeds=1)
    run.log_data("mnist train", "ab" * 32, "https://example.org/mnist", "training")
    run.finish()
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith(f"All are queued in mlruns/spool/{run.id}; to send them later, run: make sync")
    with pytest.raises(UserError, match="Cannot open the MLflow store"):
        track.sync()
    again = start("down at the end", known_id=run.id)  # continued, as by the next stage, while it is still down
    assert f"Run {run.id} continues; its records are queued in mlruns/spool/{run.id}" in capsys.readouterr().out
    expected += log(again, 4)
    join(again, seeds=2)
    again.finish()
    server.start()
    synced = sync_process(top)
    assert (synced.returncode, synced.stdout.splitlines()[-1][-13:]) == (0, " records sent"), synced
    assert server.metrics(run.id) == expected
    check_files(run.id, model)
    check_parent(run.id, seeds=2)
    (data,) = tracking_store.client().get_run(run.id).inputs.dataset_inputs
    assert data.dataset.name == "mnist train"
    assert rows(server.database, "SELECT status FROM runs WHERE run_uuid = ?", run.id) == [("FINISHED",)]
    assert kept(top) == []
    capsys.readouterr()
    track.sync()
    assert capsys.readouterr().out == "MLflow: no queued records\n"
    assert server.metrics(run.id) == expected


def test_a_kill_before_the_acknowledgement_doubles_nothing(top: Path, server: Server) -> None:
    """Everything was stored, but the journal's file of acknowledgements is from earlier: all is sent again."""
    run = start("rewound")
    expected = log(run, 1, 2)
    run.log_metrics([(3, {"loss": float("nan"), "accuracy": 1.0})], time_ms=7)
    model = log_files(run)
    join(run, seeds=1)
    run.log_data("mnist train", "ab" * 32, "https://example.org/mnist", "training")
    run.log_metrics([(9, {"last": 1.0})], time_ms=9)
    while server.metrics(run.id)[-1:] != [("last", 1.0, 9, 9)]:
        time.sleep(0.05)
    shutil.copytree(Path("mlruns/spool") / run.id, "copy")
    run.finish()
    before = server.metrics(run.id)
    assert before[:2] == expected
    (inputs,) = rows(server.database, "SELECT count(*) FROM inputs WHERE destination_id = ?", run.id)
    for rewound in (b"[0, 0]", b"[5, 5]"):
        shutil.copytree("copy", Path("mlruns/spool") / run.id)
        line = f"{hashlib.sha256(rewound).hexdigest()}  {rewound.decode()}\n"
        (Path("mlruns/spool") / run.id / "acknowledged").write_text(line)
        track.sync()
        assert server.metrics(run.id) == before
        assert [inputs] == rows(server.database, "SELECT count(*) FROM inputs WHERE destination_id = ?", run.id)
        check_files(run.id, model)
        check_parent(run.id, seeds=1)
        assert kept(top) == []


def test_half_a_model_of_a_killed_attempt_is_replaced(top: Path) -> None:
    run = start("half a model")
    store = tracking_store.client()
    experiment_id = store.get_run(run.id).info.experiment_id
    half = store.create_logged_model(experiment_id, "model", run.id)
    model = log_files(run)
    run.finish()
    check_files(run.id, model)
    assert half.model_id not in str(store.get_run(run.id).outputs.model_outputs)


@pytest.mark.usefixtures("top")
def test_a_line_cut_off_at_any_byte() -> None:
    records = [{"kind": "metrics", "points": [[1, {"loss": 0.1}]], "name": "ä\n"}, {"kind": "last", "text": "b" * 9}]
    with spool.RunJournal("whole") as journal:
        for record in records:
            journal.append(record)
        path = journal.folder / "records.jsonl"
        data = path.read_bytes()
    size = len(data) - len(data.splitlines()[-1]) - 1
    for cut in range(size, len(data) + 1):
        path.write_bytes(data[:cut])
        (journal.folder / "acknowledged").unlink()  # a killed process does not close its journal
        survivors = records if cut == len(data) else records[:1]
        with spool.RunJournal("whole") as journal:
            assert journal.waiting == survivors
            journal.append({"kind": "new"})
        with spool.RunJournal("whole") as journal:
            assert journal.waiting == [*survivors, {"kind": "new"}]


@pytest.mark.usefixtures("top")
def test_a_removal_cut_off_by_a_kill_leaves_nothing_to_send(monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    journal = spool.RunJournal("removed")
    journal.append({"kind": "old"})
    journal.acknowledge()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            journal.close()
    journal._lock.release()
    track.sync()
    with spool.RunJournal("removed") as journal:
        assert journal.waiting == []
        journal.append({"kind": "new"})
    with spool.RunJournal("removed") as journal:
        assert journal.waiting == [{"kind": "new"}]


def test_a_killed_process_loses_nothing_it_had_logged(top: Path, server: Server) -> None:
    """Twice, with the same points: the second start finds the run of the first, and what it left to send."""
    run_ids = set()
    for lines in (20, 3):
        child = subprocess.Popen([sys.executable, "-c", ENDLESS], stdout=subprocess.PIPE, text=True)
        assert child.stdout
        run_id = child.stdout.readline().strip()
        run_ids.add(run_id)
        logged = [int(child.stdout.readline()) for _ in range(lines)]
        child.kill()
        logged += [int(line) for line in child.communicate()[0].splitlines()]
        track.sync()
        stored = server.metrics(run_id)
        assert stored == [("loss", step / 7, step, step) for step in range(len(stored))]
        assert {step for *_, step in stored} >= set(logged)
    assert len(run_ids) == 1


@contextlib.contextmanager
def broken_server(responds: bool) -> Iterator[str]:
    """A server that responds to everything with status 500, or accepts connections and never responds."""
    if not responds:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        return
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as refusing:
        threading.Thread(target=refusing.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield f"http://127.0.0.1:{refusing.server_port}"
        refusing.shutdown()


class Refusing(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(500)

    def do_POST(self) -> None:
        self.send_error(500)

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@pytest.mark.parametrize("responds", [True, False])
def test_a_server_that_refuses_or_hangs(
    top: Path, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], responds: bool
) -> None:
    first = start(f"broken {responds}")
    expected = log(first, 1)
    first.finish()
    with broken_server(responds) as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url.replace("//", "//teacher:secret@"))
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        with pytest.raises(UserError, match="Cannot open the MLflow store"):
            start("new")
        run = start(f"broken {responds}", known_id=first.id)
        expected += log(run, 2, 3)
        run.finish()
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1].endswith("to send them later, run: make sync")
    assert "secret" not in printed
    assert "secret" not in (Path("mlruns/spool") / run.id / "records.jsonl").read_text()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT")
    track.sync()
    assert server.metrics(run.id) == expected
    assert kept(top) == []


def test_sync_leaves_a_live_run_alone(top: Path, server: Server) -> None:
    run = start("live")
    expected = log(run, 1)
    synced = sync_process(top)
    assert synced.returncode == 2
    assert synced.stderr.startswith("error: Not everything was sent to MLflow: 1 of 1 runs remain in mlruns/spool/")
    assert synced.stdout == f"run {run.id}: still in use by a process, which sends its records itself\n"
    expected += log(run, 2)
    run.finish()
    assert server.metrics(run.id) == expected


def test_a_deleted_run_is_named_and_its_records_kept(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.StringIO()  # capsys loses what a thread writes while it is read
    monkeypatch.setattr(sys, "stdout", printed)
    run = start("deleted")
    while tracking_store.client().get_run(run.id).data.params != {"a": "1"}:
        time.sleep(0.05)
    tracking_store.client().delete_run(run.id)
    log(run, 1)
    while "MLflow fails: " not in printed.getvalue():
        time.sleep(0.05)
    log(run, 2)  # the training goes on
    with pytest.raises(UserError, match="in use by another process"):
        spool.RunJournal(run.id, wait_s=0)  # nobody else sends while it does
    run.finish()
    assert "must be in the 'active' state" in printed.getvalue()
    with pytest.raises(UserError, match=r"1 of 1 runs remain .* delete a run's folder to discard"):
        track.sync()
    assert f"run {run.id}: failed: " in printed.getvalue()
    assert kept(top) == [run.id, f"{run.id}.lock"]
    again = start("deleted", known_id=run.id)
    assert again.id != run.id
    again.finish()
    tracking_store.client().restore_run(run.id)
    track.sync()
    assert kept(top) == []
    assert [point.step for point in tracking_store.client().get_metric_history(run.id, "loss")] == [1, 2]
