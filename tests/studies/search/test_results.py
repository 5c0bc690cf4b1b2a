"""Results of a sweep: the best trial, tables, summary and files, with studies made by hand."""

import re
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState, create_trial
from PIL import Image
from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]
from ruamel.yaml import YAML
from scipy.stats import spearmanr
from studies.search.studies_by_hand import (
    ENGLISH,
    FILES,
    LESSON,
    PNGS,
    ROOT,
    a_study,
    complete,
    failed,
    number_of_best,
    pruned,
    rows,
    searched,
    written,
)

from cnnlab import params
from cnnlab.errors import UserError
from cnnlab.report.language import Language
from cnnlab.studies.search import charts, page, results
from cnnlab.studies.search.trials import best

# best


def test_the_best_is_the_most_accurate() -> None:
    assert number_of_best(complete(0.5, role="baseline"), complete(0.7), complete(0.6)) == 1
    assert number_of_best(complete(0.8, role="baseline"), complete(0.7)) == 0
    assert number_of_best() is None


def test_of_equals_the_cheapest_is_best_then_the_first() -> None:
    dear, cheap, unknown = complete(0.7, training_flop=9), complete(0.7, training_flop=2), complete(0.7)
    assert number_of_best(dear, unknown, cheap) == 2
    assert number_of_best(unknown, dear) == 1
    assert number_of_best(unknown, unknown) == 0
    assert number_of_best(cheap, cheap) == 0


def test_only_complete_trials_of_the_search_can_be_best() -> None:
    retried = complete(0.5, original=0, attempt=2)
    running = create_trial(state=TrialState.RUNNING, intermediate_values={1: 0.9}, user_attrs={"role": "search"})
    waiting = create_trial(state=TrialState.WAITING)
    others = [failed(original=0, attempt=1), pruned(0.8, 0.9), running, waiting]
    assert number_of_best(*others) is None
    assert number_of_best(*others, retried) == 4


@given(st.lists(st.tuples(st.sampled_from([0.5, 0.6, 0.7]), st.sampled_from([None, 1, 2]), st.booleans()), max_size=6))
def test_no_trial_ranks_above_the_best(drawn: list[tuple[float, int | None, bool]]) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    trials = [
        complete(a, **({"training_flop": flop} if flop else {})) if whole else pruned(a + 0.1)
        for a, flop, whole in drawn
    ]
    candidates = [(-a, flop or float("inf"), i) for i, (a, flop, whole) in enumerate(drawn) if whole]
    assert number_of_best(*trials) == (min(candidates)[2] if candidates else None)


# table


def test_the_table_has_one_row_per_trial() -> None:
    values = {"augment.flip": None, "optimizer.learning_rate": 1e-3, "network.dense_units": 128}
    attrs = {"original": 0, "attempt": 1, "run_id": "ab", "host": "box", "seconds": 2.5, "parameters": 7}
    study = a_study(
        [
            complete(0.6, role="baseline", training_flop=10**15, **attrs),
            complete(0.7, values=values),
            pruned(0.3, 0.4, 0.35),
            failed(original=3, attempt=1),
            create_trial(state=TrialState.WAITING),
        ]
    )
    table = results.table(study)
    first = ["trial", "state", "role", "original", "attempt", "validation_accuracy", "epochs", "steps", "seconds"]
    assert list(table) == [
        *first,
        *("parameters", "training_flop", "run_id", "host", "reason"),
        *("augment.flip", "network.dense_units", "optimizer.learning_rate"),
    ]
    assert table["trial"].tolist() == [0, 1, 2, 3, 4]
    assert table["state"].tolist() == ["COMPLETE", "COMPLETE", "PRUNED", "FAIL", "WAITING"]
    assert table["validation_accuracy"].tolist()[:3] == [0.6, 0.7, 0.35]
    assert table["validation_accuracy"].isna().tolist() == [False, False, False, True, True]
    assert table["epochs"].tolist()[:3] == [4, 4, 3]
    assert (table["original"][3], table["attempt"][3], table["reason"][3]) == (3, 1, "out of memory")
    assert table.loc[0, ["run_id", "host", "seconds", "parameters", "training_flop"]].tolist() == [
        *("ab", "box", 2.5, 7, 10**15)
    ]


def test_the_csv_distinguishes_null_from_absent_and_keeps_integers(tmp_path: Path) -> None:
    values = {"augment.flip": None, "network.dense_units": 128}
    results.write(a_study([complete(0.6, role="baseline"), complete(0.7, values=values)]), tmp_path, ENGLISH)
    cells = pd.read_csv(tmp_path / "trials.csv", dtype=str, keep_default_na=False)
    assert cells["augment.flip"].tolist() == ["", "null"]
    assert cells["network.dense_units"].tolist() == ["", "128"]
    assert cells["steps"].tolist() == ["400", "400"]


@pytest.mark.parametrize(("second", "columns"), [("FLOPs", ["FLOPs", "parameters"]), ("parameters", ["parameters"])])
def test_the_second_objective_has_a_column_once(second: str, columns: list[str]) -> None:
    table = results.table(a_study([complete(0.6, 5e6, role="baseline", parameters=5_000_000)], second))
    assert [name for name in table if name in ("FLOPs", "parameters")] == columns
    assert table[second].tolist() == [5_000_000]
    assert list(table)[6] == second


def test_a_study_without_trials_has_an_empty_table() -> None:
    assert len(results.table(a_study())) == 0


# summary


def test_the_summary_compares_baseline_and_best() -> None:
    attrs = {"parameters": 1_250_858, "run_id": "aa"}
    trials = [
        complete(0.5, role="baseline", training_flop=100, **attrs),
        complete(0.6123, training_flop=250, parameters=2_000_000, run_id="bb"),
        failed(),
    ]
    text = results.summary(a_study(trials), ENGLISH)
    assert rows(text) == [
        ["baseline `lesson`", "0", "50.00 %", "4", "1.00", "1,250,858", "`aa`"],
        ["**best trial**", "1", "61.23 %", "4", "2.50", "2,000,000", "`bb`"],
    ]
    assert "11.23 percentage points above the baseline" in text
    assert "2 complete, 1 failed" in text
    for words in (
        "validation images",
        "one training each with seed 3",
        "best of 2",
        "optimistic",
        "None of these is a test",
    ):
        assert words in text


def test_what_pruning_saved() -> None:
    trials = [
        complete(0.5, role="baseline"),  # 400 steps
        pruned(0.2),  # 100 of 400
        pruned(0.2, 0.3),  # 200 of 400
        pruned(),  # never reported: unknown
        failed(steps=50),
    ]
    assert "saved by pruning: 42 %" in results.summary(a_study(trials), ENGLISH)  # 1 - 700 / 1200
    assert "saved by pruning: not known yet" in results.summary(a_study([failed()]), ENGLISH)


def test_the_summary_says_what_is_missing() -> None:
    assert "No trial is complete yet" in results.summary(a_study(), ENGLISH)
    assert "No trial was better than the baseline" in results.summary(
        a_study([complete(0.5, role="baseline")]), ENGLISH
    )
    early = create_trial(state=TrialState.FAIL, user_attrs={"role": "baseline"})
    (baseline, best) = rows(results.summary(a_study([early, complete(0.5)]), ENGLISH))
    assert baseline[1:] == ["0", "none (failed)", "–", "–", "–", "–"]
    assert best[1:3] == ["1", "50.00 %"]


def test_a_retried_baseline_counts_once_complete() -> None:
    study = a_study([failed(role="baseline"), complete(0.5, role="baseline"), complete(0.6)])
    assert [cells[1] for cells in rows(results.summary(study, ENGLISH))] == ["1", "2"]


# write


def test_the_best_variant_can_be_pasted_into_params_yaml(tmp_path: Path) -> None:
    changed = {**LESSON, "epochs": 7, "optimizer": {"name": "adam", "learning_rate": 3e-7}}
    results.write(a_study([complete(0.5, role="baseline"), complete(0.6, variant=changed)]), tmp_path, ENGLISH)
    text = (tmp_path / "best.yaml").read_text()
    comment = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    assert text.startswith(comment)
    assert all(words in comment for words in ("try <one>", "trial 1", "60.00 %", "50.00 %", "tuned"))
    tree = YAML(typ="safe").load(ROOT / "params.yaml")
    tree["variants"]["swept"] = YAML(typ="safe").load(text)
    YAML().dump(tree, tmp_path / "params.yaml")
    swept = params.variant(params.load(tmp_path / "params.yaml"), "swept")
    assert swept == params.Variant.model_validate(changed)


@pytest.mark.parametrize("trials", [[], [failed()], [pruned(0.3)]])
def test_without_a_complete_trial_nothing_is_written(tmp_path: Path, trials: list[FrozenTrial]) -> None:
    with pytest.raises(UserError, match=r"Expected: at least one complete trial\. Received: \w"):
        results.write(a_study(trials), tmp_path / "sweep", ENGLISH)
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize("second", [None, "FLOPs"])
def test_dark_lines_are_the_trials_of_high_accuracy(second: str | None) -> None:
    sweep = charts.SweepResults.of(a_study(searched(9, bool(second)), second), ENGLISH)
    _, figure = page.PLOTS["parallel"](sweep)
    lines = [trace for trace in figure.data if trace.mode == "lines"]
    accuracy = [float(trace.customdata[0][1]) for trace in lines]
    brightness = [sum(map(float, re.findall(r"[\d.]+", trace.line.color)[:3])) for trace in lines]
    assert spearmanr(accuracy, brightness).statistic < -0.99


@pytest.mark.parametrize("second", [None, "FLOPs"])
@pytest.mark.parametrize("n", [1, 2, 14])
def test_every_file_is_there_however_few_trials(tmp_path: Path, n: int, second: str | None) -> None:
    trials = [*searched(n, bool(second)), failed()]
    if not second:
        trials.insert(n, pruned(0.2, 0.3))
    results.write(a_study(trials, second), tmp_path, ENGLISH)
    pngs = PNGS | ({"pareto.png"} if second else set())
    assert written(tmp_path) == FILES | pngs
    for name in pngs:
        with Image.open(tmp_path / name) as image:
            assert image.format == "PNG"
            grey = np.asarray(image.convert("L"))
        assert min(grey.shape) >= 400
        assert max(grey.shape) <= 4000
        assert 0.002 < (grey < 200).mean() < 0.6
    html = (tmp_path / "figures.html").read_text()
    drawn = set(re.findall(r'<div id="(\w+)" class="plotly-graph-div"', html))
    shown = {"history", "importances", "slices", "parallel", "pareto" if second else "epochs"}
    assert drawn == (shown if n > 1 else shown & {"history", "epochs"})
    assert html.count("<h2>") == len(re.findall(r"</h2>\n<p", html)) == (6 if second else 5)


def test_the_page_carries_plotly_once_and_loads_nothing(tmp_path: Path) -> None:
    results.write(a_study(searched(4)), tmp_path, ENGLISH)
    html = (tmp_path / "figures.html").read_text()
    assert html.count(get_plotlyjs()) == 1
    rest = html.replace(get_plotlyjs(), "")
    assert "<title>Sweep try &lt;one&gt;</title>" in rest
    assert len(rest) < 200_000
    assert not re.findall(r'(?:src|href)="', rest)


def test_the_same_study_gives_the_same_files(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        results.write(a_study(searched(6)), tmp_path / folder, ENGLISH)
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_a_parameter_without_variation_is_explained_instead_of_drawn(tmp_path: Path) -> None:
    same = [complete(a, values={"optimizer.learning_rate": 1e-3}) for a in (0.5, 0.6, 0.7)]
    results.write(a_study(same), tmp_path, ENGLISH)
    html = (tmp_path / "figures.html").read_text()
    assert html.count("No hyperparameter varies between the complete trials yet.") == 3
    assert written(tmp_path) == FILES


def test_equal_accuracies_have_no_importances(tmp_path: Path) -> None:
    same = [complete(0.5, values={"optimizer.learning_rate": rate}) for rate in (1e-3, 1e-2, 1e-4)]
    results.write(a_study(same), tmp_path, ENGLISH)
    assert "All complete trials have the same accuracy" in (tmp_path / "figures.html").read_text()


def test_a_value_outside_the_search_space_is_left_out_of_the_figures(tmp_path: Path) -> None:
    study = a_study(searched(5))
    study.enqueue_trial({"optimizer.learning_rate": 0.5})
    outside = study.ask()
    with pytest.warns(UserWarning, match="out of range"):
        assert outside.suggest_float("optimizer.learning_rate", 1e-5, 1e-1, log=True) == 0.5
    outside.set_user_attr("role", "search")
    outside.set_user_attr("variant", LESSON)
    study.tell(outside, 0.9)
    assert best(study) == study.trials[5]
    results.write(study, tmp_path, ENGLISH)
    assert written(tmp_path) == FILES


@pytest.mark.parametrize("second", [None, "FLOPs"])
@pytest.mark.parametrize("n", [1, 14])
def test_every_text_of_summary_and_page_is_in_the_catalogues(tmp_path: Path, n: int, second: str | None) -> None:
    """A message without a translation would raise an error."""
    trials = [*searched(n, bool(second)), failed()]
    if not second:
        trials.insert(n, pruned(0.2, 0.3))
    results.write(a_study(trials, second), tmp_path, Language("ru"))
    summary = (tmp_path / "summary.md").read_text()
    assert summary.startswith("# Поиск try <one>\n")
    assert f"{n} завершено" in summary
    page = (tmp_path / "figures.html").read_text().replace(get_plotlyjs(), "")
    assert '<html lang="ru">' in page
    assert "<h2>Важность гиперпараметров</h2>" in page


@pytest.mark.parametrize("trials", [[], [failed(role="baseline")], [pruned(0.3)]])
def test_a_summary_without_a_complete_trial_is_in_the_catalogues(trials: list[FrozenTrial]) -> None:
    assert "Ни одно испытание ещё не завершено" in results.summary(a_study(trials), Language("ru"))
