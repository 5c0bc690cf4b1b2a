"""Print what a trained network tells of pictures: files, folders, patterns, - for standard input."""

import argparse

from cnnlab import errors, params


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("pictures", nargs="+")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--variant")
    which.add_argument("--data", default="cifar10")
    parser.add_argument("--top", type=int, choices=range(1, 1001), metavar="1..1000", default=3)
    asked = parser.parse_args()
    parameters = params.load()
    if asked.variant:
        params.variant(parameters, asked.variant)  # an unknown one is refused at once
    from cnnlab.use import network, predict  # noqa: PLC0415  # TensorFlow takes seconds to import

    predict.predict(network.asked(parameters, asked.variant, asked.data).classifier, asked.pictures, asked.top)


if __name__ == "__main__":
    errors.run(main)
