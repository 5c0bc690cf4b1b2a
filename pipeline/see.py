"""Draw what a variant's trained network sees into reports/see/<variant>; of a picture file, where one is named."""

import argparse
from pathlib import Path

from cnnlab import errors, params
from cnnlab.evidence.words import Language
from cnnlab.files import REPORTS


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("variant")
    parser.add_argument("picture", nargs="?", type=Path)
    asked = parser.parse_args()
    parameters = params.load()
    params.variant(parameters, asked.variant)  # an unknown one is refused at once
    from cnnlab.see.portrait import look  # noqa: PLC0415  # TensorFlow takes seconds to import

    folder = REPORTS / "see" / asked.variant
    for path in look(parameters, asked.variant, asked.picture, folder, Language(parameters.report.language)):
        print(path)


if __name__ == "__main__":
    errors.run(main)
