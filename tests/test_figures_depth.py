"""The map of depth and learning rate, on records with known content: what each cell shows, and what it does not."""

import datetime
import math

import numpy as np
import plotly.graph_objects as go
import pytest

from bnlib import records
from bnlib.config import DataConfig, ModelConfig, RunConfig, TrainConfig
from bnlib.explore import explore
from bnlib.figures import depth
from bnlib.figures.style import PAPER, RED
from bnlib.studies import DEPTHS, LADDER, outcome

EDGE = {"none": 0.0316, "batch": 1.0}


def made(norm: str, layers: int, lr: float, seed: int = 0, how: str = "trains", epochs: int = 0, at: int = 4) -> records.Record:
    last = {"trains": 1.5, "dead": math.log(10), "slow": 2.25, "diverged": 1e9}[how]
    losses = np.geomspace(4.0, last, 5 if how == "diverged" else 100)
    losses = losses if how == "diverged" else np.append(losses[:80], np.full(20, last))
    setting = TrainConfig(lr=lr, schedule="constant", **({"epochs": epochs} if epochs else {"steps": 100}))  # type: ignore[arg-type]
    run = RunConfig("map" if epochs else "max-lr", seed, ModelConfig(depth=layers, norm=norm), DataConfig(), train=setting)  # type: ignore[arg-type]
    measured = {"step_loss": losses, "logit_spread": 0.0 if how == "dead" else 1.0}
    if epochs:
        measured |= {"train_loss": [2.0, 0.5], "step_loss": [9.0] * 100}
    status = f"diverged@{at}" if how == "diverged" else "completed"
    return records.new(run, measured, datetime.datetime.now(datetime.UTC), 1.0, status=status)


def fate(norm: str, lr: float) -> str:
    return "trains" if lr <= EDGE[norm] and lr > 1e-3 else "slow" if lr <= 1e-3 else "dead" if lr < 4 else "diverged"


@pytest.fixture(scope="module")
def short() -> list[records.Record]:
    """Depths 8 and 110 in full, three seeds near the edge; of depth 20 one rate."""
    whole = [made(norm, layers, lr, 0, fate(norm, lr)) for norm in EDGE for layers in (8, 110) for lr in LADDER]
    near = {norm: LADDER[LADDER.index(edge) - 2 : LADDER.index(edge) + 3] for norm, edge in EDGE.items()}
    more = [made(norm, layers, lr, seed, fate(norm, lr)) for norm in EDGE for layers in (8, 110) for lr in near[norm] for seed in (1, 2)]
    return [*whole, *more, made("none", 20, 0.1)]


@pytest.fixture(scope="module")
def maps(short) -> dict:
    return {"100 updates": depth.cells(short), "10 epochs": depth.cells([made("batch", 110, 0.1, epochs=10)])}


def marks(fig: go.Figure, row: int, symbol: str) -> set[tuple[float, float]]:
    axis = {1: None, 2: "x2"}[row]
    drawn = [t for t in fig.data if t.type == "scatter" and t.xaxis in ((None, "x") if axis is None else (axis,)) and t.marker.symbol]
    points = [(x, y, s) for t in drawn for x, y, s in zip(t.x, t.y, _each(t.marker.symbol, len(t.x)), strict=True)]
    return {(x, y) for x, y, one in points if one == symbol}


def _each(symbol: str | tuple, count: int) -> tuple:
    return symbol if isinstance(symbol, tuple) else (symbol,) * count


# A cell


@pytest.mark.parametrize(
    ("how", "words"), [("trains", "trains (loss 1.5)"), ("dead", "is dead"), ("slow", "is slow"), ("diverged", "diverges at update 4")]
)
def test_a_cell_says_how_its_runs_went(how, words):
    cell = depth.Cell([made("none", 8, 0.1, seed, how) for seed in range(3)])
    assert (cell.mark, cell.words) == (how, words)
    assert math.isnan(cell.loss) == (how == "diverged")


def test_a_cell_whose_seeds_disagree_has_a_loss_and_the_mark_of_the_worst():
    cell = depth.Cell([made("none", 8, 0.1, 0), made("none", 8, 0.1, 1), made("none", 8, 0.1, 2, "diverged")])
    assert (cell.mark, cell.words, cell.loss) == ("diverged", "trains in 2 of 3 runs", pytest.approx(1.5))


def test_a_cell_whose_seeds_diverge_at_different_updates_says_from_when_to_when():
    cell = depth.Cell([made("none", 8, 0.1, seed, "diverged", at=at) for seed, at in enumerate((7, 3, 11))])
    assert cell.words == "diverges at updates 3 to 11"


def test_an_empty_cell_says_so():
    assert (depth.Cell().mark, depth.Cell().words) == ("", "not yet measured")
    assert math.isnan(depth.Cell().loss)


def test_a_run_of_epochs_is_judged_by_its_last():
    run = made("batch", 110, 0.1, epochs=10)
    assert outcome(run) == "trains"
    assert depth.Cell([run]).loss == 0.5


def test_cells_are_grouped_by_setting(short):
    found = depth.cells(short)
    assert [run.config.seed for run in found["none", 8, 0.0316].runs] == [0, 1, 2]
    assert ("none", 14, 0.1) not in found


# The map


def test_the_map_shows_each_cell_as_it_is_and_none_that_is_not_there(maps):
    fig = depth.depth_map(maps, 110, 0.1)
    batch, none = (np.array(trace.z, float) for trace in fig.data if trace.type == "heatmap")
    assert batch.shape == (7, 13)
    for row, layers in enumerate(DEPTHS):
        for column, lr in enumerate(LADDER):
            for z, norm in ((batch, "batch"), (none, "none")):
                measured = layers in (8, 110) or (norm, layers, lr) == ("none", 20, 0.1)
                how = "trains" if layers == 20 else fate(norm, lr)
                seen = {mark: (column, row) in marks(fig, 1 if norm == "batch" else 2, symbol) for mark, symbol in SYMBOLS.items()}
                assert seen == {mark: measured and how == mark for mark in SYMBOLS}
                assert np.isnan(z[row, column]) == (not measured or how == "diverged")
    assert none[DEPTHS.index(20), LADDER.index(0.1)] == pytest.approx(1.7), "a loss of 1.5, at the end of the colours"


SYMBOLS = {"diverged": "x", "dead": "circle-open", "slow": "triangle-down-open"}


@pytest.mark.parametrize(
    ("layers", "lr", "words"),
    [
        (110, 0.1, "110 layers at 0.1: with BN trains (loss 1.5), without is dead"),
        (8, 10.0, "8 layers at 10: with BN diverges at update 4, without diverges at update 4"),
        (20, 0.1, "20 layers at 0.1: with BN not yet measured, without trains (loss 1.5)"),
    ],
)
def test_the_frame_is_on_the_cell_whose_runs_are_shown(maps, layers, lr, words):
    fig = depth.depth_map(maps, layers, lr)
    assert fig.layout.title.text == words
    frames = [shape for shape in fig.layout.shapes if shape.type == "rect"]
    at = (LADDER.index(lr), DEPTHS.index(layers))
    assert [(frame.x0 + 0.5, frame.y0 + 0.5) for frame in frames] == [at, at]


def test_a_run_that_diverged_ends_in_a_cross_at_the_top(maps):
    fig = depth.depth_map(maps, 8, 10.0)
    below = [trace for trace in fig.data if trace.yaxis == "y3" and trace.marker.color == RED]
    assert [list(trace.y) for trace in below] == [[1e4] * 3, [1e4]], "three seeds with BN, one without"


def test_all_states_have_the_same_traces(maps):
    counts = {len(depth.depth_map(maps, layers, lr).data) for layers, lr in ((8, 10.0), (14, 0.1), (110, 0.0316))}
    assert len(counts) == 1


def test_after_epochs_the_epochs_are_shown(maps):
    fig = depth.depth_map(maps, 110, 0.1, "10 epochs")
    curve = next(trace for trace in fig.data if trace.name == "with BN")
    assert (list(curve.x), list(curve.y)) == ([1.0, 2.0], [2.0, 0.5])
    assert fig.layout.xaxis3.title.text == "epoch"
    assert "with BN trains (loss 0.5), without not yet measured" in fig.layout.title.text


def test_the_map_fits_its_page(maps):
    made = explore(lambda layers, lr: depth.depth_map(maps, layers, lr), name="map", alt="x", layers=[8, 110], lr=[0.1, 10.0])
    assert made.html.count("<svg") == 1


# The edge


def test_the_edge_is_drawn_where_rows_are_complete(short):
    fig = depth.edge_by_depth(short, True)
    for norm, name in (("batch", "with BN"), ("none", "without")):
        curve = next(trace for trace in fig.data if trace.name == name)
        assert list(curve.x) == [8, 110]
        assert curve.y == pytest.approx([EDGE[norm]] * 2)
    assert fig.layout.title.text == ("Largest rate that trains within 100 updates, 8 → 110 layers: with BN 1 → 1, without 0.032 → 0.032")
    assert [trace.y[0] for trace in fig.data if trace.marker.color == PAPER] == [0.1, 1e-4]


def test_a_depth_that_no_rate_trains_ends_the_line_and_stands_at_the_foot(short):
    slow = [run for run in short if (run.config.model.norm, run.config.model.depth) == ("none", 110)]
    rest = [run for run in short if run not in slow]
    fig = depth.edge_by_depth([*rest, *(made("none", 110, run.config.train.lr, run.config.seed, "slow") for run in slow)], True)
    curve, foot = (next(trace for trace in fig.data if trace.name == name) for name in ("without", "without: none"))
    assert curve.y[0] == pytest.approx(0.0316)
    assert math.isnan(curve.y[1])
    assert list(foot.x) == [110]
    ticks = dict(zip(fig.layout.yaxis.tickvals, fig.layout.yaxis.ticktext, strict=True))
    assert ticks[foot.y[0]] == "none"
    assert foot.y[0] < min(tick for tick, text in ticks.items() if text != "none") == 1e-4
    assert fig.layout.title.text.endswith("without 0.032 → none")


def test_surviving_asks_less_than_training(short):
    fig = depth.edge_by_depth(short, False)
    assert next(trace for trace in fig.data if trace.name == "without").y == pytest.approx([3.16, 3.16])
    assert fig.layout.title.text.startswith("Largest rate that does not diverge within 100 updates, 8 → 110 layers: ")


def test_an_edge_without_records_says_so():
    assert depth.edge_by_depth([], True).layout.title.text == "Largest rate that trains within 100 updates: not yet measured"
