"""Quotes of long trainings against the tables in the README of each folder, and their counts of verdicts."""

from pathlib import Path

import pandas as pd
import pytest
from finished import write_leave_one_out

from cnnlab.homework import long_runs

RESULTS = Path(__file__).parents[2] / "docs/results"


@pytest.fixture(autouse=True)
def committed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_runs, "RESULTS", RESULTS)


def test_every_quoted_accuracy_is_in_the_readme_of_its_folder() -> None:
    table = long_runs.long_variants()
    assert {"lenet5", "slides", "lesson", "improved", "speedrun", "improved_mnist"} <= {*table["variant"]}
    for row in table.itertuples():
        readme = (Path(str(row.folder)) / "README.md").read_text()
        (line,) = [line for line in readme.splitlines() if line.startswith(f"| {row.variant} |")]
        assert f" {100 * row.test_accuracy:.2f} % ({100 * row.low:.2f}–{100 * row.high:.2f}) |" in line
        assert f"| {row.n} |" in line


def test_the_readme_shows_every_variant_with_three_seeds_or_more() -> None:
    table = long_runs.long_variants()
    shown = (RESULTS.parents[1] / "README.md").read_text().split("<!-- docs/results -->")[1].split("<!-- end of")[0]
    lines = [line for line in shown.splitlines() if line.startswith("| ")][1:]
    table = table[table["n"] >= 3]
    assert len(lines) == len(table)
    for line, row in zip(lines, table.itertuples(), strict=True):
        assert line.startswith(f"| {row.variant} | {row.data} | {row.epochs:.0f} | {100 * row.test_accuracy:.2f} % (")
        assert f"({100 * row.low:.2f}–{100 * row.high:.2f}) | {row.n} | " in line


def test_every_factor_of_the_long_ablation_is_quoted_from_its_trainings() -> None:
    table = long_runs.long_effects("ablation", 10)
    runs = pd.read_csv(RESULTS / "2026-11-23-ablation/runs.csv").pivot(
        index="setting", columns="seed", values="accuracy"
    )
    assert len(table) == 35
    for row in table.itertuples():
        assert row.difference == pytest.approx(100 * (runs.loc[row.change] - runs.loc["lesson"]).mean())


def test_an_ingredient_is_compared_with_the_network_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: 86.0 − 85.0 and 86.2 − 84.8 points with Muon, 86.0 − 86.4 and 86.2 − 86.6 with global pooling."""
    monkeypatch.setattr(long_runs, "RESULTS", tmp_path)
    write_leave_one_out(tmp_path / "2026-01-01-leave-one-out")
    table = long_runs.long_effects("leave-one-out", 10)
    assert table["change"].tolist() == ["Muon", "global pooling"]
    assert table["difference"].tolist() == pytest.approx([1.2, -0.4])
    assert table["n"].tolist() == [2, 2]
    assert table["images"].tolist() == [180_000, 180_000]


def test_a_checkout_without_long_runs_quotes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_runs, "RESULTS", tmp_path)
    assert long_runs.long_variants().empty
    assert long_runs.long_effects("ablation", 10).empty
    assert long_runs.long_transfers() is None
