"""Commands in a fresh clone, before anything is set up or run."""

from pathlib import Path

from checkout import Run


def test_make_without_a_target_lists_every_target(run: Run, clone: Path) -> None:
    listed = {line.split()[1] for line in run("make").stdout.splitlines()}
    declared = next(line for line in (clone / "Makefile").read_text().splitlines() if line.startswith(".PHONY"))
    assert listed == set(declared.split()[1:])
    assert {"help", "setup", "repro", "ui", "test", "lint", "clean"} <= listed
    assert not (clone / ".venv").exists()


def test_sweep_options_are_passed_on_but_no_password(run: Run) -> None:
    """Command lines are visible to every user of the machine."""
    options = {"TRIALS": "5", "WORKERS": "1", "STUDY": "wide", "BUDGET": "full"}
    storage = "STORAGE=postgresql://user:secret@host/name"
    for target, command in (("sweep", "pipeline/sweep.py --workers 1"), ("sweep-status", "cnnlab sweep-status")):
        done = run("make", "-n", target, storage, *(f"{name}={value}" for name, value in options.items()))
        (line,) = (line for line in done.stdout.splitlines() if command in line)
        assert line.endswith(f"{command} --trials 5 --study wide --budget full")
        assert "secret" not in done.stdout + done.stderr


def test_an_invalid_params_yaml_stops_make_before_anything_runs(run: Run, clone: Path) -> None:
    params = clone / "params.yaml"
    valid = params.read_text()
    params.write_text(valid.replace("batch_size: 128", "batch_size: -128"))
    try:
        done = run("make", "repro", check=False)
    finally:
        params.write_text(valid)
    assert done.returncode != 0
    assert "variants.lenet5.batch_size" in done.stderr
    assert "-128" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (clone / "data").exists()
