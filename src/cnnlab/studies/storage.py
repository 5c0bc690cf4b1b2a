"""Storages of studies: the journal file for one host, PostgreSQL for many."""

import sys
import time
from collections.abc import Callable
from typing import TypeVar

import optuna
from optuna.exceptions import StorageInternalError

from cnnlab.errors import UserError, masked
from cnnlab.studies.journal import Journal

OPENING_S = 10.0  # how long the server may be unavailable at the start
RETRY_S = 60.0  # and later, before a sweep gives up

T = TypeVar("T")

optuna.logging.set_verbosity(optuna.logging.WARNING)  # `progress` reports instead


def open_storage(url: str = "") -> optuna.storages.BaseStorage:
    """Open the journal file in mlruns/, or the database at `url`, as in postgresql://user:password@host/name.

    The journal is safe for all processes of one host, a database for those of many. Raises UserError if the journal is
    damaged, if the database cannot be opened, and for SQLite, which parallel writers break.
    """
    if not url:
        return optuna.storages.JournalStorage(Journal())
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415  # not needed for the journal

    if not url.startswith(("postgresql://", "postgresql+psycopg://")):
        raise UserError(
            "Invalid STORAGE. Expected nothing (a journal file in mlruns/) or postgresql://user:password@host/name. "
            f"Received: {masked(url)}."
        )
    address = url.replace("postgresql://", "postgresql+psycopg://", 1)
    engine = {"pool_pre_ping": True, "connect_args": {"connect_timeout": 10}}
    try:
        return with_retries(lambda: optuna.storages.RDBStorage(address, engine_kwargs=engine), OPENING_S)
    except (SQLAlchemyError, StorageInternalError, ValueError) as error:
        reason = masked(str(error).strip().splitlines()[0])
        raise UserError(
            f"Cannot open STORAGE. Expected a PostgreSQL server and database. Received {masked(url)}: {reason}"
        ) from error


def with_retries(call: Callable[[], T], limit_s: float = RETRY_S) -> T:
    """Return the result of `call`, which is repeated for up to `limit_s` seconds while the database is unavailable."""
    end = time.monotonic() + limit_s
    while True:
        try:
            return call()
        except Exception as error:
            if time.monotonic() > end or not _is_unavailable(error):
                raise
            time.sleep(0.5)


def _is_unavailable(error: Exception) -> bool:
    """Whether a database reported the error; SQLAlchemy is not imported unless there is one."""
    database = sys.modules.get("sqlalchemy.exc")
    return isinstance(error, StorageInternalError) or (
        database is not None and isinstance(error, database.SQLAlchemyError)
    )
