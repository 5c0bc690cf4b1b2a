"""Stage ablate: try every factor of params.yaml alone, into reports/ablation."""

import os

from cnnlab import errors, params


def main() -> None:
    parameters = params.load()
    from cnnlab.sweep.ablation import ablate, make_plan  # noqa: PLC0415  # Optuna and MLflow take seconds to import
    from cnnlab.sweep.plan import shares  # noqa: PLC0415

    plan = make_plan(parameters, os.environ.get("CNNLAB_STORAGE", ""))
    ablate(plan, shares(parameters.sweep, None))


if __name__ == "__main__":
    errors.run(main)
