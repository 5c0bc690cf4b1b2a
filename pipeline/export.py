"""Write a trained network for other programs, and check that the files answer as it does."""

import argparse

from cnnlab import errors, params


def main() -> None:
    parser = argparse.ArgumentParser()
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--variant")
    which.add_argument("--data", default="cifar10")
    asked = parser.parse_args()
    parameters = params.load()
    if asked.variant:
        params.variant(parameters, asked.variant)  # an unknown one is refused at once
    from cnnlab.use import export, network  # noqa: PLC0415  # TensorFlow takes seconds to import

    print(export.export(network.asked(parameters, asked.variant, asked.data)))


if __name__ == "__main__":
    errors.run(main)
