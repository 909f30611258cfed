"""The verdicts on Figs 3 and 4 and on depth: thresholds, seeds compared with their like, and what is not measured yet."""

import datetime

import numpy as np
import pytest

from bnlib import claims, records
from bnlib.config import DataConfig, ModelConfig, RunConfig, TrainConfig
from bnlib.lines import MINI_BATCHES, SIZES
from bnlib.studies import LADDER, NORMAL

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


def test_the_smallest_step_that_explodes():
    record = line("none", 0, 0.0015, 1.0)
    assert claims.explodes_at(record, 4) == 0.002
    assert claims.explodes_at(record, 4, 11.0) == 0.02
    assert claims.explodes_at(record, 4, 1e9) == 1.0


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


def row(norm: str, depth: int, edge: float, seeds: tuple[int, ...] = (0, 1, 2)) -> list[records.Record]:
    """Runs that train up to a learning rate and diverge beyond; the later seeds only within two stops of it, as planned."""
    near = LADDER[max(0, LADDER.index(edge) - 2) : LADDER.index(edge) + 3]
    return [
        made("max-lr", norm, seed, {"step_loss": [1.0 if lr <= edge else 9.0] * 100, "logit_spread": 1.0}, depth,
             "completed" if lr <= edge else "diverged@9", lr=lr, steps=100, schedule="constant")
        for seed in seeds for lr in (near if seed else LADDER)
    ]  # fmt: skip


def grid(deep: float, shallow: float, normalised: float) -> list[records.Record]:
    return [*row("none", 110, deep), *row("none", 8, shallow), *row("batch", 110, normalised)]


@pytest.mark.parametrize(
    ("edges", "word"),
    [
        ((1e-3, 1e-2, 0.1), "reproduced"),
        ((1e-3, 3.16e-3, 0.1), "partly"),
        ((1e-3, 1e-2, 3.16e-3), "partly"),
        ((1e-3, 1e-3, 1e-3), "not reproduced"),
    ],
)
def test_depth_costs_rate(edges, word):
    assert claims.depth_costs_rate(grid(*edges)).word == word


def test_a_seed_counts_once_its_row_is_complete():
    whole = row("none", 8, 0.1)
    assert claims.edges(whole, "none", 8) == {0: 0.1, 1: 0.1, 2: 0.1}
    assert claims.edges([r for r in whole if r.config.seed < 2], "none", 8) == {0: 0.1, 1: 0.1}
    assert claims.edges([r for r in whole if (r.config.seed, r.config.train.lr) != (2, 1.0)], "none", 8) == {0: 0.1, 1: 0.1}
    assert claims.edges(whole[1:], "none", 8) == {}
    assert claims.edges(whole, "batch", 8) == {}
    assert (
        claims.depth_costs_rate([*row("none", 110, 1e-3), *row("none", 8, 0.1), *row("batch", 110, 1.0, (0, 1))]).word == "not yet measured"
    )


def test_where_nothing_trains_the_edge_is_none():
    dead = [
        made("max-lr", "none", 0, {"step_loss": [2.3] * 100, "logit_spread": 0.0}, 8, lr=lr, steps=100, schedule="constant")
        for lr in LADDER
    ]
    assert claims.edges(dead, "none", 8) == {0: 0.0}
    assert claims.edges([], "none", 8) == {}


def test_a_row_in_which_nothing_trains_is_told_as_such():
    dead = [
        made("max-lr", "none", 0, {"step_loss": [2.3] * 100, "logit_spread": 0.0}, 110, lr=lr, steps=100, schedule="constant")
        for lr in LADDER
    ]
    found = claims.depth_costs_rate([*dead, *row("none", 8, 0.1), *row("batch", 110, 1.0)])
    assert (found.word, found.because) == ("not yet measured", "it takes 3 seeds; so far there are 1")
