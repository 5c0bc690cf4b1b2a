"""The homework's first question, chapter by chapter; a sentence is made from numbers, and names their rows."""

from typing import Any

import pandas as pd

from cnnlab.evidence.findings import Findings, records
from cnnlab.evidence.page import EVERY_ROW, Claim, Page

EFFECTS, LADDER, RUNS = "ablation/effects.csv", "ablation/ladder.csv", "ablation/runs.csv"
TRIALS, IMPORTANCES = "sweep/trials.csv", "sweep/importances.csv"
VARIANTS, CLASSES = "homework/variants.csv", "homework/classes.csv"
IMPORTANT = 5  # settings of a sweep that are told


def write(found: Findings, page: Page) -> None:
    """Write the question's chapters to `page`."""
    page.heading("Homework, question 1: what improves the CIFAR-10 network, and what makes it worse", 1)
    page.note(
        page.language(
            "Written from the tables of the pipeline's last run, budget {budget}. The number after a sentence leads to "
            "the rows it was made from; those rows name the MLflow runs.",
            budget=found.budget,
        )
    )
    for chapter in (answer, variants, ladder, factors):
        chapter(found, page)
    if found.searched:
        sweep(found, page)
    overfitting(found, page)
    if found.after != found.before:
        classes(found, page)
    for chapter in (mistakes, calibration, method):
        chapter(found, page)


def answer(found: Findings, page: Page) -> None:
    """The question answered in plain words."""
    say = page.language
    before, after = (_of(found.variants, name) for name in (found.before, found.after))
    page.heading("The answer")
    claims = []
    if found.after != found.before:
        claims.append(
            (
                say(
                    "{after} recognises {high} of the test images, {before} {low}: {points} percentage points "
                    "(trainings: {n} and {n_before}).",
                    after=found.after,
                    before=found.before,
                    high=say.percent(after["test_accuracy"]),
                    low=say.percent(before["test_accuracy"]),
                    points=say.points(100 * (after["test_accuracy"] - before["test_accuracy"])),
                    n=after["n"],
                    n_before=before["n"],
                ),
                VARIANTS,
                f"variant: {found.after}, {found.before}",
            )
        )
    page.bullets(*claims, *_verdicts(found, page), *_summit(found, page))


def _verdicts(found: Findings, page: Page) -> list[Claim]:
    """What improves, what worsens, what is not known, each with n and interval."""
    say, claims = page.language, []
    for verdict, english in (
        ("improves", "**Improves** the network: {factor}, {points} points ({interval})."),
        ("worsens", "**Worsens** it: {factor}, {points} points ({interval})."),
    ):
        rows = found.effects[found.effects["verdict"] == verdict]
        for row in _by_size(rows):
            name, points = say.name(row["setting"]), say.points(row["difference"])
            told = say(english, factor=name, points=points, interval=_interval(row, page))
            claims.append((told, EFFECTS, f"setting: {row['setting']}"))
    unknown = found.effects[found.effects["verdict"] == "no evidence"]
    if len(unknown):
        names = ", ".join(say.name(row["setting"]) for row in _by_size(unknown))
        n = say.span(unknown["n"].min(), unknown["n"].max())
        told = say("No evidence at n = {n}, corrected for {tests} tests: {names}.",
                   n=n, tests=len(found.effects), names=names)  # fmt: skip
        claims.append((told, EFFECTS, "verdict: no evidence"))
    return claims


def _of(variants: pd.DataFrame, name: str) -> dict[str, Any]:
    """The row of a variant."""
    return records(variants[variants["variant"] == name])[0]


def _highest(rows: pd.DataFrame, column: str) -> dict[str, Any]:
    """The first row with the highest value."""
    return records(rows.sort_values(column, ascending=False, kind="stable"))[0]


def _by_size(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return records(rows.sort_values("difference", key=abs, ascending=False))


def _interval(row: dict[str, Any], page: Page) -> str:
    """Interval, where there is one, and n."""
    say = page.language
    if pd.isna(row["low"]):
        return f"n = {row['n']}"
    low, high = say.points(row["low"]), say.points(row["high"])
    return say("95 % interval {low} to {high}, n = {n}", low=low, high=high, n=row["n"])


def _summit(found: Findings, page: Page) -> list[Claim]:
    """The largest step of the ladder."""
    if found.ladder.empty:
        return []
    say = page.language
    row = _highest(found.ladder, "difference")
    if row["difference"] <= 0:
        return []
    told = say(
        "On the ladder, where changes add up, the largest gain is that of {rung}: {points} points against {below} "
        "(n = {n}; {verdict}).",
        rung=row["setting"],
        below=row["base"],
        points=say.points(row["difference"]),
        n=row["n"],
        verdict=say(row["verdict"]),
    )
    return [(told, LADDER, EVERY_ROW)]


def variants(found: Findings, page: Page) -> None:
    """Every variant trained in full, validation beside test."""
    say = page.language
    page.heading("The variants on the test set")
    headings = ["variant", "n", "epochs", "training time", "parameters", "validation accuracy", "test accuracy (95 %)"]
    rows = [
        [
            row["variant"],
            str(row["n"]),
            f"{row['epochs']:.0f}",
            say.seconds(row["train_seconds"]),
            say.count(row["parameters"]),
            say.percent(row["validation_accuracy"]),
            f"{say.percent(row['test_accuracy'])} ({say.percent(row['test_accuracy_low'])} – "
            f"{say.percent(row['test_accuracy_high'])})",
        ]
        for row in records(found.variants)
    ]
    page.table([say(heading) for heading in headings], rows, 1)
    if found.after != found.before:
        best = _of(found.variants, found.after)
        told = say(
            "Beside {before}, {after} has the highest validation accuracy, {validation}, and was chosen for it; on the "
            "test set, which was scored once a training and chose nothing, it has {test}.",
            before=found.before,
            after=found.after,
            validation=say.percent(best["validation_accuracy"]),
            test=say.percent(best["test_accuracy"]),
        )
        page.say((told, VARIANTS, EVERY_ROW))
    page.picture("curves.png", "Loss and accuracy against training images seen")
    page.note(
        say(
            "Training loss and accuracy are of augmented images while the network learns, with dropout and smoothed "
            "labels where the variant has them; validation loss and accuracy are without all of these."
        )
    )


def ladder(found: Findings, page: Page) -> None:
    """One change after another, from the lesson's network up."""
    if found.ladder.empty:
        return
    say = page.language
    page.heading("The ladder: one change at a time")
    page.picture("ladder.png", "Validation accuracy of every rung of the ladder")
    page.note(
        say(
            "Short trainings, all with the same number of images and scored on validation images; what helps there "
            "need not help in a long one."
        )
    )
    page.bullets(*(_rung(found, row, page) for row in records(found.ladder)))


def _rung(found: Findings, row: dict[str, Any], page: Page) -> Claim:
    """What a rung changes, and what came of it."""
    say = page.language
    knobs = records(found.changes[found.changes["rung"] == row["setting"]])
    changes = "; ".join(f"`{knob['knob']}` {_value(knob['from'])} → {_value(knob['to'])}" for knob in knobs)
    told = say(
        "**{rung}** changes {changes}: {points} points against {below} ({interval}; {verdict}); training "
        "time × {time}.",
        rung=row["setting"],
        changes=changes or say("nothing that is not the same for all here"),
        points=say.points(row["difference"]),
        below=row["base"],
        interval=_interval(row, page),
        verdict=say(row["verdict"]),
        time=say.number(row["seconds"], 2),
    )
    return told, LADDER, f"setting: {row['setting']}"


def _value(value: Any) -> str:
    return "–" if value is None or (isinstance(value, float) and pd.isna(value)) else f"{value}"


def factors(found: Findings, page: Page) -> None:
    """Each factor alone against the lesson's network."""
    say = page.language
    page.heading("Each change alone")
    base = found.runs[(found.runs["setting"] == found.before) & (found.runs["state"] == "COMPLETE")]
    page.say(
        (
            say(
                "Here {before} itself has a validation accuracy of {accuracy} (n = {n}); every change alone was "
                "trained with the same seeds, epochs and number of images.",
                before=found.before,
                accuracy=say.percent(base["accuracy"].mean()),
                n=len(base),
            ),
            RUNS,
            f"setting: {', '.join([found.before, *found.effects['setting']])}",
        )
    )
    page.picture("forest.png", "Effects of single changes with their intervals")
    headings = ["change", "n", "points (95 % interval)", "p (Holm)", "verdict", "time", "FLOPs", "parameters"]
    rows = [
        [
            say.name(row["setting"]),
            str(row["n"]),
            say.points(row["difference"]) + _span(row, page),
            say.chance(row["p_holm"]),
            say(row["verdict"]),
            *(f"× {say.number(row[cost], 2)}" for cost in ("seconds", "training_flop", "parameters")),
        ]
        for row in records(found.effects.sort_values("difference", ascending=False))
    ]
    page.table([say(heading) for heading in headings], rows, 5)
    failed = found.runs[found.runs["state"] != "COMPLETE"]
    for row in records(failed):
        name, seed = say.name(row["setting"]), row["seed"]
        told = say("{setting}, seed {seed}, failed: {reason}", setting=name, seed=seed, reason=row["reason"])
        page.say((told, RUNS, f"setting: {row['setting']}; seed: {seed}"))


def _span(row: dict[str, Any], page: Page) -> str:
    """The interval in brackets, where there is one."""
    say = page.language
    return "" if pd.isna(row["low"]) else f" ({say.points(row['low'])} – {say.points(row['high'])})"


def sweep(found: Findings, page: Page) -> None:
    """What the search adds."""
    say = page.language
    complete = found.trials[found.trials["state"] == "COMPLETE"]
    order = ["validation_accuracy", "training_flop", "trial"]  # of equals the cheapest, as the sweep chooses
    best = records(complete.sort_values(order, ascending=[False, True, True]))[0]
    page.heading("What the search adds")
    told = say(
        "Of {n} trials {complete} were trained to their end; the best, trial {trial}, has a validation accuracy of "
        "{accuracy}, an optimistic figure, for it is the best of {complete}.",
        n=found.trials["original"].nunique(),
        complete=len(complete),
        trial=best["trial"],
        accuracy=say.percent(best["validation_accuracy"]),
    )
    page.say((told, TRIALS, EVERY_ROW), *_baseline(found, complete, page), *_importances(found, page))


def _baseline(found: Findings, complete: pd.DataFrame, page: Page) -> list[Claim]:
    """What the settings that the search began with reach."""
    rows = complete[complete["role"] == "baseline"]
    if rows.empty:
        return []
    told = page.language(
        "The settings of {base}, trial {trial}, reach {accuracy} there at the same cost.",
        base=found.searched,
        trial=rows["trial"].iloc[0],
        accuracy=page.language.percent(rows["validation_accuracy"].iloc[0]),
    )
    return [(told, TRIALS, f"trial: {rows['trial'].iloc[0]}")]


def _importances(found: Findings, page: Page) -> list[Claim]:
    """Which settings moved the accuracy."""
    if found.importances.empty:
        return []
    say, top = page.language, found.importances.head(IMPORTANT)
    names = ", ".join(f"`{row['setting']}` ({say.percent(row['share'], 0)})" for row in records(top))
    told = say(
        "What moved the accuracy most, by fANOVA over {n} trials: {names}.", n=top["trials"].iloc[0], names=names
    )
    if top["hint"].any():
        told += say(" So few trials make this a hint, not evidence.")
    return [(told, IMPORTANCES, f"setting: {', '.join(top['setting'])}")]


def overfitting(found: Findings, page: Page) -> None:
    """Training images against validation images."""
    say = page.language
    page.heading("Overfitting")
    page.bullets(
        *(
            (
                say(
                    "{variant} recognises {train} of a sample of its training images, as many as it has validation "
                    "images and without augmentation, and {validation} of the validation images: a gap of {gap} "
                    "points (n = {n}).",
                    variant=row["variant"],
                    n=row["n"],
                    train=say.percent(row["train_accuracy"]),
                    validation=say.percent(row["validation_accuracy"]),
                    gap=say.points(row["gap"]),
                ),
                VARIANTS,
                f"variant: {row['variant']}",
            )
            for row in records(found.variants)
        )
    )


def classes(found: Findings, page: Page) -> None:
    """Which classes gained."""
    say, table = page.language, found.classes
    page.heading("Which classes gained")
    most, *_, least = table.to_dict("records")
    page.say(
        (
            say(
                "Of {count} classes {gained} are recognised better by {after} than by {before} (the first seed of "
                "each); {most} gained most, {most_points} points, {least} least, {least_points}.",
                count=len(table),
                gained=int((table["gain"] > 0).sum()),
                after=found.after,
                before=found.before,
                most=say.name(most["class"]),
                most_points=say.points(most["gain"]),
                least=say.name(least["class"]),
                least_points=say.points(least["gain"]),
            ),
            CLASSES,
            EVERY_ROW,
        )
    )
    rows = [
        [
            say.name(row["class"]),
            say.percent(row["before"], 1),
            say.percent(row["after"], 1),
            say.points(row["gain"], 1),
        ]
        for row in records(table)
    ]
    page.table([say("class"), found.before, found.after, say("gain, points")], rows, 1)
    page.picture("confusion.png", "Confusion matrices before and after")


def mistakes(found: Findings, page: Page) -> None:
    """The most confident mistakes."""
    say = page.language
    row = _of(found.variants, found.after)
    page.heading("The most confident mistakes")
    page.say(
        (
            say(
                "Of the {mistakes} mistakes of {after} on the test set (all trainings together, n = {n}), {sure} were "
                "made with a confidence of 90 % or more.",
                mistakes=say.count(row["mistakes"]),
                n=row["n"],
                after=found.after,
                sure=say.count(row["sure_mistakes"]),
            ),
            VARIANTS,
            f"variant: {found.after}",
        )
    )
    page.picture("mistakes.png", "Test images that were misjudged with the highest confidence")


def calibration(found: Findings, page: Page) -> None:
    """Whether confidences can be believed."""
    say = page.language
    page.heading("Can its confidence be believed?")
    claims = []
    for name in dict.fromkeys((found.before, found.after)):
        row = _of(found.variants, name)
        english = (
            "{variant} is on average {confidence} sure and right in {accuracy} of cases: its confidence is off by "
            "{error} points (expected calibration error, 15 bins; n = {n})."
        )
        told = say(
            english,
            variant=name,
            confidence=say.percent(row["confidence"], 1),
            accuracy=say.percent(row["test_accuracy"], 1),
            error=say.number(row["calibration_error"], 1),
            n=row["n"],
        )
        claims.append((told, VARIANTS, f"variant: {name}"))
    page.say(*claims)
    page.picture("calibration.png", "Accuracy against confidence")


def method(found: Findings, page: Page) -> None:
    """How the figures were made."""
    page.heading("How this was measured")
    page.note(
        page.language(
            "Effects are paired differences of validation accuracy over seeds, each with its own Student's 95 % "
            "interval. A verdict is given where p is below 5 % after Holm's correction, for all changes alone together "
            "and for all rungs together; so an interval may leave 0 out and the verdict still be no evidence. "
            "Validation chooses: pruning, early stopping, the search and the choice of the best variant never saw the "
            "test set. Intervals of the test accuracy are over seeds, or, for one training, over test images (Wilson); "
            "those do not hold the luck of the seed. Pictures and the table of classes are of the first seed."
        )
    )
