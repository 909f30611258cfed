"""How high a loss has been and what became of the network, on records with known content."""

import datetime
import math

import numpy as np
import pytest

from bnlib import records
from bnlib.config import DataConfig, ModelConfig, RunConfig, TrainConfig
from bnlib.figures import recovery

NAN = float("nan")


def made(study: str, norm: str, losses: list[float], lr: float = 1.0, seed: int = 0, depth: int = 8, status: str = "completed"):
    run = RunConfig(study, seed, ModelConfig(depth=depth, norm=norm), DataConfig(), train=TrainConfig(lr=lr, steps=len(losses)))  # type: ignore[arg-type]
    return records.new(run, {"step_loss": losses, "logit_spread": 1.0}, datetime.datetime.now(datetime.UTC), 1.0, status=status)


def after(peak: float, end: float) -> list[float]:
    return [2.0, peak, *[end] * 20]


LEARNED = made("recovery", "batch", after(7.0, 1.6))
DEAD = made("recovery", "none", after(5e4, 2.3))
LOST = made("recovery", "none", [2.0, 40.0, 8e8, NAN], lr=10.0, depth=20, status="diverged@3")


def drawn(fig, name: str) -> list[tuple[float, float]]:
    return [(x, y) for t in fig.data if t.name == name for x, y in zip(t.x, t.y, strict=True)]


def test_each_run_is_where_its_losses_say():
    fig = recovery.fates([LEARNED, DEAD, LOST])
    assert drawn(fig, "with BN") == [(7.0, pytest.approx(1.6))]
    assert drawn(fig, "without") == [(5e4, pytest.approx(2.3))]
    assert drawn(fig, "no longer a number") == [(1e6, 3.3)], "8e8 lies beyond the axis"
    assert fig.layout.title.text == "None of 2 runs past 1000 learns, nor does any past 7"


def test_a_run_that_comes_back_is_named():
    back = [made("recovery", "batch", after(2e3, 1.6), seed=seed) for seed in (1, 2)]
    assert recovery.fates([*back, DEAD]).layout.title.text == "2 of 3 runs past 1000 learn"
    assert recovery.fates([back[0], DEAD]).layout.title.text == "1 of 2 runs past 1000 learns"


def test_where_none_is_past_the_limit_the_highest_loss_that_was_left_is_named():
    assert recovery.fates([LEARNED]).layout.title.text == "No run is past 1000; none learns after a loss past 7"
    dead = made("recovery", "none", after(50.0, 2.3))
    assert recovery.fates([dead]).layout.title.text == "No run is past 1000"


def test_one_depth():
    fig = recovery.fates([LEARNED, DEAD, LOST], depth=20)
    assert [drawn(fig, name) for name in ("with BN", "without")] == [[], []]
    assert fig.layout.title.text == "The one run past 1000 does not learn"


def test_runs_that_were_stopped_while_finite_are_left_out_and_those_of_the_same_setting_replaced():
    stopped = made("max-lr", "none", [2.0, 9e9], lr=3.0, status="diverged@1")
    gone = made("max-lr", "none", [2.0, NAN], lr=4.0, status="diverged@1")
    same = made("max-lr", "none", [2.0] * 22)
    slow = made("max-lr", "none", [2.0] * 22, lr=0.1)
    assert recovery.decided([DEAD], [stopped, gone, same, slow]) == [DEAD, gone, slow]
    assert math.isinf(recovery.peak(gone))
    assert np.isclose(recovery.peak(slow), 2.0)
