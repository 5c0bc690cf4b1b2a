"""The written reports: the course's figures beside ours, every variant, the runs they come from."""

import json
import re
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from evidence.finished import is_picture, write_ablation, write_sweep, write_transfer

from cnnlab import params, track
from cnnlab.evidence import report
from cnnlab.evidence.evaluation import evaluate_variant
from cnnlab.files import write_text
from cnnlab.nets.lesson import computed_tables

pytestmark = pytest.mark.filterwarnings("ignore:.*``noload``")  # in MLflow's own code


@pytest.fixture(scope="module")
def written(top: Path, two_seeds: params.Params, run_ids: dict[str, list[str]]) -> Path:
    """The reports folder after stages lesson, evaluate and report."""
    write_text(report.LESSON / "networks.json", json.dumps(computed_tables()))
    for name in two_seeds.variants:
        evaluate_variant(params.runs(two_seeds, name))
    write_ablation(top / "reports" / "ablation")
    write_sweep(top / "reports" / "sweep")
    write_transfer(top / "reports" / "transfer")
    report.write_reports(two_seeds)
    return top / "reports"


def row(text: str, start: str) -> list[str]:
    """The cells of the table row that starts with `start`."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {start}")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_each_network_stands_beside_the_course(written: Path) -> None:
    text = (written / "lesson.md").read_text()
    assert row(text, "Vertical-line")[1:3] == ["output 3.0", "output 3.0"]
    lenet5, slides, cifar10 = (row(text, start) for start in ("LeNet-5", "MNIST network", "CIFAR-10 network"))
    assert (lenet5[1], slides[1], cifar10[1]) == ("test accuracy 90.69 %", "no accuracy", "test accuracy 43.04 %")
    assert [cells[2][:21] for cells in (lenet5, slides, cifar10)] == [
        f"test accuracy {mean} %" for mean in ("91.00", "99.00", "45.00")
    ]
    assert {cells[4] for cells in (lenet5, slides, cifar10)} == {"2"}
    assert slides[5:] == ["421,642", "421,642"]
    assert (lenet5[6], cifar10[6]) == ("545,546", "1,250,858")
    # Student's half width of two values 0.02 apart: 12.7062 · 0.01
    assert cifar10[2].endswith("(32.29–57.71)")


def test_the_difference_from_the_course_is_told(written: Path) -> None:
    text = (written / "lesson.md").read_text()
    assert "LeNet-5 (handout): +0.31 percentage points" in text
    assert "CIFAR-10 network (handout): +1.96 percentage points" in text
    assert "95 % Student t over seeds" in text
    assert "Budget `laptop`" in text


def test_every_run_is_named(written: Path, run_ids: dict[str, list[str]]) -> None:
    text = (written / "lesson.md").read_text()
    for seed, run_id in enumerate(run_ids["lesson"]):
        cells = row(text, f"{seed} | 50.00 % | {[44, 46][seed]}.00 %")
        assert cells[-1] == f"`{run_id}`"


def test_the_detector_is_drawn_in_text(written: Path) -> None:
    text = (written / "lesson.md").read_text()
    assert text.count("0 0 0 1 1 0 0 0") == 8
    assert text.count("0 0 3 3 0 0") == 6


def test_linked_files_exist_and_pictures_are_readable(written: Path) -> None:
    for document in ("lesson.md", "results.md", "homework.md"):
        for link in re.findall(r"\]\(([^)#]+)\)", (written / document).read_text()):
            assert (written / link).is_file(), link
    assert is_picture(written / "lesson" / "curves.png")


def test_the_results_have_a_row_a_variant(written: Path, two_seeds: params.Params) -> None:
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
    store = mlflow.MlflowClient(track.tracking_uri())
    (run,) = store.search_runs([store.get_experiment_by_name("reports").experiment_id])
    assert run.info.status == "FINISHED"
    for artifact, path in (
        ("lesson.md", "lesson.md"),
        ("results.md", "results.md"),
        ("lesson/curves.png",) * 2,
        ("homework/claims.csv",) * 2,
    ):
        kept = Path(store.download_artifacts(run.info.run_id, artifact))
        assert kept.read_bytes() == (written / path).read_bytes()


@pytest.mark.usefixtures("written")
def test_a_network_that_no_variant_trains_is_said_so(two_seeds: params.Params, written: Path) -> None:
    networks = json.loads((written / "lesson" / "networks.json").read_text())
    metrics = {"slides": json.loads((written / "evaluation" / "slides" / "metrics.json").read_text())}
    tables = {"slides": pd.read_csv(written / "evaluation" / "slides" / "runs.csv")}
    text = report.lesson_report(two_seeds, networks, metrics, tables)
    assert row(text, "LeNet-5")[2:5] == ["not trained: no variant lenet5 in params.yaml", "–", "–"]
    assert "percentage points" not in text
