"""Figures of a sweep: what they show, and whether they can be read."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.trial import FrozenTrial, create_trial
from PIL import Image
from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]
from studies.search.studies_by_hand import (
    ENGLISH,
    PNGS,
    SPACE,
    WIDE,
    a_study,
    complete,
    failed,
    pruned,
    searched,
    searched_widely,
    titled,
)

from cnnlab.studies.search import charts, results


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


def test_thirty_settings_fit_on_a_page(tmp_path: Path, drawn: list[Figure]) -> None:
    results.write(a_study(searched_widely(31)), tmp_path, ENGLISH)
    for name in PNGS:
        with Image.open(tmp_path / name) as image:
            assert image.width <= 2400
    bars = [text.get_text() for text in titled(drawn, "Importance of the hyperparameters").axes[0].get_yticklabels()]
    assert bars[-1] == "network.conv_dropout.7"
    assert set(bars) == set(WIDE)
    slices = titled(drawn, "Accuracy against each hyperparameter")
    assert {axes.get_xlabel() for axes in slices.axes if axes.get_visible()} == set(WIDE)
    page = (tmp_path / "figures.html").read_text()
    names = ",".join(f'"{name}"' for name in sorted(WIDE))
    assert f'"ticktext":["validation accuracy (%)",{names}]' in page


@pytest.mark.parametrize("trials", [searched_widely(31), searched(14)])
def test_no_text_is_clipped_and_no_axes_names_overlap(
    tmp_path: Path, drawn: list[Figure], trials: list[FrozenTrial]
) -> None:
    results.write(a_study(trials), tmp_path, ENGLISH)
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


@pytest.mark.parametrize(("n", "text"), [(8, "complete trials: 8; a hint, not evidence"), (20, "complete trials: 20")])
def test_importances_give_the_number_of_trials(tmp_path: Path, drawn: list[Figure], n: int, text: str) -> None:
    results.write(a_study([*searched(n), pruned(0.2), failed()]), tmp_path, ENGLISH)
    title = titled(drawn, "Importance of the hyperparameters").get_suptitle()
    page = (tmp_path / "figures.html").read_text().replace(get_plotlyjs(), "")
    (paragraph,) = re.findall(r"<h2>Importance of the hyperparameters</h2>\n<p>(.*?)</p>", page)
    for place in (title, paragraph):
        assert text in place
        assert ("a hint, not evidence" in place) == (n < 20)


def test_importances_do_not_count_a_baseline_that_lacks_the_settings(tmp_path: Path, drawn: list[Figure]) -> None:
    results.write(a_study([complete(0.6, role="baseline"), *searched_widely(9)[1:]]), tmp_path, ENGLISH)
    assert "complete trials: 8" in titled(drawn, "Importance of the hyperparameters").get_suptitle()


def test_settings_that_only_some_trials_have_are_drawn_without_importances(tmp_path: Path) -> None:
    trials = [complete(0.5 + m / 10, values={"optimizer.momentum": m}) for m in (0.1, 0.9)]
    results.write(a_study([*trials, complete(0.4)]), tmp_path, ENGLISH)
    page = (tmp_path / "figures.html").read_text()
    assert page.count("No hyperparameter that all complete trials have varies yet.") == 1
    assert 'id="parallel"' in page


def test_parameters_that_vary_have_an_axis_each() -> None:
    shown = {p.name: p for p in charts.parameters(a_study(searched(9)).trials)}
    assert list(shown) == sorted(SPACE)
    assert shown["network.batch_norm"].choices == [False, True]
    assert [charts.label(c) for c in shown["network.batch_norm"].choices or []] == ["false", "true"]
    assert shown["augment.flip"].choices == [None, "random", "alternating"]
    assert [charts.label(c) for c in shown["augment.flip"].choices or []] == ["null", "random", "alternating"]
    assert (shown["optimizer.learning_rate"].log, shown["optimizer.momentum"].log) == (True, False)
    assert shown["network.dense_units"].integer


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=8))
def test_the_front_is_not_dominated(points: list[tuple[int, int]]) -> None:
    front = charts.pareto_front([create_trial(values=[a, cost]) for a, cost in points])
    beaten = {(a, c) for a, c in points if any((b >= a and d < c) or (b > a and d <= c) for b, d in points)}
    assert [(t.values[0], t.values[1]) for t in front] == sorted(set(points) - beaten, key=lambda p: p[1])
