"""Optuna's dashboard on the storage of sweeps, on this machine only; its own command shows a password to `ps`."""

import argparse
import os

from optuna_dashboard import run_server

from cnnlab import errors
from cnnlab.sweep.storage import open_storage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    port = parser.parse_args().port
    storage = open_storage(os.environ.get("CNNLAB_STORAGE", ""))
    print(f"Optuna's dashboard: http://127.0.0.1:{port}", flush=True)
    run_server(storage, host="127.0.0.1", port=port)


if __name__ == "__main__":
    errors.run(main)
