"""Stage fetch: get one data set's verified originals into data/raw/<set>."""

import sys

from cnnlab import errors, files, params
from cnnlab.data import catalog, sources


def main() -> None:
    """Fetch the data set named on the command line."""
    data_set = catalog.lookup(" ".join(sys.argv[1:]))
    sources.fetch(data_set, files.RAW / data_set.name, timeout_s=params.load().fetch.timeout_s)


if __name__ == "__main__":
    errors.run(main)
