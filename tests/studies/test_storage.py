"""Where studies are kept: what is refused, a real server that goes and comes back, the sampler's numbers, pruners."""

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.exceptions import StorageInternalError
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from studies.postgres import PASSWORD, Postgres

from cnnlab.errors import UserError
from cnnlab.studies import storage
from cnnlab.studies.journal import JOURNAL
from cnnlab.studies.search import sampler

DRAW = """
import json, sys
import optuna
from cnnlab.studies.search.sampler import NumberedTPE
optuna.logging.set_verbosity(optuna.logging.ERROR)
storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(sys.argv[1]))
study = optuna.load_study(study_name="s", storage=storage, sampler=NumberedTPE(int(sys.argv[2])))
trial = study.ask()
trial.suggest_float("x", -1.0, 1.0), trial.suggest_categorical("c", [None, "a", "b"]), trial.suggest_int("n", 1, 99)
print(json.dumps(trial.params))
"""


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails at once, fails without the wait that a server may need to come back."""
    monkeypatch.setattr(storage, "OPENING_S", 0.5, raising=False)


# What is refused


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///study.db", "sqlite:///study.db"),
        ("mysql://teacher:a-secret@db.example/studies", "mysql://***@db.example/studies"),
        ("redis://teacher:a-secret@db.example", "redis://***@db.example"),
        ("study.journal", "study.journal"),
        ("postgresql", "postgresql"),
        ("postgres://teacher:a-secret@db.example/studies", "postgres://***@db.example/studies"),
    ],
)
def test_other_storages_are_refused(url: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as refusal:
        storage.open_storage(url)
    assert str(refusal.value) == (
        "Invalid STORAGE. Expected nothing (a journal file in mlruns/) or postgresql://user:password@host/name. "
        f"Received: {shown}."
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    ["postgresql://teacher:a-secret@127.0.0.1:port/studies", "postgresql://teacher:a-secret@127.0.0.1/st?x=1"],
)
def test_an_address_that_makes_no_sense(impatient: None, url: str) -> None:
    with pytest.raises(UserError) as refusal:
        storage.open_storage(url)
    assert str(refusal.value).startswith("Cannot open STORAGE. Expected a PostgreSQL server and database. Received ")
    assert "a-secret" not in str(refusal.value)


@pytest.mark.parametrize("listens", [False, True])
def test_a_server_that_cannot_be_reached_or_never_answers(impatient: None, listens: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        if not listens:
            listener.close()
        found: list[BaseException] = []

        def open_it() -> None:
            try:
                storage.open_storage(f"postgresql://teacher:a-secret@127.0.0.1:{port}/studies")
            except BaseException as error:
                found.append(error)

        thread = threading.Thread(target=open_it, daemon=True)
        thread.start()
        thread.join(30)  # 10 s of patience; more than that only on a busy machine
    assert found, "still waiting"
    assert isinstance(found[0], UserError)
    assert str(found[0]).startswith(
        "Cannot open STORAGE. Expected a PostgreSQL server and database. "
        f"Received postgresql://***@127.0.0.1:{port}/studies: "
    )
    assert "a-secret" not in str(found[0])
    assert "\n" not in str(found[0])


def test_a_wrong_password_or_database_is_reported_without_the_password(impatient: None, postgres: Postgres) -> None:
    for url in (postgres.url().replace(PASSWORD, "another-secret"), postgres.url("nowhere")):
        with pytest.raises(UserError, match=r"^Cannot open STORAGE\. .*Received postgresql://\*\*\*@127") as refusal:
            storage.open_storage(url)
        assert "secret" not in str(refusal.value)


# What is kept


def test_a_storage_keeps_a_study(storage_url: str) -> None:
    kept = storage.open_storage(storage_url)
    study = optuna.create_study(study_name="one", storage=kept, directions=["maximize"])
    study.enqueue_trial({"x": 1.0}, user_attrs={"role": "search"})
    again = optuna.load_study(study_name="one", storage=storage.open_storage(storage_url))
    assert [trial.user_attrs for trial in again.trials] == [{"role": "search"}]
    assert JOURNAL.exists() == (storage_url == "")


HOLDER = """
import sys
from cnnlab.studies.journal import Journal
lock = Journal().lock
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_process_killed_within_the_journals_lock_lets_it_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = optuna.create_study(study_name="one", storage=storage.open_storage())
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLDER], **pipes) as holder:
        try:
            assert holder.stdout
            assert holder.stdout.readline() == b"held\n"
            writing = threading.Thread(target=study.set_user_attr, args=("after", 1), daemon=True)
            writing.start()
            writing.join(0.5)
            assert writing.is_alive()  # the lock is one: nobody writes beside its holder
        finally:
            holder.kill()
    writing.join(60)
    assert not writing.is_alive()
    assert study.user_attrs == {"after": 1}


def test_a_call_outlasts_a_restart_of_the_server(postgres: Postgres, database: str) -> None:
    study = optuna.create_study(study_name="one", storage=storage.open_storage(database))
    study.set_user_attr("before", 1)
    postgres.stop()
    failures: list[Exception] = []

    def call() -> dict[str, Any]:
        """Ask, and let the server start only once that has failed."""
        try:
            study.set_user_attr("after", 2)
            return study.user_attrs
        except Exception as error:
            failures.append(error)
            if len(failures) == 1:
                starting.start()
            raise

    starting = threading.Thread(target=postgres.start)
    try:
        assert storage.with_retries(call) == {"before": 1, "after": 2}
    finally:
        starting.join()
    assert failures


def test_a_connection_that_broke_unused_is_not_noticed(postgres: Postgres, database: str) -> None:
    study = optuna.create_study(study_name="one", storage=storage.open_storage(database))
    postgres.restart()
    study.set_user_attr("after", 2)
    assert study.user_attrs == {"after": 2}


def test_patience_ends_and_other_errors_are_raised_at_once() -> None:
    calls: list[int] = []

    def fail(error: Exception) -> None:
        calls.append(1)
        raise error

    with pytest.raises(StorageInternalError):
        storage.with_retries(lambda: fail(StorageInternalError("gone")), limit_s=0.0)
    calls.clear()
    with pytest.raises(ValueError, match="wrong"):
        storage.with_retries(lambda: fail(ValueError("wrong")))
    assert calls == [1]


# The sampler


def journal(path: Path) -> optuna.storages.JournalStorage:
    return optuna.storages.JournalStorage(JournalFileBackend(str(path)))


def a_study(path: Path, finished: int) -> None:
    sampler = optuna.samplers.RandomSampler(1)
    study = optuna.create_study(study_name="s", storage=journal(path), sampler=sampler, direction="maximize")
    for _ in range(finished):
        trial = study.ask()
        x = trial.suggest_float("x", -1.0, 1.0)
        trial.suggest_categorical("c", [None, "a", "b"])
        n = trial.suggest_int("n", 1, 99)
        study.tell(trial, -x * x + n / 1000)


def draw(path: Path, seed: int) -> dict[str, Any]:
    study = optuna.load_study(study_name="s", storage=journal(path), sampler=sampler.NumberedTPE(seed))
    trial = study.ask()
    trial.suggest_float("x", -1.0, 1.0)
    trial.suggest_categorical("c", [None, "a", "b"])
    trial.suggest_int("n", 1, 99)
    return trial.params


@pytest.mark.parametrize("finished", [0, 20])  # random ones at first, the estimator's later
def test_a_trial_is_a_function_of_seed_number_and_history(tmp_path: Path, finished: int) -> None:
    a_study(tmp_path / "first.journal", finished)
    names = ("same", "other_seed", "other_process")
    for name in names:
        (tmp_path / f"{name}.journal").write_bytes((tmp_path / "first.journal").read_bytes())
    first = draw(tmp_path / "first.journal", 3)
    assert draw(tmp_path / "same.journal", 3) == first
    assert draw(tmp_path / "other_seed.journal", 4) != first
    command = [sys.executable, "-c", DRAW, str(tmp_path / "other_process.journal"), "3"]
    child = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    assert json.loads(child.stdout) == first
    assert draw(tmp_path / "first.journal", 3) != first  # the next number


def test_trials_asked_at_once_differ() -> None:
    study = optuna.create_study(sampler=sampler.NumberedTPE(0))
    trials = [study.ask() for _ in range(20)]
    assert len({trial.suggest_float("x", 0.0, 1.0) for trial in trials}) == 20


def test_the_estimator_finds_more_than_chance() -> None:
    def best(sampler: optuna.samplers.BaseSampler) -> float:
        study = optuna.create_study(sampler=sampler)
        study.optimize(lambda trial: sum(trial.suggest_float(k, -1.0, 1.0) ** 2 for k in "abcd"), n_trials=60)
        return study.best_value

    seeds = range(3)
    tpe, chance = (
        [best(kind(seed)) for seed in seeds] for kind in (sampler.NumberedTPE, optuna.samplers.RandomSampler)
    )
    assert sum(tpe) < sum(chance) / 2


# The pruners


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("halving", optuna.pruners.SuccessiveHalvingPruner),
        ("hyperband", optuna.pruners.HyperbandPruner),
        ("none", optuna.pruners.NopPruner),
    ],
)
def test_a_pruner_by_its_name(name: str, kind: type[optuna.pruners.BasePruner]) -> None:
    assert type(sampler.pruner(name, 9)) is kind


def test_halving_keeps_the_better_half_at_each_rung() -> None:
    study = optuna.create_study(direction="maximize", pruner=sampler.pruner("halving", 9))
    for accuracy in (0.9, 0.5, 0.6, 0.8, 0.4, 0.7):
        trial = study.ask()
        ended = False
        for epoch in range(1, 10):
            trial.report(accuracy, epoch)
            if ended := trial.should_prune():
                break
        study.tell(trial, None if ended else accuracy, state=TrialState.PRUNED if ended else TrialState.COMPLETE)
    # By hand: 0.8 is second of four after an epoch, but second of two after two; 0.7 third of six, then third of three.
    assert [trial.last_step for trial in study.trials] == [9, 1, 1, 2, 1, 2]
