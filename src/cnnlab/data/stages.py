"""Stages fetch and preprocess for any data set of params.yaml: of the catalog, or a folder of pictures.

A set of `optional_data` whose sources are out of reach is no failure: a note with the reason takes its place, and the
stages after it go on without it.
"""

import json
import os
import shutil
from pathlib import Path

from cnnlab import files
from cnnlab.data import folders, sources, store
from cnnlab.data.catalog import CATALOG
from cnnlab.errors import UserError
from cnnlab.params import DataSource, Params

LISTING = "files.json"


def fetch(name: str, parameters: Params) -> None:
    """Get the originals of a data set into data/raw/<set>, or a listing of them where they stay in their own folder.

    Raises UserError where they cannot be had, unless the set is optional.
    """
    source, target = _source(name, parameters), files.RAW / name
    (target / store.UNAVAILABLE).unlink(missing_ok=True)
    try:
        if source.path is not None:
            _list(Path(source.path), target)
        elif name in CATALOG:
            sources.fetch(CATALOG[name], target, timeout_s=parameters.fetch.timeout_s)
        else:
            sources.fetch_pictures(name, target, timeout_s=parameters.fetch.timeout_s)
    except UserError as error:
        if name not in parameters.optional_data:
            raise
        reason = f"{error} Then: dvc repro"
        store.write_unavailable(target, reason)
        print(f"{name} is not available, and the pipeline goes on without it. {reason}", flush=True)


def preprocess(name: str, parameters: Params) -> None:
    """Make data/processed/<set> of the originals; raises UserError where they are missing or no such data set."""
    source, raw, target = _source(name, parameters), files.RAW / name, files.PROCESSED / name
    if reason := store.unavailable(raw):
        store.write_unavailable(target, reason)
        return
    knobs = parameters.preprocess
    validation = source.validation or knobs.validation
    if source.size is None:  # which `Params` allows for sets of the catalog alone
        store.preprocess(CATALOG[name], raw, target, validation=validation, seed=knobs.seed)
        return
    store.preprocess_pictures(
        name,
        Path(source.path) if source.path is not None else raw,
        target,
        size=source.size,
        most_broken=source.broken,
        mirrored=source.mirrored,
        validation=validation,
        seed=knobs.seed,
    )


def _source(name: str, parameters: Params) -> DataSource:
    known = {**parameters.data, **parameters.optional_data}
    if name not in known:
        raise UserError(f"Unknown data set. Expected one of: {', '.join(known)}. Received: {name!r}.")
    return known[name]


def _list(root: Path, target: Path) -> None:
    """Write which files lie in a folder, their sizes and times: what DVC sees of pictures that stay where they are."""
    found = folders.scan(root)
    shutil.rmtree(target, ignore_errors=True)
    facts = {
        name: [(status := os.stat(root / name)).st_size, status.st_mtime_ns]
        for part in folders.PARTS
        for name in found.files[part]
    }
    files.write_text(target / LISTING, json.dumps(facts, indent=0) + "\n")
