"""Reports: results of every variant, their curves, the homework page."""

import re
import shutil
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from finished import write_ablation, write_sweep, write_transfer

from cnnlab import params
from cnnlab.evaluation.evaluate import evaluate_variant
from cnnlab.homework import report
from cnnlab.tracking import store as tracking_store


@pytest.fixture(scope="module")
def written(top: Path, two_seeds: params.Params, run_ids: dict[str, list[str]]) -> Path:
    """The reports folder after stages evaluate and report, the latter without models."""
    for name in two_seeds.variants:
        evaluate_variant(params.runs(two_seeds, name))
    shutil.rmtree(top / "models")
    write_ablation(top / "reports" / "ablation")
    write_sweep(top / "reports" / "sweep")
    write_transfer(top / "reports" / "transfer")
    report.write_reports(two_seeds)
    return top / "reports"


def row(text: str, start: str) -> list[str]:
    """The cells of the table row that starts with `start`."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {start}")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_linked_files_exist(written: Path) -> None:
    for document in ("results.md", "homework.md"):
        for link in re.findall(r"\]\(([^)#]+)\)", (written / document).read_text()):
            assert (written / link).is_file(), link


def test_the_results_have_one_row_per_variant(written: Path, two_seeds: params.Params) -> None:
    text = (written / "results.md").read_text()
    for name, variant in two_seeds.variants.items():
        cells = row(text, f"{name} |")
        assert cells[1:3] == [variant.data, variant.network.name]
        assert cells[3:5] == ["1,000", str(variant.epochs)]
        assert cells[6:] == ["2", "500"]
    assert row(text, "lesson |")[5] == "45.00 % (32.29–57.71)"


def test_the_curves_of_every_variant_are_in_one_table(written: Path, two_seeds: params.Params) -> None:
    curves = pd.read_csv(written / "curves.csv")
    assert set(curves["variant"]) == set(two_seeds.variants)
    lesson = curves[curves["variant"] == "lesson"]
    assert lesson["images"].tolist() == [100, 200, 300, 400]
    assert lesson["loss"].tolist() == pytest.approx([2.3, 2.0, 1.7, 1.6])


def test_the_reports_are_artifacts_of_a_run(written: Path) -> None:
    store = mlflow.MlflowClient(tracking_store.tracking_uri())
    (run,) = store.search_runs([store.get_experiment_by_name("reports").experiment_id])
    assert run.info.status == "FINISHED"
    for path in ("results.md", "homework/claims.csv"):
        stored = Path(store.download_artifacts(run.info.run_id, path))
        assert stored.read_bytes() == (written / path).read_bytes()
    assert "homework.md" not in {artifact.path for artifact in store.list_artifacts(run.info.run_id)}
