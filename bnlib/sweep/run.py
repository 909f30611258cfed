"""The missing runs of a study, most valuable first, within a budget, on one machine or many."""

import re
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from bnlib import records, train
from bnlib.config import ConfigError, RunConfig
from bnlib.records import Record, RecordError
from bnlib.studies import Study
from bnlib.sweep import executors
from bnlib.sweep.worker import Job, Outcome, begun, work

BREAKS = 3  # engines in a row that may break before a run has ended
_SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclass
class Summary:
    """How a sweep went: records that were there, what came of each run it took up, and the runs that remain."""

    there: int
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    remaining: list[RunConfig] = field(default_factory=list)
    begun: int = 0  # of those that remain
    interrupted: bool = False
    refused: str | None = None  # why it could not go on

    def count(self, kind: str) -> int:
        """How many runs came to this."""
        return sum(outcome.kind == kind for outcome in self.outcomes.values())


@dataclass(frozen=True)
class Listener:
    """Who is told: `moved` twice a second, with the runs at work and the number that remain; `ended` once a run; `stopping` once."""

    moved: Callable[[Sequence[RunConfig], int], None] = lambda running, remaining: None
    ended: Callable[[RunConfig, Outcome], None] = lambda run, outcome: None
    stopping: Callable[[], None] = lambda: None


def sweep(
    study: Study,
    root: Path,
    workers: int = 1,
    executor: str = "local",
    address: str | None = None,
    budget: float | None = None,
    data: Path | None = None,
    device: str = "cpu",
    listener: Listener | None = None,
    every: float = 60.0,
) -> Summary:
    """Do what is missing of `study` below `root`, `workers` runs at a time, for `budget` seconds; `every` between checkpoints.

    Ctrl-C and the end of the budget save the runs at work; a second Ctrl-C leaves at once. Raises ConfigError and RecordError.
    """
    executors.check(executor, address, device)
    unfinished = root.absolute() / records.UNFINISHED
    deadline = None if budget is None else time.time() + budget
    going = unfinished / f"{uuid.uuid4().hex}.going"
    job = Job(study, root.absolute(), data and data.absolute(), device, going, deadline, every)
    present = _Sweep(job, workers, listener or Listener())
    again = bool(present.missing())
    while again:
        with _made(going), executors.engine(executor, workers, address, unfinished / "logs", study.device(device)) as engine:
            try:
                again = present.go(engine)
            finally:
                going.unlink(missing_ok=True)  # should anything be raised: the runs at work are still saved
    summary = present.summary
    summary.remaining = study.missing(root)
    summary.begun = sum(begun(run, root, "ckpt").exists() for run in summary.remaining)
    return summary


class _Sweep:
    """A sweep under way. `job` stands for each of its jobs, but for the run."""

    def __init__(self, job: Job, workers: int, listener: Listener) -> None:
        self.job, self.study, self.root, self.workers, self.listener = job, job.study, job.root, workers, listener
        self.known = self.study.done(self.root)
        self.summary = Summary(len(self.known))
        self.running: dict[Future[Outcome], RunConfig] = {}
        self.broken: str | None = None  # why the engine takes no more runs
        self.breaks = 0  # engines that broke since a run has ended

    def missing(self) -> list[RunConfig]:
        """The runs without a record that this sweep has not taken up."""
        taken = {*self.summary.outcomes, *(run.run_id for run in self.running.values())}
        return [run for run in self.study.missing(self.root) if run.run_id not in taken]

    def go(self, engine: Executor) -> bool:
        """Start runs and wait for them, until none is left or none may start. True where a fresh engine is to go on."""
        waiting = self.missing()
        while True:
            try:
                while waiting and len(self.running) < self.workers and not self.broken and not self.over():
                    self.start(engine, waiting.pop(0))
                if not self.running:
                    return self.renew()
                self.listener.moved(list(self.running.values()), len(waiting) + len(self.running))
                done = wait(self.running, 0.5, FIRST_COMPLETED).done
                for future in done:
                    self.end(self.running.pop(future), future)
                if done:
                    waiting = self.missing()
                if self.over():
                    self.wind_down()
            except KeyboardInterrupt:
                if self.summary.interrupted:
                    raise
                self.summary.interrupted = True
                self.wind_down()

    def renew(self) -> bool:
        """Whether a fresh engine should do what is left: this one broke, and not as one of many that do nothing else."""
        if not self.broken or self.over():
            return False
        self.breaks += 1
        if self.breaks == BREAKS:
            self.summary.refused = self.broken
        self.broken = None
        return self.summary.refused is None and bool(self.missing())

    def over(self) -> bool:
        """Whether no further run may start."""
        late = self.job.deadline is not None and time.time() >= self.job.deadline
        return late or self.summary.interrupted or self.summary.refused is not None

    def start(self, engine: Executor, run: RunConfig) -> None:
        """Start a run, unless it takes longer than there is time; one that trains can be left at any moment."""
        needed = 0.0 if self.study.measure is None else estimate(self.study, run, self.known) or 0.0
        if self.job.deadline is not None and time.time() + needed >= self.job.deadline:
            return
        job = replace(self.job, study=replace(self.study, runs=(run,), refine=None))
        try:
            with executors.without_interrupt():
                self.running[engine.submit(work, job)] = run
        except BrokenExecutor as error:
            self.broken = _lost(error)
        except Exception as error:  # of the engine's own kind
            self.summary.refused = _lost(error)

    def end(self, run: RunConfig, future: Future[Outcome]) -> None:
        """Note what came of a run."""
        if future.cancelled():
            outcome = Outcome("stopped")
        elif error := future.exception():
            outcome = Outcome("lost", _lost(error))
            if isinstance(error, BrokenExecutor):  # so are all the runs at work
                self.broken = outcome.text
        else:
            outcome, self.breaks = future.result(), 0
        self.summary.outcomes[run.run_id] = outcome
        if outcome.kind == "refused":
            self.summary.refused = outcome.text
        # Listed, since a network file system may still remember that there was no such file.
        if outcome.kind == "made" and records.path_of(run, self.root) not in (self.root / run.study).glob("*.json"):
            self.summary.refused = f"the record of run {run.run_id} was made elsewhere: the workers must share the folder {self.root}"
        self.listener.ended(run, outcome)

    def wind_down(self) -> None:
        """Have the runs at work saved, and drop those that have not begun."""
        self.job.going.unlink(missing_ok=True)
        self.listener.stopping()
        for future in self.running:
            future.cancel()


def _lost(error: BaseException) -> str:
    return f"a worker was lost ({type(error).__name__}), but nothing that was measured: run the same command again"


@contextmanager
def _made(going: Path) -> Iterator[None]:
    try:
        going.parent.mkdir(exist_ok=True)
        going.touch()
    except OSError as error:
        raise RecordError(f"cannot write {going.parent}: {error.strerror}; name another results folder with --results") from None
    try:
        yield
    finally:
        going.unlink(missing_ok=True)


def seconds(budget: str) -> float:
    """A time such as 90s, 9m or 1.5h. Raises ConfigError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", budget)
    if not match or not float(match[1]):
        raise ConfigError(f"--budget {budget}: write a time above zero with its unit, such as 90s, 9m or 1.5h")
    return float(match[1]) * _SECONDS[match[2]]


def estimate(study: Study, run: RunConfig, done: Sequence[Record]) -> float | None:
    """Seconds that `run` will take, from the records of its study with its depth, else with the nearest; None where there is none.

    A run that is trained takes a time for each of its updates, any other one the mean of their times; both grow with the depth.
    """
    depths = {int(records.settings(record.config).get("depth", 1)) for record in done}
    if not depths:
        return None
    depth = int(records.settings(run).get("depth", 1))
    nearest = min(depths, key=lambda d: max(d / depth, depth / d))
    like = [record for record in done if records.settings(record.config).get("depth", 1) == nearest]
    spent = sum(float(record.time["seconds"]) for record in like) * depth / nearest
    if study.measure is not None:
        return spent / len(like)
    return spent / max(1, sum(int(record.measured["steps"]) for record in like)) * train.updates(run)
