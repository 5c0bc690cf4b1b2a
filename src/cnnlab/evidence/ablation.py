"""From the trainings of an ablation to tables, verdicts and a picture, in reports/ablation/."""

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from cnnlab import track
from cnnlab.errors import UserError
from cnnlab.evidence import figures
from cnnlab.evidence.effects import effects
from cnnlab.files import REPORTS, write_text
from cnnlab.sweep.ablation import BASE, Factors
from cnnlab.sweep.plan import Share
from cnnlab.sweep.study import Ledger
from cnnlab.sweep.sweep import conduct

FOLDER = REPORTS / "ablation"


def ablate(plan: Factors, places: list[Share]) -> None:
    """Begin or continue an ablation and write its results; raises as `conduct`."""
    publish(conduct(plan, places))


def publish(ledger: Ledger) -> None:
    """Write runs.csv, effects.csv, summary.md and forest.png, and keep them with the study's MLflow run.

    Raises UserError where no training of the base ended: there is nothing to compare with.
    """
    base = ledger.study.study_name.rpartition("-")[0]
    runs = table(ledger.study)
    complete = runs[runs["state"] == "COMPLETE"]
    seeds = complete.loc[complete["setting"] == BASE, "seed"]
    if seeds.empty:
        told = "; ".join(runs.loc[runs["setting"] == BASE, "reason"].unique())
        raise UserError(f"No training of {base} ended. Expected one at least, to compare with. Received: {told}")
    found = effects(complete[complete["seed"].isin(seeds)], BASE)
    write_text(FOLDER / "runs.csv", runs.to_csv(index=False))
    write_text(FOLDER / "effects.csv", found.to_csv(index=False))
    write_text(FOLDER / "summary.md", summary(found, runs, base))
    figures.forest(FOLDER / "forest.png", found, base)
    run = track.Run(ledger.parent)
    for path in sorted(FOLDER.iterdir()):
        run.log_file(path, "ablation")
    run.finish()
    print((FOLDER / "summary.md").read_text())


def table(study: optuna.Study) -> pd.DataFrame:
    """A row a setting and seed, by its last attempt: state, accuracy (share of 1), cost, reason of failure."""
    last = {(t.params["setting"], t.params["seed"]): t for t in study.get_trials(deepcopy=False) if "seed" in t.params}
    return pd.DataFrame([_row(setting, seed, trial) for (setting, seed), trial in last.items()])


def summary(found: pd.DataFrame, runs: pd.DataFrame, base: str) -> str:
    """Markdown: a row a factor, the best first, and the trainings that failed."""
    lines = [
        f"| factor | n | against {base}, points (95 % interval) | p, Holm | verdict | time | FLOPs | parameters |",
        "|---|---:|---|---:|---|---:|---:|---:|",
    ]
    for row in found.sort_values("difference", ascending=False).to_dict("records"):
        lines.append(
            f"| {row['setting']} | {row['n']} | {row['difference']:+.2f} ({row['low']:+.2f} to {row['high']:+.2f}) | "
            f"{row['p_holm']:.3f} | {row['verdict']} | × {row['seconds']:.2f} | × {row['training_flop']:.2f} | "
            f"× {row['parameters']:.2f} |"
        )
    mean = 100 * runs.loc[(runs["setting"] == BASE) & (runs["state"] == "COMPLETE"), "accuracy"].mean()
    lines += [
        "",
        f"Validation accuracy of {base}: {mean:.2f} %, mean of its seeds. runs.csv names each training's run.",
    ]
    failed = runs[runs["state"] != "COMPLETE"]
    lines += [f"- {r['setting']}, seed {r['seed']}, failed: {r['reason']}" for r in failed.to_dict("records")]
    return "\n".join(lines) + "\n"


def _row(setting: str, seed: int, trial: FrozenTrial) -> dict[str, object]:
    told = trial.user_attrs
    return {
        "setting": setting,
        "seed": seed,
        "state": trial.state.name,
        "accuracy": trial.values[0] if trial.state is TrialState.COMPLETE else None,
        **{name: told.get(name) for name in ("seconds", "steps", "training_flop", "parameters", "run_id", "reason")},
    }
