"""The stage ablate on real MNIST: every factor on its own, paired by seeds, in tables, figure and MLflow."""

from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from studies.project import BASE, Project, project

from cnnlab import files, params
from cnnlab.errors import UserError
from cnnlab.evaluation.effects import effects
from cnnlab.report.language import Language
from cnnlab.studies import ablation
from cnnlab.studies.ablation import FOLDER, make_plan

SHIPPED = params.load(Path(__file__).parents[2] / "params.yaml")
BUDGET = {"seeds": 2, "ladder_seeds": 1, "epochs": 1, "train_images": 512, "validation": 500, "factors": None}


@pytest.fixture(scope="module")
def ablated(tmp_path_factory: pytest.TempPathFactory, processed_mnist: Path) -> Iterator[Project]:
    """An ablation of a factor that helps or not, one that changes the cost, one that diverges, and a ladder."""
    factors = {
        "tanh": {"network.activation": "tanh"},
        "fewer units": {"network.dense_units": 8},
        "wild": {"optimizer.learning_rate": 1e30},
    }
    with project(tmp_path_factory.mktemp("ablated"), processed_mnist) as made:
        ladder = {
            "budgets": {"smoke": BUDGET},
            "factors": factors,
            "ladder": ["small", "quicker", "wild-one", "softer"],
        }
        quicker = {**BASE, "optimizer": {"name": "sgd", "learning_rate": 0.1}}
        wild = {**BASE, "optimizer": {"name": "sgd", "learning_rate": 1e30}}
        softer = {**quicker, "label_smoothing": 0.1}
        made.write(ablation=ladder, variants={"quicker": quicker, "wild-one": wild, "softer": softer})
        done = made.run(stage="ablate")
        assert done.returncode == 0, done.stderr
        assert (made.top / "reports/ablation/summary.md").read_text() in done.stdout
        yield made


def test_a_row_for_every_setting_and_seed(ablated: Project) -> None:
    runs = pd.read_csv(ablated.top / "reports/ablation/runs.csv")
    expected = [(setting, seed) for setting in ("small", "tanh", "fewer units", "wild") for seed in (0, 1)]
    expected += [(step, 0) for step in ("quicker", "wild-one", "softer")]
    assert sorted(zip(runs["setting"], runs["seed"], strict=True)) == sorted(expected)
    wild = runs["setting"].isin(["wild", "wild-one"])
    assert set(runs.loc[wild, "state"]) == {"FAIL"}
    assert runs.loc[wild, "reason"].str.contains("diverged").all()
    assert set(runs.loc[~wild, "state"]) == {"COMPLETE"}
    assert set(runs.loc[~wild, "steps"]) == {512 / 64}
    assert runs.loc[runs["setting"] == "small", "training_flop"].nunique() == 1


def test_effects_are_those_of_the_rows(ablated: Project) -> None:
    folder = ablated.top / "reports/ablation"
    runs = pd.read_csv(folder / "runs.csv")
    found = pd.read_csv(folder / "effects.csv").set_index("setting")
    expected = effects(runs[runs["state"] == "COMPLETE"], {"tanh": "small", "fewer units": "small"}).set_index(
        "setting"
    )
    assert set(found.index) == {"tanh", "fewer units"}
    pd.testing.assert_frame_equal(found, expected.loc[found.index], check_dtype=False)
    assert found.loc["fewer units", "parameters"] < 1
    assert found["n"].tolist() == [2, 2]
    summary = (folder / "summary.md").read_text()
    for row in found.itertuples():
        cell = f"{row.difference:+.2f} ({row.low:+.2f} to {row.high:+.2f})".replace("-", "−")
        assert cell.replace("−0.00", "+0.00") in summary
    assert summary.count("- failed: wild, seed ") == 2
    assert (folder / "forest.png").read_bytes().startswith(b"\x89PNG")


def test_the_reports_have_digests(ablated: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ablated.top)
    for name in ("runs.csv", "effects.csv", "ladder.csv", "summary.md", "forest.png"):
        files.verified(FOLDER / name, "dvc repro ablate")


def test_the_summary_speaks_the_reports_language(ablated: Project) -> None:
    folder = ablated.top / "reports/ablation"
    tables = {name: pd.read_csv(folder / f"{name}.csv") for name in ("runs", "effects", "ladder")}
    summary = ablation.summary(tables, "small", Language("ru"))
    assert summary.startswith("| фактор | n | п. п. (95%-й интервал) |")
    assert "- обучение не удалось: wild, начальное значение (seed) 0: " in summary
    difference = tables["ladder"]["difference"][0]
    assert f"| quicker | 1 | {difference:+.2f} | – |".replace("-", "−").replace(".", ",") in summary


def test_steps_are_compared_with_the_one_before_and_not_with_one_that_failed(ablated: Project) -> None:
    folder = ablated.top / "reports/ablation"
    runs = pd.read_csv(folder / "runs.csv").set_index(["setting", "seed"])["accuracy"]
    steps = pd.read_csv(folder / "ladder.csv")
    assert list(zip(steps["setting"], steps["base"], strict=True)) == [("quicker", "small")]
    assert steps["difference"][0] == pytest.approx(100 * (runs["quicker", 0] - runs["small", 0]))


def test_mlflow_has_a_run_for_each_training(ablated: Project) -> None:
    store = mlflow.MlflowClient(f"sqlite:///{ablated.top}/mlruns/mlflow.db")
    experiment = store.get_experiment_by_name("mnist ablations")
    runs = {run.info.run_id: run.info.run_name for run in store.search_runs([experiment.experiment_id])}
    table = pd.read_csv(ablated.top / "reports/ablation/runs.csv")
    for row in table.itertuples():
        assert runs.pop(row.run_id) == f"{row.setting}, seed {row.seed}"
    (parent,) = runs.values()
    assert parent.startswith("ablation small-")


def test_seeds_are_paired_and_factors_change_their_keys_alone() -> None:
    plan = make_plan(SHIPPED.model_copy(update={"budget": "full"}), "")
    base = plan.settings["lesson"]
    assert base == SHIPPED.variants["lesson"]
    assert list(plan.settings) == ["lesson", *SHIPPED.ablation.factors, *SHIPPED.ablation.ladder[1:]]
    for name, changes in SHIPPED.ablation.factors.items():
        flat = params_of(plan.settings[name])
        changed = {key for key, value in params_of(base).items() if flat[key] != value}
        assert changed <= set(changes), name
        assert changed, name
    order = [(values["seed"], values["setting"]) for values, _ in plan.enqueued(first=0)]
    assert order == [(seed, name) for seed in range(5) for name in plan.settings]


def test_the_base_has_as_many_seeds_as_the_ladder_that_begins_with_it() -> None:
    laptop = SHIPPED.ablation.budgets["laptop"].model_copy(update={"seeds": 1, "ladder_seeds": 2})
    ablation = SHIPPED.ablation.model_copy(update={"budgets": {"laptop": laptop}})
    plan = make_plan(SHIPPED.model_copy(update={"ablation": ablation, "budget": "laptop"}), "")
    assert [values["setting"] for values, _ in plan.enqueued(first=0)].count("lesson") == 2


def test_a_data_sets_own_validation_is_kept() -> None:
    own = {**SHIPPED.data, "cifar10": params.DataSource(validation=77)}
    assert make_plan(SHIPPED.model_copy(update={"budget": "full", "data": own}), "").validation == 77


def test_another_order_of_the_ladder_is_another_study() -> None:
    turned = SHIPPED.ablation.model_copy(update={"ladder": SHIPPED.ablation.ladder[::-1]})
    studies = {make_plan(SHIPPED.model_copy(update={"ablation": a}), "").study for a in (SHIPPED.ablation, turned)}
    assert len(studies) == 2


def params_of(variant: params.Variant) -> dict[str, object]:
    """A variant's values by dotted keys, as in params.yaml's factors."""

    def leaves(tree: object, prefix: str) -> Iterator[tuple[str, object]]:
        items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else None
        if items is None:
            yield prefix, tree
            return
        for key, value in items:
            yield from leaves(value, f"{prefix}.{key}" if prefix else str(key))

    return dict(leaves(variant.model_dump(), ""))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"network.batchnorm": True},
            r"Unknown key network\.batchnorm in ablation\.factors\.new\..*'network.batch_norm'",
        ),
        ({"network.kernel": 0}, r"Invalid combination in ablation\.factors\.new\. Expected a valid variant\."),
    ],
)
def test_a_factor_that_makes_no_variant(changes: dict[str, object], message: str) -> None:
    ablation = SHIPPED.ablation.model_copy(update={"factors": {**SHIPPED.ablation.factors, "new": changes}})
    with pytest.raises(UserError, match=message):
        make_plan(SHIPPED.model_copy(update={"ablation": ablation, "budget": "full"}), "")
