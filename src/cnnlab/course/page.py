"""The lesson as a page in the course's order, from the tables and figures of stages lesson, evaluate and see."""

from uuid import uuid4

from cnnlab.course import arithmetic, before_networks, dense, history, lenet, networks, plots, vision
from cnnlab.course.before_networks import compared
from cnnlab.course.tables import LESSON, Course, gather
from cnnlab.data.store import read_card
from cnnlab.evaluation.results import Evaluation
from cnnlab.files import REPORTS
from cnnlab.params import Params, variant
from cnnlab.report.document import Page
from cnnlab.report.language import Language
from cnnlab.report.plots import confusions, learning_curves
from cnnlab.see.best import SEE
from cnnlab.tracking.runs import TrackedRun


def write_lesson(parameters: Params) -> None:
    """Write reports/lesson.md and .html, with claims.csv and figures in reports/lesson/.

    All of it becomes artifacts of an MLflow run, except for the Markdown, whose figures MLflow would not show.
    Raises UserError if a table is missing or damaged.
    """
    say = Language(parameters.report.language)
    course = gather(parameters)
    _draw(course, say)
    page = Page(say, LESSON)
    write(course, page)
    _, html = page.write()
    title, options = f"lesson, budget {parameters.budget}", {"budget": parameters.budget}
    tracker = TrackedRun.start(uuid4().hex, "reports", title, options, {}, "The lesson, computed.")
    tracker.log_file(html)
    for path in sorted(path for folder in (LESSON, SEE) for path in folder.rglob("*.*")):
        tracker.log_file(path, str(path.parent.relative_to(REPORTS)))
    tracker.finish()


def write(course: Course, page: Page) -> None:
    """Write the sections of the lesson to `page`."""
    page.heading("The lesson in numbers and figures", 1)
    page.text(
        "The tables, formulas, examples and networks of the course, in its order, each computed or trained here with "
        "budget {budget}. The number after a sentence links to the table rows behind it.",
        budget=course.parameters.budget,
    )
    before_networks.write(course, page)
    history.write(page)
    arithmetic.write(course, page)
    dense.write(course, page)
    networks.write(course.networks, course.metrics, course.runs, page)
    lenet.write(course, page)
    vision.write(course.seen, course.depths, page)
    arithmetic.anatomy(course, page)


def _draw(course: Course, say: Language) -> None:
    """Draw the figures that show measured networks."""
    rows = [row | {"name": row["name"] if row["network"] else say.name(row["name"])} for row in compared(course)]
    plots.bars(LESSON / "before.png", rows, say)
    curves = {}
    for name in (network["variant"] for network in course.networks.values()):
        if name in course.metrics:
            curves[name] = Evaluation(name).table("curves")
            classes = list(read_card(variant(course.parameters, name).data)["classes"])
            matrices = {f"{name}, seed 0": Evaluation(name).confusion(classes)}
            confusions(LESSON / f"{name}-confusion.png", matrices, [say.name(each) for each in classes], say)
    if curves:
        learning_curves(LESSON / "curves.png", curves, say)
