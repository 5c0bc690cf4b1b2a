"""Transfers: networks adapted to other data sets, trained from scratch and with pretrained features."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import tensorflow as tf
from optuna.trial import FrozenTrial

from cnnlab import params
from cnnlab.data.store import Card, identity, read_card
from cnnlab.errors import UserError
from cnnlab.files import REPORTS, write_text
from cnnlab.report.document import Page
from cnnlab.report.language import Language
from cnnlab.report.tables import records
from cnnlab.studies import overrides
from cnnlab.studies.host import run_study
from cnnlab.studies.plan import Attrs, Slot, study_name
from cnnlab.studies.publish import publish
from cnnlab.studies.settings import SettingsPlan, failures, interval, paired_effects, runs_table
from cnnlab.studies.storage import with_retries
from cnnlab.studies.transfer.adapt import adapt
from cnnlab.studies.transfer.adaptations import available_cards, describe
from cnnlab.train.outputs import Outputs

FOLDER = REPORTS / "transfer"
FIELDS = ("target", "network", "mode", "source", "change", "share")
EPOCH = 100  # steps between validations, whose time counts, too
SCRATCH, FROZEN, TUNED = "from scratch", "frozen", "fine-tuned"


@dataclass(frozen=True)
class TransferSetting:
    """A network on a share of a target's training images, and its starting point."""

    target: str
    network: str  # the variant that is adapted
    mode: str
    source: str  # the variant whose features it starts from; empty from scratch
    change: str  # one of transfer.tried, or empty
    share: float
    run: params.Run  # with seed 0

    @property
    def name(self) -> str:
        """Name of the setting in tables and in MLflow."""
        start = " ".join(filter(None, (self.mode, self.source, self.change)))
        return f"{self.target} {100 * self.share:g} % {self.network} {start}"


@dataclass(frozen=True)
class TransferPlan(SettingsPlan):
    """Transfers by setting. `lacking` has the reason for each target or source that is unavailable.

    `networks` are the variants whose changes for `targets` are described.
    """

    transfers: dict[str, TransferSetting]
    lacking: dict[str, str]
    networks: dict[str, params.Variant]
    targets: list[str]

    kind = "transfer"
    sentence = "Networks on other data sets, from scratch and with pretrained features."

    @property
    def attrs(self) -> Attrs:
        """The transfers by setting."""
        fields = {name: {field: getattr(t, field) for field in FIELDS} for name, t in self.transfers.items()}
        return {"objectives": self.objectives, "transfers": fields}

    @property
    def experiment(self) -> str:
        """One MLflow experiment for all targets."""
        return "transfers"

    def tags(self, trial: FrozenTrial) -> dict[str, str]:
        """The fields of the transfer, to compare runs by."""
        chosen = self.transfers[trial.params["setting"]]
        return {f"transfer.{field}": str(getattr(chosen, field)) for field in FIELDS}

    def run(self, trial: FrozenTrial, images: int | None) -> params.Run:
        """The setting's training with the trial's seed."""
        seed = self.seed(trial)
        update = {"variant": f"trial-{trial.user_attrs['original']}", "seed": seed, "fold": self.budget.fold(seed)}
        return self.transfers[trial.params["setting"]].run.model_copy(update=update)


def make_plan(parameters: params.Params, url: str) -> TransferPlan:
    """The transfers of params.yaml under its budget for which data and sources are available.

    Raises UserError if there are none, or a network cannot be adapted.
    """
    tf.config.set_visible_devices([], "GPU")  # this process only builds networks; the GPUs are for the trials
    budget = parameters.scale.transfer
    homes = [params.variant(parameters, network).data for network in budget.variants]
    cards, lacking = available_cards([*budget.targets, *homes])
    found: list[TransferSetting] = []
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
        "sources": {run.origin: Outputs.at(run.origin).run_id() for run in runs.values() if run.origin},
        "data": {run.data: identity(cards[run.data]) for run in runs.values()},
        "seeds": budget.seeds,
        "folds": parameters.scale.training.folds,
    }
    first = found[0].run
    return TransferPlan(
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
        seeds=budget.seeds,
        budget=parameters.scale.training,
        transfers=transfers,
        lacking=lacking,
        networks={name: params.variant(parameters, name) for name in (parameters.ablation.base, *budget.variants)},
        targets=[*budget.targets],
    )


def _transfers(
    parameters: params.Params, network: str, home: Card, card: Card, lacking: dict[str, str]
) -> Iterator[TransferSetting]:
    """The settings of one network on one target; adds sources that are not trained to `lacking`."""
    budget, name = parameters.scale.transfer, card["name"]
    target, section = budget.targets[name], parameters.transfer
    homes = {source: params.variant(parameters, source).data for source in budget.variants[network]}
    origins = {source: f"{data}/{source}" for source, data in homes.items() if data != name}
    if home["name"] == name and not origins:
        return
    adapted = adapt(params.variant(parameters, network), home, card).variant
    set_aside = params.set_aside(parameters, adapted.data, adapted.validation)
    validation = min(set_aside, budget.validation or set_aside)
    images = sum(card["counts"]["train"]) + sum(card["counts"]["validation"]) - set_aside
    tried = section.tried if budget.tried is None else {key: section.tried[key] for key in budget.tried}
    for share in target.shares:
        some = max(1, round(share * images))
        run = _short_run(adapted, some, target.steps, validation)
        yield TransferSetting(name, network, SCRATCH, "", "", share, run)
        for source, origin in origins.items():
            if not Outputs.at(origin).exist():
                lacking[source] = f"Variant {source} is not trained. Run: {Outputs.at(origin).command}"
                continue
            Outputs.at(origin).model()  # reports damage now, not in every trial
            for mode in (FROZEN, TUNED):
                start = params.InitFrom(variant=source, frozen=mode == FROZEN)
                rate = run.optimizer.learning_rate * (section.tuning_rate if mode == TUNED else 1)
                optimizer = run.optimizer.model_copy(update={"learning_rate": rate})
                update = {"init_from": start, "origin": origin, "optimizer": optimizer}
                yield TransferSetting(name, network, mode, source, "", share, run.model_copy(update=update))
        for change, values in tried.items():
            changed = overrides.apply(adapted, values, f"transfer.tried.{change}")
            if changed != adapted:  # on this target
                steps = round(target.steps * changed.epochs / adapted.epochs)
                run = _short_run(changed, some, steps, validation)
                yield TransferSetting(name, network, SCRATCH, "", change, share, run)


def _short_run(variant: params.Variant, images: int, steps: int, validation: int) -> params.Run:
    """A training of about `steps` steps, at least one pass, with a validation about every EPOCH steps."""
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


def transfer(plan: TransferPlan, slots: list[Slot], say: Language) -> None:
    """Start or continue the transfers, and write reports/transfer: tables and summary.md; raises as `run_study`."""
    ledger = run_study(plan, slots)
    transfers = pd.DataFrame.from_dict(plan.attrs["transfers"], orient="index").rename_axis("setting")
    runs = transfers.merge(with_retries(lambda: runs_table(ledger.study)), on="setting")
    chance = {target: 1 / len(read_card(target)["classes"]) for target in runs["target"].unique()}
    runs["chance"] = runs["target"].map(chance)
    found = against_scratch(runs)
    lacking = pd.DataFrame(plan.lacking.items(), columns=["name", "reason"])

    def write(folder: Path) -> dict[str, float]:
        describe(plan.networks, plan.targets, folder)
        for name, rows in {"runs": runs, "effects": found, "lacking": lacking}.items():
            write_text(folder / f"{name}.csv", rows.to_csv(index=False))
        write_text(folder / "summary.md", summary(runs, found, lacking, say))
        return {}

    publish(ledger, FOLDER, write)


def against_scratch(runs: pd.DataFrame) -> pd.DataFrame:
    """Effect of each source's features, and of each change, against the same network from scratch, same images."""
    key = ["target", "network", "share"]
    each = runs.drop_duplicates("setting")
    scratch = (each["mode"] == SCRATCH) & (each["change"] == "")
    pairs = each[~scratch].merge(each.loc[scratch, [*key, "setting"]], on=key, suffixes=("", "_scratch"))
    found = paired_effects(runs, [*zip(pairs["setting"], pairs["setting_scratch"], strict=True)])
    return each[["setting", *FIELDS]].merge(found, on="setting")


def summary(runs: pd.DataFrame, found: pd.DataFrame, lacking: pd.DataFrame, say: Language) -> str:
    """Markdown: one row per setting with its mean accuracy and its effect against scratch; what is unavailable."""
    effects = {row["setting"]: row for row in records(found)}
    page = Page(say, FOLDER)
    rows = []
    for setting, group in runs[runs["state"] == "COMPLETE"].groupby("setting", sort=False):
        first, points, verdict = group.iloc[0], "–", "–"
        if row := effects.get(str(setting)):
            points, verdict = interval(row, say), say(row["verdict"])
        start = " ".join(filter(None, (say.name(first["mode"]), first["source"], say.name(first["change"]))))
        count, mean = str(len(group)), say.percent(group["accuracy"].mean())
        share = f"{100 * first['share']:g} %"
        rows.append((first["target"], first["network"], start, share, count, mean, points, verdict))
    columns = ["data set", "network", "initial weights", "images", "n", "validation accuracy"]
    columns += ["points (simultaneous 95 % interval)", "verdict"]
    page.table([say(column) for column in columns], rows, 3)
    unavailable = [
        "- " + say("unavailable: {name} ({reason})", name=row["name"], reason=" ".join(row["reason"].split()))
        for row in records(lacking)
    ]
    return "\n\n".join(filter(None, [*page.blocks, "\n".join(unavailable), failures(runs, say)])) + "\n"
