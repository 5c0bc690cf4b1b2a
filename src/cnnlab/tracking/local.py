"""The default MLflow store, read with SQL: MLflow takes two seconds to import and another one to open the store."""

import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from cnnlab.files import MLRUNS, verified_folder

CHAMPION = "champion"  # the alias
ACCURACY = "validation_accuracy"  # tag of a version: the criterion
FILES = "files.sha256"  # tag of a version: digest of its SHA256SUMS
_VERSIONS = """
select version, source from model_versions join registered_model_aliases using (name, version)
where alias = ? and name = ?
"""
_TAGS = "select key, value from model_version_tags where name = ? and version = ?"


class Version(NamedTuple):
    """A registered version of a model, with the folder of its files."""

    name: str
    version: int
    tags: dict[str, str]
    folder: Path


def model_name(data: str) -> str:
    """The name of a data set's models in the registry."""
    return f"cnnlab-{data}"


def query(sql: str, *values: str | int) -> list[tuple[Any, ...]] | None:
    """The rows of a query to mlruns/mlflow.db.

    Returns None if MLFLOW_TRACKING_URI names another store, and if SQLite cannot read this one: then use MLflow's
    client, which creates, upgrades or rejects it.
    """
    if os.environ.get("MLFLOW_TRACKING_URI"):
        return None
    path = (MLRUNS / "mlflow.db").absolute()
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as store:
            intact = store.execute("pragma quick_check(1)").fetchone() == ("ok",)
            return store.execute(sql, values).fetchall() if intact else None
    except sqlite3.Error:
        return None


def champion(data: str) -> Version | None:
    """The champion of a data set; None if it is not in the default store, and wherever `query` returns None.

    Raises UserError for a damaged file.
    """
    name = model_name(data)
    for version, source in query(_VERSIONS, CHAMPION, name) or ():
        folder = Path(unquote(urlsplit(source).path))
        if source.startswith("file:///") and folder.is_dir():
            tags = dict(query(_TAGS, name, version) or ())
            return Version(name, version, tags, verified_files(folder, version, tags))
    return None


def verified_files(folder: Path, version: str | int, tags: Mapping[str, str]) -> Path:
    """The folder of a version's files, verified by digest. Raises UserError for a damaged file."""
    variant = tags.get("variant")
    expected = tags.get(FILES, f"in tag {FILES} of version {version}")
    return verified_folder(folder, expected, f"make train VARIANT={variant}" if variant else "make repro")
