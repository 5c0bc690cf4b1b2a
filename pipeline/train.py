"""Stage train: train a variant, once per seed, into models/<set>/<variant>."""

import argparse

from cnnlab import errors, params


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("variant")
    parser.add_argument("--seeds", type=int, help="number of seeds (default: the budget's)")
    parser.add_argument("--skip-finished", action="store_true", help="train only if recipe, code or data changed")
    options = parser.parse_args()
    parameters = params.load()
    runs = params.runs(parameters, options.variant, options.seeds)
    if options.skip_finished:
        from cnnlab.train.outputs import are_finished  # noqa: PLC0415

        if are_finished(runs, parameters.strategy):
            print(f"{options.variant} was trained with the same recipe, code and data; its outputs are unchanged")
            return
    # After params.load: importing TensorFlow takes seconds, for which an error in params.yaml should not wait.
    from cnnlab.train.experiment import train_variant  # noqa: PLC0415

    train_variant(runs, parameters.strategy, parameters.train, parameters.report.language)


if __name__ == "__main__":
    errors.run(main)
