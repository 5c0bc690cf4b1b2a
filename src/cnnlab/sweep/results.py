"""What a study of the sweep found: tables, the best variant, a fair comparison, pictures."""

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from ruamel.yaml import YAML

from cnnlab.errors import UserError
from cnnlab.files import write_text
from cnnlab.sweep import figures, page
from cnnlab.sweep.charts import Sweep, behind, is_hint

WHOLE = ("original", "attempt", "epochs", "steps", "parameters", "training_flop")  # columns of whole numbers


def best(study: Study) -> FrozenTrial | None:
    """The complete trial with the highest accuracy; of equals the cheapest to train, then the first.

    None where no trial is complete yet.
    """
    complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
    return min(complete, key=_order, default=None)


def table(study: Study) -> pd.DataFrame:
    """A row a trial, by number: its state, accuracy as a share of 1, cost, origin, and a column a parameter.

    The accuracy of a trial that is not complete is the last it reported. A parameter's cell is empty where the trial
    has no such parameter, and says null where null was chosen.
    """
    trials = sorted(study.get_trials(deepcopy=False), key=lambda trial: trial.number)
    columns = pd.DataFrame([_row(study, trial) for trial in trials])
    columns = columns.astype({name: "Int64" for name in WHOLE if name in columns})
    names = sorted({name for trial in trials for name in trial.params})
    cells = [[_cell(trial, name) for name in names] for trial in trials]
    settings = pd.DataFrame(cells, columns=names, index=columns.index, dtype=object)
    return pd.concat([columns, settings], axis=1)


def metrics(study: Study) -> dict[str, float]:
    """The study in figures: validation accuracies of the best trial and of the baseline, trials by state."""
    chosen, baseline = best(study), _of_role(study, "baseline")
    known = {"best": chosen, "baseline": baseline if baseline and baseline.state == TrialState.COMPLETE else None}
    accuracies = {f"{name}_validation_accuracy": float(trial.values[0]) for name, trial in known.items() if trial}
    states = Counter(trial.state for trial in study.get_trials(deepcopy=False))
    return accuracies | {f"trials_{state.name.lower()}": float(n) for state, n in states.items()}


def comparison(study: Study) -> str:
    """Markdown: the baseline, the best trial, what pruning saved, what to make of it."""
    chosen, baseline = best(study), _of_role(study, "baseline")
    name = study.user_attrs["baseline"]
    rows = [(f"baseline `{name}`", baseline)]
    if chosen is not None and chosen.number != getattr(baseline, "number", None):
        rows.append(("**best trial**", chosen))
    lines = [
        f"# Sweep {study.study_name}",
        "",
        f"| | trial | validation accuracy | epochs | training FLOPs ({name} = 1) | parameters | MLflow run |",
        "|---|---:|---|---:|---:|---:|---|",
        *(_compared(title, trial, baseline, study) for title, trial in rows),
        "",
        *_gain(chosen, baseline),
        _states(study),
        _saved(study),
        "",
        _caution(study),
    ]
    return "\n".join(lines) + "\n"


def write(study: Study, folder: Path) -> None:
    """Write trials.csv, importances.csv, best.yaml, summary.md, the PNGs and figures.html to `folder`, each whole.

    Raises UserError, before anything is written, where no trial is complete.
    """
    chosen = best(study)
    if chosen is None:
        raise UserError(
            f"Study {study.study_name} has no best trial yet. Expected: at least one complete trial. "
            f"Received: {_counts(study)}. Let the sweep run on."
        )
    sweep = _sweep(study, chosen)
    write_text(folder / "trials.csv", table(study).to_csv(index=False))
    write_text(folder / "importances.csv", _importances(study, sweep).to_csv(index=False))
    write_text(folder / "best.yaml", _best_yaml(study, chosen))
    write_text(folder / "summary.md", comparison(study))
    figures.draw(folder, sweep)
    page.write(folder / "figures.html", sweep)


def _importances(study: Study, sweep: Sweep) -> pd.DataFrame:
    """A row a setting that was weighed, the most important first: its share of 1, and the trials behind it."""
    trials = study.get_trials(deepcopy=False)
    ids = [trials[trial.number].user_attrs.get("run_id", "") for trial in behind(sweep)]
    told = {"trials": len(ids), "hint": is_hint(sweep), "run_ids": " ".join(ids)}
    rows = [{"setting": name, "share": share, **told} for name, share in sweep.importances.items()]
    return pd.DataFrame(rows, columns=["setting", "share", *told])


def _order(trial: FrozenTrial) -> tuple[float, float, int]:
    return -trial.values[0], trial.user_attrs.get("training_flop", math.inf), trial.number


def _of_role(study: Study, role: str) -> FrozenTrial | None:
    """The trial of `role`: of several attempts the complete one, else the latest."""
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.user_attrs.get("role") == role]
    return max(trials, key=lambda trial: (trial.state == TrialState.COMPLETE, trial.number), default=None)


def _accuracy(trial: FrozenTrial) -> float | None:
    """The accuracy of a complete trial, else the last it reported, None if it never did."""
    if trial.state == TrialState.COMPLETE:
        return float(trial.values[0])
    reported = trial.intermediate_values
    return reported[max(reported)] if reported else None


def _epochs(trial: FrozenTrial) -> int | None:
    return max(trial.intermediate_values, default=None)


# trials.csv


def _row(study: Study, trial: FrozenTrial) -> dict[str, Any]:
    told = trial.user_attrs
    row = {
        "trial": trial.number,
        "state": trial.state.name,
        **{name: told.get(name) for name in ("role", "original", "attempt")},
        "validation_accuracy": _accuracy(trial),
    }
    for index, objective in enumerate(study.user_attrs["objectives"][1:], start=1):
        row[objective] = trial.values[index] if trial.values else told.get(objective)
    row["epochs"] = _epochs(trial)
    for name in ("steps", "seconds", "parameters", "training_flop", "run_id", "host", "reason"):
        row.setdefault(name, told.get(name))
    return row


def _cell(trial: FrozenTrial, name: str) -> Any:
    if name not in trial.params:
        return None
    value = trial.params[name]
    return "null" if value is None else value


# best.yaml


def _best_yaml(study: Study, chosen: FrozenTrial) -> str:
    """The best trial's variant as YAML, below what it is and how to use it."""
    baseline, name = _of_role(study, "baseline"), study.user_attrs["baseline"]
    told = (
        f"{100 * baseline.values[0]:.2f} %"
        if baseline is not None and baseline.state == TrialState.COMPLETE
        else "not known, its trial is not complete"
    )
    header = [
        f"The best variant of sweep {study.study_name}: trial {chosen.number} (trials so far: {_counts(study)}).",
        f"Validation accuracy {100 * chosen.values[0]:.2f} %; baseline {name}: {told}.",
        "One training each, and the best of many: an optimistic figure, not a test result.",
        "To use it, copy all keys below into params.yaml as a new entry of variants, one step further to the right:",
        "  variants:",
        "    swept:",
        "      data: …",
        "then `make repro` trains it and scores it on the test set.",
    ]
    yaml, stream = YAML(), StringIO()
    yaml.width = 4096  # a value stays on its line
    yaml.dump(chosen.user_attrs["variant"], stream)
    return "".join(f"# {line}\n" for line in header) + stream.getvalue()


# summary.md


def _compared(title: str, trial: FrozenTrial | None, baseline: FrozenTrial | None, study: Study) -> str:
    if trial is None:
        return f"| {title} | – | not trained yet | – | – | – | – |"
    told = trial.user_attrs
    epochs = _epochs(trial) or (told.get("variant") or {}).get("epochs")
    cells = [
        title,
        str(trial.number),
        _told_accuracy(trial, study.user_attrs["epochs"]),
        str(epochs or "–"),
        _relative_flop(trial, baseline),
        f"{told['parameters']:,}" if "parameters" in told else "–",
        f"`{told['run_id']}`" if "run_id" in told else "–",
    ]
    return f"| {' | '.join(cells)} |"


def _told_accuracy(trial: FrozenTrial, epochs: int) -> str:
    accuracy, state = _accuracy(trial), trial.state.name.lower()
    if accuracy is None:
        return f"none ({state})"
    told = f"{100 * accuracy:.2f} %"
    return told if trial.state == TrialState.COMPLETE else f"{told} after {_epochs(trial)} of {epochs} epochs ({state})"


def _relative_flop(trial: FrozenTrial, baseline: FrozenTrial | None) -> str:
    own = trial.user_attrs.get("training_flop")
    unit = baseline.user_attrs.get("training_flop") if baseline else None
    return f"{own / unit:.2f}" if own and unit else "–"


def _gain(chosen: FrozenTrial | None, baseline: FrozenTrial | None) -> Iterator[str]:
    if chosen is None:
        yield "No trial is complete yet, so there is no best trial."
    elif baseline is not None and chosen.number == baseline.number:
        yield "No trial was better than the baseline."
    elif baseline is not None and baseline.state == TrialState.COMPLETE:
        points = 100 * (chosen.values[0] - baseline.values[0])
        yield f"The best trial is {points:.2f} percentage points above the baseline."


def _counts(study: Study) -> str:
    counts = Counter(trial.state for trial in study.get_trials(deepcopy=False))
    return ", ".join(f"{counts[state]} {state.name.lower()}" for state in TrialState if counts[state]) or "no trial"


def _states(study: Study) -> str:
    return f"Trials by state: {_counts(study)}."


def _saved(study: Study) -> str:
    """What share of the steps pruning saved, over the complete and pruned trials that tell their steps."""
    run, whole = 0.0, 0.0
    for trial in study.get_trials(deepcopy=False):
        steps, epochs = trial.user_attrs.get("steps"), _epochs(trial)
        if not steps or trial.state not in (TrialState.COMPLETE, TrialState.PRUNED):
            continue
        if trial.state == TrialState.PRUNED and not epochs:
            continue  # how many steps an epoch has is not known
        run += steps
        whole += steps if trial.state == TrialState.COMPLETE else steps * study.user_attrs["epochs"] / (epochs or 1)
    if not whole:
        return "Training steps saved by pruning: not known yet."
    return f"Training steps saved by pruning: {100 * (1 - run / whole):.0f} %."


def _caution(study: Study) -> str:
    n = sum(trial.state == TrialState.COMPLETE for trial in study.get_trials(deepcopy=False))
    seed, few = study.user_attrs["seed"], study.user_attrs["train_images"]
    images = f"{few:,}" if few else "all images"
    name = study.user_attrs["baseline"]
    two = " Best means the highest accuracy; pareto.png shows what less cost buys." if len(study.directions) > 1 else ""
    return (
        f"All figures are accuracies on validation images after one training each, seed {seed}. Every trial cost what "
        f"{images} an epoch cost `{name}`: who needs more FLOPs an image saw fewer images. The best of {n} complete "
        f"trial{'' if n == 1 else 's'} was picked for being the highest, so its figure is optimistic: part of any lead "
        "is luck. None of them is a test result; for one, train "
        f"best.yaml as a variant with several seeds.{two}"
    )


# What the pictures are drawn from


def _sweep(study: Study, chosen: FrozenTrial) -> Sweep:
    baseline, objectives = _of_role(study, "baseline"), study.user_attrs["objectives"]
    complete = baseline is not None and baseline.state == TrialState.COMPLETE
    return Sweep(
        study=_copy(study, 1),
        both=_copy(study, 2) if len(objectives) > 1 else None,
        best=chosen.number,
        baseline=baseline.number if baseline is not None and complete else None,
        baseline_name=study.user_attrs["baseline"],
        failed=[trial.number for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.FAIL],
        second=objectives[1] if len(objectives) > 1 else None,
    )


def _copy(study: Study, objectives: int) -> Study:
    """`study` in memory with its first `objectives`, accuracies in per cent, complete and pruned trials of the search.

    All others become failed trials without anything, so that the numbers stay.
    """
    directions = [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE][:objectives]
    with _quiet():
        copy = optuna.create_study(directions=directions, study_name=study.study_name)
    for trial in sorted(study.get_trials(deepcopy=False), key=lambda trial: trial.number):
        shown = trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
        copy.add_trial(_in_percent(trial, objectives) if shown else create_trial(state=TrialState.FAIL))
    return copy


def _in_percent(trial: FrozenTrial, objectives: int) -> FrozenTrial:
    kinds = {name: _spelled(kind) for name, kind in trial.distributions.items()}
    values = {name: "null" if value is None else value for name, value in trial.params.items()}
    names = [name for name, value in values.items() if _fits(value, kinds[name])]
    complete = trial.state == TrialState.COMPLETE
    return create_trial(
        state=trial.state,
        values=[100 * trial.values[0], *trial.values[1:objectives]] if complete else None,
        params={name: values[name] for name in names},
        distributions={name: kinds[name] for name in names},
        intermediate_values={epoch: 100 * value for epoch, value in trial.intermediate_values.items()},
    )


def _spelled(kind: BaseDistribution) -> BaseDistribution:
    """The distribution with the choice None called null, which plotly would take for a gap."""
    if not isinstance(kind, CategoricalDistribution) or None not in kind.choices:
        return kind
    return CategoricalDistribution(["null" if choice is None else choice for choice in kind.choices])


def _fits(value: Any, kind: BaseDistribution) -> bool:
    """Whether `kind` contains `value`: the baseline's settings may lie outside the ranges searched."""
    try:
        create_trial(value=0.0, params={"value": value}, distributions={"value": kind})
    except ValueError:
        return False
    return True


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna from announcing a study that is only drawn."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)
