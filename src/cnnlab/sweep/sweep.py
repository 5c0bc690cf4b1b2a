"""A sweep on one host: a process a trial, as many at a time as there are shares of the host; any number of hosts."""

import multiprocessing
import os
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

from cnnlab import track
from cnnlab.errors import UserError, on_interrupt
from cnnlab.files import REPORTS
from cnnlab.sweep import results
from cnnlab.sweep.plan import Plan, Share, shares
from cnnlab.sweep.progress import Progress
from cnnlab.sweep.search import Search
from cnnlab.sweep.storage import patiently
from cnnlab.sweep.study import OWNERS, Ledger, open_ledger

FOLDER = REPORTS / "sweep"
LOOK_S, BEAT_S = 0.2, 10.0
END_S = 60.0  # how long an interrupted trial may take to save
HOPELESS = 3  # trials that all failed end the sweep


def sweep(plan: Search, workers: int | None) -> None:
    """Begin or continue a sweep, run its trials, and write reports/sweep/; raises as `conduct`."""
    publish(conduct(plan, shares(plan.sweep, workers)))


def conduct(plan: Plan, places: list[Share]) -> Ledger:
    """Begin or continue the plan's study, and run its trials at `places`, until none is left on any host.

    Ctrl-C or SIGTERM saves the running trials and raises KeyboardInterrupt; the same command continues. Raises
    UserError where the first trials all fail.
    """
    with _owner() as owner:
        ledger = open_ledger(plan, owner)
        ledger.recover()
        ledger.agree()
        _Host(ledger, places).run()
        ledger.agree()
    return ledger


def publish(ledger: Ledger) -> None:
    """Write the results of a study into reports/sweep/, and keep them with its MLflow run."""
    patiently(lambda: results.write(ledger.study, FOLDER))
    run = track.Run(ledger.parent)
    run.log_metrics([(len(ledger.trials()), patiently(lambda: results.metrics(ledger.study)))])
    for path in sorted(FOLDER.iterdir()):
        run.log_file(path, "sweep")
    run.finish()
    print((FOLDER / "summary.md").read_text())


@dataclass
class _Child:
    process: ForkServerProcess
    share: Share
    log: Path


@dataclass
class _Host:
    """This host's part of the sweep."""

    ledger: Ledger
    free: list[Share]
    running: dict[int, _Child] = field(default_factory=dict)
    stop: bool = False

    def run(self) -> None:
        """Run trials until none is left anywhere, or until interrupted."""
        context = _server()
        beaten = time.monotonic()
        known = {trial.number for trial in self.ledger.lost()}
        try:
            with on_interrupt(self.interrupt, "saving the running trials"), Progress(self.ledger) as progress:
                while not self.stop:
                    self._reap()
                    started = self._start(context)
                    done = not started and not self.running and self.ledger.is_done()
                    self._refuse_hopeless(set() if done else known)
                    if done:
                        break
                    if time.monotonic() - beaten > BEAT_S:
                        beaten = time.monotonic()
                        self.ledger.beat(list(self.running))
                        self.ledger.recover()
                    progress.show()
                    time.sleep(LOOK_S)
                else:
                    self._end()
                    raise KeyboardInterrupt("the sweep was interrupted; the same command continues it")
        finally:
            for child in self.running.values():
                child.process.kill()  # after a second Ctrl-C; Python would wait for it

    def interrupt(self) -> None:
        """Stop after the present look at the trials."""
        self.stop = True

    def _start(self, context: multiprocessing.context.ForkServerContext) -> bool:
        """Give a free share its trial; whether there was one."""
        if not self.free:
            return False
        trial = self.ledger.claim()
        if trial is None:
            return False
        share = self.free.pop(0)
        log = self.ledger.plan.folder / f"trial-{trial.user_attrs['original']}.log"
        arguments = (self.ledger.plan, self.ledger.parent, trial.number, share, log)
        process = context.Process(target=_trial, args=arguments, name=f"trial {trial.number}")
        process.start()
        self.running[trial.number] = _Child(process, share, log)
        return True

    def _reap(self) -> None:
        """Take in the trials whose process ended."""
        for number, child in list(self.running.items()):
            if child.process.is_alive():
                continue
            child.process.join()
            del self.running[number]
            self.free.append(child.share)
            if self.stop:
                self.ledger.fail(number, "interrupted", retry="continue")
            elif not self.ledger.trial(number).state.is_finished():
                self.ledger.fail(number, _reason(child))

    def _refuse_hopeless(self, known: set[int]) -> None:
        """Raise UserError where no trial ever came to an end, and enough were lost beside the `known` ones."""
        if any(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in self.ledger.trials()):
            return
        lost = [trial for trial in self.ledger.lost() if trial.number not in known]
        if len(lost) < min(HOPELESS, self.ledger.planned()):
            return
        self._end()
        self.ledger.agree()
        told = "\n".join(f"  {reason}" for reason in dict.fromkeys(trial.user_attrs["reason"] for trial in lost))
        raise UserError(
            f"Every trial failed. Expected at least one of {len(lost)} to end. Received:\n{told}\n"
            f"Mend params.yaml, or read the trials' logs in {self.ledger.plan.folder}/."
        )

    def _end(self) -> None:
        """Ask the running trials to save and stop; kill those that do not."""
        for child in self.running.values():
            child.process.terminate()
        end = time.monotonic() + END_S
        for child in self.running.values():
            child.process.join(max(0.0, end - time.monotonic()))
            child.process.kill()
        self._reap()


def _server() -> multiprocessing.context.ForkServerContext:
    """What starts trials: forked from a process that has imported TensorFlow but not begun to use it, a trial starts in
    a second where its own import would take five to eight. Ctrl-C, which a terminal sends to all, is the sweep's alone.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cnnlab.sweep.worker"])
    earlier = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, earlier)
    return context


def _trial(plan: Plan, parent: str, number: int, share: Share, log: Path) -> None:
    """The process of a trial; only there TensorFlow is imported."""
    from cnnlab.sweep.worker import main  # noqa: PLC0415

    main(plan, parent, number, share, log)


def _reason(child: _Child) -> str:
    """Why a trial's process ended without telling."""
    status = child.process.exitcode
    if status is not None and status < 0:
        hint = ", perhaps by the system for lack of memory" if -status == signal.SIGKILL else ""
        return f"its process was ended by {signal.Signals(-status).name}{hint}"
    return f"its process ended with status {status}; see {child.log}"


@contextmanager
def _owner() -> Iterator[str]:
    """The name of this process as an owner of trials: of a lock that it holds until it dies."""
    OWNERS.mkdir(parents=True, exist_ok=True)
    name = f"{os.uname().nodename}-{uuid4().hex[:12]}"
    path = OWNERS / f"{name}.lock"
    with FileLock(path):
        yield name
    path.unlink(missing_ok=True)
    for path in OWNERS.glob("*.lock"):
        with suppress(Timeout), FileLock(path, timeout=0):
            path.unlink(missing_ok=True)  # of a sweep that was killed; what it ran, `recover` has failed
