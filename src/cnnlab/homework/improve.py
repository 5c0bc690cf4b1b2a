"""Question 1 of the homework, section by section: sentences generated from tables, which they cite."""

from typing import Any

import pandas as pd

from cnnlab.evaluation.effects import IMPROVES, INCONCLUSIVE, IRRELEVANT, NOT_TESTED, WORSENS
from cnnlab.homework import mistakes
from cnnlab.homework.findings import (
    CHANGED,
    EFFECTS,
    IMPORTANCES,
    LONG_FACTORS,
    LONG_INGREDIENTS,
    LONG_VARIANTS,
    PAIRED,
    RUNS,
    TRIALS,
    VARIANTS,
    Findings,
)
from cnnlab.homework.sentences import POINTS, VERDICT, completed, described, failures, long_claims, long_table
from cnnlab.homework.why import BY_NAME, Mechanism
from cnnlab.report.document import EVERY_ROW, TEST_ACCURACY, Claim, Page
from cnnlab.report.language import DASH, Language
from cnnlab.report.tables import records

IMPORTANT = 5  # settings of a sweep that are listed
SAME_FLOPS = 0.1  # largest relative difference of costs that sentences leave out
COSTS = {"FLOPs": "× {training_flop:number.2}", "parameters": "× {parameters:number.2}"}
SAME_TIME = 1.25  # largest ratio of training times that counts as about the same


def write(found: Findings, page: Page) -> None:
    """Write the sections of the question to `page`."""
    page.heading("Homework, question 1: what improves the CIFAR-10 network, and what makes it worse", 1)
    page.text(
        "Generated from the tables of the last pipeline run, budget {budget}. The number after a sentence links to "
        "the table rows behind it, which name the MLflow runs.",
        budget=found.budget,
    )
    for section in (
        answer,
        variants,
        factors,
        ladder,
        ingredients,
        why,
        long_runs,
        sweep,
        mistakes.overfitting,
        mistakes.classes,
        mistakes.pairs,
        mistakes.errors,
    ):
        section(found, page)
    page.heading("How this was measured")
    page.text(
        "An effect is the mean of the paired differences in validation accuracy over seeds: both trainings of a pair "
        "share seed, images and order. Its interval comes from a moderated t statistic (Smyth 2004) with seeds as "
        "blocks: each setting has its own variance, shrunk towards that of all settings. The intervals are "
        "simultaneous: with a probability of 95 %, all intervals of the study contain their true effects, so a verdict "
        "is never corrected afterwards. Improves and worsens: the interval excludes 0; no relevant effect: it is "
        "within ± 1 point; inconclusive: neither; not tested: a single seed, or a base below 3 × chance. "
        "Pruning, early stopping, the search and the selection of the best variant use validation images, never "
        "the test set. Intervals of the test accuracy are over seeds or, for a single training run, over test "
        "images (Wilson); the latter do not cover seed-to-seed variation. Learning curves, confusion "
        "matrices, errors, calibration and the table of classes show the first seed."
    )


def answer(found: Findings, page: Page) -> None:
    """The answer in plain words: the best variant, what improves or worsens the network, and the largest gain."""
    page.heading("The answer")
    claims = []
    if found.after != found.before:
        old, new = found.variant(found.before), found.variant(found.after)
        high, low = new["test_accuracy"], old["test_accuracy"]
        values = {"high": high, "low": low, "points": 100 * (high - low), "n": new["n"], "n_before": old["n"]}
        english = (
            "{after} classifies {high:percent} of the test images correctly, {before} {low:percent}: a difference "
            "of {points:points} percentage points (training runs: {n} and {n_before})."
        )
        rows = f"variant: {found.after}, {found.before}"
        claims += _at_equal_time(found, page)
        claims.append(page.claim(english, VARIANTS, rows, after=found.after, before=found.before, **values))
    long = found[LONG_VARIANTS][found[LONG_VARIANTS]["data"] == found.data].sort_values("test_accuracy")
    claims += [_study(found, page), *_verdicts(found, page), *_steps(found, page), *_leave_one_out(found, page)]
    page.bullets(*claims, *long_claims(long, page))


def _at_equal_time(found: Findings, page: Page) -> list[Claim]:
    """The best variant against those that were trained for about as long, or longer."""
    accuracies = found[VARIANTS].set_index("variant")["test_accuracy"]
    rows = found[PAIRED][found[PAIRED]["seconds"] <= SAME_TIME]
    rows = rows.assign(test_accuracy=rows["variant"].map(accuracies))
    english = (
        "**At about the same training time or less** (× {seconds:number.2}), {after} classifies {high:percent} of the "
        "test images correctly, {variant} {test_accuracy:percent}: {difference:points} points (first seeds; 95 % "
        "bootstrap interval over images {low:points} to {high_points:points})."
    )
    values = {"after": found.after, "high": accuracies[found.after]}
    return page.each(english, PAIRED, "variant", records(rows.rename(columns={"high": "high_points"})), **values)


def _study(found: Findings, page: Page) -> Claim:
    """What the ablation's base reached, and on how many images and steps."""
    complete = completed(found[RUNS])
    base = complete[complete["setting"] == found.before]
    english = (
        "Single changes were tried in a study where {before} reaches a validation accuracy of {accuracy:percent} after "
        "{images:count} images, {steps:count} steps (n = {n}); each change was trained with the same seeds and images."
    )
    values = {"accuracy": base["accuracy"].mean(), "n": len(base), **base[["images", "steps"]].mean()}
    return page.claim(english, RUNS, f"setting: {found.before}", before=found.before, **values)


def _verdicts(found: Findings, page: Page) -> list[Claim]:
    """What improves, what worsens, and what is not decided: single changes with n and interval."""
    effects = described(found.effects("factor"), page.language).sort_values("difference", key=abs, ascending=False)
    claims = []
    for verdict, english in (
        (IMPROVES, "**Improves** the network: {factor:name}, {difference:points} points ({interval}).{why}"),
        (WORSENS, "**Worsens** it: {factor:name}, {difference:points} points ({interval}).{why}"),
        (IRRELEVANT, "**No relevant effect**: {factor:name}, {difference:points} points ({interval}).{why}"),
    ):
        decided = records(effects[effects["verdict"] == verdict])
        texts = [row | {"why": _in_short(row, page.language)} for row in decided]
        claims += page.each(english, EFFECTS, "factor", texts)
    undecided = {
        INCONCLUSIVE: "Inconclusive at n = {n}: {names}.",
        NOT_TESTED: "Not tested (n = {n}): {names}.",
    }
    return claims + _grouped(undecided, "factor", found.effects("factor"), EFFECTS, page)


def _steps(found: Findings, page: Page) -> list[Claim]:
    """The steps of the ladder by verdict, with their gains."""
    sentences = {
        IMPROVES: "On the ladder, where changes accumulate, these steps improve the network: {names} (n = {n}).",
        WORSENS: "On the ladder, these steps worsen it: {names} (n = {n}).",
        IRRELEVANT: "On the ladder, these steps have no relevant effect: {names} (n = {n}).",
        INCONCLUSIVE: "On the ladder, these steps are inconclusive at n = {n}: {names}.",
    }
    return _grouped(sentences, "step", found.effects("step"), EFFECTS, page)


def _leave_one_out(found: Findings, page: Page) -> list[Claim]:
    """Leave-one-out, quoted from docs/results: what the last variant of the ladder loses without each ingredient."""
    sentences = {
        IMPROVES: "**Leave-one-out** from {setting} (n = {n}; `{folder}`): these ingredients improve it: {names}.",
        WORSENS: "**Leave-one-out**: these ingredients worsen {setting} (n = {n}): {names}.",
        IRRELEVANT: "**Leave-one-out**: these ingredients have no relevant effect on {setting} (n = {n}): {names}.",
        INCONCLUSIVE: "**Leave-one-out**: inconclusive for {setting} at n = {n}: {names}.",
    }
    return _grouped(sentences, "change", found[LONG_INGREDIENTS], LONG_INGREDIENTS, page)


def _grouped(sentences: dict[str, str], column: str, effects: pd.DataFrame, table: str, page: Page) -> list[Claim]:
    """One claim per verdict that occurs, which lists its changes; a step is a variant, whose name stays as it is."""
    name = "{step}" if column == "step" else f"{{{column}:name}}"
    claims = []
    for verdict, english in sentences.items():
        some = effects[effects["verdict"] == verdict]
        if rows := [row | {"cost": _cost(row, page.language)} for row in records(some)]:
            names = ", ".join(page.language.fill(name + " ({difference:points}{cost})", row) for row in rows)
            n = "–".join(map(str, dict.fromkeys((some["n"].min(), some["n"].max()))))
            cited = f"{column}: {', '.join(some[column])}"
            claims.append(page.claim(english, table, cited, **rows[0] | {"n": n, "names": names}))
    return claims


def _cost(row: dict[str, Any], say: Language) -> str:
    """The FLOPs of an effect, after a semicolon, if they are not about the same as those of its base."""
    return "" if abs(row["training_flop"] - 1) < SAME_FLOPS else say("; FLOPs × {training_flop:number.2}", **row)


def _in_short(row: dict[str, Any], say: Language) -> str:
    """The first sentence of the mechanism of a factor, after a space; empty if the page explains none."""
    mechanism = BY_NAME.get(row["factor"])
    return f" {say(mechanism.text).partition('. ')[0].removesuffix('.')}." if mechanism else ""


def variants(found: Findings, page: Page) -> None:
    """Every fully trained variant, validation beside test."""
    page.heading("Variants on the test set")
    columns = {
        "variant": "{variant}",
        "n": "{n}",
        "epochs": "{epochs:count}",
        "training time": "{train_seconds:seconds}",
        "parameters": "{parameters:count}",
        "validation accuracy": "{validation_accuracy:percent}",
        "test accuracy (95 %)": TEST_ACCURACY,
    }
    page.records(records(found[VARIANTS]), columns, 1)
    if found.after != found.before:
        english = (
            "Apart from {before}, {variant} has the highest validation accuracy, {validation_accuracy:percent}, "
            "and was selected for it. Its test accuracy is {test_accuracy:percent}; the test set was scored once "
            "per training run and was not used for any selection."
        )
        page.sentence(english, VARIANTS, EVERY_ROW, before=found.before, **found.variant(found.after))
        paired = (
            "{after} against {variant} on the same {images:count} test images (first seeds; training time × "
            "{seconds:number.2}): {difference:points} points, 95 % bootstrap interval over images {low:points} to "
            "{high:points}. Only {after} is right on {gained:count}, only {variant} on {lost:count} (McNemar’s test: p "
            "{p:p_value})."
        )
        page.bullets(*page.each(paired, PAIRED, "variant", records(found[PAIRED]), after=found.after))
    page.picture("curves.png", "Loss and accuracy against training images seen")
    page.text(
        "Training loss and accuracy are measured during training, on augmented images, with dropout and smoothed "
        "labels if the variant uses them; validation loss and accuracy are measured without any of these."
    )


def ladder(found: Findings, page: Page) -> None:
    """One change after another, starting from the network of the lesson."""
    steps = found.effects("step")
    if steps.empty:
        return
    page.heading("The ladder: changes that accumulate")
    page.picture("ladder.png", "Validation accuracy of each step of the ladder")
    page.text(
        "Short training runs on the same number of images, scored on validation images; what helps in a short run "
        "need not help in a long one."
    )
    rows = records(described(steps, page.language))
    for row in rows:
        changed = found[CHANGED][
            (found[CHANGED]["setting"] == row["setting"]) & (found[CHANGED]["base"] == row["base"])
        ]
        changes = records(changed)
        row["changes"] = "; ".join(
            page.language.fill("`{key}` {from:value} → {to:value}", change) for change in changes
        )
    english = (
        "**{step}** changes {changes}: {difference:points} points relative to {base} ({interval}; {outcome}); "
        "training time × {seconds:number.2}."
    )
    page.bullets(*page.each(english, EFFECTS, "step", rows))


def factors(found: Findings, page: Page) -> None:
    """Each factor alone against the network of the lesson."""
    page.heading("Each change on its own")
    page.say(_study(found, page))
    if found.changes:
        keys = [page.language.fill("`{key}` {to:value}", {"key": k, "to": v}) for k, v in found.changes.items()]
        page.text(
            "To learn in so few steps, {before} and the steps of the ladder that have its values are trained with "
            "{changes} here.",
            before=found.before,
            changes=", ".join(keys),
        )
    page.picture("forest.png", "Effects of single changes with their intervals")
    _table_of("factor", "change", found, page)
    failures(found[RUNS], RUNS, page)


def ingredients(found: Findings, page: Page) -> None:
    """What the last variant of the ladder loses without each of its ingredients, here and in a long study."""
    own, long = found.effects("ingredient"), found[LONG_INGREDIENTS]
    if own.empty and long.empty:
        return
    page.heading("Each ingredient taken away")
    page.text(
        "The last variant of the ladder, relative to itself without one ingredient: a positive difference is what the "
        "ingredient contributes in the company of all others. The same change on its own answers another question: "
        "what it does to {before}. The two differ where changes interact: one needs another to work, as a high rate "
        "needs normalisation, or two do the same work, so that one of them is superfluous.",
        before=found.before,
    )
    if len(own):
        _table_of("ingredient", "ingredient", found, page)
    if len(long):
        rows = described(long, page.language)
        template = "{difference:points}{range}, {verdict:message}"
        factors = records(described(found[LONG_FACTORS], page.language))
        alone = {row["change"]: page.language.fill(template, row) for row in factors}
        page.text(
            "A long study of {setting} (`{folder}`; {images:count} images per training run); beside it, the change "
            "on its own in a long study of {before}.",
            before=found.before,
            **records(long)[0],
        )
        points = "points (simultaneous 95 % interval)"
        columns = {"ingredient": "{change:name}", "n": "{n}", points: POINTS[points], "verdict": "{outcome}"}
        columns |= {"on its own": "{alone}", **COSTS}
        page.records(records(rows.assign(alone=[alone.get(change, DASH) for change in rows["change"]])), columns, 5)


def why(found: Findings, page: Page) -> None:
    """The mechanism of each change, with its source, and whether the measurement agrees."""
    page.heading("Why: what each change does, and whether the measurement agrees")
    english = "**{name}** ({difference:points} points, {verdict:message}): {mechanism} ({source}). {agreement}"
    claims, explained = [], set()
    for kind in ("factor", "step", "ingredient"):
        for row in records(found.effects(kind)):
            contrast = row["setting"], row["base"]
            if (mechanism := BY_NAME.get(row[kind])) and contrast not in explained:
                explained.add(contrast)
                texts = {"mechanism": page.language(mechanism.text), "source": mechanism.source}
                texts["agreement"] = _agreement(mechanism, row["verdict"], page.language)
                name = row[kind] if kind == "step" else page.language.name(row[kind])  # a step is a variant
                claims += page.each(english, EFFECTS, kind, [row], name=name, **texts)
    page.bullets(*claims)


def _agreement(mechanism: Mechanism, verdict: str, say: Language) -> str:
    if verdict not in (IMPROVES, WORSENS):
        return say("This study does not decide it.")
    if mechanism.expected is None:
        return say("The direction depends on the length of the training.")
    return say("The measurement agrees.") if verdict == mechanism.expected else say("The measurement disagrees.")


def _table_of(kind: str, heading: str, found: Findings, page: Page) -> None:
    columns = {heading: f"{{{kind}:name}}", "n": "{n}", **POINTS, **VERDICT, **COSTS}
    effects = described(found.effects(kind), page.language).sort_values("difference", ascending=False)
    page.records(records(effects), columns, 5)


def long_runs(found: Findings, page: Page) -> None:
    """Long trainings, quoted from docs/results."""
    rows, factors = found[LONG_VARIANTS], found[LONG_FACTORS]
    rows = rows[rows["data"] == found.data]
    if rows.empty and factors.empty:
        return
    page.heading("Long runs")
    page.text("Measured earlier with the recipes in folders of `docs/results`, not by this run of the pipeline.")
    for verdict, english in (
        (IMPROVES, "Of {count} single changes, {some} improve {base} (n = {n}, folder `{folder}`): {names}."),
        (WORSENS, "Of {count} single changes, {some} worsen {base} (n = {n}, folder `{folder}`): {names}."),
    ):
        some = factors[factors["verdict"] == verdict]
        if len(some):
            template = "{change:name} ({difference:points.1})"
            names = ", ".join(page.language.fill(template, row) for row in records(some))
            values = {"count": len(factors), "some": len(some), "names": names}
            first = records(some)[0]
            page.sentence(english, LONG_FACTORS, f"verdict: {verdict}", **first | values)
    if len(rows):
        long_table(rows, page)


def sweep(found: Findings, page: Page) -> None:
    """What the search adds; nothing if it searched on another data set."""
    if not found.searched:
        return
    complete = completed(found[TRIALS])
    order = ["validation_accuracy", "training_flop", "trial"]  # of equals the cheapest, as the sweep selects
    best = records(complete.sort_values(order, ascending=[False, True, True]))[0]
    page.heading("What the search adds")
    trials = (
        "Of {n} trials, {complete} completed. The best, trial {trial}, has a validation accuracy of "
        "{validation_accuracy:percent}, an optimistic estimate because it is the best of {complete}."
    )
    counts = {"n": found[TRIALS]["original"].nunique(), "complete": len(complete)}
    claims = [page.claim(trials, TRIALS, EVERY_ROW, **counts, **best)]
    same = "Trial {trial}, which has the settings of {base}, reaches {validation_accuracy:percent} at the same cost."
    baseline = records(complete[complete["role"] == "baseline"].head(1))
    claims += page.each(same, TRIALS, "trial", baseline, base=found.searched)
    if len(top := found[IMPORTANCES].head(IMPORTANT)):
        names = ", ".join(page.language.fill("`{setting}` ({share:percent.0})", row) for row in records(top))
        english = "Settings with the largest influence on the accuracy, by fANOVA over {n} trials: {names}."
        rows = f"setting: {', '.join(top['setting'])}"
        sentence, file, cited = page.claim(english, IMPORTANCES, rows, n=top["trials"].iloc[0], names=names)
        hint = page.language(" With so few trials this is a hint, not evidence.") if top["hint"].any() else ""
        claims.append((sentence + hint, file, cited))
    page.say(*claims)
