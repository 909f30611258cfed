"""A sweep as its user sees it: bars on a terminal, else a line for each finished run."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bnlib import records
from bnlib.config import RunConfig
from bnlib.studies import Study
from bnlib.sweep import worker
from bnlib.sweep.run import Listener, Summary
from bnlib.sweep.worker import Outcome

_COLUMNS = (BarColumn(24), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeElapsedColumn(), TimeRemainingColumn())


class Bars:
    """One bar for the sweep and one for each run at work, with images a second and the time that is left."""

    def __init__(self, study: Study, root: Path, console: Console, quiet: bool = False) -> None:
        self.study, self.root, self.console = study, root, console
        self.quiet = quiet or console.is_terminal  # no line for each run that was made
        flat = [records.settings(run) for run in study.runs]
        self.telling = [key for key in (flat[0] if flat else {}) if len({str(settings.get(key)) for settings in flat}) > 1]
        self.bars = Progress(SpinnerColumn(), TextColumn("{task.description}"), *_COLUMNS, console=console)
        self.whole = self.bars.add_task(study.name, total=None, rate="")
        self.runs: dict[str, TaskID] = {}
        self.done = 0
        self.listener = Listener(self.moved, self.ended, self.stopping)

    def __enter__(self) -> "Bars":
        """Show the bars, on a terminal."""
        if self.console.is_terminal:
            self.bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Leave the last state of the sweep's own bar."""
        if self.console.is_terminal:
            self.bars.stop()

    def moved(self, running: Sequence[RunConfig], remaining: int) -> None:
        """Bring the bars up to date."""
        self.bars.update(self.whole, total=self.done + remaining)
        for run in running:
            seen = worker.progress(run, self.root)
            now: dict[str, Any] = {} if seen is None else {"completed": seen.step, "total": seen.steps}
            rate = "" if seen is None or not seen.images_per_second else f"{seen.images_per_second:,.0f} images/s"
            if run.run_id not in self.runs:
                self.runs[run.run_id] = self.bars.add_task(f"  {self.label(run)}", **{"total": None, "rate": rate} | now)
            else:
                self.bars.update(self.runs[run.run_id], rate=rate, **now)

    def ended(self, run: RunConfig, outcome: Outcome) -> None:
        """Say what came of a run."""
        self.done += outcome.kind != "stopped"
        self.bars.update(self.whole, completed=self.done)
        if run.run_id in self.runs:
            self.bars.remove_task(self.runs.pop(run.run_id))
        line = f"{self.study.name} {run.run_id} {outcome.kind}{': ' * bool(outcome.text)}{outcome.text}"
        if outcome.kind in ("failed", "lost"):
            typer.echo(f"bnlib: {line}", err=True)
        elif outcome.kind != "refused" and not self.quiet:
            typer.echo(f"{line} ({self.label(run)})")

    def stopping(self) -> None:
        """Say that the runs at work are being saved."""
        self.bars.update(self.whole, description=f"{self.study.name}: saving")

    def label(self, run: RunConfig) -> str:
        """The settings that tell the runs of the study apart."""
        return " ".join(f"{key}={value}" for key, value in records.settings(run).items() if key in self.telling) or run.run_id


def verdict(study: Study, summary: Summary) -> str:
    """One line on what was done and what remains."""
    parts = [f"{summary.there} records were there, {summary.count('made')} made"]
    for kind, word in (("failed", "failed"), ("lost", "lost with their worker"), ("busy", "at work in another sweep")):
        if count := summary.count(kind):
            parts.append(f"{count} {word}")
    line = f"{study.name}: {', '.join(parts)}"
    if summary.remaining:
        started = f", {summary.begun} of them begun" if summary.begun else ""
        line += f"; {len(summary.remaining)} remain{started}: run the same command again to go on"
    return line
