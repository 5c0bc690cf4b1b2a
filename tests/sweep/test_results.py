"""What a study found: the best trial, the tables, the comparison, the pictures, with studies built by hand."""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial
from PIL import Image
from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]
from ruamel.yaml import YAML

from cnnlab import params
from cnnlab.errors import UserError
from cnnlab.sweep import charts, results

ROOT = Path(__file__).parents[2]
LESSON = YAML(typ="safe").load(ROOT / "params.yaml")["variants"]["lesson"]
PNGS = {"history.png", "importances.png", "slices.png", "parallel.png"}
FILES = PNGS | {"trials.csv", "importances.csv", "best.yaml", "summary.md", "figures.html"}
SPACE: dict[str, BaseDistribution] = {
    "augment.flip": CategoricalDistribution([None, "random", "alternating"]),
    "network.batch_norm": CategoricalDistribution([False, True]),
    "network.dense_units": IntDistribution(64, 1024, log=True),
    "optimizer.learning_rate": FloatDistribution(1e-5, 1e-1, log=True),
    "optimizer.momentum": FloatDistribution(0, 0.95),
    "optimizer.name": CategoricalDistribution(["rmsprop", "sgd"]),
}
WIDE: dict[str, BaseDistribution] = {
    **{f"network.conv_dropout.{i}": FloatDistribution(0, 0.5) for i in range(15)},
    **{f"optimizer.warm_up_rate.{i}": FloatDistribution(1e-4, 1e-1, log=True) for i in range(10)},
    **{f"network.head.{i}": CategoricalDistribution(["flatten", "global_average", "alternating"]) for i in range(5)},
}
EPOCHS = 4


def a_study(trials: Sequence[FrozenTrial] = (), second: str | None = None, name: str = "try <one>") -> Study:
    study = optuna.create_study(directions=["maximize", "minimize"][: 2 if second else 1], study_name=name)
    objectives = ["validation accuracy", *([second] if second else [])]
    told = {"baseline": "lesson", "objectives": objectives, "epochs": EPOCHS, "train_images": 45000, "seed": 3}
    for key, value in told.items():
        study.set_user_attr(key, value)
    study.add_trials(trials)
    return study


def complete(accuracy: float, *more: float, role: str = "search", values: Any = None, **told: Any) -> FrozenTrial:
    reported = {epoch: accuracy * epoch / EPOCHS for epoch in range(1, EPOCHS + 1)} if not more else {}
    chosen = values or {}
    return create_trial(
        values=[accuracy, *more],
        params=chosen,
        distributions={name: (SPACE | WIDE)[name] for name in chosen},
        intermediate_values=reported,
        user_attrs={"role": role, "variant": LESSON, "steps": 400, **told},
    )


def pruned(*accuracies: float, **told: Any) -> FrozenTrial:
    reported = dict(enumerate(accuracies, start=1))
    told = {"role": "search", "steps": 100 * len(reported), **told}
    return create_trial(state=TrialState.PRUNED, intermediate_values=reported, user_attrs=told)


def failed(**told: Any) -> FrozenTrial:
    return create_trial(state=TrialState.FAIL, user_attrs={"role": "search", "reason": "out of memory", **told})


def searched(n: int, second: bool = False) -> list[FrozenTrial]:
    """`n` complete trials with believable values; the first is the baseline."""
    draw = np.random.default_rng(0)
    trials = []
    for i in range(n):
        values: dict[str, Any] = {
            "augment.flip": [None, "random", "alternating"][i % 3],
            "network.batch_norm": bool(i % 2),
            "network.dense_units": int(64 * 2 ** draw.uniform(0, 4)),
            "optimizer.learning_rate": float(10 ** draw.uniform(-5, -1)),
            "optimizer.name": ["rmsprop", "sgd"][i // 2 % 2],
        }
        if values["optimizer.name"] == "sgd":
            values["optimizer.momentum"] = float(draw.uniform(0, 0.95))
        accuracy = 0.7 - 0.05 * (np.log10(values["optimizer.learning_rate"]) + 3) ** 2 + draw.normal(0, 0.01)
        more = [1e6 * float(10 ** draw.uniform(0, 2))] if second else []
        role = "baseline" if i == 0 else "search"
        trials.append(complete(float(accuracy), *more, role=role, values=values, training_flop=10**12 * (i + 1)))
    return trials


def searched_widely(n: int) -> list[FrozenTrial]:
    """`n` complete trials of 30 settings, of which network.conv_dropout.7 alone matters; the first is the baseline."""
    draw = np.random.default_rng(0)
    trials = []
    for i in range(n):
        values: dict[str, Any] = {}
        for name, kind in WIDE.items():
            if isinstance(kind, CategoricalDistribution):
                values[name] = kind.choices[draw.integers(len(kind.choices))]
            else:
                values[name] = float(draw.uniform(1e-4, 0.1))
        accuracy = 0.7 - 2 * values["network.conv_dropout.7"]
        trials.append(complete(accuracy, role="search" if i else "baseline", values=values))
    return trials


def rows(text: str) -> list[list[str]]:
    """The cells of a Markdown table's body."""
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def written(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures saved so far."""
    found: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *args: Any, **how: Any) -> None:
        save(figure, *args, **how)
        found.append(figure)

    monkeypatch.setattr(Figure, "savefig", keep)
    return found


def titled(figures: Sequence[Figure], start: str) -> Figure:
    (figure,) = (figure for figure in figures if figure.get_suptitle().startswith(start))
    return figure


def number_of_best(*trials: FrozenTrial) -> int | None:
    chosen = results.best(a_study(trials))
    return None if chosen is None else chosen.number


# best


def test_the_best_is_the_most_accurate() -> None:
    assert number_of_best(complete(0.5, role="baseline"), complete(0.7), complete(0.6)) == 1
    assert number_of_best(complete(0.8, role="baseline"), complete(0.7)) == 0
    assert number_of_best() is None


def test_of_equals_the_cheapest_is_best_then_the_first() -> None:
    dear, cheap, untold = complete(0.7, training_flop=9), complete(0.7, training_flop=2), complete(0.7)
    assert number_of_best(dear, untold, cheap) == 2
    assert number_of_best(untold, dear) == 1
    assert number_of_best(untold, untold) == 0
    assert number_of_best(cheap, cheap) == 0


def test_only_complete_trials_of_the_search_can_be_best() -> None:
    retried = complete(0.5, original=0, attempt=2)
    running = create_trial(state=TrialState.RUNNING, intermediate_values={1: 0.9}, user_attrs={"role": "search"})
    waiting = create_trial(state=TrialState.WAITING)
    others = [failed(original=0, attempt=1), pruned(0.8, 0.9), running, waiting]
    assert number_of_best(*others) is None
    assert number_of_best(*others, retried) == 4


@given(st.lists(st.tuples(st.sampled_from([0.5, 0.6, 0.7]), st.sampled_from([None, 1, 2]), st.booleans()), max_size=6))
def test_no_trial_goes_before_the_best(told: list[tuple[float, int | None, bool]]) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    trials = [
        complete(a, **({"training_flop": flop} if flop else {})) if whole else pruned(a + 0.1)
        for a, flop, whole in told
    ]
    candidates = [(-a, flop or float("inf"), i) for i, (a, flop, whole) in enumerate(told) if whole]
    assert number_of_best(*trials) == (min(candidates)[2] if candidates else None)


# table


def test_the_table_has_a_row_a_trial() -> None:
    values = {"augment.flip": None, "optimizer.learning_rate": 1e-3, "network.dense_units": 128}
    told = {"original": 0, "attempt": 1, "run_id": "ab", "host": "box", "seconds": 2.5, "parameters": 7}
    study = a_study(
        [
            complete(0.6, role="baseline", training_flop=10**15, **told),
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


def test_the_table_as_csv_tells_null_from_absent_and_keeps_whole_numbers(tmp_path: Path) -> None:
    values = {"augment.flip": None, "network.dense_units": 128}
    results.write(a_study([complete(0.6, role="baseline"), complete(0.7, values=values)]), tmp_path)
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


# comparison


def test_the_comparison_sets_baseline_and_best_side_by_side() -> None:
    told = {"parameters": 1_250_858, "run_id": "aa"}
    trials = [
        complete(0.5, role="baseline", training_flop=100, **told),
        complete(0.6123, training_flop=250, parameters=2_000_000, run_id="bb"),
        failed(),
    ]
    text = results.comparison(a_study(trials))
    assert rows(text) == [
        ["baseline `lesson`", "0", "50.00 %", "4", "1.00", "1,250,858", "`aa`"],
        ["**best trial**", "1", "61.23 %", "4", "2.50", "2,000,000", "`bb`"],
    ]
    assert "11.23 percentage points above the baseline" in text
    assert "2 complete, 1 fail" in text
    for words in (
        "validation images",
        "one training each, seed 3",
        "best of 2",
        "optimistic",
        "None of them is a test",
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
    assert "saved by pruning: 42 %" in results.comparison(a_study(trials))  # 1 - 700 / 1200
    assert "saved by pruning: not known yet" in results.comparison(a_study([failed()]))


def test_the_comparison_tells_what_is_missing() -> None:
    assert "No trial is complete yet" in results.comparison(a_study())
    assert "No trial was better than the baseline" in results.comparison(a_study([complete(0.5, role="baseline")]))
    early = create_trial(state=TrialState.FAIL, user_attrs={"role": "baseline"})
    (baseline, best) = rows(results.comparison(a_study([early, complete(0.5)])))
    assert baseline[1:] == ["0", "none (fail)", "–", "–", "–", "–"]
    assert best[1:3] == ["1", "50.00 %"]


def test_a_retried_baseline_counts_once_complete() -> None:
    study = a_study([failed(role="baseline"), complete(0.5, role="baseline"), complete(0.6)])
    assert [cells[1] for cells in rows(results.comparison(study))] == ["1", "2"]


# write


def test_the_best_variant_can_be_pasted_into_params_yaml(tmp_path: Path) -> None:
    changed = {**LESSON, "epochs": 7, "optimizer": {"name": "adam", "learning_rate": 3e-7}}
    results.write(a_study([complete(0.5, role="baseline"), complete(0.6, variant=changed)]), tmp_path)
    text = (tmp_path / "best.yaml").read_text()
    comment = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    assert text.startswith(comment)
    assert all(words in comment for words in ("try <one>", "trial 1", "60.00 %", "50.00 %", "params.yaml"))
    tree = YAML(typ="safe").load(ROOT / "params.yaml")
    tree["variants"]["swept"] = YAML(typ="safe").load(text)
    YAML().dump(tree, tmp_path / "params.yaml")
    swept = params.variant(params.load(tmp_path / "params.yaml"), "swept")
    assert swept == params.Variant.model_validate(changed)


@pytest.mark.parametrize("trials", [[], [failed()], [pruned(0.3)]])
def test_without_a_complete_trial_nothing_is_written(tmp_path: Path, trials: list[FrozenTrial]) -> None:
    with pytest.raises(UserError, match=r"Expected: at least one complete trial\. Received: \w"):
        results.write(a_study(trials), tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize("second", [None, "FLOPs"])
@pytest.mark.parametrize("n", [1, 2, 14])
def test_every_file_is_there_however_few_trials(tmp_path: Path, n: int, second: str | None) -> None:
    trials = [*searched(n, bool(second)), failed()]
    if not second:
        trials.insert(n, pruned(0.2, 0.3))
    results.write(a_study(trials, second), tmp_path)
    pngs = PNGS | ({"pareto.png"} if second else set())
    assert written(tmp_path) == FILES | pngs
    for name in pngs:
        with Image.open(tmp_path / name) as image:
            assert image.format == "PNG"
            grey = np.asarray(image.convert("L"))
        assert min(grey.shape) >= 400
        assert max(grey.shape) <= 4000
        assert 0.002 < (grey < 200).mean() < 0.6
    page = (tmp_path / "figures.html").read_text()
    drawn = set(re.findall(r'<div id="(\w+)" class="plotly-graph-div"', page))
    shown = {"history", "importances", "slices", "parallel", "pareto" if second else "epochs"}
    assert drawn == (shown if n > 1 else shown & {"history", "epochs"})
    assert page.count("<h2>") == len(re.findall(r"</h2>\n<p", page)) == (6 if second else 5)


def test_the_page_carries_plotly_once_and_loads_nothing(tmp_path: Path) -> None:
    results.write(a_study(searched(4)), tmp_path)
    page = (tmp_path / "figures.html").read_text()
    assert page.count(get_plotlyjs()) == 1
    rest = page.replace(get_plotlyjs(), "")
    assert "<title>Sweep try &lt;one&gt;</title>" in rest
    assert len(rest) < 200_000
    assert not re.findall(r'(?:src|href)="', rest)


def test_the_same_study_gives_the_same_files(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        results.write(a_study(searched(6)), tmp_path / folder)
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_a_parameter_without_variation_is_told_instead_of_drawn(tmp_path: Path) -> None:
    same = [complete(a, values={"optimizer.learning_rate": 1e-3}) for a in (0.5, 0.6, 0.7)]
    results.write(a_study(same), tmp_path)
    page = (tmp_path / "figures.html").read_text()
    assert page.count("No parameter has two values among the complete trials yet.") == 3
    assert written(tmp_path) == FILES


def test_equal_accuracies_have_no_importances(tmp_path: Path) -> None:
    same = [complete(0.5, values={"optimizer.learning_rate": rate}) for rate in (1e-3, 1e-2, 1e-4)]
    results.write(a_study(same), tmp_path)
    assert "All complete trials have the same accuracy" in (tmp_path / "figures.html").read_text()


def test_a_value_outside_the_ranges_searched_is_left_out_of_the_pictures(tmp_path: Path) -> None:
    study = a_study(searched(5))
    study.enqueue_trial({"optimizer.learning_rate": 0.5})
    outside = study.ask()
    with pytest.warns(UserWarning, match="out of range"):
        assert outside.suggest_float("optimizer.learning_rate", 1e-5, 1e-1, log=True) == 0.5
    outside.set_user_attr("role", "search")
    outside.set_user_attr("variant", LESSON)
    study.tell(outside, 0.9)
    assert results.best(study) == study.trials[5]
    results.write(study, tmp_path)
    assert written(tmp_path) == FILES


# figures


def test_thirty_settings_fit_on_a_page(tmp_path: Path, drawn: list[Figure]) -> None:
    results.write(a_study(searched_widely(31)), tmp_path)
    for name in PNGS:
        with Image.open(tmp_path / name) as image:
            assert image.width <= (2000 if name == "parallel.png" else 2400)
    parallel = titled(drawn, "Settings that go together")
    assert "12 of 30 settings that vary, the most important first" in parallel.get_suptitle()
    shown = [text.get_text().replace("\n", "") for text in parallel.axes[0].get_xticklabels()]
    assert len(shown) == 13
    assert (shown[0], shown[-1]) == ("network.conv_dropout.7", "validationaccuracy(%)")
    bars = [text.get_text() for text in titled(drawn, "Which settings mattered").axes[0].get_yticklabels()]
    assert shown[:-1] == bars[:-13:-1]
    slices = titled(drawn, "Accuracy against each setting")
    assert {axes.get_xlabel() for axes in slices.axes if axes.get_visible()} == set(WIDE)
    page = (tmp_path / "figures.html").read_text()
    names = ",".join(f'"{name}"' for name in sorted(WIDE))
    assert f'"ticktext":["validation accuracy (%)",{names}]' in page


@pytest.mark.parametrize("trials", [searched_widely(31), searched(14)])
def test_no_text_is_clipped_and_no_axes_names_overlap(
    tmp_path: Path, drawn: list[Figure], trials: list[FrozenTrial]
) -> None:
    results.write(a_study(trials), tmp_path)
    assert len(drawn) == len(PNGS)
    for figure in drawn:
        width, height = figure.get_size_inches()
        ink = figure.get_tightbbox()
        assert min(ink.x0, ink.y0, width - ink.x1, height - ink.y1) > -0.01, figure.get_suptitle()
        for axes in filter(Axes.get_visible, figure.axes):
            low, high = axes.get_xlim()
            names = [name for name in axes.get_xticklabels() if low <= name.get_position()[0] <= high]
            boxes = [name.get_window_extent() for name in names if not name.get_rotation()]
            assert not any(one.overlaps(other) for one, other in pairwise(boxes)), axes.get_xlabel()


def test_without_importances_the_settings_keep_the_order_of_the_study(tmp_path: Path, drawn: list[Figure]) -> None:
    values = [trial.params for trial in searched_widely(9)]
    results.write(a_study([complete(0.5, values=dict(reversed(one.items()))) for one in values]), tmp_path)
    parallel = titled(drawn, "Settings that go together")
    assert "12 of 30 settings that vary, in the order of the study" in parallel.get_suptitle()
    shown = [text.get_text().replace("\n", "") for text in parallel.axes[0].get_xticklabels()]
    assert shown[:-1] == [*reversed(WIDE)][:12]


@pytest.mark.parametrize(("n", "told"), [(8, "from 8 complete trials: a hint, not evidence"), (20, "from 20 complete")])
def test_importances_tell_the_trials_they_rest_on(tmp_path: Path, drawn: list[Figure], n: int, told: str) -> None:
    results.write(a_study([*searched(n), pruned(0.2), failed()]), tmp_path)
    title = titled(drawn, "Which settings mattered").get_suptitle()
    page = (tmp_path / "figures.html").read_text().replace(get_plotlyjs(), "")
    (paragraph,) = re.findall(r"<h2>Which settings mattered</h2>\n<p>(.*?)</p>", page)
    for text in (title, paragraph):
        assert told in text
        assert ("a hint, not evidence" in text) == (n < 20)


def test_importances_do_not_count_a_baseline_that_lacks_the_settings(tmp_path: Path, drawn: list[Figure]) -> None:
    results.write(a_study([complete(0.6, role="baseline"), *searched_widely(9)[1:]]), tmp_path)
    assert "from 8 complete trials" in titled(drawn, "Which settings mattered").get_suptitle()


def test_settings_that_only_some_trials_have_are_drawn_without_importances(tmp_path: Path) -> None:
    trials = [complete(0.5 + m / 10, values={"optimizer.momentum": m}) for m in (0.1, 0.9)]
    results.write(a_study([*trials, complete(0.4)]), tmp_path)
    page = (tmp_path / "figures.html").read_text()
    assert page.count("No parameter that every complete trial has takes two values yet.") == 1
    assert 'id="parallel"' in page


def test_parameters_that_vary_have_an_axis_each() -> None:
    shown = {p.name: p for p in charts.parameters(a_study(searched(9)).trials)}
    assert list(shown) == sorted(SPACE)
    assert shown["network.batch_norm"].choices == [False, True]
    assert [charts.label(c) for c in shown["network.batch_norm"].choices or []] == ["false", "true"]
    assert shown["augment.flip"].choices == [None, "random", "alternating"]
    assert [charts.label(c) for c in shown["augment.flip"].choices or []] == ["null", "random", "alternating"]
    assert shown["optimizer.learning_rate"].place(1e-3) == pytest.approx(-3)
    assert shown["network.dense_units"].whole


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=8))
def test_the_front_is_what_none_beats(points: list[tuple[int, int]]) -> None:
    front = charts.front_of([create_trial(values=[a, cost]) for a, cost in points])
    beaten = {(a, c) for a, c in points if any((b >= a and d < c) or (b > a and d <= c) for b, d in points)}
    assert [(t.values[0], t.values[1]) for t in front] == sorted(set(points) - beaten, key=lambda p: p[1])
