"""The structure: imports go one way, stages depend on their code, some never import TensorFlow, names, sizes."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "cnnlab"
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
# The scripts of each stage
STAGES = {
    name: [ROOT / script for script in re.findall(r"pipeline/\w+\.py", str(stage.get("do", stage)["cmd"]))]
    for name, stage in YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"].items()
}


def allowed() -> dict[str, set[str]]:
    """The packages that each package may import besides itself, according to docs/design.md."""
    rows = re.findall(r"^\| (`.*?) \|(.*)\|$", (ROOT / "docs" / "design.md").read_text(), re.MULTILINE)
    return {
        name: set(re.findall("`(.*?)`", imports)) for names, imports in rows for name in re.findall("`(.*?)`", names)
    }


ALLOWED = allowed() | {"cnnlab": {"nets"}}  # which registers the network families


def imported(path: Path) -> set[str]:
    """The modules of cnnlab that a file imports, at its top or inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return {name for name in names if name in MODULES} - {"cnnlab"}


def reachable(path: Path) -> set[str]:
    """Every module of cnnlab that a script imports, directly or through others."""
    found: set[str] = set()
    new = imported(path)
    while new:
        found |= new
        new = {name for module in new for name in imported(MODULES[module])} - found
    return found


def package(module: str) -> str:
    return module.split(".")[min(1, module.count("."))]


def test_packages_and_stages_are_found() -> None:
    """Without this, the other tests could pass because they check nothing."""
    assert {package(module) for module in MODULES} == ALLOWED.keys()
    assert {"cnnlab.params", "cnnlab.data", "cnnlab.catalog", "cnnlab.train.loop"} <= MODULES.keys()
    assert {"fetch", "preprocess", "lesson", "see", "train", "evaluate", "report"} <= STAGES.keys()
    assert {"cnnlab.train.loop", "cnnlab.data.augment", "cnnlab.tracking.runs"} <= reachable(STAGES["train"][0])


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_one_way(module: str) -> None:
    importer = package(module)
    for name in imported(MODULES[module]):
        assert package(name) in ALLOWED[importer] | {importer}, f"{module} imports {name}"


def test_no_module_imports_itself_through_others() -> None:
    assert [module for module, path in MODULES.items() if module in reachable(path)] == []


@pytest.mark.parametrize("stage", sorted(STAGES.keys() - {"fingerprint"}))
def test_a_stage_depends_on_the_digest_of_its_code(stage: str) -> None:
    entry = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"][stage]
    entry = entry.get("do", entry)
    assert STAGES[stage]
    if not entry.get("always_changed"):
        assert {f"data/code/{script.stem}.sha256" for script in STAGES[stage]} <= {*entry["deps"]}


@pytest.mark.parametrize("stage", ["fetch", "preprocess", "evaluate", "report"])
def test_stages_that_do_not_train_start_without_tensorflow(stage: str) -> None:
    (path,) = STAGES[stage]
    script = f"import runpy, sys; runpy.run_path({str(path)!r}); print(sorted({{*sys.modules}} & {{*sys.argv}}))"
    heavy = ["tensorflow", "keras", "mlflow.tensorflow"]
    done = subprocess.run([sys.executable, "-c", script, *heavy], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_class_has_a_name_of_its_own_and_no_file_or_function_is_long() -> None:
    classes: list[str] = []
    for path in MODULES.values():
        source = path.read_text()
        assert len(source.splitlines()) <= 400, path
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ClassDef):
                classes.append(node.name)
            elif isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 60, f"{path}: {node.name}"
    assert len(classes) == len(set(classes)), sorted(name for name in set(classes) if classes.count(name) > 1)


def test_no_test_module_shadows_the_standard_library() -> None:
    """pytest puts the test folders on sys.path, where they take precedence in processes that tests start."""
    files = (ROOT / "tests").rglob("*.py")
    assert not [path for path in files if path.stem in sys.stdlib_module_names]
