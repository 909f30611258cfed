"""Claims about Figs 1 to 3, 5 and 8 in numbers, about Sec 3.1, and about Theorem 1: on records with known content."""

import datetime

import numpy as np
import pytest
from test_figures_products import lawful, quantiles, spectrum

from bnlib import claims, matrices, records, sources
from bnlib.config import DataConfig, ModelConfig, ProbeConfig, RunConfig, TrainConfig
from bnlib.probes.lines import MINI_BATCHES, SIZES
from bnlib.studies import FACTORS


def made(run: RunConfig, measured: dict, status: str = "completed") -> records.Record:
    return records.new(run, measured, datetime.datetime.now(datetime.UTC), 1.0, status=status)


# Initialisation


@pytest.mark.parametrize(("off", "word"), [(0.0, "reproduced"), (0.29, "reproduced"), (0.31, "not reproduced")])
def test_normalised_spread_is_the_papers(off: float, word: str):
    drawn = sources.paper("fig5")
    ln_std = np.zeros(110)
    ln_std[np.array(drawn["layers"]) - 1] = drawn["ln_std_bn"]
    ln_std[53] += off
    runs = [
        made(RunConfig("init", seed, ModelConfig(), DataConfig(), ProbeConfig()), {"ln_std": ln_std + shift})
        for seed, shift in enumerate((-0.4, 0.0, 0.4))
    ]
    assert claims.normalised_spread_is_the_papers(runs).word == word


# Products


def test_the_law_blows_up_at_the_origin_as_its_power_says():
    runs = [record for M in (1, 3, 5) for record in lawful(M, 1000)]
    for M in (1, 3, 5):
        assert claims.exponent_at_origin(spectrum(M, 1000, 0, quantiles(M, 1000))) == pytest.approx(1 / (M + 1), rel=0.02)
    assert claims.density_blows_up(runs).word == "reproduced"
    flat = [spectrum(M, 1000, seed, np.log(np.arange(1000, 0, -1) / 1000) / 2) for M in (1, 3, 5) for seed in range(3)]
    assert claims.density_blows_up(flat).word == "not reproduced"  # a density that is constant


@pytest.mark.parametrize(("power", "word"), [(0.5, "partly"), (1.0, "reproduced"), (0.25, "not reproduced")])
def test_largest_grows_linearly(power: float, word: str):
    runs = [spectrum(M, 1000, seed, np.array([power * np.log(M), 0.0])) for M in FACTORS for seed in range(3)]
    assert claims.largest_grows_linearly(runs).word == word


def test_fig8_is_the_papers_if_the_law_holds():
    runs = [spectrum(M, 1000, seed, quantiles(M, 1000)) for M in (1, 3, 5) for seed in range(10)]
    found = claims.fig8_is_the_papers(runs)
    assert found.word == "reproduced"
    assert found.because.endswith("the paper's are 2.0 / 3.1 / 3.85 and 260 / 2,140 / 3,820, as digitised")
    wider = [spectrum(M, 1000, seed, 1.1 * quantiles(M, 1000)) for M in (1, 3, 5) for seed in range(10)]
    assert claims.fig8_is_the_papers(wider).word == "not reproduced"
    assert np.exp(matrices.log_largest_limit(5)) == pytest.approx(3.85, abs=0.02)


# What Figs 1 to 3 and Sec 3.1 say in numbers


def line(seed: int, walls: tuple = (0.002, 0.004, 0.007), loss: tuple = (100.0, 20.0, 5.0)):
    """Losses along the gradient on mini-batches 1, 4 and 7 of a net without BN: flat, and beyond a million times that from `walls` on."""
    steps = np.array([0.0, *SIZES])
    along = [start * np.where(steps < 0.999 * wall, 1.0, 1e7) for start, wall in zip(loss, walls, strict=True)]
    run = RunConfig("steps", seed, ModelConfig(norm="none"), DataConfig(), train=TrainConfig(lr=1e-4))
    return made(run, {"mini_batch": MINI_BATCHES, "step": steps, "loss": along})


@pytest.mark.parametrize(
    ("walls", "word"),
    [((0.001, 0.005, 0.005), "reproduced"), ((0.001, 0.005, 0.01), "partly"), ((0.001, 0.1, 0.1), "not reproduced")],
)
def test_wall_stays(walls: tuple, word: str):
    runs = [line(seed, walls) for seed in range(3)]
    assert claims.wall_stays([line(seed, (1.0, 5.0, 5.0)) for seed in range(3)]).word == "not reproduced", (
        "a wall that is not met is far away"
    )
    assert claims.wall_stays(runs).word == word
    assert claims.wall_stays(runs[:2]).word == "not yet measured"


@pytest.mark.parametrize(
    ("loss", "word"),
    [
        ((100.0, 20.0, 5.0), "reproduced"),
        ((100.0, 60.0, 5.0), "partly"),
        ((100.0, 20.0, 2.2), "partly"),  # below ln 10 something has been learned
        ((100.0, 80.0, 60.0), "not reproduced"),
    ],
)
def test_early_updates_repair(loss: tuple, word: str):
    runs = [line(seed, loss=loss) for seed in range(3)]
    assert claims.early_updates_repair(runs).word == word
    assert claims.early_updates_repair(runs[:2]).word == "not yet measured"


@pytest.mark.parametrize(("factor", "word"), [(1.0, "reproduced"), (1.4, "reproduced"), (2.6, "not reproduced")])
def test_best_step_is_the_papers(factor: float, word: str):
    steps = np.array([0.0, *SIZES])
    theirs = sources.paper("fig3")["bn"]["step_of_minimum"]
    loss = [1 + np.abs(np.log(steps.clip(1e-9) / (factor * best))) for best in theirs]
    runs = [
        made(RunConfig("steps", seed, ModelConfig(), DataConfig(), train=TrainConfig(lr=0.1)),
             {"mini_batch": MINI_BATCHES, "step": steps, "loss": loss})
        for seed in range(3)
    ]  # fmt: skip
    assert claims.best_step_is_the_papers(runs).word == word
    assert claims.best_step_is_the_papers(runs[:2]).word == "not yet measured"


@pytest.mark.parametrize(("batch", "none", "word"), [(0.02, 5.0, "reproduced"), (0.02, 0.5, "partly"), (0.03, 0.5, "not reproduced")])
def test_gradient_size_is_the_papers(batch: float, none: float, word: str):
    runs = [
        made(RunConfig("init", seed, ModelConfig(norm=norm), DataConfig(), ProbeConfig()), {"gradient_std": np.full(110, std)})
        for seed in range(3)
        for norm, std in (("batch", batch), ("none", none))
    ]
    assert claims.gradient_size_is_the_papers(runs).word == word


@pytest.mark.parametrize(("off", "word"), [(1.4, "reproduced"), (1.6, "partly")])
def test_fig1_is_the_papers(off: float, word: str):
    drawn = sources.paper("fig1")["test"]

    def run(arm: str, seed: int):
        norm, lr = claims.PAPER[arm]
        end = drawn[f"{'bn' if norm == 'batch' else norm}_{lr:g}"][-1] + (off if arm == "large" else 0.0) + seed - 1
        return made(RunConfig("fig1", seed, ModelConfig(norm=norm), DataConfig(), train=TrainConfig(lr=lr)), {"test_acc": [0.1, end / 100]})

    runs = [run(arm, seed) for arm in claims.PAPER for seed in range(3)]
    assert claims.fig1_is_the_papers(runs).word == word
    assert claims.fig1_is_the_papers(runs[3:]).word == "not yet measured"
    assert claims.fig1_is_the_papers([run(arm, seed) for arm in claims.PAPER for seed in range(2)]).word in (
        "indicative",
        "not yet measured",
    )
