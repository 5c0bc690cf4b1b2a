"""The benchmark's table: rows, medians, targets, Markdown."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import protocol

Figure = tuple[str, str]  # a side and one of its units
Rounds = Mapping[str, Sequence[protocol.Measurement]]  # by side, in the order of the pairs


@dataclass(frozen=True)
class Row:
    """A ratio: `ours` divided by `theirs`, pair by pair, and the target for its median."""

    title: str
    ours: Figure
    theirs: Figure
    target: float | None = None
    at_most: bool = False  # the target is an upper bound
    percent: bool = False


@dataclass(frozen=True)
class Result:
    """The measured values of a row; `absent` is the reason if there are none."""

    row: Row
    ours: float = 0.0
    theirs: float = 0.0
    ratios: tuple[float, ...] = ()
    note: str = ""
    absent: str = ""

    @property
    def ratio(self) -> float:
        """Median over the pairs."""
        return statistics.median(self.ratios)

    def asdict(self) -> dict[str, Any]:
        """For JSON."""
        if self.absent:
            return {"title": self.row.title, "absent": self.absent}
        return {
            "title": self.row.title,
            "ours": {self.row.ours[1]: self.ours},
            "theirs": {self.row.theirs[1]: self.theirs},
            "ratio": {"median": self.ratio, "low": min(self.ratios), "high": max(self.ratios)},
            "target": self.row.target,
            "note": self.note,
        }


def result(row: Row, rounds: Rounds, absent: Mapping[str, str]) -> Result:
    """Evaluate a row; `absent` has the reason for each side that was not measured."""
    if reason := absent.get(row.theirs[0]) or absent.get(row.ours[0]):
        return Result(row, absent=reason)
    ours, theirs = ([float(measured[unit]) for measured in rounds[side]] for side, unit in (row.ours, row.theirs))
    ratios = tuple(a / b for a, b in zip(ours, theirs, strict=True))
    note = str(rounds[row.theirs[0]][-1].get("note", ""))
    return Result(row, statistics.median(ours), statistics.median(theirs), ratios, note)


def markdown(results: Sequence[Result], title: str, machine: Sequence[str], method: str) -> str:
    """The page: machine, table, method."""
    head = ["measured", "cnnlab", "against", "ratio, median (low–high)", "target", "reached"]
    lines = [head, ["---"] * len(head), *map(_cells, results)]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    facts = "\n".join(f"- {fact}" for fact in machine)
    return f"# {title}\n\n{facts}\n\n{table}\n\n{method}\n"


def _cells(result: Result) -> list[str]:
    row = result.row
    target = f"{'≤' if row.at_most else '≥'} {_ratio(row.target, row)}" if row.target is not None else "–"
    if result.absent:
        return [row.title, "–", result.absent, "–", target, "–"]
    median, low, high = (_ratio(value, row) for value in (result.ratio, min(result.ratios), max(result.ratios)))
    title = f"{row.title} ({result.note})" if result.note else row.title
    return [
        title,
        _figure(result.ours, row.ours[1]),
        _figure(result.theirs, row.theirs[1]),
        f"{median} ({low}–{high})",
        target,
        _reached(result.ratio, row),
    ]


def _reached(ratio: float, row: Row) -> str:
    if row.target is None:
        return "–"
    return "yes" if (ratio <= row.target if row.at_most else ratio >= row.target) else "**no**"


def _ratio(value: float, row: Row) -> str:
    return f"{100 * value:.3g} %" if row.percent else f"{value:.2f}"


def _figure(value: float, unit: str) -> str:
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
