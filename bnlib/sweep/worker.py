"""One run, done by one process: locked against all others, resumed where it was left, left when time is up.

What is unfinished lies in `.unfinished/<study>` below the results: `<run_id>.ckpt`, the run so far; `<run_id>.progress`, for
those who watch; `<run_id>.lock`, which the operating system releases when its holder dies.
"""

import json
import os
import threading
import time
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from functools import cache
from multiprocessing import parent_process
from pathlib import Path
from typing import Literal

import torch
from filelock import FileLock, Timeout

from bnlib import data, provenance, records, studies, train
from bnlib.config import ConfigError, DataConfig, RunConfig
from bnlib.train import checkpoints

LOOK = 0.5  # seconds between looks at whether to go on, and between notes of how far a run is

_OURS = (ConfigError, data.DataError, records.RecordError)

_orphaned = threading.Event()
_at_work = threading.Lock()  # one run at a time in a process, whose threads are all the run's; on a GPU several go side by side


@dataclass(frozen=True)
class Job:
    """A run, as the one in its `study`, and all a worker needs to know to do it."""

    study: studies.Study
    root: Path
    data: Path | None  # where CIFAR-10 is
    device: str  # cpu, cuda or auto
    going: Path  # once this file is gone, the run is saved and left
    deadline: float | None = None  # seconds since 1970
    every: float = 60.0  # seconds between checkpoints

    @property
    def run(self) -> RunConfig:
        """The run."""
        return self.study.runs[0]

    def over(self) -> bool:
        """Whether the run is to be left."""
        return _orphaned.is_set() or (self.deadline is not None and time.time() >= self.deadline) or not self.going.exists()


@dataclass(frozen=True)
class Outcome:
    """What came of a job. "failed" concerns its run alone; "refused" would befall every other run too."""

    kind: Literal["made", "there", "busy", "stopped", "failed", "refused", "lost"]
    text: str = ""


@dataclass(frozen=True)
class Progress:
    """How far a run is: updates made and planned, images a second."""

    step: int
    steps: int
    images_per_second: float


def begun(run: RunConfig, root: Path, kind: str) -> Path:
    """The file of an unfinished run: `kind` is ckpt, progress or lock."""
    return root / records.UNFINISHED / run.study / f"{run.run_id}.{kind}"


def progress(run: RunConfig, root: Path) -> Progress | None:
    """How far a run is; None where nothing is known."""
    try:
        return Progress(**json.loads(begun(run, root, "progress").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def work(job: Job) -> Outcome:
    """Do the run, unless another does it. Nothing is raised: an exception of ours need not survive the way home."""
    with nullcontext() if job.device != "cpu" and torch.cuda.is_available() else _at_work:
        try:
            return _work(job)
        except train.Stopped:
            return Outcome("stopped")
        except OSError as error:
            return Outcome("refused", f"cannot write {error.filename or begun(job.run, job.root, 'ckpt')}: {error.strerror or error}")
        except _OURS as error:
            return Outcome("refused", str(error))
        except checkpoints.CheckpointError as error:
            return Outcome("failed", str(error))
        except Exception as error:
            return Outcome("failed", f"{type(error).__name__}: {error}".replace("\n", " "))


def _work(job: Job) -> Outcome:
    lock = begun(job.run, job.root, "lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock, timeout=0):
            path = records.path_of(job.run, job.root)
            outcome = Outcome("there")
            if not path.exists():
                records.clear(job.run, job.root)
                if job.over():
                    raise train.Stopped
                outcome = _measure(job)
            if outcome.kind == "failed":
                return outcome
            for kind in ("ckpt", "ckpt.tmp", "progress", "progress.tmp", "lock"):  # who waits for this lock finds the record
                begun(job.run, job.root, kind).unlink(missing_ok=True)
    except Timeout:
        return Outcome("busy")
    return outcome


def _measure(job: Job) -> Outcome:
    """Measure the run. What is raised before it begins, or since a file cannot be written, would befall every other run too."""
    run = job.run
    device = resolve(job.study.device(job.device))
    if device == "cpu":
        torch.set_num_threads(run.train.threads if run.train else 1)
    dataset = _dataset(run.data.source, job.data) if run.data else None
    hardware = provenance.hardware(device)
    saved = begun(run, job.root, "ckpt")
    about = {"training": provenance.sha256(provenance.TRAINING), "torch": str(torch.__version__), "device": torch.device(device).type}
    state, machines = checkpoints.load(saved, run, about) if saved.exists() else (None, [])
    machines = list(dict.fromkeys([*machines, hardware["name"]]))
    checkpoint = checkpoints.Checkpoint(saved, about, machines, job.every)
    callbacks: list[train.Callback] = [checkpoint, _Leave(job, checkpoint), _Report(begun(run, job.root, "progress"))]
    try:
        path = studies.measure(job.study, run, dataset, job.root, callbacks, state, device, hardware | {"name": ", then ".join(machines)})
    except _OURS as error:
        if isinstance(error.__cause__, OSError):
            raise
        brought_in = records.path_of(run, job.root).exists()
        return Outcome("there") if brought_in else Outcome("failed", str(error))
    return Outcome("made", records.load(path).status)


class _Leave:
    """Save and stop, once the job is over."""

    def __init__(self, job: Job, checkpoint: checkpoints.Checkpoint) -> None:
        self.job, self.checkpoint, self.looked = job, checkpoint, -1.0

    def __call__(self, trainer: train.Trainer) -> None:
        now = time.monotonic()
        if now - self.looked < LOOK or trainer.step == trainer.steps:
            return
        self.looked = now
        if self.job.over():
            self.checkpoint.save(trainer)
            raise train.Stopped


class _Report:
    """Note now and then how far the run is."""

    def __init__(self, path: Path) -> None:
        self.path, self.written, self.step = path, time.monotonic(), -1

    def __call__(self, trainer: train.Trainer) -> None:
        now = time.monotonic()
        if self.step >= 0 and now - self.written < LOOK:
            return
        made = (trainer.step - self.step) * trainer.setting.batch if self.step >= 0 else 0
        content = Progress(trainer.step, trainer.steps, round(made / max(now - self.written, 1e-9), 1))
        self.written, self.step = now, trainer.step
        with suppress(OSError):  # a run need not end because it cannot be watched
            part = self.path.with_name(self.path.name + ".tmp")
            part.write_text(json.dumps(asdict(content)))
            part.replace(self.path)


@cache
def _dataset(source: str, where: Path | None) -> data.Dataset:
    dataset = data.load(DataConfig(source), where)  # type: ignore[arg-type]
    dataset.require_known()
    return dataset


def resolve(device: str) -> str:
    """cpu or cuda, for one of these or auto. Raises ConfigError where there is no GPU."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("there is no GPU here that torch can use; choose --device cpu")
    return device


def watch_parent() -> None:
    """Have this process leave its run and end soon after the one that started it is gone."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        _orphaned.set()
        with _at_work:
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
