"""Stage preprocess: decode one data set from data/raw/<set> into arrays, split and card in data/processed/<set>."""

import sys

from cnnlab import errors, files, params
from cnnlab.data import catalog, store


def main() -> None:
    """Preprocess the data set named on the command line."""
    data_set = catalog.lookup(" ".join(sys.argv[1:]))
    settings = params.load().preprocess
    raw, processed = files.RAW / data_set.name, files.PROCESSED / data_set.name
    store.preprocess(data_set, raw, processed, validation=settings.validation, seed=settings.seed)


if __name__ == "__main__":
    errors.run(main)
