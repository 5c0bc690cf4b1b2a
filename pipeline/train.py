"""Stage train: train one variant, every seed of the budget, into models/<set>/<variant>."""

import sys

from cnnlab import errors, params


def main() -> None:
    parameters = params.load()
    runs = params.runs(parameters, sys.argv[1])
    # TensorFlow takes seconds to import: a mistake in params.yaml should not wait for it.
    from cnnlab.train.experiment import train_variant  # noqa: PLC0415

    train_variant(runs, parameters.strategy, parameters.train)


if __name__ == "__main__":
    errors.run(main)
