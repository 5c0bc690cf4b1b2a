"""Stage transfer: networks on other data sets, from scratch and with trained features, into reports/transfer."""

import os

from cnnlab import errors, params


def main() -> None:
    parameters = params.load()
    from cnnlab.sweep.adaptations import describe  # noqa: PLC0415  # Optuna, MLflow and Keras take seconds to import
    from cnnlab.sweep.plan import shares  # noqa: PLC0415
    from cnnlab.sweep.transfer import FOLDER, make_plan, transfer  # noqa: PLC0415

    plan = make_plan(parameters, os.environ.get("CNNLAB_STORAGE", ""))
    budget = parameters.transfer.budgets[parameters.budget]
    networks = {name: params.variant(parameters, name) for name in (parameters.ablation.base, *budget.variants)}
    describe(networks, budget.targets, FOLDER)
    transfer(plan, shares(parameters.sweep, None))


if __name__ == "__main__":
    errors.run(main)
