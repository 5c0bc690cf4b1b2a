"""The part of a study that runs on one host: one process per trial, as many at a time as there are slots."""

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout
from optuna.trial import TrialState

from cnnlab.errors import UserError, on_interrupt
from cnnlab.studies.ledger import OWNERS, Ledger, open_ledger
from cnnlab.studies.plan import Plan, Slot, temporary_folder
from cnnlab.studies.progress import StudyProgress

POLL_S, HEARTBEAT_S = 0.2, 10.0
STOP_S = 60.0  # how long an interrupted trial may take to save
MAX_LOST = 3  # a study ends if this many trials fail before any succeeds


def run_study(plan: Plan, slots: list[Slot]) -> Ledger:
    """Start or continue the plan's study, and run its trials in `slots` until none is left on any host.

    Ctrl-C or SIGTERM saves the running trials and raises KeyboardInterrupt; the same command continues the study.
    Raises UserError if the first trials all fail.
    """
    with _owner() as owner:
        ledger = open_ledger(plan, owner)
        ledger.recover()
        ledger.sync_mlflow()
        _Host(ledger, slots).run()
        ledger.sync_mlflow()
    return ledger


@dataclass
class _Child:
    process: ForkServerProcess
    slot: Slot
    log: Path


@dataclass
class _Host:
    ledger: Ledger
    free: list[Slot]
    running: dict[int, _Child] = field(default_factory=dict)
    stop: bool = False

    def run(self) -> None:
        """Run trials until none is left on any host, or until interrupted."""
        context = _start_server()
        last_heartbeat = time.monotonic()
        lost_before = {trial.number for trial in self.ledger.lost()}
        try:
            with on_interrupt(self.interrupt, "saving the running trials"), StudyProgress(self.ledger) as progress:
                while not self.stop:
                    self._reap()
                    started = self._start(context)
                    done = not started and not self.running and self.ledger.is_done()
                    self._raise_if_all_failed(set() if done else lost_before)
                    if done:
                        break
                    if time.monotonic() - last_heartbeat > HEARTBEAT_S:
                        last_heartbeat = time.monotonic()
                        self.ledger.renew_heartbeats(list(self.running))
                        self.ledger.recover()
                    progress.show()
                    time.sleep(POLL_S)
                else:
                    self._stop_trials()
                    raise KeyboardInterrupt("the study was interrupted; the same command continues it")
        finally:
            for child in self.running.values():
                child.process.kill()  # after a second Ctrl-C; otherwise Python would wait for it
                child.process.join()
                _clean_up(child)

    def interrupt(self) -> None:
        """Stop at the next poll."""
        self.stop = True

    def _start(self, context: multiprocessing.context.ForkServerContext) -> bool:
        """Start the next trial if a slot is free; return whether one was started."""
        if not self.free:
            return False
        trial = self.ledger.claim()
        if trial is None:
            return False
        slot = self.free.pop(0)
        log = self.ledger.plan.folder / f"trial-{trial.user_attrs['original']}.log"
        arguments = (self.ledger.plan, self.ledger.parent, trial.number, slot, log)
        process = context.Process(target=_run_trial, args=arguments, name=f"trial {trial.number}")
        process.start()
        self.running[trial.number] = _Child(process, slot, log)
        return True

    def _reap(self) -> None:
        """Free the slots of the trials whose processes ended."""
        for number, child in list(self.running.items()):
            if child.process.is_alive():
                continue
            child.process.join()
            _clean_up(child)
            del self.running[number]
            self.free.append(child.slot)
            if self.stop:
                self.ledger.fail(number, "interrupted", retry="continue")
            elif not self.ledger.trial(number).state.is_finished():
                self.ledger.fail(number, _reason(child))

    def _raise_if_all_failed(self, lost_before: set[int]) -> None:
        """Raise UserError if no trial succeeded and enough were lost in addition to those of an earlier command."""
        if any(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in self.ledger.trials()):
            return
        lost = [trial for trial in self.ledger.lost() if trial.number not in lost_before]
        if len(lost) < min(MAX_LOST, self.ledger.planned()):
            return
        self._stop_trials()
        self.ledger.sync_mlflow()
        reasons = "\n".join(f"  {reason}" for reason in dict.fromkeys(trial.user_attrs["reason"] for trial in lost))
        raise UserError(
            f"Every trial failed. Expected at least one of {len(lost)} to end. Received:\n{reasons}\n"
            f"Correct params.yaml, or read the trials' logs in {self.ledger.plan.folder}/."
        )

    def _stop_trials(self) -> None:
        """Let the running trials save and stop; kill those that do not."""
        for child in self.running.values():
            child.process.terminate()
        end = time.monotonic() + STOP_S
        for child in self.running.values():
            child.process.join(max(0.0, end - time.monotonic()))
            child.process.kill()
        self._reap()


def _clean_up(child: _Child) -> None:
    shutil.rmtree(temporary_folder(child.log), ignore_errors=True)


def _start_server() -> multiprocessing.context.ForkServerContext:
    """Start the server that forks the trials' processes from one that has imported TensorFlow but not used it yet.

    So a trial starts in one second instead of five to eight. The server ignores Ctrl-C, which a terminal sends to all
    processes: only the host reacts to it.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cnnlab.studies.worker"])
    earlier = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, earlier)
    return context


def _run_trial(plan: Plan, parent: str, number: int, slot: Slot, log: Path) -> None:
    """The trial's process; the host itself does not import TensorFlow for it."""
    from cnnlab.studies.worker import main  # noqa: PLC0415

    main(plan, parent, number, slot, log)


def _reason(child: _Child) -> str:
    """Why the process of an unfinished trial ended."""
    status = child.process.exitcode
    if status is not None and status < 0:
        hint = ", perhaps by the system for lack of memory" if -status == signal.SIGKILL else ""
        return f"its process was ended by {signal.Signals(-status).name}{hint}"
    return f"its process ended with status {status}; see {child.log}"


@contextmanager
def _owner() -> Iterator[str]:
    """Name of this process as an owner of trials, whose lock it holds until it dies."""
    OWNERS.mkdir(parents=True, exist_ok=True)
    name = f"{os.uname().nodename}-{uuid4().hex[:12]}"
    path = OWNERS / f"{name}.lock"
    with FileLock(path):
        yield name
    path.unlink(missing_ok=True)
    for path in OWNERS.glob("*.lock"):
        with suppress(Timeout), FileLock(path, timeout=0):
            path.unlink(missing_ok=True)  # of a process that was killed
