"""The journal file of studies: what damages it, what is lost then, and what is reported."""

import os
import random
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
from damage import DAMAGES
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from studies.project import Project

from cnnlab.errors import UserError
from cnnlab.studies.journal import JOURNAL
from cnnlab.studies.storage import open_storage

BROKEN = {"flip", "flip with the old time", "zeros", "directory", "dangling link"}
MESSAGE = (
    rf"Damaged journal {JOURNAL}\. Expected: a file with one JSON record and its checksum per line\. Received: .+\. "
    rf"To fix this, restore it from a backup, or start all studies again without it: mv {JOURNAL} {JOURNAL}\.damaged"
)


def trials() -> list[tuple[int, TrialState, dict[str, Any], list[float] | None]]:
    """The trials of the study, read again."""
    study = optuna.load_study(study_name="one", storage=open_storage())
    return [(t.number, t.state, t.params, t.values) for t in study.get_trials()]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The journal of a study with three complete trials, in the working folder."""
    monkeypatch.chdir(tmp_path)
    study = optuna.create_study(study_name="one", storage=open_storage(), sampler=optuna.samplers.RandomSampler(0))
    study.optimize(lambda trial: trial.suggest_float("rate", 1e-5, 0.1, log=True), n_trials=3)
    assert [state for _, state, _, _ in trials()] == [TrialState.COMPLETE] * 3
    return JOURNAL.read_bytes()


@pytest.mark.parametrize("damage", sorted(BROKEN))
def test_a_damaged_journal_is_reported_in_one_line(damage: str, written: bytes) -> None:
    DAMAGES[damage](JOURNAL)
    with pytest.raises(UserError) as error:
        open_storage()
    assert re.fullmatch(MESSAGE, str(error.value))


@pytest.mark.parametrize("damage", sorted(DAMAGES.keys() - BROKEN))
def test_a_journal_that_ends_early_holds_what_is_left(damage: str, written: bytes) -> None:
    """Half a file is one that was cut in its last line."""
    DAMAGES[damage](JOURNAL)
    if damage == "half":
        assert [number for number, *_ in trials()] == [0, 1]
    else:
        assert optuna.get_all_study_names(open_storage()) == []


@pytest.mark.parametrize("cut", [1, 2, 20, 60])
def test_a_cut_last_line_loses_that_line_only(cut: int, written: bytes) -> None:
    """The last line completes the last trial."""
    before = trials()
    assert len(written.splitlines()[-1]) > 60
    JOURNAL.write_bytes(written[:-cut])
    after = trials()
    assert after[:2] == before[:2]
    assert after[2][1:] == (TrialState.RUNNING, before[2][2], None)
    study = optuna.load_study(study_name="one", storage=open_storage())
    study.tell(2, 0.5)
    assert trials()[2][1:] == (TrialState.COMPLETE, before[2][2], [0.5])
    assert JOURNAL.read_bytes().startswith(b"".join(written.splitlines(keepends=True)[:-1]))


def test_no_flipped_bit_is_used(written: bytes) -> None:
    """Each is either reported, or has no effect on a trial, or ends the last line, which is lost."""
    before, draw = trials(), random.Random(0)  # noqa: S311
    reported = 0
    for _ in range(300):
        position, bit = draw.randrange(len(written)), draw.randrange(8)
        damaged = bytearray(written)
        damaged[position] ^= 1 << bit
        JOURNAL.write_bytes(damaged)
        found = None
        with suppress(UserError):
            found = trials()
        reported += found is None
        assert found in (None, before) or position == len(written) - 1
    assert reported > 250


def test_a_journal_of_optunas_own_backend_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its records have no checksums; and that backend reads ours."""
    monkeypatch.chdir(tmp_path)
    JOURNAL.parent.mkdir()
    theirs = optuna.storages.JournalStorage(JournalFileBackend(str(JOURNAL)))
    study = optuna.create_study(study_name="one", storage=theirs)
    study.enqueue_trial({"rate": 1.0})
    again = optuna.load_study(study_name="one", storage=open_storage())
    again.enqueue_trial({"rate": 2.0})
    assert [trial.system_attrs["fixed_params"] for trial in study.trials] == [{"rate": 1.0}, {"rate": 2.0}]


COMMANDS: dict[str, Callable[[Project], Any]] = {
    "sweep": lambda project: project.run(stage="sweep"),
    "sweep-status": lambda project: project.run(stage="sweep-status"),
    "sweep-ui": lambda project: project.run("--port", "8997", stage="sweep-ui"),
}


@pytest.mark.parametrize(("command", "damage"), [*zip(COMMANDS, ("zeros", "flip", "directory"), strict=True)])
def test_commands_report_a_damaged_journal(command: str, damage: str, written: bytes, tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write()
    DAMAGES[damage](JOURNAL)
    done = COMMANDS[command](project)
    assert done.returncode == 2
    assert re.fullmatch(rf"error: {MESSAGE}\n", done.stderr)
    assert done.stdout == ""
    assert os.path.lexists(JOURNAL)
