"""The homework's page, chapter by chapter; a sentence is made from numbers, and names the rows that hold them."""

from typing import Any

import pandas as pd

from cnnlab.evidence.findings import Findings
from cnnlab.evidence.page import Claim, Page

EFFECTS, LADDER, RUNS = "ablation/effects.csv", "ablation/ladder.csv", "ablation/runs.csv"
TRIALS, IMPORTANCES = "sweep/trials.csv", "sweep/importances.csv"
VARIANTS, CLASSES, MISTAKES = "homework/variants.csv", "homework/classes.csv", "homework/mistakes.csv"
IMPORTANT = 5  # settings of a sweep that are told
FEW = 20  # complete trials; see sweep/charts.py


def write(found: Findings, page: Page) -> Page:
    """Write all chapters to `page`."""
    page.heading("Homework, question 1: what improves the CIFAR-10 network, and what makes it worse", 1)
    page.note(
        page.language(
            "Written from the tables of the pipeline's last run, budget {budget}. The number after a sentence leads to "
            "the rows it was made from; those rows name the MLflow runs.",
            budget=found.budget,
        )
    )
    for chapter in (answer, variants, ladder, factors, sweep, overfitting, classes, mistakes, calibration, method):
        chapter(found, page)
    return page


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
                    "{after} recognises {high} of the test images, {before} {low}: {points} percentage points (n = {n} "
                    "and {n_before} trainings).",
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
        told = say("No evidence either way, n = {n}: {names}.", n=n, names=names)
        claims.append((told, EFFECTS, "verdict: no evidence"))
    return claims


def _of(variants: pd.DataFrame, name: str) -> dict[str, Any]:
    """The row of a variant."""
    return _records(variants[variants["variant"] == name])[0]


def _highest(rows: pd.DataFrame, column: str) -> dict[str, Any]:
    """The first row with the highest value."""
    return _records(rows.sort_values(column, ascending=False, kind="stable"))[0]


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """A mapping a row, with keys that are words."""
    return [{str(key): value for key, value in row.items()} for row in rows.to_dict("records")]


def _by_size(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return _records(rows.sort_values("difference", key=abs, ascending=False))


def _interval(row: dict[str, Any], page: Page) -> str:
    """Interval and n; one pair has no interval."""
    say = page.language
    if row["n"] < 2:
        return f"n = {row['n']}"
    low, high = say.points(row["low"]), say.points(row["high"])
    return say("95 % interval {low} to {high}, n = {n}", low=low, high=high, n=row["n"])


def _summit(found: Findings, page: Page) -> list[Claim]:
    """The largest step of the ladder."""
    if found.ladder.empty:
        return []
    say = page.language
    row = _highest(found.ladder, "difference")
    told = say(
        "On the ladder, where changes add up, the largest step is {rung}: {points} points against {below} (n = {n}; "
        "{verdict}).",
        rung=row["setting"],
        below=row["base"],
        points=say.points(row["difference"]),
        n=row["n"],
        verdict=say(row["verdict"]),
    )
    return [(told, LADDER, f"setting: {row['setting']}")]


def variants(found: Findings, page: Page) -> None:
    """Every variant trained in full, validation beside test."""
    say = page.language
    page.heading("The variants, trained in full")
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
        for row in _records(found.variants)
    ]
    page.table([say(heading) for heading in headings], rows, 1)
    best = _of(found.variants, found.after)
    page.say(
        (
            say(
                "{after} was chosen for its validation accuracy, {validation}; on the test set, which was scored once "
                "a training and chose nothing, it has {test}.",
                after=found.after,
                validation=say.percent(best["validation_accuracy"]),
                test=say.percent(best["test_accuracy"]),
            ),
            VARIANTS,
            f"variant: {found.after}",
        )
    )
    page.picture("curves.png", "Loss and accuracy against training images seen")


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
    page.bullets(*(_rung(found, row, page) for row in _records(found.ladder)))


def _rung(found: Findings, row: dict[str, Any], page: Page) -> Claim:
    """What a rung changes, and what came of it."""
    say = page.language
    knobs = _records(found.changes[found.changes["rung"] == row["setting"]])
    told = say(
        "**{rung}** changes {changes}: {points} points against {below} ({interval}; {verdict}), for × {time} of the "
        "training time.",
        rung=row["setting"],
        changes="; ".join(f"`{knob['knob']}` {_value(knob['from'])} → {_value(knob['to'])}" for knob in knobs),
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
                "Here {before} alone has a validation accuracy of {accuracy} (n = {n}); every other training had the "
                "same seeds, epochs and number of images.",
                before=found.before,
                accuracy=say.percent(base["accuracy"].mean()),
                n=len(base),
            ),
            RUNS,
            f"setting: {found.before}",
        )
    )
    page.picture("forest.png", "Effects of single changes with their intervals")
    headings = ["change", "n", "points (95 % interval)", "p (Holm)", "verdict", "time", "FLOPs", "parameters"]
    rows = [
        [
            say.name(row["setting"]),
            str(row["n"]),
            f"{say.points(row['difference'])} ({say.points(row['low'])} – {say.points(row['high'])})",
            say.chance(row["p_holm"]),
            say(row["verdict"]),
            *(f"× {say.number(row[cost], 2)}" for cost in ("seconds", "training_flop", "parameters")),
        ]
        for row in _records(found.effects.sort_values("difference", ascending=False))
    ]
    page.table([say(heading) for heading in headings], rows, 5)
    failed = found.runs[found.runs["state"] != "COMPLETE"]
    for row in _records(failed):
        told = say("{setting}, seed {seed}, failed.", setting=say.name(row["setting"]), seed=row["seed"])
        page.say((f"{told} {row['reason']}", RUNS, f"setting: {row['setting']}; seed: {row['seed']}"))


def sweep(found: Findings, page: Page) -> None:
    """What the search adds."""
    say = page.language
    complete = found.trials[found.trials["state"] == "COMPLETE"]
    best = _highest(complete, "validation_accuracy")
    page.heading("What the search adds")
    claims = [
        (
            say(
                "Of {n} trials {complete} were trained to their end; the best, trial {trial}, has a validation "
                "accuracy of {accuracy}, an optimistic figure, for it is the best of {complete}.",
                n=len(found.trials),
                complete=len(complete),
                trial=best["trial"],
                accuracy=say.percent(best["validation_accuracy"]),
            ),
            TRIALS,
            f"state: COMPLETE; trial: {best['trial']}",
        )
    ]
    baseline = complete[complete["role"] == "baseline"]
    if len(baseline):
        accuracy = baseline["validation_accuracy"].iloc[0]
        told = say("The settings of {before} reach {accuracy} there at the same cost.", before=found.before,
                   accuracy=say.percent(accuracy))  # fmt: skip
        claims.append((told, TRIALS, f"trial: {baseline['trial'].iloc[0]}"))
    if len(found.importances):
        top = found.importances.head(IMPORTANT)
        names = ", ".join(f"`{row['setting']}` ({say.percent(row['share'], 0)})" for row in _records(top))
        n = int(top["trials"].iloc[0])
        hint = say(" So few trials make this a hint, not evidence.") if n < FEW else ""
        told = say("What moved the accuracy most, by fANOVA over {n} trials: {names}.", n=n, names=names) + hint
        claims.append((told, IMPORTANCES, f"setting: {', '.join(top['setting'])}"))
    page.say(*claims)


def overfitting(found: Findings, page: Page) -> None:
    """Training images against validation images."""
    say = page.language
    page.heading("Overfitting")
    page.bullets(
        *(
            (
                say(
                    "{variant} recognises {train} of the images it was trained on (without augmentation) and "
                    "{validation} of the validation images: a gap of {gap} points.",
                    variant=row["variant"],
                    train=say.percent(row["train_accuracy"]),
                    validation=say.percent(row["validation_accuracy"]),
                    gap=say.points(row["gap"]),
                ),
                VARIANTS,
                f"variant: {row['variant']}",
            )
            for row in _records(found.variants)
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
                "Of {n} classes {gained} are recognised better by {after} than by {before}; {most} gained most, "
                "{most_points} points, {least} least, {least_points}.",
                n=len(table),
                gained=int((table["gain"] > 0).sum()),
                after=found.after,
                before=found.before,
                most=say.name(most["class"]),
                most_points=say.points(most["gain"]),
                least=say.name(least["class"]),
                least_points=say.points(least["gain"]),
            ),
            CLASSES,
            f"class: {most['class']}, {least['class']}",
        )
    )
    rows = [
        [
            say.name(row["class"]),
            say.percent(row["before"], 1),
            say.percent(row["after"], 1),
            say.points(row["gain"], 1),
        ]
        for row in _records(table)
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
                "Of the {mistakes} mistakes of {after} on the test set (n = {n}), {sure} were made with a confidence "
                "of 90 % or more.",
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
            "{variant} is on average {confidence} sure and right in {accuracy}: its confidence is off by {error} "
            "points (expected calibration error, 15 bins)."
        )
        told = say(
            english,
            variant=name,
            confidence=say.percent(row["confidence"], 1),
            accuracy=say.percent(row["test_accuracy"], 1),
            error=say.number(row["calibration_error"], 1),
        )
        claims.append((told, VARIANTS, f"variant: {name}"))
    page.say(*claims)
    page.picture("calibration.png", "Accuracy against confidence")


def method(found: Findings, page: Page) -> None:
    """How the figures were made."""
    page.heading("How this was measured")
    page.note(
        page.language(
            "Effects are paired differences of validation accuracy over seeds, with Student's 95 % interval; p values "
            "are corrected by Holm's method for all changes tested together, and a verdict is given below 5 %. "
            "Validation chooses: pruning, early stopping, the search and the best variant never saw the test set. "
            "Intervals of the test accuracy are over seeds, or, for one training, over test images (Wilson); those do "
            "not hold the luck of the seed. Confusion, mistakes and calibration are those of the first seed."
        )
    )
