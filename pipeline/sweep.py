"""Stage sweep: search around a variant, into reports/sweep. `make sweep` gives the options."""

import argparse
import os

from cnnlab import errors, params


def count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, received {text!r}")
    return int(text)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=count, help="trials the study shall have (default: the budget's)")
    parser.add_argument("--workers", type=count, help="trials at a time on this host (default: sweep.workers)")
    parser.add_argument("--study", help="name, to which a digest of the space is added (default: sweep.base)")
    parser.add_argument("--budget", help="a section of sweep.budgets (default: budget)")
    parser.add_argument(
        "--storage",
        default=os.environ.get("CNNLAB_STORAGE", ""),
        help="postgresql://user:password@host/name for many hosts (default: CNNLAB_STORAGE, else a journal file)",
    )
    parser.add_argument("--status", action="store_true", help="print how the study stands, and end")
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    parameters = params.load()
    from cnnlab.sweep.search import make_plan  # noqa: PLC0415  # Optuna and MLflow take seconds to import

    plan = make_plan(parameters, asked.budget, asked.trials, asked.study, asked.storage)
    if asked.status:
        from cnnlab.sweep.progress import status  # noqa: PLC0415

        status(plan)
    else:
        from cnnlab.sweep.sweep import sweep  # noqa: PLC0415

        sweep(plan, asked.workers)


if __name__ == "__main__":
    errors.run(main)
