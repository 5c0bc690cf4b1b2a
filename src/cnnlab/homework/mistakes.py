"""Question 1 of the homework, where the best variant is wrong: overfitting, classes, confused pairs, confidence."""

from typing import Any

from cnnlab.homework.findings import CLASSES, PAIRS, VARIANTS, Findings
from cnnlab.report.document import EVERY_ROW, Page
from cnnlab.report.language import Language
from cnnlab.report.tables import records

WELL_CALIBRATED = 0.02  # difference between mean confidence and accuracy


def overfitting(found: Findings, page: Page) -> None:
    """Training images against validation images, and when the validation loss was least."""
    english = (
        "{variant} classifies {train_accuracy:percent} of a sample of its training images correctly (as large as the "
        "validation set, without augmentation) and {validation_accuracy:percent} of the validation images: a gap of "
        "{gap:points} points (n = {n}). {when}"
    )
    page.heading("Overfitting")
    rows = records(found[VARIANTS])
    whens = [_when(row, page.language) for row in rows]
    page.bullets(
        *page.each(english, VARIANTS, "variant", [row | {"when": w} for row, w in zip(rows, whens, strict=True)])
    )


def _when(row: dict[str, Any], say: Language) -> str:
    if row["epochs"] == 1:
        return say("It saw each image once, so it could hardly learn any by heart.")
    if row["best_epoch"] == row["epochs"]:
        return say("Its validation loss was lowest after the last epoch: it did not overfit yet.")
    return say("Its validation loss was lowest after epoch {best_epoch}: from then on it overfitted.", **row)


def classes(found: Findings, page: Page) -> None:
    """Which classes gained."""
    if found.after == found.before:
        return
    rows = records(found[CLASSES])
    first, *_, last = rows
    page.heading("Accuracy by class")
    english = (
        "Of {count} classes, {gained} are recognised better by {after} than by {before} (first seed of each): "
        "{most:name} gains most, {most_points:points} points, and {least:name} least, {least_points:points}."
    )
    variants = {"after": found.after, "before": found.before}
    most = {"most": first["class"], "most_points": first["gain"]}
    least = {"least": last["class"], "least_points": last["gain"]}
    gained = sum(row["gain"] > 0 for row in rows)
    page.sentence(english, CLASSES, EVERY_ROW, count=len(rows), gained=gained, **variants, **most, **least)
    templates = ("{class:name}", "{before:percent.1}", "{after:percent.1}", "{gain:points.1}")
    cells = [[page.language.fill(template, row) for template in templates] for row in rows]
    headings = [page.language("class"), found.before, found.after, page.language("gain, points")]
    page.table(headings, cells, 1)
    page.picture("confusion.png", "Confusion matrices before and after")


def pairs(found: Findings, page: Page) -> None:
    """The classes that are confused most."""
    rows = records(found[PAIRS])
    if not rows:
        return
    page.heading("Which classes are confused")
    english = (
        "**{one:name} and {other:name}**: {errors:count} errors of {variant}, {share:percent.0} of all (first seed). "
        "It takes {there:count} images of {one:name} for {other:name}, and {back:count} the other way."
    )
    page.bullets(*page.each(english, PAIRS, "one other", rows, variant=found.after))
    page.picture("pairs.png", "The most confident errors of each of these pairs, one pair per row")


def errors(found: Findings, page: Page) -> None:
    """The most confident errors, and whether confidence matches accuracy."""
    page.heading("The most confident errors")
    english = (
        "{variant} makes {errors:count} errors on the test set (all runs together, n = {n}), "
        "{confident_errors:count} of them with a confidence of 90 % or more."
    )
    page.say(*page.each(english, VARIANTS, "variant", [found.variant(found.after)]))
    page.picture("mistakes.png", "Test images misclassified with the highest confidence")
    page.heading("Is it calibrated?")
    reliability = (
        "{variant} is {direction}: mean confidence {confidence:percent.1}, accuracy {test_accuracy:percent.1}, "
        "expected calibration error {calibration_error:number.1} points (15 bins; n = {n}). {cause} Logits divided by "
        "{temperature:number.2}, which suits the validation images best, leave {scaled_calibration_error:number.1} "
        "points and change no prediction."
    )
    rows = [found.variant(name) for name in found.compared]
    texts = [_calibrated(row, page.language) for row in rows]
    page.bullets(
        *page.each(reliability, VARIANTS, "variant", [row | text for row, text in zip(rows, texts, strict=True)])
    )
    page.picture("calibration.png", "Accuracy against confidence")


def _calibrated(row: dict[str, Any], say: Language) -> dict[str, str]:
    """Whether a variant trusts itself too much or too little, and the likely cause."""
    if abs(row["confidence"] - row["test_accuracy"]) < WELL_CALIBRATED:
        return {"direction": say("about as confident as it is right"), "cause": ""}
    if row["confidence"] > row["test_accuracy"]:
        cause = say(
            "The likely cause: cross-entropy rewards ever larger logits for images that are right already (Guo et al. "
            "2017, arXiv:1706.04599)."
        )
        return {"direction": say("overconfident"), "cause": cause}
    if row["label_smoothing"]:
        cause = say(
            "The likely cause: label smoothing of {label_smoothing:number.1} asks for confidences below 1 even where "
            "the network is sure (Müller et al. 2019, arXiv:1906.02629).",
            **row,
        )
    else:
        cause = say(
            "The likely cause: a short training with dropout and augmentation, which ends before the logits have grown."
        )
    return {"direction": say("underconfident"), "cause": cause}
