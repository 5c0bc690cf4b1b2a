"""Publish the results of a study: a folder of reports with digests, also in the study's MLflow run."""

from collections.abc import Callable, Mapping
from pathlib import Path

from filelock import FileLock

from cnnlab.files import MLRUNS, atomic_folder, write_manifest
from cnnlab.studies.ledger import Ledger
from cnnlab.tracking.runs import TrackedRun


def publish(ledger: Ledger, folder: Path, write: Callable[[Path], Mapping[str, float]]) -> None:
    """Let `write` fill `folder`, log its files and the metrics that `write` returns to MLflow, and print summary.md."""
    with FileLock(MLRUNS / f".{folder.name}.lock"):  # two commands of one checkout may end at the same time
        with atomic_folder(folder) as partial:
            metrics = write(partial)
            write_manifest(partial)
        run = TrackedRun(ledger.parent)
        if metrics:
            run.log_metrics([(len(ledger.trials()), metrics)])
        for path in sorted(folder.iterdir()):
            run.log_file(path, folder.name)
        run.finish()
        print((folder / "summary.md").read_text())
