"""Progress of a study: a live table on a terminal, otherwise one line per change."""

import statistics
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.live import Live
from rich.table import Table

from cnnlab.errors import UserError
from cnnlab.studies.plan import Plan
from cnnlab.studies.search.trials import accuracy, best, epochs, states
from cnnlab.studies.storage import open_storage, with_retries

if TYPE_CHECKING:
    from cnnlab.studies.ledger import Ledger  # MLflow takes seconds to import, which `status` does not need

SHOWN = {"running": TrialState.RUNNING, "waiting": TrialState.WAITING, "done": TrialState.COMPLETE}
SHOWN |= {"pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
REFRESH_S = 1.0
ROWS = 20


def counts(study: optuna.Study) -> str:
    """Number of trials in each state, and the best so far."""
    count, top = states(study), best(study)
    leader = f"best {100 * top.values[0]:.2f} % (trial {top.number})" if top else "best –"
    return "  ".join([*(f"{name} {count[state]}" for name, state in SHOWN.items()), leader])


def table(study: optuna.Study) -> Table:
    """One row per trial that runs or ended, for the last trials, with the counts as caption."""
    page = Table(title=study.study_name, caption=counts(study))
    for column in ("trial", "state", "epoch", "validation accuracy", "reason"):
        page.add_column(column, justify="left" if column == "reason" else "right")
    started = [t for t in study.get_trials(deepcopy=False) if t.state is not TrialState.WAITING]
    for trial in started[-ROWS:]:
        page.add_row(*_row(trial))
    return page


def status(plan: Plan) -> None:
    """Print the progress of the plan's study. Raises UserError if there is none."""
    storage = open_storage(plan.storage)
    try:
        study = with_retries(lambda: optuna.load_study(study_name=plan.study, storage=storage))
    except KeyError as error:
        known = ", ".join(optuna.get_all_study_names(storage)) or "none"
        raise UserError(
            f"No study {plan.study}. Expected one that make sweep started with the current sweep section. "
            f"Known: {known}."
        ) from error
    Console().print(with_retries(lambda: table(study)))


def _row(trial: FrozenTrial) -> tuple[str, ...]:
    share = accuracy(trial)
    role = "" if trial.user_attrs.get("role", "search") == "search" else f" ({trial.user_attrs['role']})"
    return (
        f"{trial.number}{role}",
        trial.state.name.lower(),
        str(epochs(trial) or 0),
        "–" if share is None else f"{100 * share:.2f} %",
        str(trial.user_attrs.get("reason", "")).partition("\n")[0][:80],
    )


class StudyProgress:
    """Shows the progress of a study while it runs."""

    def __init__(self, ledger: "Ledger") -> None:
        self._ledger = ledger
        self._start = time.monotonic()
        self._line = ""
        self._refreshed = 0.0
        self._live = Live(console=Console(file=sys.stderr), auto_refresh=False) if sys.stderr.isatty() else None

    def __enter__(self) -> "StudyProgress":
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self) -> None:
        """Show the current state: every second on a terminal, otherwise if it changed."""
        study, now = self._ledger.study, time.monotonic()
        line = with_retries(lambda: counts(study))
        if now - self._refreshed < REFRESH_S if self._live else line == self._line:
            return
        self._line, self._refreshed = line, now
        line += f"  {now - self._start:.0f} s elapsed{self._remaining()}"
        if self._live:
            page = with_retries(lambda: table(study))
            page.caption = line
            self._live.update(page, refresh=True)
        else:
            print(f"{self._ledger.plan.kind} {study.study_name}  {line}", flush=True)

    def _remaining(self) -> str:
        """Estimate of the remaining time from the trials that ended."""
        trials = self._ledger.trials()
        durations = [t.duration.total_seconds() for t in trials if t.duration and t.state is not TrialState.FAIL]
        if not durations:
            return ""
        running = sum(trial.state is TrialState.RUNNING for trial in trials)
        waiting = sum(trial.state is TrialState.WAITING for trial in trials)
        remaining = statistics.mean(durations) * (waiting + running / 2) / max(running, 1)
        return f", about {remaining:.0f} s left"
