"""Print what a run on this machine would find, line by line: ok, or a warning with what to do."""

from cnnlab import errors, params
from cnnlab.doctor import examine, line


def main() -> None:
    for finding in examine(params.load()):
        print(line(finding), flush=True)


if __name__ == "__main__":
    errors.run(main)
