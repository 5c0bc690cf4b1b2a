"""Stage report: results of every variant and the homework page, from the tables of earlier stages."""

from cnnlab import errors, params
from cnnlab.homework.report import write_reports


def main() -> None:
    write_reports(params.load())


if __name__ == "__main__":
    errors.run(main)
