"""Print what MLflow holds, side by side: variants, and transfers, against data sets."""

from cnnlab import errors
from cnnlab.evidence.compare import compare


def main() -> None:
    print(compare())


if __name__ == "__main__":
    errors.run(main)
