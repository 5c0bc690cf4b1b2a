"""Damaged tables and figures of other stages stop the lesson: one line names the file and the command to run."""

import shutil
from pathlib import Path

import pytest
from damage import DAMAGES
from finished import write_course

from cnnlab import params
from cnnlab.course.tables import LESSON, gather
from cnnlab.errors import UserError
from cnnlab.evaluation.evaluate import evaluate_variant

COMMANDS = {
    "lesson/examples.json": "python pipeline/lesson.py",
    "lesson/methods.csv": "python pipeline/lesson.py",
    "lesson/SHA256SUMS": "python pipeline/lesson.py",
    "see/seen.csv": "python pipeline/see.py",
    "see/SHA256SUMS": "python pipeline/see.py",
    "see/slides/plane.png": "python pipeline/see.py",
    "see/improved/SHA256SUMS": "python pipeline/see.py",
    "evaluation/slides/metrics.json": "python pipeline/evaluate.py slides --seeds 2",
    "evaluation/improved/runs.csv": "python pipeline/evaluate.py improved --seeds 2",
}


@pytest.fixture(scope="module")
def parameters(two_seeds: params.Params) -> params.Params:
    variants = {name: two_seeds.variants[name] for name in ("slides", "improved")}
    return two_seeds.model_copy(update={"variants": variants})


@pytest.fixture(scope="module")
def reports(top: Path, parameters: params.Params, run_ids: dict[str, list[str]]) -> Path:
    """The reports folder after stages evaluate and see, and the tables of stage lesson."""
    assert parameters.variants.keys() <= run_ids.keys()
    for name in parameters.variants:
        evaluate_variant(params.runs(parameters, name))
    write_course(parameters, LESSON)
    return top / "reports"


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (name, damage)
        for name in COMMANDS
        for damage in DAMAGES
        if not (name.endswith("SHA256SUMS") and "flip" in damage)  # which may hit the line of an unread file
    ],
)
def test_a_damaged_file_is_named_with_the_command_that_writes_it(
    reports: Path, parameters: params.Params, name: str, damage: str, tmp_path: Path
) -> None:
    path = reports / name
    shutil.copy(path, tmp_path / "original")
    DAMAGES[damage](path)
    try:
        with pytest.raises(UserError) as raised:
            gather(parameters)
    finally:
        if path.is_dir():
            path.rmdir()
        path.unlink(missing_ok=True)
        shutil.copy(tmp_path / "original", path)
    message = str(raised.value)
    assert "\n" not in message
    assert f"reports/{name}" in message
    assert "Expected: " in message
    assert "Received: " in message
    assert message.endswith(f"To fix this, run: {COMMANDS[name]}")
    assert gather(parameters).seen[0]["variant"] == "slides"
