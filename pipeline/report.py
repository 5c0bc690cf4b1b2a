"""Stage report: the written reports, from the evaluations of every variant."""

from cnnlab import errors, params
from cnnlab.evidence.report import write_reports


def main() -> None:
    write_reports(params.load())


if __name__ == "__main__":
    errors.run(main)
