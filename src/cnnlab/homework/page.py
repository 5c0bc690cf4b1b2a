"""The homework page: both questions with their tables and figures, in the language of the reports."""

from pathlib import Path

from cnnlab import params
from cnnlab.data.store import open_processed, read_card
from cnnlab.evaluation.results import Evaluation
from cnnlab.files import REPORTS, write_text
from cnnlab.homework import improve, other_data
from cnnlab.homework import plots as homework_plots
from cnnlab.homework.findings import CALIBRATION, ERRORS, PAIR_IMAGES, RUNS, TRANSFERS, VARIANTS, Findings, gather
from cnnlab.report import plots
from cnnlab.report.document import Page
from cnnlab.report.language import Language

FOLDER = REPORTS / "homework"


def write_homework(parameters: params.Params) -> list[Path]:
    """Write reports/homework.md and .html, and their tables and figures in reports/homework/; return all paths.

    Raises UserError if a table of an evaluation or a study is missing or damaged.
    """
    language = Language(parameters.report.language)
    found = gather(parameters)
    for file, table in found.tables.items():
        if (REPORTS / file).parent == FOLDER:
            write_text(REPORTS / file, table.to_csv(index=False))
    _draw(parameters, found, language)
    runs = [f"evaluation/{name}/runs.csv" for name in found[VARIANTS]["variant"]]
    page = Page(language, FOLDER, attached=[*found.tables, *runs])
    improve.write(found, page)
    other_data.write(found, page)
    return [*page.write(), *sorted(FOLDER.iterdir())]


def _draw(parameters: params.Params, found: Findings, say: Language) -> None:
    data = parameters.ablation.data
    classes, images = list(read_card(data)["classes"]), open_processed(data).test_images
    factors = found.effects("factor")
    plots.forest(FOLDER / "forest.png", factors.assign(name=factors["factor"].map(say.name)), found.before, say)
    if parameters.ablation.ladder:
        homework_plots.ladder(FOLDER / "ladder.png", found[RUNS], parameters.ablation.ladder, say)
    curves, matrices = {}, {}
    for name in found.compared:
        curves[name] = Evaluation(name).table("curves")
        matrix = Evaluation(name).confusion(classes)
        count = matrix.sum()
        title = say("{share:percent.1} of {images:count} test images", share=matrix.trace() / count, images=count)
        matrices[f"{name}: {title}"] = matrix
    plots.learning_curves(FOLDER / "curves.png", curves, say)
    plots.confusions(FOLDER / "confusion.png", matrices, [say.name(c) for c in classes], say)
    for name, file in (("mistakes", ERRORS), ("pairs", PAIR_IMAGES)):
        homework_plots.errors(FOLDER / f"{name}.png", found[file], images[found[file]["image"]], say)
    if found[TRANSFERS]["share"].nunique() > 1:
        unchanged = found[TRANSFERS][found[TRANSFERS]["change"] == ""]
        homework_plots.low_data(FOLDER / "low_data.png", unchanged, say)
    homework_plots.reliability(FOLDER / "calibration.png", found[CALIBRATION], say)
