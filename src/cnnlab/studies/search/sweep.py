"""Run a sweep, and write its results."""

from pathlib import Path

from cnnlab.files import REPORTS
from cnnlab.report.language import Language
from cnnlab.studies.host import run_study
from cnnlab.studies.plan import slots
from cnnlab.studies.publish import publish
from cnnlab.studies.search import results, space
from cnnlab.studies.search.plan import SearchPlan
from cnnlab.studies.storage import with_retries

FOLDER = REPORTS / "sweep"


def sweep(plan: SearchPlan, workers: int | None, say: Language) -> None:
    """Start or continue a sweep, and write its results to reports/sweep in language `say`.

    Raises as `run_study`, and UserError for an invalid search space.
    """
    space.check(plan.sweep.space, plan.base)
    ledger = run_study(plan, slots(plan.sweep, workers))

    def write(folder: Path) -> dict[str, float]:
        with_retries(lambda: results.write(ledger.study, folder, say))
        return with_retries(lambda: results.metrics(ledger.study))

    publish(ledger, FOLDER, write)
