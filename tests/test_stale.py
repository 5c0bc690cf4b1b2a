"""What a change in params.yaml makes stale, as DVC itself reads dvc.yaml."""

from pathlib import Path

from checkout import copy_checkout
from dvc.dependency import ParamsDependency
from dvc.repo import Repo
from ruamel.yaml import YAML

VARIANTS = ("lenet5", "slides", "lesson", "lesson_longer", "improved")
TRAINED = {f"{stage}@{variant}": {"budgets.laptop"} for stage in ("train", "evaluate") for variant in VARIANTS}
STUDIES = {"sweep", "ablation", "transfer"}


def test_only_the_chosen_budget_makes_a_stage_stale(tmp_path: Path) -> None:
    copy_checkout(tmp_path)
    with Repo(str(tmp_path)) as repo:
        found = {s.name: dep for s in repo.index.stages for dep in s.deps if isinstance(dep, ParamsDependency)}
    for dep in found.values():
        dep.save()  # as a stage does that has run

    def stale(*budgets: str) -> dict[str, set[str]]:
        """Change such budgets of every section; which keys then make which stages stale."""
        tree = YAML(typ="safe").load(tmp_path / "params.yaml")
        for section in (tree, *(tree[study] for study in STUDIES)):
            for budget in budgets:
                section["budgets"][budget]["seeds"] = 77
        YAML(typ="safe").dump(tree, tmp_path / "params.yaml")
        changed = {name: dep.status() for name, dep in found.items()}
        return {name: set(status["params.yaml"]) for name, status in changed.items() if status}

    assert stale("smoke", "full") == {}
    assert stale("laptop") == TRAINED | {
        "tuned": {"budgets.laptop"},
        "lesson": {"budgets.laptop"},
        "sweep": {"sweep.budgets.laptop"},
        "ablate": {"ablation.budgets.laptop", "budgets.laptop"},
        "transfer": {"transfer.budgets.laptop", "budgets.laptop"},
        "report": {"budgets.laptop"},
    }
