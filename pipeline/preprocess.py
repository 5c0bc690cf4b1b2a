"""Stage preprocess: decode one data set from data/raw/<set> into arrays, split and card in data/processed/<set>."""

import sys

from cnnlab import errors, params
from cnnlab.data import stages


def main() -> None:
    """Preprocess the data set named on the command line."""
    stages.preprocess(" ".join(sys.argv[1:]), params.load())


if __name__ == "__main__":
    errors.run(main)
