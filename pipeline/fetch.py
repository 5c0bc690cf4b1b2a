"""Stage fetch: get one data set's verified originals into data/raw/<set>."""

import sys

from cnnlab import errors, params
from cnnlab.data import stages


def main() -> None:
    """Fetch the data set named on the command line."""
    stages.fetch(" ".join(sys.argv[1:]), params.load())


if __name__ == "__main__":
    errors.run(main)
