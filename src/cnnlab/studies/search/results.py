"""Results of a sweep: tables, the best variant, a summary, figures."""

from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from ruamel.yaml import YAML

from cnnlab.errors import UserError
from cnnlab.files import write_text
from cnnlab.report.document import Page
from cnnlab.report.language import Language
from cnnlab.studies.search import page, plots
from cnnlab.studies.search.charts import SweepResults
from cnnlab.studies.search.trials import accuracy, baseline, best, complete, epochs, states

INTEGERS = ("original", "attempt", "epochs", "steps", "parameters", "training_flop")  # columns of trials.csv
STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}
COSTS = ("steps", "seconds", "parameters", "training_flop")


def write(study: Study, folder: Path, say: Language) -> None:
    """Write trials.csv, importances.csv, best.yaml, summary.md, the PNGs and figures.html to `folder`.

    Raises UserError, before anything is written, if no trial is complete.
    """
    chosen = best(study)
    if chosen is None:
        raise UserError(
            f"Study {study.study_name} has no best trial yet. Expected: at least one complete trial. "
            f"Received: {_counts(study)}. To fix this, continue the sweep."
        )
    sweep = SweepResults.of(study, say)
    write_text(folder / "trials.csv", table(study).to_csv(index=False))
    write_text(folder / "importances.csv", _importances(study, sweep).to_csv(index=False))
    write_text(folder / "best.yaml", _best_yaml(study, chosen))
    write_text(folder / "summary.md", summary(study, say))
    plots.draw(folder, sweep)
    page.write(folder / "figures.html", sweep)


def metrics(study: Study) -> dict[str, float]:
    """Validation accuracies of the best trial and the baseline (shares in [0, 1]), and numbers of trials by state."""
    first = baseline(study)
    known = {"best": best(study), "baseline": first if first in complete(study) else None}
    accuracies = {f"{name}_validation_accuracy": float(trial.values[0]) for name, trial in known.items() if trial}
    return accuracies | {f"trials_{state.name.lower()}": float(n) for state, n in states(study).items()}


def table(study: Study) -> pd.DataFrame:
    """One row per trial, by number: state, accuracy (share in [0, 1]), costs, origin, and one column per parameter.

    An unfinished trial has the last accuracy that it reported. The cell of a parameter is empty if the trial has no
    such parameter, and null if null was chosen.
    """
    trials = sorted(study.get_trials(deepcopy=False), key=lambda trial: trial.number)
    columns = pd.DataFrame([_row(study, trial) for trial in trials])
    columns = columns.astype({name: "Int64" for name in INTEGERS if name in columns})
    names = sorted({name for trial in trials for name in trial.params})
    cells = [["null" if t.params.get(n, "") is None else t.params.get(n) for n in names] for t in trials]
    return pd.concat([columns, pd.DataFrame(cells, columns=names, index=columns.index, dtype=object)], axis=1)


def _row(study: Study, trial: FrozenTrial) -> dict[str, Any]:
    attrs = trial.user_attrs
    row = {
        "trial": trial.number,
        "state": trial.state.name,
        **{name: attrs.get(name) for name in ("role", "original", "attempt")},
        "validation_accuracy": accuracy(trial),
    }
    for index, objective in enumerate(study.user_attrs["objectives"][1:], start=1):
        row[objective] = trial.values[index] if trial.values else attrs.get(objective)
    row["epochs"] = epochs(trial)
    for name in (*COSTS, "run_id", "host", "reason"):
        row.setdefault(name, attrs.get(name))
    return row


def _importances(study: Study, sweep: SweepResults) -> pd.DataFrame:
    """One row per parameter, the most important first: its share in [0, 1], and the trials behind it."""
    trials = study.get_trials(deepcopy=False)
    ids = [trials[trial.number].user_attrs.get("run_id", "") for trial in sweep.weighed]
    basis = {"trials": len(ids), "hint": sweep.is_hint, "run_ids": " ".join(ids)}
    rows = [{"setting": name, "share": share, **basis} for name, share in sweep.importances.items()]
    return pd.DataFrame(rows, columns=["setting", "share", *basis])


def _best_yaml(study: Study, chosen: FrozenTrial) -> str:
    """The best trial's variant as YAML, with a comment on its origin and use."""
    first = baseline(study)
    known = f"{100 * first.values[0]:.2f} %" if first in complete(study) else "unknown, its trial is not complete"
    header = [
        f"The best variant of sweep {study.study_name}: trial {chosen.number} (trials so far: {_counts(study)}).",
        f"Validation accuracy {100 * chosen.values[0]:.2f} %; baseline {study.user_attrs['baseline']}: {known}.",
        "One training each, and the best of many: an optimistic estimate, not a test result.",
        "`make repro` trains it as variant `tuned` and evaluates it on the test set.",
    ]
    yaml, stream = YAML(), StringIO()
    yaml.width = 4096  # values stay on one line
    yaml.dump(chosen.user_attrs["variant"], stream)
    return "".join(f"# {line}\n" for line in header) + stream.getvalue()


def summary(study: Study, say: Language) -> str:
    """Markdown: baseline and best trial, what pruning saved, and how far to trust the result."""
    chosen, first, name = best(study), baseline(study), study.user_attrs["baseline"]
    rows = [(say("baseline `{name}`", name=name), first)]
    if chosen is not None and chosen.number != getattr(first, "number", None):
        rows.append((f"**{say('best trial')}**", chosen))
    text = Page(say, Path())
    text.note(f"# {say('Sweep {name}', name=study.study_name)}")
    headings = [
        "",
        say("trial"),
        say("validation accuracy"),
        say("epochs"),
        say("training FLOPs ({name} = 1)", name=name),
        say("parameters"),
        say("MLflow run"),
    ]
    text.table(headings, [_cells(title, trial, first, study, say) for title, trial in rows], 1)
    text.note("\n".join([*_gain(chosen, first, say), *_trials(study, say)]))
    text.note(_caution(study, say))
    return "\n\n".join(text.blocks) + "\n"


def _cells(
    title: str, trial: FrozenTrial | None, first: FrozenTrial | None, study: Study, say: Language
) -> tuple[str, ...]:
    if trial is None:
        return title, "–", say("not trained yet"), "–", "–", "–", "–"
    attrs = trial.user_attrs
    own, unit = (t.user_attrs.get("training_flop") if t else None for t in (trial, first))
    return (
        title,
        str(trial.number),
        _accuracy_cell(trial, study.user_attrs["epochs"], say),
        str(epochs(trial) or (attrs.get("variant") or {}).get("epochs") or "–"),
        say.number(own / unit, 2) if own and unit else "–",
        say.count(attrs["parameters"]) if "parameters" in attrs else "–",
        f"`{attrs['run_id']}`" if "run_id" in attrs else "–",
    )


def _accuracy_cell(trial: FrozenTrial, planned: int, say: Language) -> str:
    share, state = accuracy(trial), say.name(STATES[trial.state])
    if share is None:
        return say("none ({state})", state=state)
    if trial.state is TrialState.COMPLETE:
        return say.percent(share)
    values = {"accuracy": say.percent(share), "epoch": epochs(trial), "epochs": planned, "state": state}
    return say("{accuracy} after {epoch} of {epochs} epochs ({state})", **values)


def _gain(chosen: FrozenTrial | None, first: FrozenTrial | None, say: Language) -> Iterator[str]:
    if chosen is None:
        yield say("No trial is complete yet, so there is no best trial.")
    elif first is not None and chosen.number == first.number:
        yield say("No trial was better than the baseline.")
    elif first is not None and first.state is TrialState.COMPLETE:
        points = say.number(100 * (chosen.values[0] - first.values[0]), 2)
        yield say("The best trial is {points} percentage points above the baseline.", points=points)


def _trials(study: Study, say: Language) -> Iterator[str]:
    yield say("Trials by state: {counts}.", counts=_counts(study, say))
    saved = _saved(study)
    if saved is None:
        yield say("Training steps saved by pruning: not known yet.")
    else:
        yield say("Training steps saved by pruning: {share}.", share=say.percent(saved, 0))


def _counts(study: Study, say: Language | None = None) -> str:
    count, say = states(study), say or Language()
    return ", ".join(f"{count[s]} {say.name(name)}" for s, name in STATES.items() if count[s]) or say("no trial")


def _saved(study: Study) -> float | None:
    """Share of the training steps saved by pruning, over the trials whose steps are known; None if there are none."""
    done, planned = 0.0, 0.0
    for trial in study.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.PRUNED]):
        steps, last = trial.user_attrs.get("steps"), epochs(trial)
        is_complete = trial.state is TrialState.COMPLETE
        if not steps or not (is_complete or last):
            continue
        done += steps
        planned += steps if is_complete else steps * study.user_attrs["epochs"] / (last or 1)
    return 1 - done / planned if planned else None


def _caution(study: Study, say: Language) -> str:
    attrs, images = study.user_attrs, study.user_attrs["train_images"]
    text = say(
        "All accuracies are on validation images, after one training each with seed {seed}. Every trial cost as many "
        "FLOPs as `{name}` with {images} per epoch: trials that need more FLOPs per image saw fewer images. The best "
        "of {n} complete trials was selected for its accuracy, so that is optimistic: part of any lead is chance. "
        "None of these is a test result; `make repro` trains best.yaml as variant `tuned` and evaluates it on the test "
        "set.",
        seed=attrs["seed"],
        name=attrs["baseline"],
        images=say("{n} images", n=say.count(images)) if images else say("all images"),
        n=len(complete(study)),
    )
    if len(study.directions) > 1:
        text += " " + say("Best means the highest accuracy; pareto.png shows what can be had at lower cost.")
    return text
