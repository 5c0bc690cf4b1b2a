"""Stage transfer: networks on other data sets, from scratch and with pretrained features, into reports/transfer."""

import os

from cnnlab import errors, params
from cnnlab.report.language import Language


def main() -> None:
    parameters = params.load()
    from cnnlab.studies.plan import slots  # noqa: PLC0415  # Optuna, MLflow and Keras take seconds to import
    from cnnlab.studies.transfer.transfer import make_plan, transfer  # noqa: PLC0415

    plan = make_plan(parameters, os.environ.get("CNNLAB_STORAGE", ""))
    transfer(plan, slots(parameters.sweep, None), Language(parameters.report.language))


if __name__ == "__main__":
    errors.run(main)
