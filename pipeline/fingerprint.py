"""Stage fingerprint: write a digest of the code that each stage runs; stages depend on their digest."""

from pathlib import Path

from cnnlab import errors
from cnnlab.data import store
from cnnlab.files import write_text
from cnnlab.fingerprint import fingerprint


def main() -> None:
    for script in sorted({*Path("pipeline").glob("*.py")} - {Path("pipeline/fingerprint.py")}):
        write_text(Path("data/code") / f"{script.stem}.sha256", f"{fingerprint([script])}\n")
    store.forget_unavailable()


if __name__ == "__main__":
    errors.run(main)
