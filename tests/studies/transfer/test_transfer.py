"""The stage transfer: features of grey digits for larger images in colour, paired, and what is missing."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from studies.project import BASE, Project, project

from cnnlab import files, params
from cnnlab.errors import UserError
from cnnlab.evaluation.compare import compare
from cnnlab.files import write_manifest
from cnnlab.nets.families.lenet5 import LeNet5
from cnnlab.report.language import Language
from cnnlab.studies.transfer import transfer
from cnnlab.studies.transfer.transfer import EPOCH, FOLDER, make_plan

NETWORK = BASE["network"] | {"head": "global_average", "dense_units": 0}
BUDGET = {
    "targets": {name: {"steps": 6, "shares": [0.25, 1.0]} for name in ("mnist", "colours", "cifar100")},
    "seeds": 2,
    "validation": 8,
    "variants": {"small": ["small", "other"]},
    "tried": ["tanh"],
}
COLOURS = {"colours": {"path": "colours", "size": 40, "validation": 10}}
MODES = [("from scratch", "", ""), ("frozen", "small", ""), ("fine-tuned", "small", ""), ("from scratch", "", "tanh")]


@pytest.fixture(scope="module")
def transferred(tmp_path_factory: pytest.TempPathFactory, processed_mnist: Path) -> Iterator[Project]:
    """Transfers from a trained variant and an untrained one, to a folder of pictures and a set that is away."""
    with project(tmp_path_factory.mktemp("transferred"), processed_mnist) as made:
        random = np.random.default_rng(0)
        for split, count in (("train", 25), ("val", 5)):
            for shade, name in ((40, "dark"), (200, "light")):
                folder = made.top / "colours" / split / name
                folder.mkdir(parents=True)
                for number in range(count):
                    pixels = random.integers(shade, shade + 50, (44, 48, 3), np.uint8)
                    Image.fromarray(pixels).save(folder / f"{number}.png")
        made.write(base={"network": NETWORK}, variants={"other": BASE}, transfer=BUDGET, data=COLOURS)
        for stage, *options in (("fetch", "colours"), ("preprocess", "colours"), ("train", "small"), ("transfer",)):
            done = made.run(*options, stage=stage)
            assert done.returncode == 0, done.stderr
        assert (made.top / "reports/transfer/summary.md").read_text() in done.stdout
        yield made


@pytest.fixture(scope="module")
def runs(transferred: Project) -> pd.DataFrame:
    return pd.read_csv(transferred.top / "reports/transfer/runs.csv").fillna({"source": "", "change": ""})


def test_every_beginning_is_trained_with_every_seed_and_share(runs: pd.DataFrame) -> None:
    """Not on the network's own data; of 50 pictures 40 are trained on, a quarter of them is 10."""
    found = list(runs[["target", "share", "mode", "source", "change", "seed"]].itertuples(index=False, name=None))
    expected = [("colours", share, *mode, seed) for share in (0.25, 1.0) for mode in MODES for seed in (0, 1)]
    assert sorted(found) == sorted(expected)
    assert set(runs["state"]) == {"COMPLETE"}
    assert set(runs["steps"]) == {6}


def test_effects_are_paired_with_scratch_on_the_same_images(transferred: Project, runs: pd.DataFrame) -> None:
    found = pd.read_csv(transferred.top / "reports/transfer/effects.csv")
    assert len(found) == 6
    accuracy = runs.set_index(["share", "mode", "change", "seed"])["accuracy"]
    scratch = ("from scratch", "")
    for row in found.fillna({"change": ""}).itertuples():
        each = [
            accuracy[row.share, row.mode, row.change, seed] - accuracy[row.share, *scratch, seed] for seed in (0, 1)
        ]
        assert row.difference == pytest.approx(100 * np.mean(each))


def test_what_is_missing_is_reported_and_stops_nothing(transferred: Project) -> None:
    lacking = pd.read_csv(transferred.top / "reports/transfer/lacking.csv").set_index("name")["reason"]
    assert sorted(lacking.index) == ["cifar100", "other"]
    assert lacking["other"] == "Variant other is not trained. Run: make train VARIANT=other"
    assert lacking["cifar100"].startswith("Cannot open the processed data in data/processed/cifar100")
    summary = (transferred.top / "reports/transfer/summary.md").read_text()
    assert "- unavailable: cifar100 (Cannot open" in summary


def test_the_reports_have_digests(transferred: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(transferred.top)
    for name in ("runs.csv", "effects.csv", "lacking.csv", "changes.csv", "layers.csv", "summary.md"):
        files.verified(FOLDER / name, "dvc repro transfer")


def test_the_summary_speaks_the_reports_language(transferred: Project, runs: pd.DataFrame) -> None:
    folder = transferred.top / "reports/transfer"
    found, lacking = (pd.read_csv(folder / f"{name}.csv") for name in ("effects", "lacking"))
    summary = transfer.summary(runs, found, lacking, Language("ru"))
    assert summary.startswith("| набор данных | сеть | начальные веса | изображения | n |")
    assert "| замороженные признаки small | 25 % | 2 | " in summary
    assert "- недоступно: other (Variant other" in summary


def test_changes_and_layers_are_written(transferred: Project) -> None:
    changes = pd.read_csv(transferred.top / "reports/transfer/changes.csv")
    assert {*changes["target"]} == {"colours", "imagenet"}
    seen = changes[(changes["target"] == "colours") & (changes["part"] == "input")]
    assert seen[["before", "after"]].to_numpy().tolist() == [["28×28×1", "40×40×3"]]
    layers = pd.read_csv(transferred.top / "reports/transfer/layers.csv")
    assert list(layers["target"].unique()) == ["mnist", "colours", "imagenet"]
    first = layers[(layers["target"] == "colours")].iloc[0]
    assert (first["layer"], first["parameters"]) == ("Conv2D", 3 * 3 * 3 * 4 + 4)


def test_mlflow_compares_variants_and_transfers(
    transferred: Project, runs: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(transferred.top)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    before = mlflow.get_tracking_uri()
    try:
        first, second = compare().split("\n\nTransfers")
    finally:
        mlflow.set_tracking_uri(before)
    (variant,) = [line.split() for line in first.splitlines() if "small" in line]
    assert (variant[0], variant[4:]) == ("small", ["1", "not", "cited"])
    for share in (0.25, 1.0):
        rows = runs[(runs["mode"] == "frozen") & (runs["share"] == share)]
        cell = f"{100 * rows['accuracy'].mean():.2f} (2)"
        (line,) = [line for line in second.splitlines() if "frozen" in line and f" {share} " in line]
        assert line.split("small")[-1].split(maxsplit=1)[-1] == cell


def test_a_second_command_trains_nothing_again(transferred: Project, runs: pd.DataFrame) -> None:
    done = transferred.run(stage="transfer")
    assert done.returncode == 0, done.stderr
    again = pd.read_csv(transferred.top / "reports/transfer/runs.csv").fillna({"source": "", "change": ""})
    pd.testing.assert_frame_equal(again, runs)


def test_a_source_trained_again_begins_another_study(transferred: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(transferred.top)
    loaded = params.load()
    before = make_plan(loaded, "")
    record = Path("models/mnist/small/run.json")
    text = record.read_text()
    record.write_text(text.replace('"run_id": "', '"run_id": "0'))
    write_manifest(record.parent)
    try:
        assert make_plan(loaded, "").study != before.study
    finally:
        record.write_text(text)
        write_manifest(record.parent)
    assert make_plan(loaded, "").study == before.study


@pytest.mark.parametrize(
    ("images", "steps", "batch", "passes", "epochs"),
    [
        (6400, 50, 64, 1, 1),  # a pass has 100 steps, no fewer are possible
        (640, 50, 64, 5, 1),
        (640, 1000, 64, EPOCH // 10, 10),  # validated after every hundred steps
        (20, 50, 20, 50, 1),  # a batch has no more than all images
        (6400, 1000, 64, 1, 10),
    ],
)
def test_steps_are_passes_and_epochs(
    transferred: Project,
    monkeypatch: pytest.MonkeyPatch,
    images: int,
    steps: int,
    batch: int,
    passes: int,
    epochs: int,
) -> None:
    monkeypatch.chdir(transferred.top)
    (run,) = short_runs({}, images, steps)
    assert (run.train_images, run.batch_size, run.passes, run.epochs) == (images, batch, passes, epochs)


def test_twice_the_epochs_are_twice_the_steps(transferred: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(transferred.top)
    runs = short_runs({"twice the epochs": {"epochs": 2}}, 6400, 1000)
    assert [run.passes * run.epochs for run in runs] == [10, 20]


def short_runs(tried: dict[str, dict[str, int]], images: int, steps: int) -> list[params.Run]:
    """From scratch on that many of the 55,000 images of MNIST that are not for validation, then with each change."""
    tree = params.load()
    small = tree.variants["small"].model_copy(update={"data": "colours", "validation": 100})
    budget = tree.transfer.budgets["smoke"].model_copy(
        update={
            "targets": {"mnist": params.Target(steps=steps, shares=[images / 55_000])},
            "variants": {"small": []},
            "tried": None,
        }
    )
    home = params.Transfer(tuning_rate=1.0, tried=tried, budgets={"smoke": budget})
    plan = make_plan(tree.model_copy(update={"variants": {"small": small}, "transfer": home}), "")
    return [transfer.run for transfer in plan.transfers.values()]


def test_without_data_no_transfer_is_possible(transferred: Project, tmp_path: Path) -> None:
    """One line that says what is missing, and nothing written."""
    shutil.copy(transferred.top / "params.yaml", tmp_path)
    here = Project(tmp_path)
    budget = BUDGET | {"targets": {"cifar100": {"steps": 6, "shares": [1.0]}}}
    here.write(base={"network": NETWORK}, variants={"other": BASE}, transfer=budget, data=COLOURS)
    try:
        done = here.run(stage="transfer")
    finally:
        here.end()
    assert done.returncode == 2
    assert "No transfer is possible." in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "reports").exists()
    assert not (tmp_path / files.MODELS).exists()


def test_a_network_without_the_knobs_is_refused(transferred: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(transferred.top)
    loaded = params.load()
    lenet5 = loaded.variants["small"].model_copy(update={"network": LeNet5(name="lenet5")})
    with pytest.raises(UserError, match=r"^Invalid variant to adapt\. Expected network homework\. Received: lenet5\.$"):
        make_plan(loaded.model_copy(update={"variants": {"small": lenet5, "other": lenet5}}), "")
