"""Stage train: train one variant, every seed of the budget or as many as told, into models/<set>/<variant>."""

import argparse

from cnnlab import errors, params


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("variant")
    parser.add_argument("--seeds", type=int)
    asked = parser.parse_args()
    parameters = params.load()
    runs = params.runs(parameters, asked.variant, asked.seeds)
    # TensorFlow takes seconds to import: a mistake in params.yaml should not wait for it.
    from cnnlab.train.experiment import train_variant  # noqa: PLC0415

    train_variant(runs, parameters.strategy, parameters.train)


if __name__ == "__main__":
    errors.run(main)
