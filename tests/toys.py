"""Small studies for the tests of sweeps, in a module of their own so that other processes can import what they call."""

import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bnlib import data, records, studies
from bnlib.config import DataConfig, ModelConfig, ProductConfig, RunConfig, TrainConfig
from bnlib.studies import Study
from bnlib.sweep import worker
from bnlib.sweep.worker import Job


def training(count: int = 1, **setting: Any) -> Study:
    """ResNet-8 on the first 64 synthetic images, 2 updates an epoch."""
    images = DataConfig("synthetic", 64, 32)
    train = TrainConfig(**{"epochs": 4, "batch": 32, **setting})
    return Study("toy", "a small one", tuple(RunConfig("toy", seed, ModelConfig(depth=8), images, train=train) for seed in range(count)))


def probing(measure: studies.Measure, count: int = 1) -> Study:
    """Runs that see no images."""
    return Study("toy", "a small one", tuple(RunConfig("toy", seed, product=ProductConfig(1, 2)) for seed in range(count)), measure)


def one(run: RunConfig, dataset: data.Dataset | None) -> dict[str, Any]:
    """Measure nothing to speak of."""
    return {"seed": run.seed}


def odd_ones_fail(run: RunConfig, dataset: data.Dataset | None) -> dict[str, Any]:
    """Raise something that cannot be pickled, for odd seeds."""
    if run.seed % 2:
        raise type("Local", (Exception,), {})("seed\nis odd")
    return {"seed": run.seed}


def second_dies(run: RunConfig, dataset: data.Dataset | None) -> dict[str, Any]:
    """Kill the process that measures seed 1."""
    if run.seed == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"seed": run.seed}


def first_is_large(run: RunConfig, dataset: data.Dataset | None) -> dict[str, Any]:
    """Measure more than a record holds, for seed 0."""
    return {"seed": [run.seed] * (1 if run.seed else records.MAX_RECORD)}


def job(study: Study, root: Path, **changes: Any) -> Job:
    """The job of the first run of `study`."""
    going = root / "going"
    going.touch()
    first = Study(study.name, study.about, study.runs[:1], study.measure)
    return Job(first, **{"root": root, "data": None, "device": "cpu", "going": going, "every": 0.0, **changes})


def without_times(path: Path) -> str:
    """The text of a record but for what differs from one time to the next."""
    record = records.load(path)
    record.time.clear()
    record.measured.pop("seconds", None)
    return re.sub(r'"content_sha256".*', "", record.to_bytes().decode())


def uninterrupted(study: Study, root: Path) -> dict[str, str]:
    """All runs of `study`, one after the other in this process: their records without times."""
    root.mkdir()
    for run in study.runs:
        assert worker.work(job(Study(study.name, study.about, (run,), study.measure), root)).kind == "made"
    return texts(root)


def texts(root: Path) -> dict[str, str]:
    """The records below `root` without times, by file name."""
    return {path.name: without_times(path) for path in (root / "toy").glob("*.json")}


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another process or thread will bring about."""
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def main() -> None:
    """The command line with a toy study that is long enough to be interrupted."""
    from bnlib.__main__ import main

    studies.STUDIES["toy"] = training(2, epochs=1000)
    main()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
