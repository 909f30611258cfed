"""The figures of the bridge, on records with known content."""

import datetime
from itertools import product
from typing import Any

import numpy as np
import pytest

from bnlib import records
from bnlib.config import DataConfig, InputConfig, JacobianConfig, ModelConfig, ProbeConfig, RunConfig, TrainConfig
from bnlib.explore import explore
from bnlib.figures import bridge as figures
from bnlib.figures.style import RED, SERIES
from bnlib.probes import jacobian
from bnlib.studies import LADDER, SMALL, TOWARDS

SEEDS = range(2)
RATE = {"convolutions": 0.01, "plain": 0.02, "plain-bn": 0.03, "residual": 0.05, "residual-bn": 0.005}  # of ln(s_1 / s_64), a layer


def record(run: RunConfig, **measured: Any) -> records.Record:
    return records.new(run, measured, datetime.datetime.now(datetime.UTC), 1.0)


def seen(name: str, seed: int, depth: int, batch: int = 128, **setting: Any) -> records.Record:
    """64 logarithms spread evenly, by RATE times the layer."""
    changes, linear = TOWARDS[name]
    model, probe = ModelConfig(depth=depth, **changes), ProbeConfig(batch=batch)
    run = RunConfig("bridge", seed, model, DataConfig(), probe, jacobian=JacobianConfig(linear=linear, **setting))
    log_s = np.outer(RATE[name] * jacobian.layers(depth), np.linspace(1, 0, 64)) + seed
    n = (depth - 2) // 6
    return record(
        run,
        participation=jacobian.participation(log_s),
        stable_rank=jacobian.participation(log_s) / 2,
        ln_largest=log_s[:, 0],
        ln_smallest=log_s[:, -1],
        ln_rms=log_s.mean(1),
        log_singular_values=log_s[[n, 2 * n, 3 * n]],
    )


@pytest.fixture(scope="module")
def bridge() -> list[records.Record]:
    grid = product(TOWARDS, SEEDS, (8, 56), ("random", "images"))
    found = [seen(name, seed, depth, directions=way) for name, seed, depth, way in grid]
    return found + [
        seen(name, seed, 32, SMALL, held=held) for name, seed, held in product(("plain-bn", "residual-bn"), SEEDS, (True, False))
    ]  # fmt: skip


def traces(fig, name: str, panel: str = "y") -> list:
    return [trace for trace in fig.data if trace.name == name and (trace.yaxis or "y") == panel]


@pytest.mark.parametrize("quantity", figures.QUANTITIES.values())
def test_ladder_draws_what_was_put_in(bridge, quantity):
    fig = figures.ladder(bridge, 56, quantity)
    (plain,) = traces(fig, SERIES["none"].label)
    (residual,) = traces(fig, SERIES["none"].label, "y2")
    assert plain.x[-1] == 100
    if quantity == "condition":
        assert plain.y == pytest.approx(np.exp(0.02 * jacobian.layers(56)), rel=1e-4)
        assert residual.y == pytest.approx(np.exp(0.05 * jacobian.layers(56)), rel=1e-4)
        assert fig.layout.title.text == "56 layers, largest / smallest s: plain 3 without BN, 5.2 with; with shortcuts 16 and 1.3"
    laws = [trace for trace in fig.data if trace.name == "flattened matrices"]
    assert len(laws) == (2 if quantity in ("n", "gain") else 0)
    if quantity == "n":
        assert laws[0].y == pytest.approx(1 / (1 / 64 + jacobian.flattened(56)))


def test_spectrum_names_the_size_that_leaves_as_many_directions(bridge):
    fig = figures.spectrum(bridge, "without shortcuts", "images", 56)
    n = float(jacobian.participation(np.linspace(0.02 * 55, 0, 64)))
    size = round(jacobian.effective_size(55, n, 64))
    assert f"Gaussian matrices, N = {size:,}" in [trace.name for trace in fig.data]
    (shown,) = traces(fig, SERIES["none"].label)
    assert np.log(shown.y) == pytest.approx(0.02 * 55 * np.linspace(0.5, -0.5, 64), abs=1e-4)
    law = 1 / (1 / 64 + 55 / size)
    assert float(jacobian.law(np.array(55 / size), 64)) == pytest.approx(law)
    assert law == pytest.approx(n, rel=0.01)


def test_matched_products_have_the_directions_asked_for():
    squares = figures.matched(55, 1500) ** 2
    assert squares.sum() ** 2 / (squares**2).sum() == pytest.approx(float(jacobian.law(np.array(55 / 1500), 64)), rel=0.1)


def test_tables(bridge):
    table = figures.pace_table(bridge, 56).splitlines()
    assert len(table) == 8
    assert table[2].startswith("| law of flattened matrices | 43 | 1 |")
    assert table[4].split("|")[4].strip() == "3 (3 to 3)"
    constants = figures.constants_table(bridge).splitlines()
    assert len(constants) == 4, "two networks, at the one depth and with the directions that are there"


def test_depths_measured_are_those_of_every_rung(bridge):
    assert figures.depths_measured(bridge) == [8, 56]
    assert figures.depths_measured(bridge, ("random", "images")) == [8, 56]
    assert figures.depths_measured([r for r in bridge if r.config.model.norm != "batch"]) == []


def test_rates_joins_depths_and_marks_where_no_rate_trains(bridge):
    trained = []
    for (norm, depth), lr in product((("none", 8), ("none", 56), ("batch", 8)), LADDER):
        run = RunConfig(
            "max-lr", 0, ModelConfig(depth=depth, norm=norm), DataConfig(), train=TrainConfig(lr=lr, steps=100, schedule="constant")
        )
        loss = [2.3] * 50 + [1.0 if depth == 8 and lr <= 0.1 else 2.3] * 50
        trained.append(record(run, step_loss=loss, logit_spread=1.0))
    fig = figures.rates([*bridge, *trained], "condition")
    none = next(trace for trace in fig.data if trace.name == SERIES["none"].label)
    assert none.x == pytest.approx(np.exp(0.05 * np.array([7, 55])), rel=1e-4)
    assert none.y[0] == pytest.approx(0.1)
    assert np.isnan(none.y[1])
    crosses = [trace for trace in fig.data if trace.marker.color == RED and len(trace.x)]
    assert [list(trace.x) for trace in crosses] == [pytest.approx([np.exp(0.05 * 55)], rel=1e-4)]
    assert "not known yet" in fig.layout.title.text
    assert [a.text for a in fig.layout.annotations if a.font.color == RED] == ["no rate trains"]


def test_only_seeds_with_five_depths_have_a_correlation(monkeypatch: pytest.MonkeyPatch):
    falling, few = np.array([[0.0, 1, 2, 3, 4], [1, 0.3, 0.1, 0.03, 0]]), np.array([[0.0, 1], [1, 0]])
    monkeypatch.setattr(figures, "rates_and_conditions", lambda *args: {0: falling, 1: few})
    assert figures.over_depths([], "none", "gain") == [pytest.approx(-1)]


@pytest.mark.parametrize("quantity", figures.OFF.values())
def test_off_takes_the_root_mean_square(quantity):
    found = []
    for depth, seed in product((8, 110), range(3)):
        run = RunConfig("population", seed, ModelConfig(depth=depth), DataConfig(), ProbeConfig(batch=1024))
        rows = [[0.6, 0.8], [0.03 * depth / 8 * (1 + seed % 2), 0.04 * depth / 8 * (1 + seed % 2)]]
        found.append(record(run, size=[2, 128], mean=rows, spread=rows, logits=rows, cosine=rows))
    fig = figures.off(found, quantity)
    (shallow,) = traces(fig, "8 layers")
    rms = np.mean if quantity == "cosine" else lambda row: np.sqrt(np.mean(np.square(row)))
    assert shallow.y == pytest.approx([rms([0.6, 0.8]), rms([0.03, 0.04])]), "the median of three seeds, of which one has twice as much"
    ends = {"logits": ("4%", "49%"), "cosine": ("0.04", "0.48")}.get(quantity, ("3.5%", "48.6%"))
    assert fig.layout.title.text.startswith("128 images: the ")
    assert fig.layout.title.text.endswith(f" {ends[0]} in 8 layers, {ends[1]} in 110")
    assert len({trace.line.color for trace in fig.data} & {SERIES["batch"].colour, SERIES["none"].colour}) == 0


def test_pixels_title_has_the_ratio_of_usable_steps():
    found, steps = [], np.array([0.0, *np.geomspace(1e-6, 10, 36)])
    doubles = {"standardised": 1.0, "unit": 1.0, "bytes": 0.01}
    for norm, scale, seed in product(("none", "batch"), doubles, SEEDS):
        run = RunConfig("inputs", seed, ModelConfig(depth=20, norm=norm), DataConfig(), ProbeConfig(), inputs=InputConfig(scale))  # type: ignore[arg-type]
        loss = 2 * (1 + (steps / (doubles[scale] if norm == "none" else 1.0)) ** 2)
        found.append(record(run, step=steps, loss=loss))
    fig = figures.pixels(found, 20)
    assert fig.layout.title.text == "20 layers: raw bytes divide the usable step by 100 without BN, by 1 with it"
    assert len([trace for trace in fig.data if trace.name == "0 to 255"]) == 2


def test_axes_stay_over_all_stops(bridge):
    explorer = explore(
        lambda depth, quantity: figures.ladder(bridge, depth, quantity), name="ladder", alt="x", depth=[8, 56], quantity=["n", "rank"]
    )
    ranges = {str(explorer.figure(**state).layout.yaxis.range) for state in explorer.states()}
    assert len(ranges) == 1
