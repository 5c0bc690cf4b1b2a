"""Question 2 of the homework, section by section: what must change for other data sets, and which features transfer."""

import json
from typing import Any

import pandas as pd

from cnnlab.evaluation.effects import IMPROVES, INCONCLUSIVE, IRRELEVANT, NOT_TESTED, WORSENS
from cnnlab.homework.findings import (
    CHANGES,
    LACKING,
    LAYERS,
    LONG_TRANSFER_EFFECTS,
    LONG_TRANSFERS,
    LONG_VARIANTS,
    TRANSFER_EFFECTS,
    TRANSFERS,
    VARIANTS,
    Findings,
)
from cnnlab.homework.sentences import POINTS, VERDICT, completed, described, failures, long_claims, long_table
from cnnlab.report.document import Claim, Page
from cnnlab.report.language import DASH, Language
from cnnlab.report.tables import records

USUAL_EPOCHS = 90  # of trainings on ImageNet, as in He et al. 2015, arXiv:1512.03385
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
        "settings on a data set take about the same number of steps, but at least one pass over the images, so a "
        "large share is seen fewer times than a small one. Differences are in validation accuracy, in percentage "
        "points; intervals and verdicts are as in question 1, simultaneous over all transfers. Features are all "
        "matching layers before the classifier of a single training run of the source, so intervals do not cover its "
        "seed-to-seed variation; frozen layers keep their normalisation statistics. Test images were not used."
    )


def answer(found: Findings, page: Page) -> None:
    """What must change for each data set, what else was tried, and the accuracy it reached, in plain words."""
    say = page.language
    page.heading("The answer for each data set")
    claims: list[Claim] = []
    for target in dict.fromkeys([*found[CHANGES]["target"], *found[TRANSFERS]["target"]]):
        for network in found[TRANSFERS]["network"].unique():
            changed = _of(found[CHANGES], network, target)
            parts = records(changed[~changed["part"].isin(["cost", "reading"])])
            if parts:
                listed = "; ".join(say.fill("{part:name} `{before:value}` → `{after:value}`", row) for row in parts)
                english = "**{target}**: in {network}, change {parts}."
                claims += page.each(english, CHANGES, "network target", parts[:1], parts=listed)
            for runs, effects in ((TRANSFERS, TRANSFER_EFFECTS), (LONG_TRANSFERS, LONG_TRANSFER_EFFECTS)):
                claims += _reached(_of(completed(found[runs]), network, target), runs, page)
                claims += _tried(_of(found[effects], network, target), effects, page)
            if target == "imagenet":
                claims += _not_trained(found, network, {row["part"]: row for row in records(changed)}, page)
        claims += long_claims(found[LONG_VARIANTS][found[LONG_VARIANTS]["data"] == target], page)
    heads = found[CHANGES][(found[CHANGES]["network"] == found.before) & (found[CHANGES]["part"] == "head")]
    hidden = [row | {"why": _reason(row, say)} for row in records(heads.tail(1))]
    english = "For {target}, {network} must drop its hidden layer. {why}"
    claims += page.each(english, CHANGES, "network target part", hidden)
    page.bullets(*claims, *page.each("**{name}** is unavailable: {reason}", LACKING, "name", _unavailable(found)))


def _of(table: pd.DataFrame, network: str, target: str) -> pd.DataFrame:
    return table[(table["network"] == network) & (table["target"] == target)]


def _reached(runs: pd.DataFrame, file: str, page: Page) -> list[Claim]:
    """The accuracy of a network from scratch on the largest share of a target, and the best with carried features.

    `file` has the runs; of a study in docs/results, they have its folder.
    """
    english = (
        "On {part} of the {target} training images, after {images:count} images, {steps:count} steps, {network} "
        "classifies {accuracy:percent} of the validation images correctly: {start} (n = {n}{top5}{quoted})."
    )
    rows = _with_texts(runs[(runs["share"] == runs["share"].max()) & (runs["change"] == "")], page.language)
    claims = []
    for scratch in (True, False):
        some = rows[(rows["mode"] == "from scratch") == scratch]
        if some.empty:
            continue
        means = some.groupby("setting", sort=False)[["accuracy", "top5_accuracy", "images", "steps"]].mean()
        best = some[some["setting"] == means["accuracy"].idxmax()]
        values = {"n": len(best), **means.loc[best["setting"].iloc[0]]}
        values["top5"] = (
            "" if pd.isna(values["top5_accuracy"]) else page.language("; top-5 {top5_accuracy:percent}", **values)
        )
        first = records(best)[0]
        claims += page.each(english, file, "target setting", [first | values], quoted=_quoted(first))
    return claims


def _tried(effects: pd.DataFrame, file: str, page: Page) -> list[Claim]:
    """What else was tried, each change by itself and from scratch; `file` has the effects."""
    say, claims = page.language, []
    rows = described(effects[effects["change"] != ""], say)
    template = "{change:name} {difference:points} ({interval}; {verdict:message})"
    english = "Of the rest of the recipe, tried on {part} of {target}, from scratch: {effects}{quoted}."
    for _, group in _with_texts(rows, say).groupby("share", sort=False):
        listed = "; ".join(say.fill(template, row) for row in records(group))
        cited = f"setting: {', '.join(group['setting'])}"
        first = records(group)[0]
        claims.append(page.claim(english, file, cited, **first, effects=listed, quoted=_quoted(first)))
    return claims


def _quoted(row: Row) -> str:
    """The folder of docs/results that a row was read from, after a semicolon; empty if it is of this pipeline run."""
    return f"; `{row['folder']}`" if "folder" in row else ""


def _with_texts(rows: pd.DataFrame, say: Language) -> pd.DataFrame:
    """Rows with texts: their share of the images (`part`; a decimal only if it has one), and what they `start` from."""
    parts = [say.percent(share, 0 if round(100 * share, 6).is_integer() else 1) for share in rows["share"]]
    starts = [
        ", ".join(filter(None, (say(STARTS[row["mode"]], source=row["source"]), say.name(row["change"]))))
        for row in records(rows)
    ]
    return rows.assign(part=parts, start=starts)


def _not_trained(found: Findings, network: str, changed: dict[str, Row], page: Page) -> list[Claim]:
    """Depth, and the time of a whole training with decoding, at the speeds measured here."""
    images, rate = (json.loads(changed[part]["values"])[key] for part, key in (("cost", "images"), ("reading", "rate")))
    flop = USUAL_EPOCHS * 1e6 * float(changed["cost"]["after"].split()[0]) * images
    trained = found.variant(found.after)
    speed = trained["training_flop"] / trained["train_seconds"]
    layers = _of(found[LAYERS], network, "imagenet")["layer"].str.startswith("Conv2D").sum()
    row = {"network": network, "target": "imagenet"}
    depth = (
        "**It was not trained on {target}.** {network} has {layers} convolutional layers there; networks "
        "known for it have 16 (VGG, arXiv:1409.1556) to 50 and more (ResNet, "
        "arXiv:1512.03385): increase `depths` before you train."
    )
    cost = (
        "{epochs} epochs of {target}, the usual number, take {network} {flop:number.0} PFLOP: at {speed:count} "
        "GFLOP/s, the speed at which {variant} was trained here, {hours:number.0} hours."
    )
    decoding = (
        "Decoding the images takes {decoding:number.0} hours at the {rate:count} images/s measured here, "
        "{total:number.0} hours together: this needs several GPUs or hosts, bfloat16, and more cores that decode. "
        "All of these are settings, not new code."
    )
    hours, decoded = flop / speed / 3600, USUAL_EPOCHS * images / rate / 3600
    return [
        *page.each(depth, LAYERS, "network target", [row], layers=layers),
        *page.each(
            cost,
            VARIANTS,
            "variant",
            [trained | row | {"epochs": USUAL_EPOCHS}],
            flop=flop / 1e15,
            speed=speed / 1e9,
            hours=hours,
        ),
        *page.each(
            decoding,
            CHANGES,
            "network target part",
            [row | {"part": "reading"}],
            decoding=decoded,
            rate=rate,
            total=hours + decoded,
        ),
    ]


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
        "The program applies these rules to each network and data set; no network was trained on ImageNet images. "
        "Whatever is not listed was kept."
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
    lacking = [
        [row["name"], *[DASH] * 4, say("unavailable: {reason}", **row), *[DASH] * 4] for row in _unavailable(found)
    ]
    _compare(found[TRANSFERS], found[TRANSFER_EFFECTS], TRANSFER_EFFECTS, lacking, page)
    failures(found[TRANSFERS], TRANSFERS, page)
    if len(long := found[LONG_TRANSFERS]):
        page.text("A study with more seeds (`{folder}`), measured earlier:", folder=long["folder"].iloc[0])
        _compare(long, found[LONG_TRANSFER_EFFECTS], LONG_TRANSFER_EFFECTS, [], page)


def _compare(runs: pd.DataFrame, effects: pd.DataFrame, file: str, lacking: list[list[str]], page: Page) -> None:
    """The `effects` in `file` by verdict, and a table of all settings, with the rows `lacking` at its end."""
    say = page.language
    effects = _with_texts(described(effects, say), say)
    page.bullets(*_verdicts(effects, file, page))
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
    for setting, group in _with_texts(completed(runs), say).groupby("setting", sort=False):
        means = {"n": len(group), "accuracy": group["accuracy"].mean()}
        row = records(group)[0] | compared.get(setting, {}) | means
        templates = [*columns.values()] if setting in compared else [*columns.values()][:6] + [DASH] * 4
        cells.append([say.fill(template, row) for template in templates])
    page.table([say(heading) for heading in columns], [*cells, *lacking], 10)


def _verdicts(effects: pd.DataFrame, file: str, page: Page) -> list[Claim]:
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
            claims.append(page.claim(english, file, cited, **each[0], effects=listed))
    return claims


def long_runs(found: Findings, page: Page) -> None:
    """Long trainings on other data sets, quoted from docs/results."""
    rows = found[LONG_VARIANTS][found[LONG_VARIANTS]["data"] != found.data]
    if rows.empty:
        return
    page.heading("Long runs on other data sets")
    page.text("Measured earlier with the recipes in folders of `docs/results`, not by this run of the pipeline.")
    long_table(rows, page)
