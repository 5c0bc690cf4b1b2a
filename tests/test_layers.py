"""The house rules of docs/design.md: imports go one way, DVC knows what a stage runs, light stages stay light."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import copy_checkout
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "cnnlab"
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
# `train-tuned` runs train.py on variant `tuned`, `fetch-optional` fetch.py on data that may be out of reach.
STAGES = {
    name: ROOT / "pipeline" / f"{name.split('-')[0]}.py" for name in YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
}

# They serve every stage and decide no result: where files lie and how they are written, errors, MLflow.
SERVE_ALL = {
    *("errors.py", "files.py", "spool.py", "track.py", "registry.py", "classifier.py", "ui.py"),
    "__init__.py",
}


def allowed() -> dict[str, set[str]]:
    """What docs/design.md lets each room import of the house; within itself it may import anything."""
    rows = re.findall(r"^\| (`.*?) \|(.*)\|$", (ROOT / "docs" / "design.md").read_text(), re.MULTILINE)
    return {room: set(re.findall("`(.*?)`", told)) for rooms, told in rows for room in re.findall("`(.*?)`", rooms)}


ALLOWED = allowed() | {"cnnlab": set()}


def imported(path: Path) -> set[str]:
    """The modules of cnnlab that a file names in its imports, wherever they stand in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return {name for name in names if name in MODULES} - {"cnnlab"}


def reached(path: Path) -> set[str]:
    """Every module of cnnlab that a script imports, directly or through others."""
    found: set[str] = set()
    ahead = imported(path)
    while ahead:
        found |= ahead
        ahead = {name for module in ahead for name in imported(MODULES[module])} - found
    return found


def room(module: str) -> str:
    return module.split(".")[min(1, module.count("."))]


def test_the_house_is_read() -> None:
    """Guards the other tests against finding nothing."""
    assert {room(module) for module in MODULES} == ALLOWED.keys()
    assert {"cnnlab.params", "cnnlab.data", "cnnlab.data.catalog", "cnnlab.train.loop"} <= MODULES.keys()
    assert {"fetch", "preprocess", "lesson", "train", "evaluate", "report"} <= STAGES.keys()
    assert {"cnnlab.train.loop", "cnnlab.data.augment", "cnnlab.track"} <= reached(STAGES["train"])


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_one_way(module: str) -> None:
    here = room(module)
    for name in imported(MODULES[module]):
        there = name.removeprefix("cnnlab.")
        assert room(name) in ALLOWED[here] | {here} or there in ALLOWED[here], f"{module} imports {name}"


def test_no_module_imports_itself_through_others() -> None:
    assert [module for module, path in MODULES.items() if module in reached(path)] == []


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_dvc_knows_all_the_code_a_stage_runs(stage: str) -> None:
    entry = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"][stage]
    if entry.get("do", entry).get("always_changed"):
        return
    deps = [ROOT / dep for dep in entry.get("do", entry)["deps"] if "$" not in dep]
    assert STAGES[stage] in deps
    assert all(dep.exists() for dep in deps if dep.is_relative_to(PACKAGE))
    modules = [MODULES[name] for name in reached(STAGES[stage]) if MODULES[name].name not in SERVE_ALL]
    unknown = [path for path in modules if not any(path.is_relative_to(dep) for dep in deps)]
    assert sorted(str(path.relative_to(ROOT)) for path in unknown) == []


@pytest.mark.parametrize("stage", ["fetch", "preprocess", "evaluate", "report"])
def test_light_stages_start_without_tensorflow(stage: str) -> None:
    script = (
        f"import runpy, sys; runpy.run_path({str(STAGES[stage])!r}); print(sorted({{*sys.modules}} & {{*sys.argv}}))"
    )
    heavy = ["tensorflow", "keras", "mlflow.tensorflow"]
    done = subprocess.run([sys.executable, "-c", script, *heavy], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_new_variant_in_params_gets_its_own_stages(tmp_path: Path) -> None:
    copy_checkout(tmp_path)

    def stages() -> set[str]:
        command = [sys.executable, "-m", "dvc", "stage", "list", "--name-only"]
        environment = os.environ | {"DVC_NO_ANALYTICS": "1"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        return set(done.stdout.split())

    before = stages()
    file = tmp_path / "params.yaml"
    entry = "\n  plain:\n    <<: *lesson\n    augment: {}\n"
    file.write_text(file.read_text().replace("\non_demand:", f"{entry}\non_demand:"))
    assert stages() - before == {"train@plain", "evaluate@plain"}


def test_no_module_of_the_tests_hides_one_of_python() -> None:
    """pytest puts the folders of the tests on sys.path, and a process that a test starts gets them first."""
    files = (ROOT / "tests").rglob("*.py")
    assert not [path for path in files if path.stem in sys.stdlib_module_names]
