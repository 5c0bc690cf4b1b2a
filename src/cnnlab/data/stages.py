"""Stages fetch and preprocess, for data sets of the catalog and for image folders.

If an optional data set cannot be fetched, a note with the reason takes its place, and later stages continue without it.
"""

import json
import os
import shutil
from pathlib import Path

from cnnlab import files
from cnnlab.catalog import CATALOG
from cnnlab.data import folders, sources, store
from cnnlab.errors import UserError
from cnnlab.params import DataSource, Params, set_aside


def fetch(name: str, parameters: Params) -> None:
    """Get the original files of a data set into data/raw/<set>, or a listing of a user's own image folder.

    Raises UserError if they are unavailable, unless the data set is optional.
    """
    source, target = _source(name, parameters), files.RAW / name
    (target / store.UNAVAILABLE).unlink(missing_ok=True)
    try:
        if source.path is not None:
            _list(Path(source.path), target)
        elif name in CATALOG:
            sources.fetch(CATALOG[name], target, timeout_s=parameters.fetch.timeout_s)
        else:
            sources.fetch_images(name, target, timeout_s=parameters.fetch.timeout_s)
    except UserError as error:
        if not source.optional:
            raise
        reason = f"{error} Then run: dvc repro"
        store.write_unavailable(target, reason)
        print(f"{name} is not available; the pipeline continues without it. {reason}", flush=True)


def preprocess(name: str, parameters: Params) -> None:
    """Write data/processed/<set> from the original files; raises UserError if they are missing or invalid."""
    source, raw, target = _source(name, parameters), files.RAW / name, files.PROCESSED / name
    if reason := store.unavailable(raw):
        store.write_unavailable(target, reason)
        return
    validation, seed = set_aside(parameters, name), parameters.preprocess.seed
    if source.size is None:  # `Params` requires a size except for data sets of the catalog
        store.preprocess(CATALOG[name], raw, target, validation=validation, seed=seed)
        return
    store.preprocess_images(
        name,
        Path(source.path) if source.path is not None else raw,
        target,
        size=source.size,
        max_broken=source.broken,
        mirrored=source.mirrored,
        validation=validation,
        seed=seed,
    )


def _source(name: str, parameters: Params) -> DataSource:
    if name not in parameters.data:
        raise UserError(f"Unknown data set. Expected one of: {', '.join(parameters.data)}. Received: {name!r}.")
    return parameters.data[name]


def _list(root: Path, target: Path) -> None:
    """Write sizes and modification times of the files of an image folder: what DVC tracks of a folder elsewhere."""
    found = folders.scan(root)
    shutil.rmtree(target, ignore_errors=True)
    facts = {
        name: [(status := os.stat(root / name)).st_size, status.st_mtime_ns]
        for part in folders.PARTS
        for name in found.files[part]
    }
    files.write_text(target / "files.json", json.dumps(facts, indent=0) + "\n")
