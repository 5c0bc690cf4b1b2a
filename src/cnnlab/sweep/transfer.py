"""Transfers: variants adapted to other data sets, from scratch and with trained features, with the same seeds."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
import tensorflow as tf
from optuna.trial import FrozenTrial

from cnnlab import params
from cnnlab.data.store import Card
from cnnlab.errors import UserError
from cnnlab.files import MODELS, REPORTS, write_text
from cnnlab.nets.adapt import adapt
from cnnlab.sweep.adaptations import at_hand
from cnnlab.sweep.plan import Attrs, Share, study_name
from cnnlab.sweep.settings import Settings, compared, failures, keep, table
from cnnlab.sweep.storage import patiently
from cnnlab.sweep.study import Ledger
from cnnlab.sweep.sweep import conduct

FOLDER = REPORTS / "transfer"
FIELDS = ("target", "network", "mode", "source", "share")
EPOCH = 100  # steps between validations, which take time, too
SCRATCH, FROZEN, TUNED = "from scratch", "frozen", "fine-tuned"


@dataclass(frozen=True)
class Transfer:
    """A network on a share of a target's training images, and what it begins with."""

    target: str
    network: str  # the variant that was adapted
    mode: str
    source: str  # the variant whose features it begins with, empty from scratch
    share: float
    run: params.Run  # with seed 0

    @property
    def name(self) -> str:
        """For people, and in tables."""
        begins = f"{self.mode} {self.source}".strip()
        return f"{self.target} {100 * self.share:g} % {self.network} {begins}"


@dataclass(frozen=True)
class Transfers(Settings):
    """Networks on other data sets, from scratch and with trained features.

    `transfers` holds the trainings of the settings; `lacking` says why a target or a source has none.
    """

    transfers: dict[str, Transfer]
    lacking: dict[str, str]

    kind = "transfer"

    @property
    def facts(self) -> Attrs:
        """What the report says of the study."""
        told = {name: {field: getattr(t, field) for field in FIELDS} for name, t in self.transfers.items()}
        return {"objectives": self.objectives, "transfers": told}

    @property
    def experiment(self) -> str:
        """MLflow's experiment: that of all targets."""
        return "transfers"

    def tags(self, trial: FrozenTrial) -> dict[str, str]:
        """The transfer, so that MLflow's runs can be compared."""
        chosen = self.transfers[trial.params["setting"]]
        return {f"transfer.{field}": str(getattr(chosen, field)) for field in FIELDS}

    def run(self, trial: FrozenTrial, images: int | None) -> params.Run:
        """The setting's own training with the trial's seed."""
        update = {"variant": f"trial-{trial.user_attrs['original']}", "seed": self.seed(trial)}
        return self.transfers[trial.params["setting"]].run.model_copy(update=update)


def make_plan(parameters: params.Params, url: str) -> Transfers:
    """The transfers of params.yaml under its budget, those whose data and sources are there.

    Raises UserError where nothing is left, or a network has not the knobs to be adapted.
    """
    tf.config.set_visible_devices([], "GPU")  # networks are only counted here; the GPUs are for the trials' processes
    budget = parameters.transfer.budgets[parameters.budget]
    homes = [params.variant(parameters, network).data for network in budget.variants]
    cards, lacking = at_hand([*budget.targets, *homes])
    found: list[Transfer] = []
    for target in budget.targets:
        for network, home in zip(budget.variants, homes, strict=True):
            if {target, home} <= cards.keys():
                found += _transfers(parameters, network, cards[home], cards[target], lacking)
    if not found:
        raise UserError("No transfer is possible.\n" + "\n".join(lacking.values()))
    transfers = {transfer.name: transfer for transfer in found}
    runs = {name: transfer.run for name, transfer in transfers.items()}
    shared = {
        "runs": {name: run.model_dump() for name, run in runs.items()},
        "sources": {run.origin: _run_id(run.origin) for run in runs.values() if run.origin},
        "data": {run.data: _told(cards[run.data]) for run in runs.values()},
        "seeds": budget.seeds,
    }
    first = found[0].run
    return Transfers(
        study=study_name("transfer", shared),
        storage=url,
        data=first.data,
        base=_variant(first),
        epochs=first.epochs,
        train_images=None,
        validation=first.validation,
        devices=parameters.strategy,
        train=parameters.train,
        settings={name: _variant(run) for name, run in runs.items()},
        seeds=dict.fromkeys(runs, budget.seeds),
        transfers=transfers,
        lacking=lacking,
    )


def _transfers(
    parameters: params.Params, network: str, home: Card, card: Card, lacking: dict[str, str]
) -> Iterator[Transfer]:
    """The trainings of one network on one target; a source that is not trained is told in `lacking`."""
    budget, target = parameters.transfer.budgets[parameters.budget], card["name"]
    sources = budget.variants[network]
    origins = {name: f"{data}/{name}" for name in sources if (data := params.variant(parameters, name).data) != target}
    if home["name"] == target and not origins:
        return
    adapted = adapt(params.variant(parameters, network), home, card).variant
    kept = params.set_aside(parameters, adapted)
    validation = min(kept, budget.validation or kept)
    whole = sum(card["counts"]["train"]) + sum(card["counts"]["validation"]) - kept
    for share in budget.shares:
        run = _short(adapted, max(1, round(share * whole)), budget.steps, validation)
        yield Transfer(target, network, SCRATCH, "", share, run)
        for source, origin in origins.items():
            if not (MODELS / origin / "model.keras").exists():
                lacking[source] = f"Variant {source} is not trained. Run: make train VARIANT={source}"
                continue
            for mode in (FROZEN, TUNED):
                start = params.Start(variant=source, frozen=mode == FROZEN)
                rate = run.optimizer.learning_rate * (parameters.transfer.tuning_rate if mode == TUNED else 1)
                optimizer = run.optimizer.model_copy(update={"learning_rate": rate})
                update = {"start": start, "origin": origin, "optimizer": optimizer}
                yield Transfer(target, network, mode, source, share, run.model_copy(update=update))


def _short(variant: params.Variant, images: int, steps: int, validation: int) -> params.Run:
    """A training of about `steps` steps, one pass at least, with validation after about every hundred."""
    batch = min(variant.batch_size, images)
    passes = max(1, round(min(steps, EPOCH) * batch / images))
    epoch = -(-passes * images // batch)
    recipe = {name: getattr(variant, name) for name in params.Recipe.model_fields}
    return params.Run(
        **recipe | {"epochs": max(1, round(steps / epoch)), "batch_size": batch},
        variant="transfer",
        seed=0,
        validation=validation,
        train_images=images,
        passes=passes,
    )


def _variant(run: params.Run) -> params.Variant:
    return params.Variant(**{name: getattr(run, name) for name in params.Recipe.model_fields})


def _told(card: Card) -> Attrs:
    """What of a data set changes a training."""
    return {"digests": card["digests"], "shape": card["shape"], "split": card["split"], "mean": card["mean"]}


def _run_id(origin: str) -> str:
    return str(json.loads((MODELS / origin / "run.json").read_text())["run_id"])


def transfer(plan: Transfers, places: list[Share]) -> None:
    """Begin or continue the transfers and write their results; raises as `conduct`."""
    publish(plan, conduct(plan, places))


def publish(plan: Transfers, ledger: Ledger) -> None:
    """Write runs.csv, effects.csv, lacking.csv and summary.md, and keep the folder with the study's MLflow run."""
    transfers = pd.DataFrame.from_dict(plan.facts["transfers"], orient="index").rename_axis("setting")
    runs = transfers.merge(patiently(lambda: table(ledger.study)), on="setting")
    found = against_scratch(runs)
    lacking = pd.DataFrame(plan.lacking.items(), columns=["name", "reason"])
    for name, rows in {"runs": runs, "effects": found, "lacking": lacking}.items():
        write_text(FOLDER / f"{name}.csv", rows.to_csv(index=False))
    write_text(FOLDER / "summary.md", summary(runs, found, lacking))
    keep(ledger, FOLDER)


def against_scratch(runs: pd.DataFrame) -> pd.DataFrame:
    """The effect of each source's features against the same network from scratch, on the same images."""
    key = ["target", "network", "share"]
    each = runs.drop_duplicates("setting")
    begun = each["mode"] == SCRATCH
    pairs = each[~begun].merge(each.loc[begun, [*key, "setting"]], on=key, suffixes=("", "_scratch"))
    found = compared(runs, dict(zip(pairs["setting"], pairs["setting_scratch"], strict=True)))
    return each[["setting", *FIELDS]].merge(found, on="setting")


def summary(runs: pd.DataFrame, found: pd.DataFrame, lacking: pd.DataFrame) -> str:
    """Markdown: a row a setting with its mean accuracy and its effect against scratch; what is not available."""
    effect = found.set_index("setting")
    lines = [
        "| data | images | network | begins with | n | validation accuracy | points (95 % interval) | verdict |",
        "|---|---:|---|---|---:|---:|---|---|",
    ]
    for setting, rows in runs[runs["state"] == "COMPLETE"].groupby("setting", sort=False):
        first, told = rows.iloc[0], "– | –"
        if setting in effect.index:
            row = effect.loc[setting]
            spread = f" ({row['low']:+.2f} to {row['high']:+.2f})" if pd.notna(row["low"]) else ""
            told = f"{row['difference']:+.2f}{spread} | {row['verdict']}"
        begins = f"{first['mode']} {first['source']}".strip()
        lines.append(
            f"| {first['target']} | {100 * first['share']:g} % | {first['network']} | {begins} | {len(rows)} | "
            f"{100 * rows['accuracy'].mean():.2f} % | {told} |"
        )
    for _, row in lacking.iterrows():
        lines.append(f"| {row['name']} | – | – | – | – | not available: {' '.join(row['reason'].split())} | – | – |")
    return "\n".join([*lines, *failures(runs)]) + "\n"
