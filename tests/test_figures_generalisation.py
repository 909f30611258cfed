"""The figures of the chapter on generalisation draw what the records hold, inside their axes, and say it in their titles."""

from itertools import product

import numpy as np
import pytest
from generalisation_runs import changed, noise, sharpness
from test_figures_networks import lines, outside

from bnlib import claims
from bnlib.figures import noise as noise_figures
from bnlib.figures import sharpness as figures
from bnlib.studies import LEVELS, NOISE_SIZES

NOISY, SHARP = noise(), sharpness()


@pytest.mark.parametrize("depth", [8, 20])
def test_noise_is_drawn_on_its_bound(depth: int):
    for lr, size in product(noise_figures.RATES, NOISE_SIZES):
        assert outside(noise_figures.noise(NOISY, depth, lr, size)) == []
    fig = noise_figures.noise(NOISY, depth, 0.1, 128)
    bound, drawn = lines(fig, "the bound")[0].y, lines(fig, "drawn with replacement")[0].y
    assert bound == pytest.approx(0.01 * 21 / np.array(NOISE_SIZES), rel=0.005)
    assert drawn == pytest.approx(bound, rel=0.02)
    assert np.isnan(lines(fig, "drawn without replacement")[0].y[-1])
    assert fig.layout.title.text.startswith("|B| = 128 at 0.1: bound 0.0016, drawn 0.0016 with replacement, 0.0012 without")


@pytest.mark.parametrize(("depth", "share"), list(product([8, 20], [False, True])))
def test_bias_and_variance(depth: int, share: bool):
    fig = noise_figures.bias(NOISY, depth, share)
    assert outside(fig) == []
    bias, variance = lines(fig, "with BN")
    moments = noise_figures.moments(NOISY, "batch", depth)
    whole = moments["bias"] + moments["variance"] if share else 1
    assert bias.y == pytest.approx(np.median(moments["bias"] / whole, axis=0), rel=0.005)
    assert variance.y == pytest.approx(np.median(moments["variance"] / whole, axis=0), rel=0.005)
    said = f"{100 * float(np.median((moments['bias'] / whole)[:, 0])):.1f} %"
    of = "of the squared error" if share else "of the gradient's squared length"
    assert fig.layout.title.text.startswith(f"{depth} layers, |B| = 8: the squared bias is {said} {of} with BN, ")


@pytest.mark.parametrize(("level", "measure"), list(product(LEVELS, figures.MEASURES.values())))
def test_everything_is_shown_at_equal_loss(level: float, measure: str):
    fig = figures.at_level(SHARP, level, measure)
    assert outside(fig) == []
    drawn = lines(fig, "with BN")[0]
    values = figures.measured(SHARP, "batch", level, measure)[0.1]
    assert drawn.y[list(drawn.x).index(0.1)] == pytest.approx(np.median(values), rel=0.02)


def test_a_run_that_did_not_get_there_is_marked_at_the_foot():
    fig = figures.at_level(SHARP, 0.2, "sharpness")
    assert lines(fig, "with BN, not reached")[0].x == pytest.approx([0.003 / 1.06, 0.01 / 1.06])
    assert lines(fig, "without, not reached")[0].x == pytest.approx([0.003 * 1.06, 0.01 * 1.06, 0.03 * 1.06])
    assert not any(len(trace.x) for trace in lines(fig, "diverged"))
    gone = [changed(r, end="diverged@3") if r.config.train.lr == 0.003 else r for r in SHARP]
    assert lines(figures.at_level(gone, 0.2, "sharpness"), "diverged")[0].x == pytest.approx([0.003 / 1.06])
    assert fig.layout.title.text.startswith("Sharpness at training loss 0.2: with BN ")


def test_without_runs_it_is_said_that_there_are_none():
    assert figures.at_level([], 1.0, "sharpness").layout.title.text == "Sharpness at training loss 1: not yet measured"
    assert figures.along([], "batch", 0.0).layout.title.text == "Full batch, with BN at 0.1: not yet measured"
    assert figures.progress([], 20, 2.1).layout.title.text.endswith("with BN not yet measured; without not yet measured")


@pytest.mark.parametrize(("norm", "lr"), list(product(["batch", "none"], figures.RUNS.values())))
def test_the_way_is_drawn_with_the_limit_of_its_rate(norm: str, lr: float):
    fig = figures.along(SHARP, norm, lr)
    assert outside(fig) == []
    assert fig.layout.title.text.startswith("SGD" if lr else "Full batch")
    assert lines(fig, "2(1 + β)/α")[0].y[0] == pytest.approx(claims.limit(lr or figures.SHARPNESS_FULL[norm]))
    assert len(lines(fig, "seed 0")) == 2


def test_the_title_tells_a_sharpness_that_does_not_rise():
    def title(**measured) -> str:
        runs = [changed(r, **measured) if r.config.train.lr == 0.3 else r for r in SHARP]
        return figures.along(runs, "batch", 0.3).layout.title.text

    assert title(step=[0, 9], loss=[2.3, 2.0], sharpness=[2.0, 8.0]) == "SGD, with BN at 0.3: sharpness from 2 up to 8; 2(1 + β)/α is 13"
    assert title(step=[0, 9], loss=[2.3, 2.0], sharpness=[2.0, 1.0]).startswith(
        "SGD, with BN at 0.3: sharpness 2 at the start, and never more;"
    )
    assert ": sharpness 2 at the start, and no loss reached to look again;" in title(step=[0], loss=[2.3], sharpness=[2.0])


def test_updates_needed_are_counted_to_the_end_of_the_window(monkeypatch: pytest.MonkeyPatch):
    run = changed(SHARP[0], step_loss=[3.0] * 30 + [2.0] * 70)
    monkeypatch.setattr(figures, "held", lambda *args, **where: [run])
    assert figures.needs([], "batch", 8, 2.0) == {0.1: 50.0}
    assert figures.needs([], "batch", 8, 2.5) == {0.1: 40.0}
    assert np.isnan(figures.needs([], "batch", 8, 1.9)[0.1])
    assert outside(figures.progress([], 8, 2.5)) == []
    title = figures.progress([], 8, 2.25).layout.title.text
    assert title == "8 layers, to a loss of 2.25, fewest updates: with BN 45 at 0.1; without 45 at 0.1"


def test_rates_that_are_as_fast_are_all_told_and_that_a_window_hides_what_is_faster(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(figures, "needs", lambda *args: {0.01: 45.0, 0.0316: 20.0, 0.1: 20.0, 1.0: np.nan})
    title = figures.progress([], 8, 2.25).layout.title.text
    assert title.endswith("with BN 20 or fewer at 0.0316, 0.1; without 20 or fewer at 0.0316, 0.1")
