"""Where studies are kept, and how they are searched: storages, sampler and pruner, every argument named."""

import time
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import optuna
from filelock import FileLock
from optuna.exceptions import StorageInternalError
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock
from sqlalchemy.exc import SQLAlchemyError

from cnnlab.errors import UserError
from cnnlab.files import MLRUNS
from cnnlab.track import masked

JOURNAL = MLRUNS / "optuna.journal"
OPENING_S = 10.0  # how long it may be away at the start
PATIENCE_S = 60.0  # how long a server may be gone before a sweep gives up

T = TypeVar("T")

optuna.logging.set_verbosity(optuna.logging.WARNING)  # a sweep tells itself how it stands


def open_storage(url: str = "") -> optuna.storages.BaseStorage:
    """The journal file in mlruns/, or the database at `url`, as in postgresql://user:password@host/name.

    The journal is safe for all processes of a host, a database for those of many. Raises UserError where the database
    cannot be opened, and for SQLite, which parallel writers break.
    """
    if not url:
        JOURNAL.parent.mkdir(exist_ok=True)
        return optuna.storages.JournalStorage(JournalFileBackend(str(JOURNAL), KernelLock()))
    if not url.startswith(("postgresql://", "postgresql+psycopg://")):
        raise UserError(
            "Invalid STORAGE. Expected nothing (a journal file in mlruns/) or postgresql://user:password@host/name. "
            f"Received: {masked(url)}."
        )
    address = url.replace("postgresql://", "postgresql+psycopg://", 1)
    engine = {"pool_pre_ping": True, "connect_args": {"connect_timeout": 10}}
    try:
        return patiently(lambda: optuna.storages.RDBStorage(address, engine_kwargs=engine), wait_s=OPENING_S)
    except (SQLAlchemyError, StorageInternalError, ValueError) as error:
        reason = masked(str(error).strip().splitlines()[0])
        raise UserError(
            f"Cannot open STORAGE. Expected a PostgreSQL server and database. Received {masked(url)}: {reason}"
        ) from error


class KernelLock(BaseJournalFileLock):
    """The journal's lock, held by the kernel: a process that is killed within it lets it go.

    Optuna's own lock is a link that outlives its process. With a journal at a relative path its age cannot be read, so
    it was never released, and one kill -9 at the wrong millisecond stopped the sweep for ever (docs/LOG.md).
    """

    def __init__(self) -> None:
        self._lock = FileLock(JOURNAL.with_suffix(".lock"))

    def acquire(self) -> bool:
        """Wait for the lock, however long its holder lives."""
        self._lock.acquire()
        return True

    def release(self) -> None:
        """Give it back."""
        self._lock.release()


def patiently(call: Callable[[], T], wait_s: float = PATIENCE_S) -> T:
    """What `call` returns; repeated while the database server is gone, for at most `wait_s` seconds."""
    end = time.monotonic() + wait_s
    while True:
        try:
            return call()
        except (StorageInternalError, SQLAlchemyError):
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


class NumberedTPE(optuna.samplers.BaseSampler):
    """Multivariate TPE whose random numbers are a function of (seed, trial number).

    So a study continued, or shared by hosts, draws what a single process would draw from the same finished trials, and
    no two processes draw the same. Trials still running count as bad ones (constant liar), which keeps parallel
    workers apart. Bergstra et al. 2011, «Algorithms for hyper-parameter optimization»; Falkner et al. 2018,
    arXiv:1807.01774, for the multivariate form.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._number = -1
        self._sampler: optuna.samplers.TPESampler

    def infer_relative_search_space(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
        """The keys that TPE samples together."""
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial, search_space: dict[str, Any]
    ) -> dict[str, Any]:
        """Values of those keys."""
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        """The value of a key that is not among them."""
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)

    def _of(self, trial: optuna.trial.FrozenTrial) -> optuna.samplers.TPESampler:
        if trial.number != self._number:
            self._number = trial.number
            seed = int(np.random.SeedSequence([self._seed, trial.number]).generate_state(1)[0])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of `group`, since 2021
                self._sampler = optuna.samplers.TPESampler(
                    n_startup_trials=8,
                    n_ei_candidates=24,
                    multivariate=True,
                    group=True,  # conditional keys form groups of their own
                    constant_liar=True,
                    seed=seed,
                )
        return self._sampler


def pruner(name: str, epochs: int) -> optuna.pruners.BasePruner:
    """Successive halving (Li et al. 2020, arXiv:1810.05934), Hyperband over it (arXiv:1603.06560), or none.

    The resource is an epoch; of the trials that reach a rung (1, 2, 4, … epochs) the better half goes on, with
    Hyperband (1, 3, 9, … epochs) the best third. Thirds lost more of the best accuracy, docs/LOG.md.
    """
    match name:
        case "halving":
            return optuna.pruners.SuccessiveHalvingPruner(
                min_resource=1, reduction_factor=2, min_early_stopping_rate=0, bootstrap_count=0
            )
        case "hyperband":
            return optuna.pruners.HyperbandPruner(
                min_resource=1, max_resource=epochs, reduction_factor=3, bootstrap_count=0
            )
    return optuna.pruners.NopPruner()
