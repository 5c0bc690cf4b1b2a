"""Stage evaluate: metrics and pictures of one variant into reports/evaluation/<variant>."""

import sys

from cnnlab import errors, params
from cnnlab.evidence.evaluation import evaluate_variant


def main() -> None:
    evaluate_variant(params.runs(params.load(), sys.argv[1]))


if __name__ == "__main__":
    errors.run(main)
