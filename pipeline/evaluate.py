"""Stage evaluate: metrics and pictures of one variant, every seed of it, into reports/evaluation/<variant>."""

import argparse

from cnnlab import errors, params
from cnnlab.evidence.evaluation import evaluate_variant


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("variant")
    parser.add_argument("--seeds", type=int)
    asked = parser.parse_args()
    evaluate_variant(params.runs(params.load(), asked.variant, asked.seeds))


if __name__ == "__main__":
    errors.run(main)
