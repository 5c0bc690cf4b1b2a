"""Stage lesson: build the lesson's four networks and write what the course prints of them, computed."""

import json

from cnnlab import errors
from cnnlab.files import REPORTS, write_text
from cnnlab.nets.lesson import computed_tables


def main() -> None:
    write_text(REPORTS / "lesson" / "networks.json", json.dumps(computed_tables(), indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    errors.run(main)
