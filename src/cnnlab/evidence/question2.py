"""The homework's second question, chapter by chapter: what must change for other data sets, and what can be carried."""

import json
from typing import Any

import pandas as pd

from cnnlab.evidence.findings import Findings, records
from cnnlab.evidence.page import Claim, Page
from cnnlab.evidence.words import Language

CHANGES, LAYERS = "transfer/changes.csv", "transfer/layers.csv"
VARIANTS = "homework/variants.csv"
RUNS, EFFECTS, LACKING = "transfer/runs.csv", "transfer/effects.csv", "transfer/lacking.csv"
SCRATCH = "from scratch"
SHOWN = r"Conv2D|Pooling2D|Dense|Flatten"  # layers in the report's table; layers.csv has all
Row = dict[str, Any]


def write(found: Findings, page: Page) -> None:
    """Write the question's chapters to `page`."""
    page.heading("Homework, question 2: what must change for MNIST, CIFAR-100 and ImageNet, shown by doing it", 1)
    for chapter in (answer, changes, layers, transfers, method):
        chapter(found, page)


def answer(found: Findings, page: Page) -> None:
    """What must change for each data set, and what came of it, in plain words."""
    say = page.language
    page.heading("The answer for each data set")
    claims: list[Claim] = []
    for target in _targets(found):
        for network in found.transfers["network"].unique():
            parts = [row for row in _changed(found, network, target) if row["part"] != "cost"]
            if parts:
                told = say(
                    "**{target}**: in {network} change {parts}; all else can stay.",
                    target=target,
                    network=network,
                    parts="; ".join(f"{say.name(row['part'])} `{row['before']}` → `{row['after']}`" for row in parts),
                )
                claims.append((told, CHANGES, f"network: {network}; target: {target}"))
            claims += [*_measured(found, network, target, page), *_epoch(found, network, target, page)]
    page.bullets(*claims, *_hidden(found, page), *_lacking(found, page))


def _targets(found: Findings) -> list[str]:
    """The data sets that networks were adapted to or trained on, each once."""
    return list(dict.fromkeys([*found.adaptations["target"], *found.transfers["target"]]))


def _changed(found: Findings, network: str, target: str) -> list[Row]:
    table = found.adaptations
    return records(table[(table["network"] == network) & (table["target"] == target)])


def _measured(found: Findings, network: str, target: str, page: Page) -> list[Claim]:
    """What a network's short trainings on the largest share of a target reached."""
    say, table = page.language, _complete(found)
    rows = table[(table["target"] == target) & (table["network"] == network)]
    rows = rows[rows["share"] == rows["share"].max()]
    if rows.empty:
        return []
    means = rows.groupby("setting", sort=False)["accuracy"].mean()
    best = rows[rows["setting"] == means.idxmax()]
    told = say(
        "On {share} of {target}'s training images, after {steps} steps, {network} is right in {accuracy} of the "
        "validation images at best: {begins} (n = {n}).",
        network=network,
        share=_share(best["share"].iloc[0], say),
        target=target,
        steps=say.count(best["steps"].mean()),
        accuracy=say.percent(means.max()),
        begins=_begins(records(best)[0], say),
        n=len(best),
    )
    return [(told, RUNS, f"target: {target}; setting: {best['setting'].iloc[0]}")]


def _complete(found: Findings) -> pd.DataFrame:
    """The trainings that ended."""
    return found.transfers[found.transfers["state"] == "COMPLETE"]


def _share(share: float, say: Language) -> str:
    """A share of 1 in per cent, with the decimals that it has."""
    return say.percent(share, 0 if round(100 * share, 6).is_integer() else 1)


def _begins(row: Row, say: Language) -> str:
    """What a training begins with."""
    if row["mode"] == SCRATCH:
        return say(SCRATCH)
    told = {"frozen": "features of {source}, frozen", "fine-tuned": "features of {source}, fine-tuned"}[row["mode"]]
    return say(told, source=row["source"])


def _epoch(found: Findings, network: str, target: str, page: Page) -> list[Claim]:
    """What an epoch of ImageNet would cost, and how long it would take at the speed of the best variant's training."""
    cost = next((row for row in _changed(found, network, target) if row["part"] == "cost"), None)
    if target != "imagenet" or cost is None:
        return []
    say = page.language
    flop = 1e6 * float(cost["after"].split()[0]) * json.loads(cost["values"])["images"]
    (trained,) = records(found.variants[found.variants["variant"] == found.after])
    speed = trained["training_flop"] / trained["train_seconds"]
    needs = say(
        "An epoch of {target} would be {flop} PFLOP for {network}; about 90 epochs are usual.",
        target=target,
        network=network,
        flop=say.number(flop / 1e15, 1),
    )
    takes = say(
        "At the {speed} GFLOP/s with which {variant} was trained here an epoch would take about {hours} hours: so "
        "several GPUs or hosts, bfloat16, and pictures that are streamed; these are settings, no new code.",
        speed=say.number(speed / 1e9, 0),
        variant=found.after,
        hours=say.number(flop / speed / 3600, 1),
    )
    return [
        (needs, CHANGES, f"network: {network}; target: {target}; part: cost"),
        (takes, VARIANTS, f"variant: {found.after}"),
    ]


def _hidden(found: Findings, page: Page) -> list[Claim]:
    """What the homework's hidden dense layer would cost on large pictures."""
    table, say = found.adaptations, page.language
    rows = table[(table["network"] == found.before) & (table["part"] == "head")].tail(1)
    return [
        (
            say(
                "{network} must give up its hidden layer for {target}. {reason}",
                network=found.before,
                target=row["target"],
                reason=_reason(row, say),
            ),
            CHANGES,
            f"network: {found.before}; target: {row['target']}; part: head",
        )
        for row in records(rows)
    ]


def _lacking(found: Findings, page: Page) -> list[Claim]:
    """Data sets and sources that were not there."""
    say = page.language
    return [
        (
            say("**{name}**: not available: {reason}", name=row["name"], reason=" ".join(str(row["reason"]).split())),
            LACKING,
            f"name: {row['name']}",
        )
        for row in records(found.lacking)
    ]


def _reason(row: Row, say: Language) -> str:
    """A change's reason with its numbers."""
    told = {
        name: value if isinstance(value, str) else say.number(value, 1 if isinstance(value, float) else 0)
        for name, value in json.loads(row["values"]).items()
    }
    return say(row["reason"], **told)


def changes(found: Findings, page: Page) -> None:
    """Every change with its reason."""
    say = page.language
    page.heading("What changes, and why")
    page.note(
        say(
            "The rules are applied by the program to each network and data set; ImageNet's pictures themselves were "
            "not trained on."
        )
    )
    rows = [
        [
            row["target"],
            row["network"],
            say.name(row["part"]),
            f"`{row['before']}`",
            f"`{row['after']}`",
            _reason(row, say),
        ]
        for row in records(found.adaptations.sort_values("target", key=_order(found), kind="stable"))
    ]
    headings = ["data set", "network", "part", "before", "adapted", "why"]
    page.table([say(heading) for heading in headings], rows, 6)


def _order(found: Findings) -> Any:
    """Data sets in the order in which they were first named."""
    places = {name: place for place, name in enumerate(found.adaptations["target"].unique())}
    return lambda column: column.map(places)


def layers(found: Findings, page: Page) -> None:
    """Each network as it was beside the adapted ones, layer by layer."""
    say = page.language
    page.heading("Layer by layer")
    for network in found.transfers["network"].unique():
        table = found.layers[(found.layers["network"] == network) & found.layers["layer"].str.contains(SHOWN)]
        page.note(
            say(
                "{network}. Each cell: layer, output, parameters, operations of a pass forward, receptive field in "
                "pixels; `transfer/layers.csv` has every layer.",
                network=network,
            )
        )
        columns = {target: records(rows) for target, rows in table.groupby("target", sort=False)}
        longest = max(map(len, columns.values()))
        cells = [_aligned(rows, longest, say) for rows in columns.values()]
        page.table([str(target) for target in columns], [list(row) for row in zip(*cells, strict=True)], len(columns))


def _aligned(rows: list[Row], longest: int, say: Language) -> list[str]:
    """A cell a layer; the head stands at the end, and stages that are not there are dashes."""
    head = next((i for i, row in enumerate(rows) if row["layer"].startswith(("Global", "Flatten"))), len(rows))
    cells = [_cell(row, say) for row in rows]
    return [*cells[:head], *["–"] * (longest - len(rows)), *cells[head:]]


def _cell(row: Row, say: Language) -> str:
    told = [f"{row['layer']} {row['output']}"]
    if row["parameters"]:
        told += [say.count(row["parameters"]), f"{say.number(row['flop'] / 1e6, 1)} MFLOP"]
    if not pd.isna(row["receptive_field"]):
        told.append(f"{row['receptive_field']:.0f} px")
    return ", ".join(told)


def transfers(found: Findings, page: Page) -> None:
    """Trained features as the beginning of other trainings."""
    say = page.language
    page.heading("What trained features are worth elsewhere")
    if found.transfers["share"].nunique() > 1:
        told = "Validation accuracy against the share of training images, by what a training begins with"
        page.picture("low_data.png", told)
    page.bullets(*_worth(found, page))
    effects = {row["setting"]: row for row in records(found.transfer_effects)}
    headings = ["data set", "network", "images", "begins with", "n", "validation accuracy"]
    headings += ["points (95 % interval)", "p (Holm)", "verdict", "time"]
    rows = []
    for setting, trained in _complete(found).groupby("setting", sort=False):
        row, effect = records(trained)[0], effects.get(setting)
        cells = [row["target"], row["network"], _share(row["share"], say), _begins(row, say), str(len(trained))]
        cells.append(say.percent(trained["accuracy"].mean()))
        rows.append(cells + (_compared(effect, say) if effect else ["–"] * 4))
    for lacking in records(found.lacking):
        reason = say("not available: {reason}", reason=" ".join(str(lacking["reason"]).split()))
        rows.append([lacking["name"], *["–"] * 4, reason, *["–"] * 4])
    page.table([say(heading) for heading in headings], rows, 10)
    for row in records(found.transfers[found.transfers["state"] != "COMPLETE"]):
        failed = say("{setting}, seed {seed}, failed: {reason}", **{k: row[k] for k in ("setting", "seed", "reason")})
        page.say((failed, RUNS, f"setting: {row['setting']}; seed: {row['seed']}"))


def _compared(effect: Row, say: Language) -> list[str]:
    """A transfer against the same network from scratch."""
    verdict = say(str(effect["verdict"]))
    return [_points(effect, say), say.chance(effect["p_holm"]), verdict, f"× {say.number(effect['seconds'], 2)}"]


def _points(effect: Row, say: Language) -> str:
    """A difference, and its interval where there is one."""
    told = say.points(effect["difference"])
    return told if pd.isna(effect["low"]) else f"{told} ({say.points(effect['low'])} – {say.points(effect['high'])})"


def _worth(found: Findings, page: Page) -> list[Claim]:
    """When transfer helps and when it hurts, a sentence a verdict, data set and share."""
    say, claims = page.language, []
    templates = {
        "improves": "**Helps** {network} on {target} with {share} of its training images: {told}.",
        "worsens": "**Hurts** {network} on {target} with {share} of its training images: {told}.",
        "no evidence": "No evidence for {network} on {target} with {share} of its training images: {told}.",
    }
    for verdict, template in templates.items():
        rows = found.transfer_effects[found.transfer_effects["verdict"] == verdict]
        for (network, target, share), group in rows.groupby(["network", "target", "share"], sort=False):
            told = "; ".join(f"{_begins(row, say)} {_points(row, say)} (n = {row['n']})" for row in records(group))
            percent = _share(float(str(share)), say)
            sentence = say(template, network=network, target=target, share=percent, told=told)
            claims.append((sentence, EFFECTS, f"setting: {', '.join(group['setting'])}"))
    return claims


def method(found: Findings, page: Page) -> None:
    """How the figures were made."""
    page.heading("How transfers were measured")
    page.note(
        page.language(
            "Every setting is trained with the same seeds and on the same images as its partner from scratch; all have "
            "about the same number of steps, one pass over the images at least, so a large share is seen less often "
            "than a small one. Differences are of validation accuracy, in percentage points, with Student's 95 % "
            "interval over pairs; verdicts are corrected by Holm for all transfers together. Features are all layers "
            "before the classifier that fit, of one training of the source, so intervals leave out its luck; frozen "
            "ones keep their normalisation's statistics. Test images were not used."
        )
    )
