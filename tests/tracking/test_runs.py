"""MLflow: where runs are kept, what a run holds, two processes at once. A real SQLite store in a folder of its own."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnlab.errors import UserError
from cnnlab.tracking import runs as track
from cnnlab.tracking import spool
from cnnlab.tracking import store as tracking_store

PARAMS = {"epochs": 3, "network": {"name": "lenet5", "filters": [4, 8]}, "augment": {"shift": 0.1, "flip": True}}
START = """import sys; from cnnlab.tracking.runs import TrackedRun
print(TrackedRun.start(sys.argv[1], 'mnist', 'both', {'a': 1}, {}).id)"""


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder without any store."""
    folder = tmp_path_factory.mktemp("checkout")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "")
        patch.delenv("MLFLOW_TRACKING_URI")
        patch.setenv("DVC_STAGE", "train@tiny")
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def two_processes(top: Path) -> list[subprocess.CompletedProcess[str]]:
    """Two processes that begin a run in one new experiment at once, where there is no store yet."""
    children = [
        subprocess.Popen([sys.executable, "-c", START, key], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for key in ("one", "other")
    ]
    return [subprocess.CompletedProcess(START, child.wait(), *child.communicate()) for child in children]


@pytest.fixture(scope="module")
def store(top: Path, two_processes: list[Any]) -> mlflow.MlflowClient:
    """The store of the working folder, opened by its own URI."""
    return mlflow.MlflowClient(f"sqlite:///{top}/mlruns/mlflow.db")


def test_two_processes_may_create_the_store_at_once(
    two_processes: list[subprocess.CompletedProcess[str]], store: mlflow.MlflowClient
) -> None:
    for child in two_processes:
        assert child.returncode == 0, child.stderr
    (experiment,) = [e for e in store.search_experiments() if e.name == "mnist"]
    ids = {run.info.run_id for run in store.search_runs([experiment.experiment_id])}
    assert ids == {child.stdout.strip() for child in two_processes}


def test_the_default_store_lies_in_mlruns(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracking_store.tracking_uri() == f"sqlite:///{top}/mlruns/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert tracking_store.tracking_uri() == f"sqlite:///{top}/mlruns/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example:5000")
    assert tracking_store.tracking_uri() == "http://tracking.example:5000"


def test_a_store_that_cannot_be_opened_is_named(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "gopher://nowhere")
    with pytest.raises(UserError, match=r"^Cannot open the MLflow store\. .* Received gopher://nowhere: ") as refusal:
        tracking_store.client()
    assert "\n" not in str(refusal.value)


def test_a_password_is_not_shown(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "gopher://teacher:secret@nowhere")
    with pytest.raises(UserError, match=r"Received gopher://\*\*\*@nowhere") as refusal:
        tracking_store.client()
    assert "secret" not in str(refusal.value)


def test_a_run_holds_its_parameters_tags_and_data(top: Path, store: mlflow.MlflowClient) -> None:
    Path("dvc.lock").write_text("lock")
    begun = track.TrackedRun.start("tiny 3", "mnist", "tiny seed 3", PARAMS, {"seed": "3"}, "What it is.")
    assert store.get_run(begun.id).info.status == "RUNNING"
    begun.log_data("mnist train", "ab" * 32, "https://example.org/mnist", "training")
    begun.finish()
    run = store.get_run(begun.id)
    assert run.info.run_name == "tiny seed 3"
    assert run.info.status == "FINISHED"
    assert run.data.params == {
        "epochs": "3",
        "network.name": "lenet5",
        "network.filters": "[4, 8]",
        "augment.shift": "0.1",
        "augment.flip": "True",
    }
    tags = run.data.tags
    expected = {"cnnlab.key": "tiny 3", "seed": "3", "dvc.stage": "train@tiny", "mlflow.note.content": "What it is."}
    assert tags.items() >= expected.items()
    assert tags["dvc.lock.sha256"] == hashlib.sha256(b"lock").hexdigest()
    assert tags["params.sha256"] == track.digest(PARAMS)
    assert {"git.dirty", "host", "platform", "python"} <= tags.keys()
    (data,) = run.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("mnist train", "ab" * 18)
    assert "https://example.org/mnist" in data.dataset.source
    assert [(tag.key, tag.value) for tag in data.tags] == [("mlflow.data.context", "training")]


def test_metrics_and_files_come_back(top: Path, store: mlflow.MlflowClient) -> None:
    run = track.TrackedRun.start("metrics", "mnist", "metrics", {}, {})
    run.log_metrics([(1, {"loss": 1 / 3, "accuracy": 0.5}), (2, {"loss": 1e-300})])
    run.log_metrics([(7, {"loss": 0.25})])
    Path("note.txt").write_text("hello")
    run.log_file(Path("note.txt"), "notes")
    Path("note.txt").write_text("changed later")
    run.finish("KILLED")
    history = store.get_metric_history(run.id, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 1 / 3), (2, 1e-300), (7, 0.25)]
    assert store.get_run(run.id).data.metrics == {"loss": 0.25, "accuracy": 0.5}
    artifacts = [*(top / "mlruns" / "artifacts").rglob("note.txt")]
    assert [path.read_text() for path in artifacts] == ["hello"]
    assert artifacts[0].parent.name == "notes"
    assert store.get_run(run.id).info.status == "KILLED"


def test_more_points_than_mlflow_takes_in_a_request(store: mlflow.MlflowClient) -> None:
    run = track.TrackedRun.start("many", "mnist", "many", {}, {})
    run.log_metrics([(step, {"loss": step / 7}) for step in range(2500)])
    run.finish()
    history = store.get_metric_history(run.id, "loss")
    assert sorted((point.step, point.value) for point in history) == [(step, step / 7) for step in range(2500)]


def test_points_logged_again_with_their_time_are_not_doubled(store: mlflow.MlflowClient) -> None:
    run = track.TrackedRun.start("again", "mnist", "again", {}, {})
    for points in ([(1, {"loss": 0.5})], [(1, {"loss": 0.5}), (2, {"loss": float("nan")})]) * 2:
        run.log_metrics(points, time_ms=1_700_000_000_000)
    run.finish()
    history = store.get_metric_history(run.id, "loss")
    assert [(point.step, str(point.value), point.timestamp) for point in history] == [
        (1, "0.5", 1_700_000_000_000),
        (2, "nan", 1_700_000_000_000),
    ]


def test_a_run_is_continued(store: mlflow.MlflowClient) -> None:
    first = track.TrackedRun.start("continued", "mnist", "continued", {"a": 1}, {})
    first.finish("FAILED")
    for known_id in (first.id, None):
        again = track.TrackedRun.start("continued", "mnist", "continued", {"a": 1}, {}, known_id=known_id)
        assert again.id == first.id
        again.log_metrics([(1, {"loss": 0.5})], time_ms=5)
        again.finish()
        assert store.get_run(first.id).info.status == "FINISHED"
        assert store.get_run(first.id).data.metrics == {"loss": 0.5}
    other = track.TrackedRun.start("continued again", "mnist", "continued", {"a": 1}, {})
    other.finish()
    assert other.id != first.id


def test_a_parent_has_the_children_of_its_latest_version(store: mlflow.MlflowClient) -> None:
    runs = [track.TrackedRun.start(f"child {n}", "parents", f"child {n}", {}, {}) for n in range(3)]
    first, again, second = (run.id for run in runs)
    versions = {1: [first], 2: [again, second]}
    parents = {
        time: track.Parent("both", PARAMS, ids, {"seeds": len(ids)}, {"interval": str(time)}, "Seeds.", time)
        for time, ids in versions.items()
    }
    for run, time in zip(runs, (1, 2, 2), strict=True):
        run.join(parents[time])
        run.finish()
    late = track.TrackedRun(first)  # as `make sync` would, after its server was down
    late.join(parents[1])
    late.finish()
    track.TrackedRun.start("other recipe", "parents", "other", {}, {}).finish()
    (parent,) = store.search_runs([store.get_run(first).info.experiment_id], "run_name = 'both'")
    assert {run.info.run_id for run in track.children(parent.info.run_id)} == {again, second}
    assert "mlflow.parentRunId" not in store.get_run(first).data.tags
    assert (parent.data.metrics, parent.data.tags["interval"]) == ({"seeds": 2}, "2")
    assert parent.data.tags["mlflow.note.content"] == "Seeds."
    assert parent.data.params["network.filters"] == "[4, 8]"
    assert parent.info.status == "FINISHED"


def test_experiments_are_described_and_a_users_words_stay(store: mlflow.MlflowClient) -> None:
    """Experiments that an earlier cnnlab made as well."""
    note, view = "mlflow.note.content", "mlflow.sharedViewState.cnnlab"
    older = store.create_experiment("cifar10 sweeps")
    track.TrackedRun.start("first", "cifar10 sweeps", "sweep lesson", {}, {}).finish()
    tags = store.get_experiment(older).tags
    assert f"](#/experiments/{older}/runs?viewStateShareKey=cnnlab)" in tags[note]
    assert "metrics.`best_validation_accuracy`" in json.loads(json.loads(tags[view])["state"])["selectedColumns"]
    store.set_experiment_tag(older, note, "mine")
    store.set_experiment_tag(older, view, "mine")
    track.TrackedRun.start("second", "cifar10 sweeps", "sweep improved", {}, {}).finish()
    tags = store.get_experiment(older).tags
    assert (tags[note], tags[view]) == ("mine", "mine")


@pytest.mark.usefixtures("store")
def test_what_was_sent_leaves_no_spool() -> None:
    run = track.TrackedRun.start("left", "mnist", "left", {"a": 1}, {})
    assert (spool.SPOOL / run.id).is_dir()
    run.finish()
    assert [path.name for path in spool.SPOOL.iterdir() if run.id in path.name] == []


def test_a_run_in_use_is_not_taken_over(top: Path) -> None:
    with spool.RunJournal("a" * 32), pytest.raises(UserError, match="is in use by another process"):
        spool.RunJournal("a" * 32, wait_s=0)


@pytest.mark.usefixtures("store")
def test_an_unknown_run_is_not_continued() -> None:
    assert track.TrackedRun.resume("0" * 32) is None


def test_the_commit_and_its_state_are_tagged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert track.provenance()["git.dirty"] == "unknown"
    Path("a").write_text("1")
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "a"], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", *command], check=True, env=os.environ)
    assert track.provenance()["git.dirty"] == "false"
    Path("untracked").write_text("1")
    assert track.provenance()["git.dirty"] == "false"
    Path("a").write_text("2")
    assert track.provenance()["git.dirty"] == "true"
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", track.provenance()["python"])


def test_flattened_by_hand() -> None:
    assert track.flatten({"a": {"b": 1, "c": {"d": [2]}}, "e": None}) == {"a.b": 1, "a.c.d": [2], "e": None}


trees = st.recursive(
    st.integers() | st.floats(allow_nan=False) | st.text(max_size=3) | st.none() | st.booleans(),
    lambda inner: st.dictionaries(st.from_regex(r"[a-z]{1,3}", fullmatch=True), inner, max_size=4),
    max_leaves=12,
)


def reordered(tree: Any) -> Any:
    return {k: reordered(v) for k, v in reversed(tree.items())} if isinstance(tree, dict) else tree


@given(tree=st.dictionaries(st.from_regex(r"[a-z]{1,3}", fullmatch=True), trees, max_size=5))
def test_the_digest_does_not_depend_on_order(tree: dict[str, Any]) -> None:
    assert track.digest(tree) == track.digest(reordered(tree))
    assert re.fullmatch("[0-9a-f]{64}", track.digest(tree))


@given(tree=st.dictionaries(st.from_regex(r"[a-z]{1,3}", fullmatch=True), trees, min_size=1, max_size=5))
def test_the_digest_changes_with_any_value(tree: dict[str, Any]) -> None:
    key = next(iter(tree))
    assert track.digest(tree | {key: "another value"}) != track.digest(tree)
    assert track.digest(tree | {"more": 1}) != track.digest(tree)
