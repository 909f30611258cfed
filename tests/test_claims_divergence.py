"""The verdicts on Figs 3 and 4: thresholds, seeds compared with their like, and what is not measured yet."""

import datetime

import numpy as np
import pytest

from bnlib import claims, records
from bnlib.config import DataConfig, ModelConfig, RunConfig, TrainConfig
from bnlib.probes.lines import MINI_BATCHES, SIZES
from bnlib.studies import NORMAL

STEPS = np.array([0.0, *SIZES])


def made(study: str, norm: str, seed: int, measured: dict, depth: int = 110, status: str = "completed", **setting) -> records.Record:
    run = RunConfig(study, seed, ModelConfig(depth=depth, norm=norm), DataConfig(), train=TrainConfig(**setting))  # type: ignore[arg-type]
    return records.new(run, measured, datetime.datetime.now(datetime.UTC), 1.0, status=status)


def line(norm: str, seed: int, doubles: float, power: float) -> records.Record:
    """A relative loss of 1 + (t / doubles)^power, on each mini-batch."""
    loss = [3.0 * (1 + (STEPS / doubles) ** power)] * 3
    return made("steps", norm, seed, {"mini_batch": MINI_BATCHES, "step": STEPS, "loss": loss}, lr=NORMAL[norm])


def lines(none: float, batch: float, power: float = 9.0, seeds: int = 3) -> list[records.Record]:
    return [line(norm, seed, at, p) for seed in range(seeds) for norm, at, p in (("none", none, power), ("batch", batch, 1.0))]


@pytest.mark.parametrize(
    ("found", "word"),
    [
        (lines(0.0015, 0.15), "reproduced"),
        (lines(0.0075, 0.15), "partly"),  # 20 times, but a million by 0.1
        (lines(0.0015, 0.15, power=1.0), "partly"),  # 100 times, but no explosion
        (lines(0.015, 0.15, power=1.0), "not reproduced"),
        (lines(0.0015, 0.15, seeds=2), "not yet measured"),
        ([], "not yet measured"),
    ],
)
def test_steps_explode(found, word):
    assert claims.steps_explode(found).word == word


def test_a_loss_that_no_step_doubles_is_counted_as_the_longest_measured():
    """Without BN it doubles at 0.05 or 0.02, with BN beyond 1: 20 and 50 times at least."""
    beyond = claims.steps_explode(lines(0.05, 5.0, power=1.0))
    assert beyond.word == "not reproduced"
    assert "at a step of 0.06 / 0.06 / 0.06 without BN and of more than 1 / more than 1 / more than 1 with it" in beyond.because
    assert claims.steps_explode(lines(0.02, 5.0, power=1.0)).word == "partly"
    assert claims.step_text([0.2, np.inf, 0.9]) == "0.9"
    assert claims.step_text([0.2, np.inf, np.inf]) == "more than 1"


def test_the_smallest_step_that_explodes():
    record = line("none", 0, 0.0015, 1.0)
    assert claims.explodes_at(record, 4) == 0.002
    assert claims.explodes_at(record, 4, 11.0) == 0.02
    assert claims.explodes_at(record, 4, 1e9) == np.inf


def test_a_loss_that_is_not_finite_is_infinitely_larger():
    loss = np.where(STEPS > 0.01, np.nan, 2.0)
    record = made("steps", "none", 0, {"mini_batch": MINI_BATCHES, "step": STEPS, "loss": [loss] * 3}, lr=1e-4)
    assert claims.relative_loss(record, 1).tolist() == np.where(STEPS > 0.01, np.inf, 1.0).tolist()
    assert claims.explodes_at(record, 1) == 0.02


def moments(norm: str, seed: int, *decades: float) -> records.Record:
    """The variance of layers 8, 44 and 80 grows by so many decades up to a step of 0.01 without BN, of 0.1 with it."""
    share = STEPS / (0.01 if norm == "none" else 0.1)
    each = zip((8, 44, 80), decades, strict=True)
    grown = {f"variance_{layer}": np.outer(10 ** np.minimum(d * share, 30), np.ones(4)) for layer, d in each}
    return made("divergence", norm, seed, {"step": STEPS, **grown}, lr=NORMAL[norm])


@pytest.mark.parametrize(
    ("none", "batch", "word"),
    [
        ((0.1, 3, 6), (0.1, 0.2, 0.3), "reproduced"),
        ((3, 0.1, 6), (0.1, 0.2, 0.3), "partly"),  # not in the order of the layers
        ((0.1, 3, 6), (0.1, 1.2, 0.3), "partly"),
        ((0.2, 0.1, 0.1), (0.1, 1.2, 0.3), "not reproduced"),
    ],
)
def test_update_explodes(none, batch, word):
    found = [moments(norm, seed, *decades) for seed in range(3) for norm, decades in (("none", none), ("batch", batch))]
    assert claims.update_explodes(found).word == word
    assert claims.update_explodes(found[:5]).word == "not yet measured", "the third seed has only one arm"


def test_growth_factor_is_that_of_the_mean_over_channels():
    record = moments("none", 0, 1, 2, 3)
    assert claims.growth_factor(record, 44, 0.01) == pytest.approx(100)
    record.measured["variance_44"][STEPS.tolist().index(0.01)] = [1.0, None, 1.0, 1.0]
    assert claims.growth_factor(record, 44, 0.01) == np.inf
