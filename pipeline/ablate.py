"""Stage ablate: try every factor of params.yaml on its own, into reports/ablation."""

import os

from cnnlab import errors, params
from cnnlab.report.language import Language


def main() -> None:
    parameters = params.load()
    from cnnlab.studies.ablation import ablate, make_plan  # noqa: PLC0415  # Optuna and MLflow take seconds to import
    from cnnlab.studies.plan import slots  # noqa: PLC0415

    plan = make_plan(parameters, os.environ.get("CNNLAB_STORAGE", ""))
    ablate(plan, slots(parameters.sweep, None), Language(parameters.report.language))


if __name__ == "__main__":
    errors.run(main)
