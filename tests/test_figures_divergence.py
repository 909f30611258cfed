"""The figures of the chapter on divergence, on records with known content."""

import datetime
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import pytest

from bnlib import records
from bnlib.config import DataConfig, ModelConfig, RunConfig, TrainConfig
from bnlib.explore import explore
from bnlib.figures import divergence, marks
from bnlib.figures.style import PAPER, RED, SERIES
from bnlib.probes.lines import LAYERS, MINI_BATCHES, SIZES
from bnlib.studies import NORMAL
from bnlib.text import readable

STEPS = np.array([0.0, *SIZES])
DOUBLES = {"none": 0.0015, "batch": 0.15, "last-features": 0.04}


def made(study: str, norm: str, seed: int, measured: dict, depth: int = 110, **setting: float) -> records.Record:
    run = RunConfig(study, seed, ModelConfig(depth=depth, norm=norm), DataConfig(), train=TrainConfig(**setting))  # type: ignore[arg-type]
    return records.new(run, measured, datetime.datetime.now(datetime.UTC), 1.0)


def line(norm: str, seed: int, depth: int, lr: float) -> records.Record:
    """R(t) = 1 + (t / doubles)^9, or to the first power; the last of the steps is not finite without BN."""
    loss = 3 * (1 + (STEPS / DOUBLES[norm]) ** (9 if norm == "none" else 1))
    loss = np.where((STEPS == 1) & (norm == "none"), np.nan, loss)
    measured = {"mini_batch": MINI_BATCHES, "step": STEPS, "loss": [loss] * 3, "gradient_norm": [100.0, 10.0, 1.0]}
    return made("steps", norm, seed, measured, depth, lr=lr)


@pytest.fixture(scope="module")
def steps() -> list[records.Record]:
    normal = [line(norm, seed, depth, lr) for norm, lr in NORMAL.items() for depth in (20, 110) for seed in range(3)]
    return [*normal, *(line("batch", seed, 110, lr) for lr in (1e-4, 0.003) for seed in range(3)), line("batch", 0, 56, 0.1)]


@pytest.fixture(scope="module")
def update() -> list[records.Record]:
    """Variances grow as (1 + t)^layer without BN, on top of the channel's number; means are minus that; layer 80 overflows at 1."""
    found = []
    for norm in ("none", "batch"):
        for seed in range(3):
            measured: dict = {"step": STEPS, "loss": STEPS + 1, "gradient_norm": 1.0}
            for layer, width in zip(LAYERS, (16, 32, 64), strict=True):
                grown = np.exp(np.minimum(layer * STEPS, 50) if norm == "none" else 0 * STEPS)[:, None] * np.arange(1, width + 1)
                grown[(STEPS == 1) & (layer == 80) & (norm == "none")] = np.nan
                measured |= {f"variance_{layer}": grown, f"mean_{layer}": -grown}
            found.append(made("divergence", norm, seed, measured, lr=NORMAL[norm]))
    return found


def traces(fig: go.Figure, name: str) -> list:
    return [trace for trace in fig.data if trace.name == name]


# Curves


def test_until_ends_on_the_top():
    x, y = marks.until(np.array([1e-3, 1e-2, 1e-1]), np.array([1.0, 100.0, 1e6]), 1e4)
    assert x == pytest.approx([1e-3, 1e-2, 10**-1.5])
    assert y.tolist() == [1.0, 100.0, 1e4]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_until_ends_at_the_first_that_is_not_finite(value):
    x, y = marks.until(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 1.0, value, 1.0]), 10.0)
    assert x.tolist() == [1.0, 2.0, 3.0]
    assert y.tolist() == [1.0, 1.0, 10.0]


def test_until_keeps_what_stays_below_and_nothing_of_what_begins_above():
    x, y = marks.until(np.array([1.0, 2.0]), np.array([3.0, 4.0]), 10.0)
    assert (x.tolist(), y.tolist()) == ([1.0, 2.0], [3.0, 4.0])
    assert [part.tolist() for part in marks.until(np.array([1.0, 2.0]), np.array([30.0, 4.0]), 10.0)] == [[1.0], [10.0]]


def test_joined_leaves_gaps():
    one, two = (np.array([1.0, 2.0]), np.array([3.0, 4.0])), (np.array([5.0]), np.array([6.0]))
    x, y = marks.joined([one, two])
    assert x.tolist()[:2] + x.tolist()[3:] == [1.0, 2.0, 5.0]
    assert np.isnan([x[2], y[2]]).all()
    assert [len(part) for part in marks.joined([])] == [0, 0]


# Fig 3


def test_depths_are_those_of_both_arms(steps):
    assert divergence.depths(steps) == [20, 110]


@pytest.mark.parametrize("mini_batch", MINI_BATCHES)
@pytest.mark.parametrize(("lr", "depth"), [(0.1, 110), (0.003, 110), (0.1, 20), (0.003, 20)])
def test_along_step(steps, mini_batch, lr, depth):
    fig = divergence.along_step(steps, mini_batch, lr, depth)
    measured = (lr, depth) != (0.003, 20)
    said = ", of 0.2 with it" if measured else ""
    assert fig.layout.title.text == f"Mini-batch {mini_batch}: the loss doubles at a step of 0.002 without BN{said}"
    none, batch = traces(fig, "without")[0], traces(fig, "with BN")[0]
    assert none.y[-1] == divergence.TOP
    assert none.x[-1] == pytest.approx(0.0015 * 1e6 ** (1 / 9), rel=1e-3)
    assert batch.y == pytest.approx(1 + STEPS[1:] / 0.15 if measured else [])
    crosses = [trace for trace in fig.data if trace.marker.color == RED and len(trace.x)]
    assert len(crosses) == 1
    assert crosses[0].x == pytest.approx(STEPS[STEPS >= 0.007]), "beyond the axis, the one not finite included"
    taken = {trace.marker.symbol: list(trace.x) for trace in traces(fig, "the step taken") if len(trace.x)}
    assert taken == {"diamond": pytest.approx([1e-4])} | ({"circle": pytest.approx([lr])} if measured else {})
    assert ("not measured at 20 layers" in str(fig.layout.annotations)) is not measured
    assert bool(traces(fig, "the paper, digitised")) is ((lr, depth) == (0.1, 110))


def test_that_no_step_doubles_the_loss_is_said_of_what_was_measured():
    flat = {norm: line(norm, 0, 20, lr) for norm, lr in NORMAL.items()}
    for record in flat.values():
        record.measured["loss"] = [[1.0] * len(STEPS)] * 3
    start = "Mini-batch 1: no step up to 1 doubles the loss, without BN"
    assert divergence.along_step(list(flat.values()), 1, 0.1, 20).layout.title.text == f"{start} or with it"
    assert divergence.along_step(list(flat.values()), 1, 0.003, 20).layout.title.text == start


@pytest.mark.parametrize(("mini_batch", "size"), [(1, 100.0), (4, 10.0), (7, 1.0)])
def test_along_distance_multiplies_the_step_by_the_gradient(steps, mini_batch, size):
    fig = divergence.along_distance(steps, mini_batch, 110)
    assert traces(fig, "with BN")[0].x == pytest.approx(STEPS[1:] * size)
    assert fig.layout.title.text.endswith(f"at a distance of {0.002 * size:.2g} without BN, of {0.2 * size:.2g} with it")


def test_the_table_has_ours_beside_the_papers(steps):
    rows = divergence.step_table(steps).splitlines()[2:]
    assert rows[0] == "| 1 | 1×10⁻⁵ (1×10⁻⁵ to 1×10⁻⁵) | 0.026 | 1.00 (1.00 to 1.00) | 0.86 | 0.007 (0.007 to 0.007) | 0.0026 |".replace(
        "1×10⁻⁵ (1×10⁻⁵ to 1×10⁻⁵)", "0 (0 to 0)"
    )
    assert [row.split(" | ")[-1] for row in rows] == ["0.0026 |", "0.0045 |", "0.0072 |"]


# Fig 4


@pytest.mark.parametrize("rate", divergence.RATES)
def test_during_an_update_are_its_tenths(update, rate):
    rows = divergence.during(update[0], "variance", 8, rate)
    assert rows.shape == (11, 16)
    assert rows[:, 0] == pytest.approx(np.exp(8 * rate * np.arange(11) / 10), rel=5e-2 if rate == 1e-4 else 1e-4)


@pytest.mark.parametrize("moment", divergence.MOMENTS.values())
@pytest.mark.parametrize(("layer", "width"), [(8, 16), (44, 32), (80, 64)])
def test_channels_are_drawn_on_one_logarithmic_scale(update, layer, width, moment):
    fig = divergence.channels(update, 0.1, layer, moment)
    none, batch = fig.data[0], fig.data[2]
    assert (none.zmin, none.zmax, none.colorscale) == (batch.zmin, batch.zmax, batch.colorscale)
    grown = np.exp(layer * 0.1) * width
    assert none.z[width - 1][10] == pytest.approx(np.log10(grown) if moment == "variance" else -np.log10(1 + grown), abs=0.01)
    assert len(none.z) == len(batch.z) == width
    assert [len(fig.data[i].x) for i in (1, 3)] == [0, 0]


def test_channels_that_overflow_are_marked(update):
    fig = divergence.channels(update, 1.0, 80, "variance")
    assert set(fig.data[1].x) == {100.0}
    assert "largest variance overflows without BN, 64 → 64 with it" in fig.layout.title.text


@pytest.mark.parametrize("layer", LAYERS)
def test_growth(update, layer):
    fig = divergence.growth(update, layer)
    assert traces(fig, "with BN")[0].y == pytest.approx(np.ones(len(SIZES)))
    limit = traces(fig, "tends to")[0]
    assert np.diff(np.log(limit.y))[0] / np.diff(np.log(limit.x))[0] == pytest.approx(2 * layer)
    grown = f"grows {readable(np.exp(0.1 * layer))}-fold"
    assert fig.layout.title.text == f"Layer {layer}, a step of 0.1: the variance {grown} without BN, stays as it is with it"


def test_growth_beyond_numbers_is_said_to_overflow(update):
    none, batch = ([r for r in update if r.config.model.norm == norm] for norm in ("none", "batch"))
    lost = [replace(r, measured=r.measured | {"variance_80": [[1.0] * 64, *[[None] * 64] * len(SIZES)]}) for r in none]
    title = divergence.growth([*lost, *batch], 80).layout.title.text
    assert title == "Layer 80, a step of 0.1: the variance overflows without BN, stays as it is with it"


def test_every_state_fits_its_page(steps, update):
    figures = [
        explore(
            lambda mini_batch, lr: divergence.along_step(steps, mini_batch, lr, 110), name="a", alt="x", mini_batch=[1, 7], lr=[0.003, 0.1]
        ),
        explore(lambda rate: divergence.channels(update, rate, 80, "mean"), name="b", alt="x", rate=[1e-4, 1.0]),
        explore(lambda layer: divergence.growth(update, layer), name="c", alt="x", layer=[8, 80]),
    ]
    assert all(f'<figure class="bnx" id="{figure.name}"' in figure.html for figure in figures)
    assert set(SERIES) >= set(NORMAL)
    assert PAPER != RED
