"""The champion and the trained variants in use: predictions, export, serving, and a change to compare with."""

import json
import sqlite3
from pathlib import Path

import pages
import pytest
from checkout import Run
from commands import VARIANTS, Serve, shell, stages_run


@pytest.mark.usefixtures("repro")
def test_the_champion_is_the_best_on_validation_and_classifies_images(run: Run, clone: Path) -> None:
    best = {}
    for variant, data in VARIANTS.items():
        metrics = json.loads((clone / "models" / data / variant / "metrics.json").read_text())
        best[data] = max(best.get(data, (0.0, "")), (metrics["validation_accuracy"], variant))
    with sqlite3.connect(clone / "mlruns/mlflow.db") as store:
        query = (
            "select a.name, t.key, t.value from registered_model_aliases a join model_version_tags t "
            "on t.name = a.name and t.version = a.version where a.alias = 'champion'"
        )
        tags = {(name, key): value for name, key, value in store.execute(query)}
    for data, (accuracy, variant) in best.items():
        assert tags[f"cnnlab-{data}", "variant"] == variant
        assert float(tags[f"cnnlab-{data}", "validation_accuracy"]) == accuracy
    lines = shell(run, pages.the_block("IMAGES=-")).splitlines()
    examples, plots = (clone / "docs/images").iterdir(), (clone / "reports/lesson").glob("*.png")
    names = [str(path.relative_to(clone)) for path in (*sorted(examples), *sorted(plots))]
    ship = "docs/images/ship.jpg"  # also the only one that `find` finds
    assert [line.split()[0] for line in lines] == [ship, *names, ship, ship]
    assert [line.count("%") for line in lines] == [3, *(2 for _ in names), 3, 3]
    refused = run("make", "predict", "IMAGES=Makefile", "VARIANT=lesson", check=False)
    assert refused.returncode != 0
    assert "Invalid image Makefile. Expected: an image file" in refused.stderr


@pytest.mark.usefixtures("repro")
def test_the_champion_is_exported(run: Run, clone: Path) -> None:
    shell(run, pages.the_block("make export VARIANT=slides"))
    (champion,) = (clone / "exports/cifar10").iterdir()
    for folder in (champion, clone / "exports/mnist/slides"):
        assert {path.name for path in folder.iterdir()} == {"saved_model", "network.tflite", "classes.txt"}


@pytest.mark.usefixtures("repro")
def test_the_server_responds_to_the_documented_request(run: Run, serve: Serve) -> None:
    request = pages.the_block("/invocations")
    with serve("make serve") as address:
        response = shell(run, request.replace(pages.SERVERS["make serve"], address))
        (prediction,) = json.loads(response)["predictions"]
        assert prediction["class"] in prediction["probabilities"]


@pytest.mark.usefixtures("repro")
def test_an_experiment_retrains_one_variant_and_is_compared(run: Run, clone: Path) -> None:
    """README: `dvc exp run` tries a change without editing a file."""
    printed = shell(run, pages.the_block("dvc plots diff"))
    assert stages_run(printed) == {"fingerprint", "train@lesson", "evaluate@lesson"}
    assert json.loads((clone / "models/cifar10/lesson/run.json").read_text())["network"]["dense_dropout"] == 0.25
    assert "reports/evaluation/lesson/metrics.json" in printed
    assert "Training loss" in (clone / "dvc_plots/index.html").read_text()
