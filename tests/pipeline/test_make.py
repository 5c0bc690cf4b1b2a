"""What a new user does: `make`, `make repro`, again, looks at the results, changes one thing, compares."""

import json
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pages
import pandas as pd
import pytest
import requests
from checkout import Run, Start
from playwright.sync_api import Browser, Locator, Page, expect
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
# Blocks of commands that a test of their own types, and looks at what came of it.
LOOKED_AT = ("make test", "make see", "dvc plots diff", "IMAGES=-", "make export VARIANT=slides", "/invocations")

Serve = Callable[[str], AbstractContextManager[str]]
Type = Callable[[str], None]
pytest_plugins = ["sweep.conftest"]


@pytest.fixture(scope="module")
def repro(run: Run) -> str:
    """What the first `make repro` printed."""
    return run("make", "repro").stdout


def shell(run: Run, commands: str, **changes: str) -> str:
    """What a shell prints that does the commands, and stops at the first that fails."""
    return run("bash", "-euo", "pipefail", "-c", commands, **changes).stdout


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
    drawn = [line for line in shell(run, pages.the_block("make see")).splitlines() if line.startswith("reports/see/")]
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


@pytest.fixture(scope="module")
def serve(repro: str, start: Start) -> Serve:
    """Start a target that serves, after `make repro`; the block gets its address once it answers, and ends it."""

    @contextmanager
    def call(target: str) -> Iterator[str]:
        port = pages.free_port()
        address = f"http://127.0.0.1:{port}"
        with start(*target.split(), f"PORT={port}") as server:
            while not answers(address):
                assert server.poll() is None, f"{target} ended"
                time.sleep(0.2)
            yield address

    return call


def answers(address: str) -> bool:
    try:
        return requests.get(address, timeout=30).status_code < 500
    except requests.ConnectionError:
        return False


@pytest.fixture(scope="module")
def ui(serve: Serve) -> Iterator[str]:
    """The address of `make ui`."""
    with serve("make ui") as address:
        yield address


@pytest.fixture
def page(ui: str, chromium: Browser) -> Iterator[Page]:
    """MLflow's list of experiments, as a new user gets it, set to model training."""
    with chromium.new_context(base_url=ui, viewport={"width": 1500, "height": 900}) as context:
        context.set_default_timeout(60_000)
        page = context.new_page()
        page.goto("/#/experiments")
        page.get_by_role("button", name="Close").click()  # the assistant beside it
        page.get_by_role("button", name="Model training").click()
        yield page


def seen(part: Locator) -> None:
    expect(part.first).to_be_visible(timeout=60_000)


def opened(page: Page, experiment: str, run: str | None = None) -> None:
    """Go from the list to an experiment, and on to one of its runs."""
    page.get_by_test_id("experiment-list-item-link").get_by_text(experiment, exact=True).click()
    if run:
        page.get_by_role("link", name=run, exact=True).click()


def row(page: Page, run: str | re.Pattern[str]) -> Locator:
    return page.get_by_role("row").filter(has=page.get_by_role("link", name=run))


def test_ui_serves_the_runs_on_loopback(ui: str) -> None:
    assert "MLflow" in requests.get(ui, timeout=30).text
    found = requests.get(f"{ui}/api/2.0/mlflow/experiments/search?max_results=10", timeout=30).json()
    assert {"mnist", "cifar10", "reports"} <= {experiment["name"] for experiment in found["experiments"]}


def test_ui_says_what_the_experiments_are(page: Page) -> None:
    told = {
        "mnist": "Trainings on mnist",
        "cifar10": "Trainings on cifar10",
        "cifar10 sweeps": "A run a sweep",
        "cifar10 ablations": "A run an ablation",
        "transfers": "A run a study",
        "reports": "What the pipeline wrote",
    }
    for name, words in told.items():
        line = page.get_by_role("row").filter(has=page.get_by_role("link", name=name, exact=True))
        expect(line).to_contain_text(words, timeout=60_000)


def test_ui_shows_the_columns_that_matter_first(page: Page) -> None:
    opened(page, "cifar10")
    with page.context.expect_page() as opening:
        page.get_by_role("link", name="The columns that matter").click()
    view = opening.value
    for run in ("lesson seed 0", "improved seed 0", "tuned seed 0"):
        seen(view.get_by_role("link", name=run))
    names = ("variant", "test_accuracy", "validation_accuracy", "seed")
    headers = [view.get_by_role("columnheader", name=name, exact=True).first for name in names]
    places = []
    for header in headers:
        seen(header)
        places.append((header.bounding_box() or {"x": -1})["x"])
    assert 0 < places[0] < places[1] < places[2] < places[3]


def test_ui_draws_a_runs_curves_and_the_machines_load(page: Page) -> None:
    opened(page, "cifar10", "improved seed 0")
    for tab, title in (("Model metrics", "curve_loss"), ("System metrics", "system/cpu_utilization_percentage")):
        page.get_by_role("tab", name=tab).click()
        card = page.get_by_test_id("experiment-view-compare-runs-card").filter(
            has=page.get_by_text(re.compile(f"^{title.removeprefix('system/')}$"))
        )
        seen(card.locator(".js-plotly-plot .scatterlayer .trace"))


def test_ui_compares_two_variants(page: Page) -> None:
    opened(page, "cifar10")
    for run in ("lesson seed 0", "improved seed 0"):
        row(page, run).get_by_role("checkbox", name="Press Space to toggle row selection").check()
    page.get_by_role("button", name="Compare").click()
    seen(page.get_by_text("Comparing 2 Runs from 1 Experiment"))
    for words in ("lesson seed 0", "improved seed 0", "optimizer.name"):
        seen(page.get_by_role("table").get_by_text(words, exact=True))
    page.get_by_role("link", name="curve_loss", exact=True).click()  # to both curves in one chart
    seen(page.locator(".js-plotly-plot .scatterlayer .trace"))
    for run in ("lesson seed 0", "improved seed 0"):
        seen(page.get_by_text(f"{run} (curve_loss)", exact=True))


def test_ui_shows_the_trials_below_their_sweep(page: Page) -> None:
    opened(page, "cifar10 sweeps")
    seen(row(page, re.compile("^sweep lesson-")))
    assert not page.get_by_role("link", name="trial 0", exact=True).count()
    row(page, re.compile("^sweep lesson-")).get_by_role("button").first.click()
    for trial in ("trial 0", "trial 1", "trial 2"):
        seen(page.get_by_role("link", name=trial, exact=True))


def test_ui_shows_a_report_in_place(page: Page) -> None:
    opened(page, "reports", "reports, budget smoke")
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_text("homework.html", exact=True).click()
    report = page.frame_locator("iframe")
    seen(report.get_by_role("heading", name="The answer", exact=True))
    picture = report.locator("img").first
    picture.scroll_into_view_if_needed()
    assert picture.evaluate("image => image.naturalWidth") > 300


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
    lines = shell(run, pages.the_block("IMAGES=-")).splitlines()
    shown, drawn = (clone / "docs/images").iterdir(), (clone / "reports/lesson").glob("*.png")
    names = [str(path.relative_to(clone)) for path in (*sorted(shown), *sorted(drawn))]
    ship = "docs/images/ship.jpg"  # the only one that `find` finds, too
    assert [line.split()[0] for line in lines] == [ship, *names, ship, ship]
    assert [line.count("%") for line in lines] == [3, *(2 for _ in names), 3, 3]
    refused = run("make", "predict", "IMAGES=Makefile", "VARIANT=lesson", check=False)
    assert refused.returncode != 0
    assert "Invalid picture Makefile. Expected: a picture file" in refused.stderr


@pytest.mark.usefixtures("repro")
def test_the_champion_is_exported(run: Run, clone: Path) -> None:
    shell(run, pages.the_block("make export VARIANT=slides"))
    (champion,) = (clone / "exports/cifar10").iterdir()
    for folder in (champion, clone / "exports/mnist/slides"):
        assert {path.name for path in folder.iterdir()} == {"saved_model", "network.tflite", "classes.txt"}


@pytest.mark.usefixtures("repro")
def test_the_champion_answers_the_documented_call(run: Run, serve: Serve) -> None:
    call = pages.the_block("/invocations")
    with serve("make serve") as address:
        answer = shell(run, call.replace(pages.SERVERS["make serve"], address))
        (told,) = json.loads(answer)["predictions"]
        assert told["class"] in told["probabilities"]


@pytest.mark.usefixtures("repro")
def test_one_change_retrains_one_variant_and_can_be_compared(run: Run, clone: Path) -> None:
    """The README's way to try a change without editing a file."""
    printed = shell(run, pages.the_block("dvc plots diff"))
    ran = {line.split("'")[1] for line in printed.splitlines() if line.startswith("Running stage")}
    assert ran == {"train@lesson", "evaluate@lesson"}
    assert json.loads((clone / "models/cifar10/lesson/run.json").read_text())["network"]["dense_dropout"] == 0.25
    assert "reports/evaluation/lesson/metrics.json" in printed
    assert "Training loss" in (clone / "dvc_plots/index.html").read_text()


@pytest.fixture
def srun(tmp_path: Path) -> str:
    """A folder with an `srun` that starts two tasks on this host and tells them what Slurm would."""
    (tmp_path / "srun").write_text(
        "#!/bin/sh\n"
        "shift  # its option\n"
        "export SLURM_STEP_NUM_TASKS=2 SLURM_STEP_NODELIST=localhost SLURM_STEP_TASKS_PER_NODE=2\n"
        'SLURM_PROCID=1 "$@" & other=$!\n'
        'SLURM_PROCID=0 "$@" && wait $other\n'
    )
    (tmp_path / "srun").chmod(0o755)
    return str(tmp_path)


@pytest.fixture
def typed(run: Run, serve: Serve, srun: str, environment: dict[str, str], request: pytest.FixtureRequest) -> Type:
    """Do what a block of commands says; its hosts and addresses are this machine's."""

    def call(commands: str) -> None:
        with ExitStack() as stack:
            changes = {"PATH": f"{srun}:{environment['PATH']}"}
            for target, told in (*pages.SERVERS.items(), ("make ui", pages.TRACKING)):
                if told in commands:
                    commands = commands.replace(told, stack.enter_context(serve(target)))
            if pages.DATABASE in commands:
                commands = commands.replace(pages.DATABASE, request.getfixturevalue("database"))
            for step in pages.steps(commands):
                if step in pages.SERVERS:
                    with serve(step):
                        pass
                else:
                    shell(run, pages.on_this_machine(step), **changes)

    return call


@pytest.mark.usefixtures("repro")
@pytest.mark.parametrize("document", pages.PAGES, ids=lambda document: document.stem)
def test_a_page_does_what_it_says(document: Path, run: Run, typed: Type, tmp_path: Path) -> None:
    """Its commands run and its changes apply, in their order; then the changes are taken back."""
    run("git", "checkout", "params.yaml")
    applied = []
    try:
        for number, block in enumerate(pages.blocks(document)):
            if block.kind == "diff":
                (tmp_path / f"{number}.diff").write_text(block.text)
                run("git", "apply", str(tmp_path / f"{number}.diff"))
                applied.append(tmp_path / f"{number}.diff")
            elif block.kind == "python":
                run(".venv/bin/python", "-c", block.text)
            elif block.kind == "sh" and not any(words in block.text for words in LOOKED_AT):
                typed(block.text)
    finally:
        for change in reversed(applied):
            run("git", "apply", "--reverse", str(change))
