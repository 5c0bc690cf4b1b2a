"""Studies made by hand, as a sweep leaves them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from matplotlib.figure import Figure
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial
from ruamel.yaml import YAML

from cnnlab.report.language import Language
from cnnlab.studies.search.trials import best

ROOT = Path(__file__).parents[3]
LESSON = YAML(typ="safe").load(ROOT / "params.yaml")["variants"]["lesson"]
ENGLISH = Language()
PNGS = {"history.png", "importances.png", "slices.png"}
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
    attrs = {"baseline": "lesson", "objectives": objectives, "epochs": EPOCHS, "train_images": 45000, "seed": 3}
    for key, value in attrs.items():
        study.set_user_attr(key, value)
    study.add_trials(trials)
    return study


def complete(accuracy: float, *more: float, role: str = "search", values: Any = None, **attrs: Any) -> FrozenTrial:
    reported = {epoch: accuracy * epoch / EPOCHS for epoch in range(1, EPOCHS + 1)} if not more else {}
    chosen = values or {}
    return create_trial(
        values=[accuracy, *more],
        params=chosen,
        distributions={name: (SPACE | WIDE)[name] for name in chosen},
        intermediate_values=reported,
        user_attrs={"role": role, "variant": LESSON, "steps": 400, **attrs},
    )


def pruned(*accuracies: float, **attrs: Any) -> FrozenTrial:
    reported = dict(enumerate(accuracies, start=1))
    attrs = {"role": "search", "steps": 100 * len(reported), **attrs}
    return create_trial(state=TrialState.PRUNED, intermediate_values=reported, user_attrs=attrs)


def failed(**attrs: Any) -> FrozenTrial:
    return create_trial(state=TrialState.FAIL, user_attrs={"role": "search", "reason": "out of memory", **attrs})


def searched(n: int, second: bool = False) -> list[FrozenTrial]:
    """`n` complete trials with plausible values; the first is the baseline."""
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
    """`n` complete trials of 30 hyperparameters; only network.conv_dropout.7 matters; the first is the baseline."""
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
    """Cells of the body of a Markdown table."""
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def written(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def titled(figures: Sequence[Figure], start: str) -> Figure:
    (figure,) = (figure for figure in figures if figure.get_suptitle().startswith(start))
    return figure


def number_of_best(*trials: FrozenTrial) -> int | None:
    chosen = best(a_study(trials))
    return None if chosen is None else chosen.number
