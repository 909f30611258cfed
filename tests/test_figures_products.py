"""The figures and verdicts of the chapters on random matrices and the laboratory, on records with known content."""

import datetime
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from bnlib import claims, matrices, sources
from bnlib.config import LinearConfig, ProductConfig, RunConfig
from bnlib.explore.states import plain
from bnlib.figures import laboratory, products
from bnlib.figures.style import RED
from bnlib.matrices import linear
from bnlib.records import Record, new
from bnlib.studies import DESCENDED, FACTORS, RATES

SEEDS = range(3)
STEPS = [0, 1, 10, 100, 1000]


def record(run: RunConfig, **measured: Any) -> Record:
    return new(run, measured, datetime.datetime.now(datetime.UTC), 1.0)


def quantiles(M: int, N: int) -> np.ndarray:
    """ln of singular values that follow the law as closely as N values can."""
    s = np.concatenate([np.geomspace(1e-12, 1e-2, 4000), np.linspace(0.01, np.exp(matrices.log_largest_limit(M)), 20_000)])
    share = matrices.FussCatalan(M).cdf_singular(s)
    return np.log(np.interp((np.arange(N)[::-1] + 0.5) / N, share, s))


def spectrum(M: int, N: int, seed: int, log_s: np.ndarray) -> Record:
    return record(RunConfig("spectra", seed, product=ProductConfig(M, N)), log_singular_values=log_s)


def lawful(M: int, N: int) -> list[Record]:
    return [spectrum(M, N, seed, quantiles(M, N)) for seed in SEEDS]


def spectra(factor: float, of_law: bool = True) -> list[Record]:
    """At N = 1000 products that follow the law or not; at others every factor multiplies the condition number by `factor`."""
    shape = {M: quantiles(M, 1000) if of_law else np.linspace(0, -1, 1000) for M in (1, 3, 5)}
    made = [spectrum(M, 1000, seed, values) for (M, values), seed in itertools.product(shape.items(), SEEDS)]
    return made + [
        spectrum(M, 200, seed, np.linspace(0, -M * np.log(factor) - 2, 200)) for M, seed in itertools.product(FACTORS, SEEDS)
    ]  # fmt: skip


def trace(N: int, seed: int, restandardise: bool, rank: float, log_condition: float, rms: float = 1.0) -> Record:
    k = np.arange(1, 65) / 64
    run = RunConfig("propagation", seed, product=ProductConfig(64, N), linear=LinearConfig(restandardise))
    measured = {"rms": rms**k, "cosine": k / 2, "log_condition": log_condition * k, "stable_rank": rank**k}
    return record(run, **measured)


def propagation(rank: float = 4.0, log_condition: float = 200.0, rms: float = 1.0) -> list[Record]:
    """Plain: stable rank 1.5, ln of the condition number 200."""
    without = [trace(100, seed, False, 1.5, 200.0) for seed in SEEDS]
    return without + [trace(100, seed, True, rank, log_condition, rms) for seed in SEEDS]


def descents(cap: Callable[[int, bool], float], left: Callable[[int, bool], float]) -> list[Record]:
    """Runs that diverge at step 10 from the learning rate `cap(M, restandardise)` on; of the others' loss, `left(...)` is left."""
    made = []
    for restandardise, M, seed in itertools.product((False, True), DESCENDED, SEEDS):
        end = left(M, restandardise)
        loss = np.array(
            [np.where(np.array(STEPS) < 10, 2.0, np.inf) if lr >= cap(M, restandardise) else np.geomspace(1, end, 5) for lr in RATES]
        )
        run = RunConfig("laboratory", seed, product=ProductConfig(M, 10), linear=LinearConfig(restandardise))
        status = [linear.status(float(last)) for last in loss[:, -1]]
        made.append(record(run, lambda_max=2.0 * M, rate=RATES, step=STEPS, loss=loss, status=status))
    return made


def as_claimed() -> list[Record]:
    return descents(lambda M, on: 3 if M == 1 else 0.5 if on else 2 / M**1.5, lambda M, on: 1e-6 if on or M < 5 else 0.3)


def lines(fig: go.Figure, name: str) -> list[go.Scatter]:
    return [trace for trace in fig.data if trace.name == name]


def texts(fig: go.Figure) -> list[str]:
    return [note.text for note in fig.layout.annotations]


def ranges(fig: go.Figure) -> dict[str, tuple]:
    layout = fig.layout.to_plotly_json()
    return {key: (tuple(value["range"]), value["type"]) for key, value in layout.items() if "axis" in key}


# Products


@pytest.mark.parametrize("M", [1, 3, 5])
@pytest.mark.parametrize("view", products.VIEWS.values())
def test_the_sampled_density_is_one_and_lies_on_the_law(M: int, view: str):
    fig = products.density({(M, 1000): lawful(M, 1000)}, M, 1000, view)
    *faint, strong = lines(fig, "sampled")
    (law,) = lines(fig, "law")
    assert len(faint) == len(SEEDS)
    x, y = np.array(strong.x), np.nan_to_num(np.array(strong.y, dtype=float))
    assert (y[:-1] * np.diff(x)).sum() == pytest.approx(1, abs=0.02)
    middle, inner = (x[1:] + x[:-1]) / 2, slice(10, 30)
    np.testing.assert_allclose(y[:-1][inner], np.interp(middle[inner], law.x, law.y), rtol=0.25, atol=0.02)


def test_the_title_of_a_density_has_the_largest_values_and_the_distance():
    made = [spectrum(1, 50, seed, np.zeros(50)) for seed in SEEDS]
    title = products.density({(1, 50): made}, 1, 50, "s").layout.title.text
    gap = float(matrices.FussCatalan(1).cdf(np.array(1.0)))
    assert title == f"M = 1, N = 50: largest s 1, the law's 2; no share is off by more than {max(gap, 1 - gap):.1%}"


def test_the_distance_is_that_of_the_worst_product():
    held = [*lawful(3, 200), spectrum(3, 200, 3, quantiles(3, 200) + 50)]
    assert products.density({(3, 200): held}, 3, 200, "s").layout.title.text.endswith("no share is off by more than 100.0%")


@pytest.mark.parametrize(("M", "N"), [(5, 50), (6, 50), (20, 200), (24, 200)])
def test_a_density_says_where_the_law_does_not_apply(M: int, N: int):
    said = "the law (thin) does not apply" in texts(products.density({(M, N): lawful(M, N)}, M, N, "s"))
    assert said == (10 * M > N)


def test_the_papers_points_are_drawn_where_it_has_some_and_lie_on_the_law():
    digitised = sources.paper("fig8")
    for M, view, N in itertools.product((1, 3, 4), ("s", "square"), (200, 1000)):
        found = lines(products.density({(M, N): lawful(M, N)}, M, N, view), "the paper, digitised")
        assert bool(found) == (M in digitised["factors"] and N == 1000 and view == "s")
        for points in found:
            share, width = points.y[0] * 2 * points.x[0], 2 * points.x[0] * np.exp(matrices.log_largest_limit(M))
            assert share == pytest.approx(float(matrices.FussCatalan(M).cdf_singular(np.array(width))), rel=0.05)
            assert points.x[1] == pytest.approx(1, abs=0.02)


def test_fig_8_counts_the_first_of_fifty_bins():
    table = products.fig_8({(M, 1000): lawful(M, 1000) for M in (1, 3, 5)})
    for row, M, right, count in zip(table.splitlines()[2:], (1, 3, 5), (2.0, 3.1, 3.85), (260, 2140, 3820), strict=True):
        cells = [float(cell) for cell in row.strip("|").split("|")]
        assert cells[0] == M
        assert cells[1] == pytest.approx(cells[2], rel=0.02)
        assert cells[4] == pytest.approx(cells[5], abs=6)
        assert (cells[3], cells[6]) == (right, count)


def test_growth_is_the_factor_that_was_put_in():
    by_size = {(M, 200): [r for r in spectra(17) if r.config.product == ProductConfig(M, 200)] for M in FACTORS}
    assert products.growth(by_size, 200, "condition").layout.title.text == "N = 200: each factor multiplies the condition number by 17"
    assert products.per_factor(by_size, 200) == pytest.approx(17, rel=1e-4)
    for quantity in products.QUANTITIES.values():
        fig = products.growth(by_size, 200, quantity)
        (law,) = [trace for trace in fig.data if str(trace.name).startswith("law")]
        assert (np.diff(law.y) < 0).all() if quantity == "rank" else (np.diff(law.y) > 0).all()


def test_the_power_is_that_of_the_square():
    by_size = {(M, 200): [spectrum(M, 200, seed, np.full(200, np.log(M) / 2)) for seed in SEEDS] for M in FACTORS}
    assert products.power_of_largest(by_size, 200) == pytest.approx(1)


def test_restandardised_shows_both_arms_above_and_below():
    fig = products.restandardised(propagation(), 100, "stable_rank")
    title = "64 factors: stable rank 1.5 without, 4 with BN; condition 10⁸⁷, 10⁸⁷"
    assert fig.layout.title.text == title
    for name, ends in (("without", (1.5, np.exp(200))), ("with BN", (4, np.exp(200)))):
        assert [trace.y[-1] for trace in lines(fig, name)] == pytest.approx(ends)


def test_axes_stay_where_they_are():
    by_size = {(M, N): lawful(M, N) for M in (1, 5) for N in (50, 200)}
    for view in products.VIEWS.values():
        drawn = [ranges(products.density(by_size, M, N, view)) for M, N in by_size]
        assert all(each == drawn[0] for each in drawn)
    runs = laboratory.runs(as_claimed())
    drawn = [ranges(laboratory.bench(runs, M, lr)) for M in (1, 32) for lr in (RATES[0], RATES[-1])]
    assert all(each == drawn[0] for each in drawn)


def test_drawing_a_state_leaves_the_others_alone():
    runs = laboratory.runs(as_claimed())
    first = laboratory.bench(runs, 2, 0.1).to_json()
    laboratory.bench(runs, 32, 1.0)
    assert laboratory.bench(runs, 2, 0.1).to_json() == first


# The laboratory


def test_runs_are_the_records_as_arrays():
    runs = laboratory.runs(as_claimed())
    assert runs.loss.shape == (2, len(DESCENDED), len(RATES), len(SEEDS), len(STEPS))
    assert runs.steps.tolist() == STEPS
    np.testing.assert_allclose(runs.edge[:, :, 0], [[1 / M for M in DESCENDED]] * 2)
    without, standard = (runs.status[arm, DESCENDED.index(32), RATES.index(0.1)] for arm in (0, 1))
    assert set(without) == {"diverges"}
    assert set(standard) == {"converges"}
    assert np.isnan(runs.loss[0, DESCENDED.index(32), RATES.index(0.1), 0]).tolist() == [False, False, True, True, True]


def test_the_maps_show_each_cell_once_and_the_cross_is_at_the_sliders():
    runs = laboratory.runs(as_claimed())
    fig = laboratory.bench(runs, 32, 0.1)
    assert fig.layout.title.text == "32 factors, rate 0.1: without BN diverges, with BN converges"
    words = ("converges", "crawls", "diverges")
    for arm, axis in ((0, "x2"), (1, "x3")):
        marks = [trace for trace in plain(fig)["data"] if trace.get("xaxis") == axis and trace.get("name") in words]
        cells = [(x, y, trace["name"]) for trace in marks for x, y in zip(trace["x"], trace["y"], strict=True)]
        assert len(cells) == len(DESCENDED) * len(RATES)
        for x, y, word in cells:
            (rate,) = [i for i, lr in enumerate(RATES) if abs(np.log10(lr) - y) < 1e-4]
            assert set(runs.status[arm, round(x), rate]) == {word}
    upright, flat = [[s for s in fig.layout.shapes if s[f"{a}0"] == s[f"{a}1"]] for a in "xy"]
    assert {s.x0 for s in upright} == {DESCENDED.index(32)}
    assert {round(s.y0, 9) for s in flat} == {-1.0}


def test_seeds_that_end_differently_are_counted_and_marked():
    made = as_claimed()
    for r in made[:2]:  # two of three seeds, plain, M = 1
        r.measured["status"][0], r.measured["loss"][0][2:] = "diverges", [None] * 3
    fig = laboratory.bench(laboratory.runs(made), 1, RATES[0])
    assert fig.layout.title.text == "1 factor, rate 10⁻⁴: without BN diverges (2 of 3), with BN converges"
    crosses = next(t for t in lines(fig, "diverges") if t.yaxis in (None, "y"))
    assert list(crosses.x) == [10, 10]
    assert crosses.marker.color == RED


def test_outcomes_follow_the_records():
    made = as_claimed()
    fig = laboratory.outcomes(made, "rate")
    assert fig.layout.title.text == "32 factors: largest usable rate 0.01 without BN, 0.32 with it"
    (edge, same), (cap,) = lines(fig, "2/λ_max"), lines(fig, "2/N")
    np.testing.assert_allclose(edge.y, [1 / M for M in DESCENDED])
    assert list(same.y) == list(edge.y)
    assert set(cap.y) == {0.2}
    title = "32 factors: loss left at the best rate 0.3 without BN, 1.0×10⁻⁶ with it"
    assert laboratory.outcomes(made, "loss").layout.title.text == title


def test_the_edge_comes_to_meet_the_rate():
    fig = laboratory.edge_along(6, 0.1)
    (three,) = lines(fig, "with BN")
    seeds = np.split(three.y, np.flatnonzero(np.isnan(three.y)))  # each but the first with the gap before it
    assert [len(row) for row in seeds] == [len(laboratory.WATCHED) + (k > 0) for k in range(3)]
    assert [row[-1] for row in seeds] == pytest.approx([0.1] * 3, rel=0.3)
    assert laboratory.edge_along(6, 10.0).layout.title.text == "Rate 10: with BN 2/λ 3 of 3 diverge; without, 3 of 3 diverge"


# Verdicts


def test_the_distance_to_the_law_is_that_of_kolmogorov_and_smirnov():
    (made, *_) = lawful(3, 200)
    assert claims.law_distance(made) == pytest.approx(0.5 / 200, rel=0.05)
    assert claims.law_distance(made, squared=False) > 0.1
    shifted = spectrum(3, 200, 0, quantiles(3, 200) + 50)
    assert claims.law_distance(shifted) == pytest.approx(1)


@pytest.mark.parametrize(("cap", "rate"), [(10.0, RATES[-2]), (11.0, RATES[-1]), (RATES[1], RATES[0]), (1e-5, 0.0)])
def test_the_usable_rate_is_the_one_below_the_first_that_diverges(cap: float, rate: float):
    assert claims.usable_rate(descents(lambda M, on: cap, lambda M, on: 0.5)[0]) == rate


def test_a_rate_above_one_that_diverges_is_not_usable_even_if_it_converges():
    (made, *_) = descents(lambda M, on: 1.0, lambda M, on: 0.001)
    made.measured["status"][-1] = "converges"
    assert claims.usable_rate(made) < 1


@pytest.mark.parametrize(
    ("verdict", "made", "word"),
    [
        (claims.law_holds, lambda: spectra(26), "reproduced"),
        (claims.law_holds, lambda: spectra(26, of_law=False), "not reproduced"),
        (claims.products_spread, lambda: spectra(26), "reproduced"),
        (claims.products_spread, lambda: spectra(12), "partly"),
        (claims.products_spread, lambda: spectra(2), "not reproduced"),
        (claims.restandardising_conditions, propagation, "partly"),
        (claims.restandardising_conditions, lambda: propagation(log_condition=90.0), "reproduced"),
        (claims.restandardising_conditions, lambda: propagation(rank=2.0), "not reproduced"),
        (claims.restandardising_conditions, lambda: propagation(rms=3.0), "not reproduced"),
        (claims.factors_cost_rate, as_claimed, "reproduced"),
        (claims.factors_cost_rate, lambda: descents(lambda M, on: 3, lambda M, on: 0.3), "not reproduced"),
        (claims.factors_cost_rate, lambda: descents(lambda M, on: 3, lambda M, on: 0.3 if M > 4 else 1e-9), "partly"),
        (claims.restandardising_gives_rate_back, as_claimed, "reproduced"),
        (claims.restandardising_gives_rate_back, lambda: descents(lambda M, on: 1.0 if on else 0.1, lambda M, on: 0.3), "partly"),
        (claims.restandardising_gives_rate_back, lambda: descents(lambda M, on: 0.1, lambda M, on: 0.3), "not reproduced"),
    ],
)
def test_a_verdict_follows_from_its_records(verdict: Callable, made: Callable, word: str):
    assert verdict(made()).word == word
