"""Made-up runs of Fig 1, for tests: curves that rise to a given accuracy."""

import datetime
from functools import cache
from pathlib import Path

import numpy as np

from bnlib import records
from bnlib.config import DataConfig, ModelConfig, RunConfig, TrainConfig

LIKE_THE_PAPER = {("batch", 0.1): 0.93, ("batch", 0.003): 0.90, ("batch", 1e-4): 0.81, ("none", 1e-4): 0.82}
LIKE_SMALL = {("batch", 0.1): 0.78, ("batch", 0.01): 0.61, ("none", 0.01): 0.60}


class Images:
    """Stands for the data set that the runs saw."""

    fingerprint, variant = "501506021cf5260c8db9664380b5d8cd8025786d24f6b68f2e9f20a45813468c", "shared copy"


@cache
def made(study: str, norm: str, lr: float, seed: int, last: float, epochs: int, depth: int = 110, images: int = 50_000, diverged: int = 0):
    """A run whose test accuracy ends at `last`, to half a point by its seed; or one that diverged after so many epochs."""
    rng, epoch = np.random.default_rng([seed, epochs]), np.arange(1.0, (diverged or epochs) + 1)
    share = epoch / epochs
    rise = 1 - np.exp(-12 * share) * 0.6
    noise = rng.normal(scale=0.01, size=len(epoch)) * (share < 0.5)
    test = (last - 0.04 * (share <= 0.5)) * rise + noise + 0.005 * (seed - 1) * (share > 0.5)
    test[-1] = last + 0.005 * (seed - 1)
    steps = 390 * epochs
    start = 300.0 if norm == "none" else 2.6
    loss = 2.2 - 0.5 * lr**0.2 * np.arange(300) / 300 + start * np.exp(-np.arange(300) / 4) + rng.normal(scale=0.03, size=300)
    loss[0] = start
    measured = {
        "epoch": epoch,
        "lr": lr * 0.1 ** ((share > 0.5) + 1.0 * (share > 0.75)),
        "train_loss": 1 - test,
        "train_acc": np.minimum(test + 0.15 * share, 1),
        "test_loss": 1 - test,
        "test_acc": test if not diverged else np.append(test[:-1], np.nan),
        "gradient_norm": np.ones_like(epoch),
        "seconds": np.ones_like(epoch),
        "initial_loss": start,
        "step_loss": loss,
        "steps": steps,
        "above_1e3": None,
    }
    run = RunConfig(
        study, seed, ModelConfig(depth=depth, norm=norm), DataConfig(train_size=images), train=TrainConfig(lr=lr, epochs=epochs)
    )  # type: ignore[arg-type]
    status = f"diverged@{390 * diverged}" if diverged else "completed"
    return records.new(run, measured, datetime.datetime.now(datetime.UTC), 1.0, data=Images, status=status)


@cache
def short(norm: str, lr: float, seed: int):
    """300 updates of ResNet-110, without epochs."""
    whole = made("fig1-small", norm, lr, seed, 0.5, 1)
    measured = {name: whole.measured[name] for name in ("initial_loss", "step_loss", "steps", "above_1e3")}
    setting = TrainConfig(lr=lr, steps=300, schedule="constant")
    run = RunConfig("fig1-small", seed, ModelConfig(norm=norm), DataConfig(train_size=10_000, test_size=2_000), train=setting)  # type: ignore[arg-type]
    return records.new(run, measured, datetime.datetime.now(datetime.UTC), 1.0, data=Images)


def fig1(seeds: int = 5, study: str = "fig1", last: dict = LIKE_THE_PAPER) -> list[records.Record]:
    """The paper's four settings."""
    epochs = {0.1: 165, 0.003: 1320, 1e-4: 2400}
    return [made(study, *arm, seed, ends, epochs[arm[1]]) for arm, ends in last.items() for seed in range(seeds)]


def small(seeds: int = 2, last: dict = LIKE_SMALL) -> list[records.Record]:
    """Those of ResNet-32, and the first updates of ResNet-110."""
    runs = [made("fig1-small", *arm, seed, ends, 40, 32, 10_000) for arm, ends in last.items() for seed in range(seeds)]
    return runs + [short(*arm, seed) for arm in LIKE_THE_PAPER for seed in range(seeds)]


def write(runs: list[records.Record], root: Path) -> Path:
    """Write them below `root`."""
    root.mkdir(exist_ok=True)
    for run in runs:
        records.write(run, root)
    return root
