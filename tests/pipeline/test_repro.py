"""`make repro` in a fresh clone: every stage runs once, and leaves its files, its runs in MLflow and its reports."""

import json
import sqlite3
from pathlib import Path

import pages
import pandas as pd
import pytest
from checkout import Run
from commands import VARIANTS, shell, stages_run
from ruamel.yaml import YAML

STAGES = {
    "fingerprint",
    "fetch",
    "preprocess",
    "see",
    "lesson",
    "train",
    "evaluate",
    "sweep",
    "tuned",
    "ablate",
    "transfer",
    "report",
}


def test_repro_runs_every_stage(repro: str, run: Run) -> None:
    stages = [line.split()[0] for line in run(".venv/bin/dvc", "stage", "list").stdout.splitlines()]
    assert {s.split("@")[0] for s in stages} == STAGES
    for stage in stages:
        assert f"Running stage '{stage}'" in repro


def test_a_second_repro_runs_nothing_again(repro: str, run: Run, clone: Path) -> None:
    again = run("make", "repro").stdout
    unavailable = {f"fetch@{note.parent.name}" for note in clone.glob("data/processed/*/not-available.txt")}
    assert stages_run(again) == {"fingerprint"} | unavailable
    assert "setup 1/4" not in again
    assert "Stage 'report' didn't change, skipping" in again


@pytest.mark.usefixtures("repro")
def test_every_stage_leaves_its_files(clone: Path) -> None:
    for data in ("mnist", "cifar10"):
        names = {path.name for path in (clone / "data/processed" / data).iterdir()}
        parts = {f"{split}_{kind}.npy" for split in ("train", "test") for kind in ("images", "labels")}
        assert names == parts | {"splits.npz", "card.json", "SHA256SUMS"}
    for variant, data in VARIANTS.items():
        names = {path.name for path in (clone / "models" / data / variant).iterdir()}
        assert names >= {"model.keras", "history.csv", "metrics.json", "predictions.npz", "run.json"}
    assert not list(clone.glob(".checkpoints/**/*.npz"))


@pytest.mark.usefixtures("repro")
def test_the_sweep_leaves_trials_figures_and_the_best_variant(clone: Path) -> None:
    folder = clone / "reports/sweep"
    trials = pd.read_csv(folder / "trials.csv")
    assert list(trials["trial"]) == [0, 1, 2]
    assert list(trials["role"]) == ["baseline", "search", "search"]
    assert set(trials["state"]) <= {"COMPLETE", "PRUNED"}
    assert trials["training_flop"].max() <= trials["training_flop"][0]  # no trial costs more than the lesson
    names = {path.name for path in folder.iterdir()}
    assert names >= {"best.yaml", "summary.md", "figures.html", "history.png", "importances.png", "slices.png"}
    assert "tuned" in (clone / "reports/results.md").read_text()


@pytest.mark.usefixtures("repro")
def test_transfers_are_recorded_and_compared(clone: Path, run: Run) -> None:
    runs = pd.read_csv(clone / "reports/transfer/runs.csv")
    assert list(runs["mode"]) == ["from scratch", "frozen", "fine-tuned"]
    assert set(runs["state"]) == {"COMPLETE"}
    compared = run("make", "compare").stdout
    assert {line.split()[0] for line in compared.splitlines() if "cited by the reports" in line} == {*VARIANTS}
    for mode in runs["mode"]:
        assert mode in compared


@pytest.mark.usefixtures("repro")
def test_an_invalid_storage_is_reported_without_its_password(run: Run) -> None:
    done = run("make", "sweep-status", "STORAGE=mysql://user:secret@host/name", check=False)
    assert done.returncode != 0
    assert "Invalid STORAGE. Expected" in done.stderr
    assert "mysql://***@host/name" in done.stderr
    assert "secret" not in done.stdout + done.stderr


@pytest.mark.usefixtures("repro")
def test_the_lesson_compares_with_the_course(clone: Path) -> None:
    report = (clone / "reports/lesson.md").read_text()
    for number in ("43.04 %", "90.69 %", "421,642", "1,250,858", "545,546", "output 3.0"):
        assert number in report
    for figure in ("reports/lesson/curves.png", "reports/see/improved/plane.png", "reports/lesson/convolution.png"):
        assert (clone / figure).read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("repro")
def test_anatomy_and_see_show_a_network(run: Run, clone: Path) -> None:
    printed = run("make", "anatomy", "NET=lesson").stdout.splitlines()
    assert printed[1].split()[0] == "Conv2D"
    assert "(32 − 3 + 2) / 1 + 1 = 32" in printed[1]
    assert printed[-1].split()[:2] == ["sum", "1,250,858"]
    assert "10" in run("make", "anatomy", "NET=detector").stdout.splitlines()[-1]
    refused = run("make", "anatomy", "NET=none", check=False)
    assert refused.returncode != 0
    assert "Or one of the lesson's networks: detector" in refused.stderr
    plots = [
        line for line in shell(run, pages.the_block("make see")).splitlines() if line.startswith("reports/portraits/")
    ]
    assert {Path(path).stem for path in plots} >= {"filters", "maps", "attribution", "plane"}
    assert all((clone / path).read_bytes().startswith(b"\x89PNG") for path in plots)


@pytest.mark.usefixtures("repro")
def test_every_claim_of_the_homework_is_on_its_page_and_cites_a_table(clone: Path) -> None:
    claims = pd.read_csv(clone / "reports/homework/claims.csv")
    page = (clone / "reports/homework.md").read_text()
    assert all(sentence in page for sentence in claims["sentence"])
    assert all((clone / "reports" / file).is_file() for file in claims["file"])
    assert "data:image/png;base64," in (clone / "reports/homework.html").read_text()


@pytest.mark.usefixtures("repro")
def test_mlflow_has_one_finished_run_per_training(clone: Path) -> None:
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
    starts = ["fine-tuned lesson", "from scratch", "frozen lesson"]
    assert sorted(runs["name"][transfers])[:-1] == [f"mnist 1 % lesson {start}, seed 0" for start in starts]
    studies = sweeps | ablations | transfers
    seeds = [f"{variant} seed 0" for variant in VARIANTS]  # each below its variant
    assert sorted(runs["name"][~studies]) == sorted(
        [*VARIANTS, *seeds, "lesson, budget smoke", "reports, budget smoke"]
    )
    trained = runs[runs["name"].isin(seeds)]
    for run_id in trained["run_uuid"]:
        keys = set(tags[tags["run_uuid"] == run_id]["key"])
        assert keys >= {"mlflow.source.git.commit", "git.dirty", "dvc.stage", "dvc.lock.sha256"}
        assert keys >= {"params.sha256", "seed", "host", "devices", "variant"}
    record = json.loads((clone / "models/cifar10/lesson/run.json").read_text())
    assert record["run_id"] in set(trained["run_uuid"])


@pytest.mark.usefixtures("repro")
def test_dvc_shows_metrics_and_plots(run: Run, clone: Path) -> None:
    shown = json.loads(run(".venv/bin/dvc", "metrics", "show", "--json").stdout)[""]["data"]
    assert {Path(name).parent.name for name in shown} == set(VARIANTS)
    for metrics in shown.values():
        values = metrics["data"]
        assert 0 <= values["test_accuracy_low"] <= values["test_accuracy"] <= values["test_accuracy_high"] <= 1
    run(".venv/bin/dvc", "plots", "show", "--out", "plots-of-test")
    page = (clone / "plots-of-test/index.html").read_text()
    for title in ("Training loss", "Training accuracy", "Confusion matrix of lesson"):
        assert title in page
