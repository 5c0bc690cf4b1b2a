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
from cnnlab.studies import ablation, overrides
from cnnlab.studies.ablation import FOLDER, make_plan

SHIPPED = params.load(Path(__file__).parents[2] / "params.yaml")
BUDGET = {
    "seeds": 2, "epochs": 1, "train_images": 512, "validation": 500, "factors": None, "leave_one_out": None,
    "changes": {"optimizer.learning_rate": 0.2},
}  # fmt: skip


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
            "ladder": ["small", "larger", "wild-one", "softer"],
            "leave_one_out": {"smoothing": {"label_smoothing": 0.0}},
        }
        larger = {**BASE, "batch_size": 32}
        wild = {**larger, "optimizer": {"name": "sgd", "learning_rate": 1e30}}
        softer = {**larger, "label_smoothing": 0.1}
        made.write(ablation=ladder, folds=True, variants={"larger": larger, "wild-one": wild, "softer": softer})
        done = made.run(stage="ablate")
        assert done.returncode == 0, done.stderr
        assert (made.top / "reports/ablation/summary.md").read_text() in done.stdout
        yield made


def test_a_row_for_every_setting_and_seed(ablated: Project) -> None:
    runs = pd.read_csv(ablated.top / "reports/ablation/runs.csv")
    settings = ("small", "tanh", "fewer units", "wild", "larger", "wild-one", "softer")
    expected = [(setting, seed) for setting in settings for seed in (0, 1)]
    assert sorted(zip(runs["setting"], runs["seed"], strict=True)) == sorted(expected)
    wild = runs["setting"].isin(["wild", "wild-one"])
    assert set(runs.loc[wild, "state"]) == {"FAIL"}
    assert runs.loc[wild, "reason"].str.contains("diverged").all()
    assert set(runs.loc[~wild, "state"]) == {"COMPLETE"}
    assert set(runs.loc[runs["setting"] == "small", "steps"]) == {512 / 64}
    assert runs.loc[runs["setting"] == "small", "training_flop"].nunique() == 1
    assert set(runs["chance"]) == {0.1}


def test_each_contrast_is_tested_once_and_effects_are_those_of_the_rows(ablated: Project) -> None:
    """Steps next to one that failed have no effect; the ingredient is the step `softer` without what it adds."""
    folder = ablated.top / "reports/ablation"
    runs = pd.read_csv(folder / "runs.csv")
    found = pd.read_csv(folder / "effects.csv")
    contrasts = [("larger", "small"), ("fewer units", "small"), ("tanh", "small"), ("softer", "larger")]
    assert [*zip(found["setting"], found["base"], strict=True)] == contrasts
    names = found[["step", "factor", "ingredient"]].fillna("").agg("".join, axis=1)
    assert names.tolist() == ["larger", "fewer units", "tanh", "smoothing"]
    expected = effects(runs[runs["state"] == "COMPLETE"], contrasts)
    pd.testing.assert_frame_equal(found[expected.columns], expected, check_dtype=False)
    assert found["parameters"][1] < 1
    assert set(found["n"]) == {2}
    summary = (folder / "summary.md").read_text()
    for row in found.itertuples():
        cell = f"| 2 | {row.difference:+.2f}".replace("-", "−")
        assert cell.replace("−0.00", "+0.00") in summary
    assert summary.count("- failed: wild, seed ") == 2
    assert (folder / "forest.png").read_bytes().startswith(b"\x89PNG")


def test_the_reports_have_digests(ablated: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ablated.top)
    for name in ("runs.csv", "effects.csv", "changes.csv", "summary.md", "forest.png"):
        files.verified(FOLDER / name, "dvc repro ablate")


def test_the_changes_of_a_step_are_those_of_its_training(ablated: Project) -> None:
    """The budget's rate is that of both trainings, so the step changes the size of the batches alone."""
    table = pd.read_csv(ablated.top / "reports/ablation/changes.csv")
    step = table[table["setting"] == "larger"]
    assert step.values.tolist() == [["larger", "small", "batch_size", "64", "32"]]


def test_the_summary_speaks_the_reports_language(ablated: Project) -> None:
    folder = ablated.top / "reports/ablation"
    runs, found = (pd.read_csv(folder / f"{name}.csv") for name in ("runs", "effects"))
    summary = ablation.summary(runs, found, "small", Language("ru"))
    assert "| фактор | n | п. п. (совместный 95%-й интервал) |" in summary
    assert "- обучение не удалось: wild, начальное значение (seed) 0: " in summary
    difference = found["difference"][0]
    assert f"| larger | 2 | {difference:+.2f}".replace("-", "−").replace(".", ",") in summary


def test_mlflow_has_a_run_for_each_training(ablated: Project) -> None:
    store = mlflow.MlflowClient(f"sqlite:///{ablated.top}/mlruns/mlflow.db")
    experiment = store.get_experiment_by_name("mnist ablations")
    found = store.search_runs([experiment.experiment_id])
    runs = {run.info.run_id: run.info.run_name for run in found}
    folds = {run.info.run_id: run.data.params.get("fold") for run in found}
    table = pd.read_csv(ablated.top / "reports/ablation/runs.csv")
    for row in table.itertuples():
        assert runs.pop(row.run_id) == f"{row.setting}, seed {row.seed}"
        assert folds[row.run_id] == str(row.seed)
    (parent,) = runs.values()
    assert parent.startswith("ablation small-")


def with_budget(name: str, **changes: object) -> params.Params:
    """The shipped parameters with this budget, and with changes to its ablation."""
    budget = SHIPPED.ablation.budgets[name].model_copy(update=changes)
    ablation = SHIPPED.ablation.model_copy(update={"budgets": {name: budget}})
    return SHIPPED.model_copy(update={"ablation": ablation, "budget": name})


def test_factors_change_their_keys_alone() -> None:
    plan = make_plan(with_budget("full"), "")
    base = plan.settings["lesson"]
    assert base == SHIPPED.variants["lesson"].model_copy(update={"epochs": plan.epochs})
    factors = {names["factor"]: pair for pair, names in plan.contrasts.items() if "factor" in names}
    assert list(factors) == list(SHIPPED.ablation.factors)
    for name, (setting, against) in factors.items():
        assert against == "lesson"
        flat = params_of(plan.settings[setting])
        changed = {key for key, value in params_of(base).items() if flat[key] != value}
        assert changed <= set(SHIPPED.ablation.factors[name]), name
        assert changed, name
    order = [(values["seed"], values["setting"]) for values, _ in plan.enqueued(first=0)]
    assert order == [(seed, name) for seed in range(5) for name in plan.settings]


def test_no_two_settings_train_alike() -> None:
    plan = make_plan(with_budget("full"), "")
    dumps = [variant.model_dump_json() for variant in plan.settings.values()]
    assert len({*dumps}) == len(dumps)
    # The step `normalised` is the factor, and the last step is the ingredient.
    assert plan.contrasts["normalised", "lesson"] == {"step": "normalised", "factor": "batch normalisation"}
    assert plan.contrasts["improved", "smoothed"] == {"step": "improved", "ingredient": "test-time augmentation"}


def test_each_ingredient_is_taken_from_the_last_step_alone() -> None:
    plan = make_plan(with_budget("full"), "")
    found = {names["ingredient"]: pair for pair, names in plan.contrasts.items() if "ingredient" in names}
    assert found.keys() == SHIPPED.ablation.leave_one_out.keys()
    assert {setting for setting, _ in found.values()} == {"improved"}
    for name, (_, without) in found.items():
        taken = plan.settings[without]
        for key, value in SHIPPED.ablation.leave_one_out[name].items():
            assert overrides.value(taken, key) == value, (name, key)
        changed = {
            key for key, value in params_of(plan.settings["improved"]).items() if params_of(taken).get(key) != value
        }
        assert changed == set(SHIPPED.ablation.leave_one_out[name]), name


def test_a_budgets_changes_apply_where_a_step_has_the_value_of_the_base() -> None:
    plan = make_plan(with_budget("laptop", changes={"optimizer.learning_rate": 0.5}), "")
    rates = {name: plan.settings[name].optimizer.learning_rate for name in ("lesson", "normalised", "muon")}
    assert rates == {"lesson": 0.5, "normalised": 0.5, "muon": SHIPPED.on_demand["muon"].optimizer.learning_rate}
    assert plan.settings["sigmoid"].optimizer.learning_rate == 0.5


def test_a_factor_that_changes_nothing_is_refused() -> None:
    same = with_budget("laptop", changes={"optimizer.learning_rate": 0.0003}, factors=["learning rate 0.0003"])
    expected = (
        r"^Invalid ablation\.factors\.learning rate 0\.0003\. Expected a change of lesson, apart from its epochs\."
    )
    with pytest.raises(UserError, match=expected):
        make_plan(same, "")


def test_a_data_sets_own_validation_is_kept() -> None:
    own = {**SHIPPED.data, "cifar10": params.DataSource(validation=77)}
    assert make_plan(with_budget("full").model_copy(update={"data": own}), "").validation == 77


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
