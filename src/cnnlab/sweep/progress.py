"""How a sweep stands: a live table on a terminal, a line for each change elsewhere."""

import statistics
import sys
import time
from collections import Counter
from types import TracebackType

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.live import Live
from rich.table import Table

from cnnlab.errors import UserError
from cnnlab.sweep.plan import Plan
from cnnlab.sweep.results import best
from cnnlab.sweep.storage import open_storage, patiently
from cnnlab.sweep.study import Ledger

SHOWN = {"running": TrialState.RUNNING, "waiting": TrialState.WAITING, "done": TrialState.COMPLETE}
SHOWN |= {"pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
REPAINT_S = 1.0


def counts(study: optuna.Study) -> str:
    """How many trials are in each state, and the best so far."""
    trials = study.get_trials(deepcopy=False)
    states = Counter(trial.state for trial in trials)
    winner = best(study)
    top = f"best {100 * winner.values[0]:.2f} % (trial {winner.number})" if winner else "best –"
    return "  ".join([*(f"{name} {states[state]}" for name, state in SHOWN.items()), top])


def table(study: optuna.Study) -> Table:
    """A row for each trial that runs or ended, the last ones only, under the counts."""
    page = Table(title=study.study_name, caption=counts(study))
    for column in ("trial", "state", "epoch", "validation accuracy", "reason"):
        page.add_column(column, justify="left" if column == "reason" else "right")
    begun = [t for t in study.get_trials(deepcopy=False) if t.state is not TrialState.WAITING]
    for trial in begun[-20:]:
        page.add_row(*_row(trial))
    return page


def status(plan: Plan) -> None:
    """Print how the plan's study stands. Raises UserError where there is none."""
    storage = open_storage(plan.storage)
    try:
        study = patiently(lambda: optuna.load_study(study_name=plan.study, storage=storage))
    except KeyError as error:
        known = ", ".join(optuna.get_all_study_names(storage)) or "none"
        raise UserError(
            f"No study {plan.study}. Expected one that make sweep began with the present sweep section. Known: {known}."
        ) from error
    Console().print(patiently(lambda: table(study)))


def _row(trial: FrozenTrial) -> tuple[str, ...]:
    epoch = max(trial.intermediate_values, default=0)
    accuracy = f"{100 * trial.intermediate_values[epoch]:.2f} %" if epoch else "–"
    role = "" if trial.user_attrs.get("role", "search") == "search" else f" ({trial.user_attrs['role']})"
    reason = str(trial.user_attrs.get("reason", "")).partition("\n")[0][:80]
    return f"{trial.number}{role}", trial.state.name.lower(), str(epoch), accuracy, reason


class Progress:
    """Shows a sweep while it runs."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._begin = time.monotonic()
        self._told = ""
        self._painted = 0.0
        self._live = Live(console=Console(file=sys.stderr), auto_refresh=False) if sys.stderr.isatty() else None

    def __enter__(self) -> "Progress":
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self) -> None:
        """Show how it stands now: every second on a terminal, elsewhere where something changed."""
        study, now = self._ledger.study, time.monotonic()
        line = patiently(lambda: counts(study))
        if now - self._painted < REPAINT_S if self._live else line == self._told:
            return
        self._told, self._painted = line, now
        line += f"  {now - self._begin:.0f} s gone{self._left()}"
        if self._live:
            page = patiently(lambda: table(study))
            page.caption = line
            self._live.update(page, refresh=True)
        else:
            print(f"{self._ledger.plan.kind} {study.study_name}  {line}", flush=True)

    def _left(self) -> str:
        """How long the waiting trials will take, by those that ended."""
        trials = self._ledger.trials()
        ended = [t.duration.total_seconds() for t in trials if t.duration and t.state is not TrialState.FAIL]
        if not ended:
            return ""
        running = sum(trial.state is TrialState.RUNNING for trial in trials)
        waiting = sum(trial.state is TrialState.WAITING for trial in trials)
        left = statistics.mean(ended) * (waiting + running / 2) / max(running, 1)
        return f", about {left:.0f} s left"
