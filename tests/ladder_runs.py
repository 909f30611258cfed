"""Records of the study `ladder` with known content: losses that fall in a straight line, steps of one size; and of `init` beside it."""

import datetime
import math
from typing import Any

import numpy as np

from bnlib import records
from bnlib.config import DataConfig, ModelConfig, ProbeConfig, RunConfig
from bnlib.records import Record
from bnlib.studies import get, rung

CHANCE = math.log(10)
ENDS = {"none": 2.3, "clip": 2.0, "fixup": 2.1, "skipinit": 2.15, "last-features": 1.9, "batch": 1.75}
STEPS = {"none": 0.002, "clip": 0.004, "fixup": 0.005, "skipinit": 0.002, "last-features": 0.006, "batch": 0.006}  # at a rate of 0.1
RATIO = {"none": 15.0, "clip": 60.0, "fixup": 7.0, "skipinit": 8.0, "last-features": 80.0, "batch": 90.0}
SLOPES = {"xavier": 0.05, "he": 0.16, "torch": -0.03}  # of ln sigma, where no layer is normalised but the last
RATIOS = {"none": 2.0, "layer": 9.0, "group": 35.0, "instance": 99.0, "last-features": 80.0, "last-logits": 80.0, "batch": 95.0}


def made(
    run: RunConfig, end: float | None = None, step: float | None = None, ratio: float | None = None, status: str = "completed"
) -> Record:
    """The record of a run of the ladder: its last 20 losses are `end`, each update is `step`, a / b is `ratio` in every layer."""
    assert run.model is not None
    assert run.train is not None
    name = rung(run)
    end = ENDS[name] + 0.01 * run.seed if end is None else end
    step = STEPS[name] * (run.train.lr / 0.1) ** 0.7 if step is None else step
    updates = int(status.partition("@")[2]) if "@" in status else run.train.steps
    losses = np.interp(np.arange(updates + ("@" in status)), [0, max(1, run.train.steps - 20)], [2.4, end])
    measured: dict[str, Any] = {
        "step_loss": losses if "@" not in status else [*losses[:-1], 1e9],
        "logit_spread": 1.0,
        "relative_step": [step] * updates,
        "gradient_norm": [1.0] * len(losses),
    }
    if run.probe is not None and status == "completed":
        layers = np.arange(1.0, run.model.depth + 1)
        measured |= {
            "coherence_ratio": np.full(run.model.depth - 1, RATIO[name] if ratio is None else ratio),
            "gradient_kurtosis": np.full(run.model.depth - 1, 10.0),
            "ln_std": 0.01 * layers,
        }
    facts = {"status": status, "hardware": {"name": "none", "cores": 1}}
    return records.new(run, measured, datetime.datetime.now(datetime.UTC), 1.0, **facts)


def ladder(**changes: dict[str, Any]) -> list[Record]:
    """All runs of the study; `changes` for the rungs named: what `made` is told of them, a "status" only from a rate of `above` on."""
    found = []
    for run in get("ladder").runs:
        assert run.train is not None
        told = dict(changes.get(rung(run).replace("-", "_"), {}))
        if run.train.lr < told.pop("above", 0.0):
            told.pop("status", None)
        found.append(made(run, **told))
    return found


def _initialised(norm: str, init: str, depth: int, seed: int, **changes: str) -> Record:
    slope = SLOPES[init] if norm in ("none", "last-features", "last-logits") else 0.001
    layers = np.arange(1.0, depth + 1)
    zero = changes.get("block") in ("fixup", "skipinit")
    of_layers = np.full(depth - 1, np.nan if zero else 1.0)
    measured = {
        "ln_std": slope * layers,
        "coherence_ratio": (RATIOS[norm] + 0.1 * seed) * of_layers,
        "gradient_kurtosis": 17.0 * of_layers,
        "loss": 2.3,
    }
    run = RunConfig("init", seed, ModelConfig(depth=depth, norm=norm, init=init, **changes), DataConfig(), ProbeConfig(full=False))
    return records.new(run, measured, datetime.datetime.now(datetime.UTC), 1.0)


def initialised() -> list[Record]:
    """Of each normaliser and initialisation at two depths, and of ResNet-110 with the blocks of Fixup and SkipInit; three seeds each."""
    residual = [
        _initialised(norm, by, depth, seed)
        for norm in RATIOS
        for by in ("xavier", "he", "torch")
        for depth in (20, 110)
        for seed in range(3)
    ]
    return [*residual, *(_initialised("none", "xavier", 110, seed, block=block) for block in ("fixup", "skipinit") for seed in range(3))]
