"""Made-up records of the studies `noise` and `sharpness`, for tests: what the theory says, and a little chance."""

import datetime
from dataclasses import replace
from typing import Any

import numpy as np
from learning_runs import Images

from bnlib import claims, records, studies
from bnlib.config import RunConfig


def _record(run: RunConfig, measured: dict[str, Any]) -> records.Record:
    return records.new(run, measured, datetime.datetime.now(datetime.UTC), 1.0, data=Images)


def noise(seeds: int = 3, bias: float = 0.5, excess: float = 1.0) -> list[records.Record]:
    """Squared bias `bias` x 8 / |B| with BN; noise `excess` times what it should be."""
    return [_record(run, _noise(run, bias, excess)) for run in studies.get("noise").runs if run.seed < seeds]


def _noise(run: RunConfig, bias: float, excess: float) -> dict[str, Any]:
    rng, sizes, small = np.random.default_rng(run.seed), np.array(studies.NOISE_SIZES), np.array(studies.BIASED_SIZES)
    norm, C, batch = 4.0 + run.seed, 20.0 + run.seed, run.model.norm == "batch"
    variance = C / small * (512 - small) / 511
    chance = 0.001 * variance * rng.uniform(-1, 1, 3)
    found = {"biased_size": small, "norm": norm, "bias": bias * norm * 8 / small if batch else chance, "variance": variance}
    found["bias_error"] = 0.001 * variance
    if not batch:
        found |= {"size": sizes, "C": C}
        for way, exact in (("with_replacement", np.ones(10)), ("without_replacement", (512 - sizes) / 511)):
            error = 0.01 * C / sizes * exact
            found |= {way: excess * exact * C / sizes + error * rng.uniform(-1, 1, 10), f"{way}_error": error}
    return found


def sharpness(seeds: int = 3, power: float = 0.5, edge: float = 1.0, gain: float = 0.05) -> list[records.Record]:
    """Sharpness as rate^-power, accuracy higher by `gain` a decade, updates as 1 / rate; on the full batch `edge` times the limit."""
    return [_record(run, _sharpness(run, power, edge, gain)) for run in studies.get("sharpness").runs if run.seed < seeds]


def _sharpness(run: RunConfig, power: float, edge: float, gain: float) -> dict[str, Any]:
    lr, batch = run.train.lr, run.model.norm == "batch"
    if studies.full_batch(run):
        step = np.arange(studies.SHARPNESS_LOOKS + 1) * studies.SHARPNESS_EVERY[run.model.norm]
        sharp = edge * claims.limit(lr) * np.minimum(1, 0.1 + step / step[5])
        loss = np.append(np.linspace(2.3, 0.6, len(step) - 1), 0.1)
        level, reached, end = [], [], "completed"
    else:
        level = list(studies.LEVELS)
        needed = np.round((40 if batch else 60) / lr ** (1 if lr < 0.1 else 0.5) * np.array([1, 2, 3, 4])).astype(int) // 4
        reached = [int(k) if k <= studies.SHARPNESS_STEPS else None for k in needed]
        got = [k for k in reached if k is not None]
        step, sharp = np.array([0, *got]), np.array([2.0, *((5 + run.seed) * lr**-power * np.arange(1.0, len(got) + 1))])
        loss = np.array([2.3, *level[: len(got)]])
        end = "reached" if reached[-1] else "completed"
    test = np.where(step > 0, 0.4 + gain * np.log10(lr) + 0.002 * run.seed, np.nan)
    epoch_loss = np.linspace(2.3, float(loss[-1]), 5)
    rows = {"step": step, "loss": loss, "sharpness": sharp, "test_loss": np.where(step > 0, 2.0, np.nan), "test_acc": test}
    return {**rows, "epoch_loss": epoch_loss, "level": level, "reached": reached, "end": end}


def changed(record: records.Record, **measured: Any) -> records.Record:
    """The record with other measurements."""
    return replace(record, measured=record.measured | measured)
