"""The answers to the homework's two questions: a page with its tables and pictures, in English or Russian."""

from pathlib import Path

import numpy as np
import pandas as pd

from cnnlab import params
from cnnlab.data.store import open_processed, read_card
from cnnlab.evidence import figures, homework_figures, question1, question2
from cnnlab.evidence.evaluation import run_folder
from cnnlab.evidence.findings import Findings, gather, predictions
from cnnlab.evidence.page import Page
from cnnlab.evidence.words import Language
from cnnlab.files import REPORTS, write_text
from cnnlab.train.evaluate import classification

FOLDER = REPORTS / "homework"
TABLES = ("variants", "classes", "calibration", "mistakes", "changes")


def write_homework(parameters: params.Params) -> list[Path]:
    """Write reports/homework.md and .html and, in reports/homework/, the tables and pictures behind them.

    Returns the paths of all. The language is that of params.yaml. Raises UserError where a run is missing.
    """
    language = Language(parameters.report.language)
    found = gather(parameters)
    for name in TABLES:
        write_text(FOLDER / f"{name}.csv", getattr(found, name).to_csv(index=False))
    _draw(parameters, found, language)
    page = Page(language, FOLDER)
    question1.write(found, page)
    question2.write(found, page)
    write_text(FOLDER / "claims.csv", page.sources().to_csv(index=False))
    write_text(REPORTS / "homework.md", page.markdown())
    write_text(REPORTS / "homework.html", page.html())
    return [REPORTS / "homework.md", REPORTS / "homework.html", *sorted(FOLDER.iterdir())]


def _draw(parameters: params.Params, found: Findings, language: Language) -> None:
    data = parameters.ablation.data
    classes, images = list(read_card(data)["classes"]), open_processed(data).test_images
    effects = found.effects.assign(setting=found.effects["setting"].map(language.name))
    figures.forest(FOLDER / "forest.png", effects, found.before, language)
    if parameters.ablation.ladder:
        homework_figures.ladder(FOLDER / "ladder.png", found.runs, parameters.ablation.ladder, language)
    curves, matrices = {}, {}
    for name in dict.fromkeys((found.before, found.after)):
        run = params.runs(parameters, name)[0]
        curves[name] = pd.read_csv(run_folder(run) / "history.csv"), pd.read_csv(run_folder(run) / "curve.csv")
        matrices[_title(run, language)] = np.array(classification(*predictions(run), classes)["confusion"])
    figures.learning_curves(FOLDER / "curves.png", curves, language)
    figures.confusions(FOLDER / "confusion.png", matrices, [language.name(c) for c in classes], language)
    homework_figures.mistakes(FOLDER / "mistakes.png", found.mistakes, images[found.mistakes["image"]], language)
    if found.transfers["share"].nunique() > 1:
        homework_figures.low_data(FOLDER / "low_data.png", found.transfers, language)
    homework_figures.reliability(FOLDER / "calibration.png", found.calibration, language)


def _title(run: params.Run, language: Language) -> str:
    logits, labels = predictions(run)
    share = language.percent((logits.argmax(axis=1) == labels).mean(), 1)
    told = language("{share} of {images} test images", share=share, images=language.count(len(labels)))
    return f"{run.variant}: {told}"
