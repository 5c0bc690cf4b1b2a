"""Question 2 of the homework, section by section: what must change for other data sets, and which features transfer."""

import json
from typing import Any

import pandas as pd

from cnnlab.evaluation.effects import IMPROVES, INCONCLUSIVE, IRRELEVANT, NOT_TESTED, WORSENS
from cnnlab.homework.findings import (
    CHANGES,
    LACKING,
    LAYERS,
    LONG_VARIANTS,
    TRANSFER_EFFECTS,
    TRANSFERS,
    VARIANTS,
    Findings,
)
from cnnlab.homework.sentences import POINTS, VERDICT, completed, described, failures, long_table
from cnnlab.report.document import Claim, Page
from cnnlab.report.language import DASH, Language
from cnnlab.report.tables import records

SHOWN = r"Conv2D|Pooling2D|Dense|Flatten"  # layers in the table of the page; layers.csv has all
STARTS = {
    "from scratch": "from scratch",
    "frozen": "features of {source}, frozen",
    "fine-tuned": "features of {source}, fine-tuned",
}
Row = dict[str, Any]


def write(found: Findings, page: Page) -> None:
    """Write the sections of the question to `page`."""
    page.heading("Homework, question 2: what must change for MNIST, CIFAR-100 and ImageNet", 1)
    for section in (answer, changes, layers, transfers, long_runs):
        section(found, page)
    page.heading("How transfers were measured")
    page.text(
        "Each setting is trained with the same seeds and on the same images as its counterpart from scratch. All "
        "settings take about the same number of steps, but at least one pass over the images, so a large share is "
        "seen fewer times than a small one. Differences are in validation accuracy, in percentage points; intervals "
        "and verdicts are as in question 1, simultaneous over all transfers. Features are all matching layers before "
        "the classifier of a single training run of the source, so intervals do not cover its seed-to-seed variation; "
        "frozen layers keep their normalisation statistics. Test images were not used."
    )


def answer(found: Findings, page: Page) -> None:
    """What must change for each data set, and the accuracy it reached, in plain words."""
    say = page.language
    page.heading("The answer for each data set")
    claims: list[Claim] = []
    for target in dict.fromkeys([*found[CHANGES]["target"], *found[TRANSFERS]["target"]]):
        for network in found[TRANSFERS]["network"].unique():
            changed = _of(found[CHANGES], network, target)
            parts = records(changed[changed["part"] != "cost"])
            if parts:
                listed = "; ".join(say.fill("{part:name} `{before:value}` → `{after:value}`", row) for row in parts)
                english = "**{target}**: in {network}, change {parts}; everything else can stay."
                claims += page.each(english, CHANGES, "network target", parts[:1], parts=listed)
            claims += _best(_of(completed(found[TRANSFERS]), network, target), page)
            if target == "imagenet":
                claims += _epochs(found, records(changed[changed["part"] == "cost"]), page)
    heads = found[CHANGES][(found[CHANGES]["network"] == found.before) & (found[CHANGES]["part"] == "head")]
    hidden = [row | {"why": _reason(row, say)} for row in records(heads.tail(1))]
    english = "For {target}, {network} must drop its hidden layer. {why}"
    claims += page.each(english, CHANGES, "network target part", hidden)
    page.bullets(*claims, *page.each("**{name}** is unavailable: {reason}", LACKING, "name", _unavailable(found)))


def _of(table: pd.DataFrame, network: str, target: str) -> pd.DataFrame:
    return table[(table["network"] == network) & (table["target"] == target)]


def _best(runs: pd.DataFrame, page: Page) -> list[Claim]:
    """The best accuracy of short training runs of a network on the largest share of a target."""
    rows = _with_texts(runs[runs["share"] == runs["share"].max()], page.language)
    if rows.empty:
        return []
    means = rows.groupby("setting", sort=False)["accuracy"].mean()
    best = rows[rows["setting"] == means.idxmax()]
    values = {"n": len(best), "steps": best["steps"].mean(), "accuracy": means.max()}
    english = (
        "On {part} of the {target} training images, after {steps:count} steps, {network} classifies at best "
        "{accuracy:percent} of the validation images correctly: {start} (n = {n})."
    )
    return page.each(english, TRANSFERS, "target setting", [records(best)[0] | values])


def _with_texts(rows: pd.DataFrame, say: Language) -> pd.DataFrame:
    """Rows with texts: their share of the images (`part`; a decimal only if it has one), and what they `start` from."""
    parts = [say.percent(share, 0 if round(100 * share, 6).is_integer() else 1) for share in rows["share"]]
    starts = [say(STARTS[mode], source=source) for mode, source in zip(rows["mode"], rows["source"], strict=True)]
    return rows.assign(part=parts, start=starts)


def _epochs(found: Findings, costs: list[Row], page: Page) -> list[Claim]:
    """What one epoch costs, and how long it would take at the speed at which the best variant was trained."""
    trained = found.variant(found.after)
    speed = trained["training_flop"] / trained["train_seconds"]
    cost_of = "One epoch of {target} takes {network} {flop:number.1} PFLOP; about 90 epochs are usual."
    time_of = (
        "At {speed:count} GFLOP/s, the speed at which {variant} was trained here, one epoch would take about "
        "{hours:number.1} hours. It needs several GPUs or hosts, bfloat16 and streamed images; all of these are "
        "settings, not new code."
    )
    claims = []
    for cost in costs:
        flop = 1e6 * float(cost["after"].split()[0]) * json.loads(cost["values"])["images"]
        claims += page.each(cost_of, CHANGES, "network target part", [cost], flop=flop / 1e15)
        claims += page.each(time_of, VARIANTS, "variant", [trained], speed=speed / 1e9, hours=flop / speed / 3600)
    return claims


def _unavailable(found: Findings) -> list[Row]:
    return [row | {"reason": " ".join(str(row["reason"]).split())} for row in records(found[LACKING])]


def _reason(row: Row, say: Language) -> str:
    """The reason for a change, with its numbers."""
    values = json.loads(row["values"])
    numbers = {k: say.number(v, 1 if isinstance(v, float) else 0) for k, v in values.items() if not isinstance(v, str)}
    return say(row["reason"], **values | numbers)


def changes(found: Findings, page: Page) -> None:
    """Every change with its reason."""
    say = page.language
    page.heading("What changes, and why")
    page.text(
        "The program applies these rules to each network and data set; no network was trained on ImageNet images."
    )
    order = {name: place for place, name in enumerate(found[CHANGES]["target"].unique())}
    rows = found[CHANGES].sort_values("target", key=lambda column: column.map(order), kind="stable")
    columns = {
        "data set": "{target}",
        "network": "{network}",
        "part": "{part:name}",
        "before": "`{before:value}`",
        "adapted": "`{after:value}`",
        "why": "{why}",
    }
    page.records([row | {"why": _reason(row, say)} for row in records(rows)], columns, 6)


def layers(found: Findings, page: Page) -> None:
    """The original network beside the adapted ones, layer by layer."""
    page.heading("Layer by layer")
    for network in found[TRANSFERS]["network"].unique():
        table = found[LAYERS][(found[LAYERS]["network"] == network) & found[LAYERS]["layer"].str.contains(SHOWN)]
        page.text(
            "{network}. Each cell: layer, output shape, parameters, FLOPs of a forward pass, receptive field in "
            "pixels; `transfer/layers.csv` lists every layer.",
            network=network,
        )
        columns = {str(target): records(rows) for target, rows in table.groupby("target", sort=False)}
        longest = max(map(len, columns.values()))
        cells = [_aligned(rows, longest, page.language) for rows in columns.values()]
        page.table([*columns], [*zip(*cells, strict=True)], len(columns))


def _aligned(rows: list[Row], longest: int, say: Language) -> list[str]:
    """One cell per layer, with dashes before the head for the layers that longer networks have."""
    head = next((i for i, row in enumerate(rows) if row["layer"].startswith(("Global", "Flatten"))), len(rows))
    cells = [_layer(row, say) for row in rows]
    return [*cells[:head], *[DASH] * (longest - len(rows)), *cells[head:]]


def _layer(row: Row, say: Language) -> str:
    costs = ", {parameters:count}, {mflop:number.1} MFLOP" if row["parameters"] else ""
    receptive_field: str = "" if pd.isna(row["receptive_field"]) else ", {receptive_field:count} px"
    return say.fill("{layer} {output}" + costs + receptive_field, row | {"mflop": row["flop"] / 1e6})


def transfers(found: Findings, page: Page) -> None:
    """Training runs that start from trained features, against those from scratch."""
    say = page.language
    page.heading("How well features transfer")
    if found[TRANSFERS]["share"].nunique() > 1:
        page.picture("low_data.png", "Validation accuracy against the share of training images, by starting point")
    effects = _with_texts(described(found[TRANSFER_EFFECTS], say), say)
    page.bullets(*_verdicts(effects, page))
    columns = {
        "data set": "{target}",
        "network": "{network}",
        "images": "{part}",
        "starting point": "{start}",
        "n": "{n}",
        "validation accuracy": "{accuracy:percent}",
        **POINTS,
        **VERDICT,
    }
    compared = {row["setting"]: row for row in records(effects)}
    cells = []
    for setting, runs in _with_texts(completed(found[TRANSFERS]), say).groupby("setting", sort=False):
        means = {"n": len(runs), "accuracy": runs["accuracy"].mean()}
        row = records(runs)[0] | compared.get(setting, {}) | means
        templates = [*columns.values()] if setting in compared else [*columns.values()][:6] + [DASH] * 4
        cells.append([say.fill(template, row) for template in templates])
    for row in _unavailable(found):
        cells.append([row["name"], *[DASH] * 4, say("unavailable: {reason}", **row), *[DASH] * 4])
    page.table([say(heading) for heading in columns], cells, 10)
    failures(found[TRANSFERS], TRANSFERS, page)


def _verdicts(effects: pd.DataFrame, page: Page) -> list[Claim]:
    """When transfer helps and when it hurts: one sentence per verdict, network, data set and share."""
    say, claims = page.language, []
    for verdict, english in (
        (IMPROVES, "**Helps** {network} on {target} with {part} of its training images: {effects}."),
        (WORSENS, "**Hurts** {network} on {target} with {part} of its training images: {effects}."),
        (IRRELEVANT, "**No relevant effect** for {network} on {target} with {part} of its images: {effects}."),
        (INCONCLUSIVE, "Inconclusive for {network} on {target} with {part} of its training images: {effects}."),
        (NOT_TESTED, "Not tested: {network} on {target} with {part} of its training images: {effects}."),
    ):
        rows = effects[effects["verdict"] == verdict]
        for _, group in rows.groupby(["network", "target", "share"], sort=False):
            each = records(group)
            listed = "; ".join(say.fill("{start} {difference:points}{range} (n = {n})", row) for row in each)
            cited = f"setting: {', '.join(group['setting'])}"
            claims.append(page.claim(english, TRANSFER_EFFECTS, cited, **each[0], effects=listed))
    return claims


def long_runs(found: Findings, page: Page) -> None:
    """Long trainings on other data sets, quoted from docs/results."""
    rows = found[LONG_VARIANTS][found[LONG_VARIANTS]["data"] != found.data]
    if rows.empty:
        return
    page.heading("Long runs on other data sets")
    page.text("Measured earlier with the recipes in the folders named here, not by this run of the pipeline.")
    long_table(rows, page)
