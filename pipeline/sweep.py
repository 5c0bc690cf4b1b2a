"""Stage sweep: search around a variant, into reports/sweep."""

import argparse
import os

from cnnlab import errors, params
from cnnlab.report.language import Language


def count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected an integer of at least 1, received {text!r}")
    return int(text)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=count, help="number of trials in the study (default: the budget's)")
    parser.add_argument("--workers", type=count, help="parallel trials on this host (default: sweep.workers)")
    parser.add_argument("--study", help="name of the study, without its digest (default: sweep.base)")
    parser.add_argument("--budget", help="a section of sweep.budgets (default: budget)")
    parser.add_argument(
        "--storage",
        default=os.environ.get("CNNLAB_STORAGE", ""),
        help="postgresql://user:password@host/name for many hosts (default: CNNLAB_STORAGE, else a journal file)",
    )
    return parser.parse_args()


def main() -> None:
    options = arguments()
    parameters = params.load()
    from cnnlab.studies.search.plan import make_plan  # noqa: PLC0415
    from cnnlab.studies.search.sweep import sweep  # noqa: PLC0415  # Optuna and MLflow take seconds to import

    plan = make_plan(parameters, options.budget, options.trials, options.study, options.storage)
    sweep(plan, options.workers, Language(parameters.report.language))


if __name__ == "__main__":
    errors.run(main)
