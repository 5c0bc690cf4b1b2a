"""Stage see: what the best trained network of each data set sees, into reports/see."""

from cnnlab import errors, params
from cnnlab.report.language import Language
from cnnlab.see.best import write_portraits


def main() -> None:
    parameters = params.load()
    write_portraits(parameters, Language(parameters.report.language))


if __name__ == "__main__":
    errors.run(main)
