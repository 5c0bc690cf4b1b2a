"""The course's page: its tables, formulas and pictures in the course's order, computed and measured."""

from uuid import uuid4

import numpy as np
import pandas as pd

from cnnlab import track
from cnnlab.data.store import read_card
from cnnlab.evidence import lesson_arithmetic, lesson_before, lesson_figures, lesson_networks, lesson_seen
from cnnlab.evidence.evaluation import run_folder
from cnnlab.evidence.figures import confusions, learning_curves
from cnnlab.evidence.findings import predictions
from cnnlab.evidence.lesson_before import compared
from cnnlab.evidence.lesson_tables import LESSON, Course, gather
from cnnlab.evidence.page import Page
from cnnlab.evidence.words import Language
from cnnlab.files import REPORTS, write_text
from cnnlab.params import Params, runs
from cnnlab.train.evaluate import classification


def write_lesson(parameters: Params) -> None:
    """Write reports/lesson.md and .html from reports/lesson/ and the evaluations, and keep all of it in MLflow."""
    language = Language(parameters.report.language)
    course = gather(parameters)
    _draw(course, language)
    page = Page(language, LESSON)
    write(course, page)
    write_text(LESSON / "claims.csv", page.sources().to_csv(index=False))
    pages = [REPORTS / "lesson.md", REPORTS / "lesson.html"]
    for path, text in zip(pages, (page.markdown(), page.html()), strict=True):
        write_text(path, text)
    budget = {"budget": parameters.budget}
    tracker = track.Run.start(
        uuid4().hex, "reports", f"lesson, budget {parameters.budget}", budget, {}, "The course, computed."
    )
    for path in pages:
        tracker.log_file(path)
    for path in sorted(path for path in LESSON.rglob("*.*") if path.is_file()):
        tracker.log_file(path, str(path.parent.relative_to(REPORTS)))
    tracker.finish()


def write(course: Course, page: Page) -> None:
    """Write the course's chapters to `page`."""
    page.heading("The lesson in numbers and pictures", 1)
    page.note(
        page.language(
            "The course's tables, formulas, examples and networks in its own order, each computed or trained here, "
            "budget {budget}. The number after a sentence leads to the rows it was made from.",
            budget=course.parameters.budget,
        )
    )
    lesson_before.write(course, page)
    lesson_arithmetic.write(course, page)
    lesson_networks.write(course.networks, course.metrics, course.tables, page)
    lesson_seen.write(course.seen, page)
    lesson_arithmetic.anatomy(course, page)


def _draw(course: Course, language: Language) -> None:
    rows = [row | {"name": row["name"] if row["network"] else language.name(row["name"])} for row in compared(course)]
    lesson_figures.bars(LESSON / "before.png", rows, language)
    curves = {}
    for network in course.networks.values():
        if network["variant"] in course.metrics:
            folder = run_folder(runs(course.parameters, network["variant"])[0])
            curves[network["variant"]] = pd.read_csv(folder / "history.csv"), pd.read_csv(folder / "curve.csv")
            _confusion(course.parameters, network["variant"], language)
    if curves:
        learning_curves(LESSON / "curves.png", curves, language)


def _confusion(parameters: Params, name: str, language: Language) -> None:
    run = runs(parameters, name)[0]
    classes = list(read_card(run.data)["classes"])
    matrix = np.array(classification(*predictions(run), classes)["confusion"])
    names = [language.name(each) for each in classes]
    confusions(LESSON / f"{name}-confusion.png", {f"{name}, seed {run.seed}": matrix}, names, language)
