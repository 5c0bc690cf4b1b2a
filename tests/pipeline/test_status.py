"""Which stages an edit makes stale, as `dvc status` reports it after `make repro`."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from checkout import Run
from commands import VARIANTS

SHIPPED = [name for name in VARIANTS if name != "tuned"]
TRAIN = {f"train@{name}" for name in SHIPPED}
EVALUATE = {f"evaluate@{name}" for name in SHIPPED}
STUDIES = {"sweep", "ablate", "transfer"}
READ_ALL_VARIANTS = {"ablate", "transfer", "see", "lesson", "report"}  # section `variants` of params.yaml

Edit = tuple[str, str, str]  # a file, some text in it, and the text that replaces it
StaleAfter = Callable[..., set[str]]


@pytest.fixture(scope="module")
def stale(clone: Path, environment: dict[str, str], run: Run, repro: str) -> Iterator[Callable[[], set[str]]]:
    """The stages that are stale now, except those of data sets that could not be fetched."""
    del repro
    path = f"{clone}/.venv/bin:{environment['PATH']}"  # of the stages' `python`

    def call() -> set[str]:
        # `dvc status` compares digests of the code, not files
        run(".venv/bin/dvc", "repro", "--quiet", "fingerprint", PATH=path)
        changes = json.loads(run(".venv/bin/dvc", "status", "--json").stdout)
        return {stage for stage, reasons in changes.items() if reasons != ["always changed"]}

    unavailable = call()
    assert all(stage.startswith(("fetch@", "preprocess@")) for stage in unavailable), "stale after make repro"
    yield lambda: call() - unavailable
    assert call() == unavailable


@pytest.fixture
def stale_after(clone: Path, stale: Callable[[], set[str]]) -> StaleAfter:
    """Make edits in the clone, and return the stages that they make stale; the edits are undone."""

    def call(*edits: Edit) -> set[str]:
        texts = {clone / file: (clone / file).read_text() for file, _, _ in edits}
        try:
            for file, old, new in edits:
                text = (clone / file).read_text()
                assert old in text, f"{file} has no {old!r}"
                (clone / file).write_text(text.replace(old, new, 1))
            return stale()
        finally:
            for path, text in texts.items():
                path.write_text(text)

    return call


def test_a_sentence_of_the_homework_makes_only_its_report_stale(stale_after: StaleAfter) -> None:
    assert stale_after(("src/cnnlab/homework/page.py", " test images", " images of the test set")) == {"report"}


def test_a_sentence_of_the_lesson_makes_only_the_lesson_stale(stale_after: StaleAfter) -> None:
    heading = "The lesson in numbers and figures"
    assert stale_after(("src/cnnlab/course/page.py", heading, f"{heading}, again")) == {"lesson"}


def test_comments_and_docstrings_make_nothing_stale(stale_after: StaleAfter) -> None:
    comment = ("src/cnnlab/train/loop.py", "\nimport keras\n", "\nimport keras  # with the TensorFlow backend\n")
    docstrings = [(f"src/cnnlab/{name}.py", '"""', '"""Reworded: ') for name in ("train/loop", "nets/families/lenet5")]
    assert stale_after(comment, *docstrings) == set()


def test_a_new_metric_makes_evaluation_stale_and_no_training(stale_after: StaleAfter) -> None:
    """Stage tuned runs again, too, but skips its training: see `test_outputs.py`. The report uses its intervals."""
    metric = '    "errors_made": lambda logits, labels: float((logits.argmax(axis=1) != labels).sum()),\n'
    before = '    "calibration_error":'
    assert stale_after(("src/cnnlab/evaluation/metrics.py", before, metric + before)) == EVALUATE | {"tuned", "report"}


def test_a_statement_of_the_training_makes_every_training_stale(stale_after: StaleAfter) -> None:
    """Evaluation and reports follow once the models have changed."""
    changed = stale_after(("src/cnnlab/train/loop.py", "EVALUATION_BATCH = ", "EVALUATION_BATCH = 1 + "))
    assert changed >= TRAIN | STUDIES | {"tuned"}
    assert not changed & EVALUATE
    assert not {stage for stage in changed if stage.startswith(("fetch", "preprocess"))}


def test_another_budget_makes_nothing_stale(stale_after: StaleAfter) -> None:
    full = "full:   {epochs: null, train_images: null, seeds: 5, folds: true}"
    assert stale_after(("params.yaml", full, full.replace("5", "3"))) == set()


def test_the_epochs_of_the_budget_make_trainings_stale(stale_after: StaleAfter) -> None:
    own = TRAIN | EVALUATE | {"tuned", "ablate", "transfer", "lesson", "report"}
    assert stale_after(("params.yaml", "smoke:  {epochs: 1, train", "smoke:  {epochs: 2, train")) == own


def test_a_batch_size_makes_the_training_of_its_variant_stale(stale_after: StaleAfter) -> None:
    lenet5 = "network: {name: lenet5}\n    epochs: 1\n    batch_size: "
    assert stale_after(("params.yaml", f"{lenet5}128", f"{lenet5}64")) == {"train@lenet5"} | READ_ALL_VARIANTS


@pytest.mark.parametrize(("module", "stages"), [("ablation", {"ablate"}), ("worker", STUDIES)])
def test_the_code_of_a_study_makes_studies_stale(stale_after: StaleAfter, module: str, stages: set[str]) -> None:
    assert stale_after((f"src/cnnlab/studies/{module}.py", "\n\n\n", "\n\nADDED = 1\n\n\n")) == stages
