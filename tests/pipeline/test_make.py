"""What a new user does: `make`, `make repro`, again, looks at the results, changes one thing, compares."""

import json
import socket
import sqlite3
import time
from pathlib import Path

import pandas as pd
import pytest
import requests
from checkout import TOP, Run, Start
from ruamel.yaml import YAML

VARIANTS = {"lenet5": "mnist", "slides": "mnist", "lesson": "cifar10", "improved": "cifar10", "tuned": "cifar10"}
STAGES = {
    "fetch",
    "fetch-optional",
    "preprocess",
    "preprocess-optional",
    "lesson",
    "train",
    "evaluate",
    "sweep",
    "train-tuned",
    "evaluate-tuned",
    "ablate",
    "transfer",
    "report",
}


@pytest.fixture(scope="module")
def repro(run: Run) -> str:
    """What the first `make repro` printed."""
    return run("make", "repro").stdout


def test_make_alone_lists_every_target(run: Run, clone: Path) -> None:
    listed = {line.split()[1] for line in run("make").stdout.splitlines()}
    declared = next(line for line in (clone / "Makefile").read_text().splitlines() if line.startswith(".PHONY"))
    assert listed == set(declared.split()[1:])
    assert {"help", "setup", "repro", "ui", "test", "lint", "clean"} <= listed
    assert not (clone / ".venv").exists()


def test_a_sweeps_options_reach_its_command_and_a_password_does_not(run: Run) -> None:
    """Every user of the machine can read a command line."""
    options = {"TRIALS": "5", "WORKERS": "1", "STUDY": "wide", "BUDGET": "full"}
    storage = "STORAGE=postgresql://user:secret@host/name"
    for target, command in (("sweep", "pipeline/sweep.py"), ("sweep-status", "pipeline/sweep.py --status")):
        done = run("make", "-n", target, storage, *(f"{name}={value}" for name, value in options.items()))
        (line,) = (line for line in done.stdout.splitlines() if "pipeline/sweep.py" in line)
        assert line.endswith(f"python {command} --trials 5 --workers 1 --study wide --budget full")
        assert "secret" not in done.stdout + done.stderr


def test_mistake_in_params_stops_make_before_anything_runs(run: Run, clone: Path) -> None:
    params = clone / "params.yaml"
    good = params.read_text()
    params.write_text(good.replace("batch_size: 128", "batch_size: -128"))
    try:
        done = run("make", "repro", check=False)
    finally:
        params.write_text(good)
    assert done.returncode != 0
    assert "variants.lenet5.batch_size" in done.stderr
    assert "-128" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (clone / "data").exists()


def test_repro_runs_every_stage(repro: str, run: Run) -> None:
    stages = [line.split()[0] for line in run(".venv/bin/dvc", "stage", "list").stdout.splitlines()]
    assert {s.split("@")[0] for s in stages} == STAGES
    for stage in stages:
        assert f"Running stage '{stage}'" in repro


def test_second_repro_runs_no_stage_and_no_set_up(repro: str, run: Run) -> None:
    again = run("make", "repro").stdout
    ran = {line.split("'")[1] for line in again.splitlines() if line.startswith("Running stage")}
    assert ran == {"fetch-optional@cifar100", "fetch-optional@imagenette"}  # which might have come into reach
    assert "pip install" not in again
    assert "Stage 'report' didn't change, skipping" in again


@pytest.mark.usefixtures("repro")
def test_every_contracted_file_is_there(clone: Path) -> None:
    for data in ("mnist", "cifar10"):
        names = {path.name for path in (clone / "data/processed" / data).iterdir()}
        parts = {f"{split}_{kind}.npy" for split in ("train", "test") for kind in ("images", "labels")}
        assert names == parts | {"splits.npz", "card.json"}
    for variant, data in VARIANTS.items():
        names = {path.name for path in (clone / "models" / data / variant).iterdir()}
        assert names >= {"model.keras", "history.csv", "metrics.json", "predictions.npz", "run.json"}
    assert not list(clone.glob(".checkpoints/**/*.npz"))


@pytest.mark.usefixtures("repro")
def test_the_sweep_left_a_variant_its_trials_and_pictures(clone: Path) -> None:
    folder = clone / "reports/sweep"
    trials = pd.read_csv(folder / "trials.csv")
    assert list(trials["trial"]) == [0, 1, 2]
    assert list(trials["role"]) == ["baseline", "search", "search"]
    assert set(trials["state"]) <= {"COMPLETE", "PRUNED"}
    assert trials["training_flop"].max() <= trials["training_flop"][0]  # nobody costs more than the lesson
    names = {path.name for path in folder.iterdir()}
    assert names >= {"best.yaml", "summary.md", "figures.html", "history.png", "importances.png", "slices.png"}
    assert "tuned" in (clone / "reports/results.md").read_text()


@pytest.mark.usefixtures("repro")
def test_the_transfers_are_told_and_compared(clone: Path, run: Run) -> None:
    runs = pd.read_csv(clone / "reports/transfer/runs.csv")
    assert list(runs["mode"]) == ["from scratch", "frozen", "fine-tuned"]
    assert set(runs["state"]) == {"COMPLETE"}
    compared = run("make", "compare").stdout
    assert {line.split()[0] for line in compared.splitlines() if "(1)" in line} == {*VARIANTS}
    for mode in runs["mode"]:
        assert mode in compared


@pytest.mark.usefixtures("repro")
def test_a_sweeps_storage_reaches_its_command(run: Run) -> None:
    done = run("make", "sweep-status", "STORAGE=mysql://user:secret@host/name", check=False)
    assert done.returncode != 0
    assert "Invalid STORAGE. Expected" in done.stderr
    assert "mysql://***@host/name" in done.stderr
    assert "secret" not in done.stdout + done.stderr


@pytest.mark.usefixtures("repro")
def test_report_sets_the_course_beside_ours(clone: Path) -> None:
    report = (clone / "reports/lesson.md").read_text()
    for figure in ("43.04 %", "90.69 %", "421,642", "1,250,858", "545,546", "output 3.0"):
        assert figure in report
    for picture in ("reports/lesson/curves.png", "reports/lesson/improved/plane.png", "reports/lesson/convolution.png"):
        assert (clone / picture).read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("repro")
def test_a_network_is_printed_and_looked_into(run: Run, clone: Path) -> None:
    printed = run("make", "anatomy", "NET=lesson").stdout.splitlines()
    assert printed[1].split()[0] == "Conv2D"
    assert "(32 − 3 + 2) / 1 + 1 = 32" in printed[1]
    assert printed[-1].split()[:2] == ["sum", "1,250,858"]
    assert "10" in run("make", "anatomy", "NET=detector").stdout.splitlines()[-1]
    refused = run("make", "anatomy", "NET=none", check=False)
    assert refused.returncode != 0
    assert "Or one of the lesson's networks: detector" in refused.stderr
    drawn = run("make", "see", "VARIANT=lesson", "PICTURE=docs/images/mlflow.png").stdout.split()
    assert {Path(path).stem for path in drawn} >= {"filters", "maps", "attribution", "plane"}
    assert all((clone / path).read_bytes().startswith(b"\x89PNG") for path in drawn)


@pytest.mark.usefixtures("repro")
def test_the_homework_is_answered_and_its_sentences_have_sources(clone: Path) -> None:
    claims = pd.read_csv(clone / "reports/homework/claims.csv")
    page = (clone / "reports/homework.md").read_text()
    assert all(sentence in page for sentence in claims["sentence"])
    assert all((clone / "reports" / file).is_file() for file in claims["file"])
    assert "data:image/png;base64," in (clone / "reports/homework.html").read_text()


@pytest.mark.usefixtures("repro")
def test_mlflow_holds_one_finished_run_a_training(clone: Path) -> None:
    with sqlite3.connect(clone / "mlruns/mlflow.db") as store:
        runs = pd.read_sql("select r.run_uuid, r.name, r.status, e.name as experiment from runs r join experiments e "
                           "on r.experiment_id = e.experiment_id", store)  # fmt: skip
        tags = pd.read_sql("select run_uuid, key, value from tags", store)
    assert set(runs["status"]) == {"FINISHED"}
    sweeps = runs["experiment"] == "cifar10 sweeps"
    assert sorted(runs["name"][sweeps])[1:] == ["trial 0", "trial 1", "trial 2"]
    ablations = runs["experiment"] == "cifar10 ablations"
    ladder = YAML(typ="safe").load(clone / "params.yaml")["ablation"]["ladder"]
    pairs = sorted(f"{setting}, seed 0" for setting in ("no dropout", *ladder))
    assert sorted(name for name in runs["name"][ablations] if not name.startswith("ablation ")) == pairs
    transfers = runs["experiment"] == "transfers"
    begun = ["fine-tuned lesson", "from scratch", "frozen lesson"]
    assert sorted(runs["name"][transfers])[:-1] == [f"mnist 1 % lesson {beginning}, seed 0" for beginning in begun]
    studies = sweeps | ablations | transfers
    names = [*(f"{variant} seed 0" for variant in VARIANTS), "lesson, budget smoke", "reports, budget smoke"]
    names.sort()
    assert sorted(runs["name"][~studies]) == names
    trained = runs[~studies & (runs["experiment"] != "reports")]
    for run_id in trained["run_uuid"]:
        keys = set(tags[tags["run_uuid"] == run_id]["key"])
        assert keys >= {"mlflow.source.git.commit", "git.dirty", "dvc.stage", "dvc.lock.sha256"}
        assert keys >= {"params.sha256", "seed", "host", "devices", "variant"}
    record = json.loads((clone / "models/cifar10/lesson/run.json").read_text())
    assert record["run_id"] in set(trained["run_uuid"])


@pytest.mark.usefixtures("repro")
def test_metrics_and_plots_show(run: Run, clone: Path) -> None:
    shown = json.loads(run(".venv/bin/dvc", "metrics", "show", "--json").stdout)[""]["data"]
    assert {Path(name).parent.name for name in shown} == set(VARIANTS)
    for metrics in shown.values():
        values = metrics["data"]
        assert 0 <= values["test_accuracy_low"] <= values["test_accuracy"] <= values["test_accuracy_high"] <= 1
    run(".venv/bin/dvc", "plots", "show", "--out", "plots-of-test")
    page = (clone / "plots-of-test/index.html").read_text()
    for title in ("Training loss", "Training accuracy", "Confusion matrix of lesson"):
        assert title in page


@pytest.mark.usefixtures("repro")
def test_ui_serves_the_runs_on_loopback(start: Start) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with start("make", "ui", f"PORT={port}") as server:
        while not answers(f"{address}/health"):
            assert server.poll() is None, "the server ended"
            time.sleep(0.2)
        page = requests.get(address, timeout=30)
        assert "MLflow" in page.text
        found = requests.get(f"{address}/api/2.0/mlflow/experiments/search?max_results=10", timeout=30).json()
        assert {"mnist", "cifar10", "reports"} <= {experiment["name"] for experiment in found["experiments"]}


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=30).ok
    except requests.ConnectionError:
        return False


@pytest.mark.usefixtures("repro")
def test_the_best_on_validation_is_champion_and_tells_pictures(run: Run, clone: Path) -> None:
    best = {}
    for variant, data in VARIANTS.items():
        metrics = json.loads((clone / "models" / data / variant / "metrics.json").read_text())
        best[data] = max(best.get(data, (0.0, "")), (metrics["validation_accuracy"], variant))
    with sqlite3.connect(clone / "mlruns/mlflow.db") as store:
        query = (
            "select a.name, t.key, t.value from registered_model_aliases a join model_version_tags t "
            "on t.name = a.name and t.version = a.version where a.alias = 'champion'"
        )
        told = {(name, key): value for name, key, value in store.execute(query)}
    for data, (accuracy, variant) in best.items():
        assert told[f"cnnlab-{data}", "variant"] == variant
        assert float(told[f"cnnlab-{data}", "validation_accuracy"]) == accuracy
    lines = run("make", "predict", "IMAGES=docs/images/ship.jpg reports/lesson/*.png", "TOP=2").stdout.splitlines()
    assert lines[0].startswith("docs/images/ship.jpg ")
    assert len(lines) == 1 + len(list((clone / "reports/lesson").glob("*.png")))
    assert {line.count("%") for line in lines} == {2}
    refused = run("make", "predict", "IMAGES=Makefile", "VARIANT=lesson", check=False)
    assert refused.returncode != 0
    assert "Invalid picture Makefile. Expected: a picture file" in refused.stderr


@pytest.mark.usefixtures("repro")
def test_the_champion_is_exported(run: Run, clone: Path) -> None:
    run("make", "export")
    (folder,) = (clone / "exports/cifar10").iterdir()
    assert {path.name for path in folder.iterdir()} == {"saved_model", "network.tflite", "classes.txt"}


@pytest.mark.usefixtures("repro")
def test_the_champion_answers_the_documented_call(run: Run, start: Start) -> None:
    with start("make", "serve", "PORT=5001") as server:
        while not answers("http://127.0.0.1:5001/ping"):
            assert server.poll() is None, "the server ended"
            time.sleep(0.2)
        blocks = (TOP / "docs/using.md").read_text().split("```sh\n")
        (call,) = (block.split("```")[0] for block in blocks if "/invocations" in block)
        (told,) = json.loads(run("bash", "-c", call).stdout)["predictions"]
        assert told["class"] in told["probabilities"]


@pytest.mark.usefixtures("repro")
def test_one_change_retrains_one_variant_and_can_be_compared(run: Run, clone: Path) -> None:
    """The README's way to try a change without editing a file."""
    path = f"{clone / '.venv/bin'}:/usr/local/bin:/usr/bin:/bin"
    change = "variants.lesson.network.dense_dropout=0.25"
    done = run(".venv/bin/dvc", "exp", "run", "-S", change, "train@lesson", "evaluate@lesson", PATH=path)
    ran = {line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage")}
    assert ran == {"train@lesson", "evaluate@lesson"}
    assert json.loads((clone / "models/cifar10/lesson/run.json").read_text())["network"]["dense_dropout"] == 0.25
    difference = run(".venv/bin/dvc", "metrics", "diff", "--json").stdout
    assert "reports/evaluation/lesson/metrics.json" in difference
