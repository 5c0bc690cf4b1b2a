"""Stage evaluate: metrics, tables and figures of one variant, for all its seeds, in reports/evaluation/<variant>."""

import argparse

from cnnlab import errors, params
from cnnlab.evaluation.evaluate import evaluate_variant


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("variant")
    parser.add_argument("--seeds", type=int)
    options = parser.parse_args()
    evaluate_variant(params.runs(params.load(), options.variant, options.seeds))


if __name__ == "__main__":
    errors.run(main)
