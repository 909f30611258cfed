"""A study: a named grid of runs, and how one of them is measured."""

import datetime
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bnlib import data, provenance, records, train
from bnlib.config import ConfigError, RunConfig
from bnlib.records import Record

Measure = Callable[[RunConfig, data.Dataset | None], dict[str, Any]]
Refine = Callable[[Sequence[Record]], Iterable[RunConfig]]


@dataclass(frozen=True)
class Study:
    """A named grid of runs, most valuable first.

    `measure` measures one of them, and may say under the key "status" how it ended; without it, a run is trained.
    `refine` names the runs that the records of `runs` call for. Of all these, only those with the settings `where` are planned.
    """

    name: str
    about: str
    runs: tuple[RunConfig, ...]
    measure: Measure | None = None
    refine: Refine | None = None
    where: Mapping[str, Any] = field(default_factory=dict)

    def device(self, asked: str) -> str:
        """Where its runs are made: where `asked` if they train, else on the processor."""
        return asked if self.measure is None else "cpu"

    def planned(self, root: Path) -> list[RunConfig]:
        """All runs, those included that the records below `root` call for. Raises ConfigError where none has the settings `where`."""
        called = self.refine(_recorded(self.runs, root)) if self.refine else ()
        return list(self._having([*self.runs, *called], self.where))

    def done(self, root: Path) -> list[Record]:
        """The records of the planned runs. Raises RecordError on a damaged or a stale one."""
        return _recorded(self.planned(root), root)

    def missing(self, root: Path) -> list[RunConfig]:
        """The planned runs without a record below `root`."""
        return [run for run in self.planned(root) if not records.path_of(run, root).exists()]

    def only(self, where: Mapping[str, Any]) -> "Study":
        """The study with just the runs of these settings. Raises ConfigError on an unknown key, or where no run is left.

        Which runs its records will call for is not known before they are looked at; so with `refine`, `planned` raises instead.
        """
        known = sorted({key for run in self.runs for key in records.settings(run)} - {"study"})
        if unknown := sorted(set(where) - set(known)):
            raise ConfigError(f"study {self.name} has no setting {unknown[0]!r}; it has {', '.join(known)}")
        if self.refine:
            return replace(self, where={**self.where, **where})
        return replace(self, runs=self._having(self.runs, where))

    def _having(self, runs: Sequence[RunConfig], where: Mapping[str, Any]) -> tuple[RunConfig, ...]:
        kept = tuple(run for run in runs if all(records.settings(run).get(key) == value for key, value in where.items()))
        if not kept and where:
            values = {key: sorted({records.typed(records.settings(run).get(key)) for run in runs}) for key in where}
            offered = "; ".join(f"{key}: {', '.join(options)}" for key, options in values.items())
            raise ConfigError(f"study {self.name} has no run with these settings together; it has {offered}")
        return kept


def _recorded(runs: Iterable[RunConfig], root: Path) -> list[Record]:
    paths = [records.path_of(run, root) for run in runs]
    return [records.load(path) for path in paths if path.exists()]


def measure(
    study: Study,
    run: RunConfig,
    dataset: data.Dataset | None,
    root: Path,
    callbacks: Iterable[train.Callback] = (),
    resume: dict[str, Any] | None = None,
    device: str = "cpu",
    hardware: dict[str, Any] | None = None,
) -> Path:
    """Measure one run of `study` and write its record below `root`. `callbacks`, `resume` and `device` serve runs that train."""
    started, clock = datetime.datetime.now(datetime.UTC), time.perf_counter()
    if study.measure is None:
        result = train.train(run, dataset, callbacks, device, resume)
        status, measured, seconds = result.status, result.measured, result.seconds
        started = datetime.datetime.fromtimestamp(result.began, datetime.UTC)
    else:
        measured = study.measure(run, dataset)
        status = measured.pop("status", "completed")
        seconds = time.perf_counter() - clock
    facts = {"data": dataset, "status": status, "hardware": hardware or provenance.hardware(device)}
    return records.write(records.new(run, measured, started, seconds, **facts), root)
