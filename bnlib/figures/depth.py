"""The depth x learning-rate map: which networks train, with BN and without, one cell a setting; and the largest rate that trains.

Records of the studies `max-lr` (100 updates) and `map` (10 epochs) in, figures out.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from bnlib import train
from bnlib.claims import edges
from bnlib.config import Norm
from bnlib.figures.marks import crosses, faint, from_paper, joined, label, theory, until
from bnlib.figures.style import PAPER, RED, SEQUENTIAL, SERIES, TEXT, Axis, coarse, figure, powers
from bnlib.records import Record
from bnlib.studies import DEPTHS, LADDER, NORMAL, outcome
from bnlib.text import number_text, power_label, readable

Key = tuple[str, int, float]  # normaliser, depth, learning rate

PAIR: tuple[Norm, Norm] = ("batch", "none")
_TOP = 1e4  # of the losses that are drawn
_ENDS = {"100 updates": (1.7, 2.4), "10 epochs": (0.2, 2.4)}  # of the colours
_WHOLE = {"100 updates": ("update", 100), "10 epochs": ("epoch", 10)}
_COLUMNS = Axis("learning rate", -0.5, 12.5, ticks=range(0, 13, 2), labels=[power_label(rate) for rate in LADDER[::2]])
_ROWS = Axis("depth", -0.5, 6.5, ticks=range(7), labels=[str(depth) for depth in DEPTHS])
_DOMAINS = ((0.76, 0.97), (0.48, 0.69), (0.0, 0.28))  # of the panels, from the top
_MARKS = {"diverged": "x", "dead": "circle-open", "slow": "triangle-down-open"}
_VERB = {"diverged": "diverges", "dead": "is dead", "slow": "is slow", "trains": "trains"}
_NONE = 1.6e-5  # where a depth is drawn at which no rate trains: at the foot, below all rates
_EDGE = Axis(
    "learning rate",
    8e-6,
    30,
    log=True,
    ticks=(_NONE, *(10.0**k for k in range(-4, 2))),
    labels=("none", *map(power_label, powers(1e-4, 10))),
)
_DEPTH = Axis("depth", 0, 134, ticks=(8, 20, 32, 44, 56, 110))


def losses(run: Record) -> Float[np.ndarray, " n"]:
    """Of each update, or of each epoch where the run was to make whole epochs."""
    assert run.config.train is not None
    return run.array("step_loss" if run.config.train.steps else "train_loss")


@dataclass(frozen=True)
class Cell:
    """The runs of one setting, one a seed."""

    runs: Sequence[Record] = ()

    @cached_property
    def loss(self) -> float:
        """The loss reached, by the last 20 updates or the last epoch: median over the runs that did not diverge; NaN without any."""
        last = [losses(r)[-train.WINDOW if r.config.train and r.config.train.steps else -1 :] for r in self.runs if r.status == "completed"]
        ends = [float(part.mean()) for part in last]
        return float(np.median(ends)) if ends else math.nan

    @cached_property
    def mark(self) -> str:
        """How the worst of the runs went, "" without any: a cell may have a loss and a red cross, where seeds disagree."""
        found = [outcome(run) for run in self.runs]
        return next((word for word in _VERB if word in found), "")

    @cached_property
    def words(self) -> str:
        """Such as "trains (loss 1.9)", "diverges at updates 3 to 11" or, where the seeds disagree, "trains in 2 of 3 runs"."""
        found = [outcome(run) for run in self.runs]
        if not found:
            return "not yet measured"
        most = max(_VERB, key=found.count)
        if found.count(most) < len(found):
            return f"{_VERB[most]} in {found.count(most)} of {len(found)} runs"
        if most == "diverged":
            at = [int(run.status.partition("@")[2]) for run in self.runs]
            return f"diverges at updates {min(at)} to {max(at)}" if min(at) < max(at) else f"diverges at update {at[0]}"
        return f"trains (loss {self.loss:.1f})" if most == "trains" else _VERB[most]


def cells(records: Iterable[Record]) -> dict[Key, Cell]:
    """The cells that have runs, by normaliser, depth and learning rate; their runs by seed."""
    found: dict[Key, list[Record]] = {}
    for run in sorted(records, key=lambda r: r.config.seed):
        assert run.config.model is not None
        assert run.config.train is not None
        found.setdefault((run.config.model.norm, run.config.model.depth, run.config.train.lr), []).append(run)
    return {key: Cell(runs) for key, runs in found.items()}


def depth_map(maps: Mapping[str, Mapping[Key, Cell]], depth: int, lr: float, after: str = "100 updates") -> go.Figure:
    """Two heat maps, depth by learning rate: the loss reached, and what became of the rest. A cross-hair; below, the runs behind it.

    `maps` has the cells after "100 updates", after "10 epochs", or both.
    """
    found = maps[after]
    chosen = {norm: found.get((norm, depth, lr), Cell()) for norm in PAIR}
    title = f"{depth} layers at {number_text(lr)}: with BN {chosen['batch'].words}, without {chosen['none'].words}"
    unit, count = _WHOLE[after]
    x = Axis(unit, 0, 1.3 * count, ticks=[count * share / 4 for share in range(5)])
    fig = figure(title, (_COLUMNS, _ROWS), (_COLUMNS, _ROWS), (x, Axis("loss", 0.1, _TOP, log=True)), height=600, stack=True)
    fig.update_layout(margin={"r": 60, "t": 8})
    for axis, domain in zip(("yaxis", "yaxis2", "yaxis3"), _DOMAINS, strict=True):
        fig.layout[axis].domain = domain
    fig.update_xaxes(showticklabels=False, title_text="", row=1, col=1)
    fig.update_yaxes(title_standoff=2)
    for row, norm in enumerate(PAIR, start=1):
        fig.update_xaxes(showgrid=False, row=row, col=1)
        fig.update_yaxes(showgrid=False, row=row, col=1)
        _name(fig, SERIES[norm].label, _DOMAINS[row - 1][1], SERIES[norm].colour)
        _heat(fig, [[found.get((norm, d, rate), Cell()) for rate in LADDER] for d in DEPTHS], SERIES[norm].label, row, _ENDS[after])
        _cross_hair(fig, LADDER.index(lr), DEPTHS.index(depth), row)
        _runs(fig, chosen[norm], norm, count)
    theory(fig, np.array([0.0, count]), np.array([train.CHANCE, train.CHANCE]), "ln 10", row=3, col=1)
    whole = all((norm, d, rate) in found for norm in PAIR for d in DEPTHS for rate in LADDER)
    _name(fig, "✕ diverged · ○ dead · ▽ slow" + " · blank: no run" * (not whole), 0.325, TEXT)
    _name(fig, "in the framed cell", _DOMAINS[2][1], TEXT, "right")
    return fig


def _name(fig: go.Figure, text: str, y: float, colour: str, side: str = "left") -> None:
    at = {"x": 0.0 if side == "left" else 1.0, "xanchor": side, "y": y, "yanchor": "bottom", "xref": "paper", "yref": "paper"}
    fig.add_annotation(text=text, showarrow=False, font={"color": colour, "size": 13}, **at)


def _heat(fig: go.Figure, cells: Sequence[Sequence[Cell]], name: str, row: int, ends: tuple[float, float]) -> None:
    """The cells of one kind of network, a row a depth."""
    low, high = ends
    z = np.array([[c.loss for c in line] for line in cells])
    ticks = [low, (low + train.CHANCE) / 2, train.CHANCE]
    bar: dict[str, Any] = {
        "thickness": 8,
        "len": 0.49,
        "x": 1.02,
        "y": 0.725,
        "outlinewidth": 0,
        "title": {"text": "loss", "font": {"size": 13}},
    }
    bar |= {"tickvals": ticks, "ticktext": [f"{t:.1f}" for t in ticks]}
    words = [
        [f"{depth} layers, {number_text(lr)}: {c.words}" for lr, c in zip(LADDER, line, strict=True)]
        for depth, line in zip(DEPTHS, cells, strict=True)
    ]
    fig.add_heatmap(
        z=np.round(np.clip(z, low, high), 2), zmin=low, zmax=high, colorscale=SEQUENTIAL, reversescale=True, showscale=row == 1,
        colorbar=bar, text=words, name=f"{name}, loss reached", hoverinfo="text", xgap=1, ygap=1, row=row, col=1,
    )  # fmt: skip
    marks = [(c.mark, x, y) for y, line in enumerate(cells) for x, c in enumerate(line) if c.mark in _MARKS]
    colours = [RED if word == "diverged" else "#e8e8e8" for word, _, _ in marks]
    look: dict[str, Any] = {"symbol": [_MARKS[word] for word, _, _ in marks], "size": 7, "color": colours}
    look["line"] = {
        "width": [0.8 if word == "diverged" else 1.5 for word, _, _ in marks],
        "color": "#ffffff",
    }  # a cross is seen on any cell
    x, y = [x for _, x, _ in marks], [y for _, _, y in marks]
    fig.add_scatter(x=x, y=y, mode="markers", marker=look, name=f"{name}, marked", hoverinfo="skip", row=row, col=1)


def _cross_hair(fig: go.Figure, column: int, line: int, row: int) -> None:
    thin, frame = {"color": TEXT, "width": 1, "dash": "dot"}, {"color": TEXT, "width": 2}
    fig.add_shape(type="line", x0=column, x1=column, y0=-0.5, y1=6.5, line=thin, row=row, col=1)
    fig.add_shape(type="line", x0=-0.5, x1=12.5, y0=line, y1=line, line=thin, row=row, col=1)
    fig.add_shape(type="rect", x0=column - 0.5, x1=column + 0.5, y0=line - 0.5, y1=line + 0.5, line=frame, row=row, col=1)


def _runs(fig: go.Figure, chosen: Cell, norm: str, count: int) -> None:
    """The loss of each run of a cell, as many traces as there are where there is none."""
    series = SERIES[norm]
    curves = [until(np.arange(1.0, len(losses(run)) + 1), losses(run), _TOP) for run in chosen.runs]
    x, y = joined(curves)
    line = {"color": series.colour, "width": 1.5, "dash": series.dash}
    fig.add_scatter(x=x, y=coarse(y), mode="lines", line=line, opacity=0.8, name=series.label, row=3, col=1)
    ends = [
        (x[-1], min(y[-1], _TOP)) if len(x) else (_share_of_an_epoch(run), _TOP)
        for run, (x, y) in zip(chosen.runs, curves, strict=True) if run.status != "completed"
    ]  # fmt: skip
    crosses(fig, np.array([x for x, _ in ends]), np.array([y for _, y in ends]), row=3, col=1)
    above = 1 if norm == "none" else -1
    at = (count, chosen.loss) if math.isfinite(chosen.loss) else ends[0] if ends else None
    if at:
        label(fig, at[0], min(max(at[1], 0.2), _TOP), series.label, series.colour, shift=8 * above, row=3, col=1)


def _share_of_an_epoch(run: Record) -> float:
    """Where a run ended that did not get through its first epoch."""
    assert run.config.train is not None
    assert run.config.data is not None
    return int(run.status.partition("@")[2]) * run.config.train.batch / run.config.data.train_size


def edge_by_depth(max_lr: Sequence[Record], trains: bool) -> go.Figure:
    """The largest learning rate at which 100 updates train, or at least do not diverge, against depth; seeds faint, their median strong.

    Where no rate does, on a seed or in the median, the line ends and a hollow mark stands at the foot.
    """
    fig, said, reach = figure("", (_DEPTH, _EDGE)), [], ""
    for norm in PAIR:
        series = SERIES[norm]
        found = {depth: edges(max_lr, norm, depth, trains) for depth in DEPTHS}
        rows = {depth: {seed: rate or math.nan for seed, rate in rates.items()} for depth, rates in found.items() if rates}
        seeds = sorted({seed for rates in rows.values() for seed in rates})
        faint(fig, [_of_seed(rows, seed) for seed in seeds], series)
        middle = np.array([np.median(list(rates.values())) for rates in found.values() if rates])
        drawn = np.where(middle > 0, middle, math.nan)
        look: dict[str, Any] = {"line": {"width": 2.5, "dash": series.dash}, "marker": {"symbol": series.symbol, "size": 8}}
        fig.add_scatter(x=list(rows), y=drawn, mode="lines+markers", line_color=series.colour, name=series.label, **look)
        without = [depth for depth, rate in zip(rows, middle, strict=True) if not rate]
        single = [depth for depth, rates in rows.items() if depth not in without and np.isnan(list(rates.values())).any()]
        for depths, opacity, name in ((single, 0.4, "none on a seed"), (without, 1.0, "none")):
            marker = {"symbol": f"{series.symbol}-open", "size": 8, "color": series.colour, "line": {"width": 1.8}}
            at = [_NONE] * len(depths)
            fig.add_scatter(x=depths, y=at, mode="markers", marker=marker, opacity=opacity, name=f"{series.label}: {name}")
        if rows:
            said.append(f"{series.label} {' → '.join(readable(end) if end else 'none' for end in (middle[0], middle[-1]))}")
            label(fig, max(rows), middle[-1] or _NONE, series.label, series.colour)
            reach = f"{min(rows)} → {max(rows)} layers"
    what = "trains within 100 updates" if trains else "does not diverge within 100 updates"
    fig.update_layout(
        title_text=f"Largest rate that {what}, {reach}: {', '.join(said)}" if said else f"Largest rate that {what}: not yet measured"
    )
    from_paper(fig, [110], [NORMAL["batch"]])
    from_paper(fig, [110], [NORMAL["none"]], "diamond")
    label(fig, 110, NORMAL["none"], "the paper", PAPER, anchor="right")
    return fig


def _of_seed(rows: Mapping[int, Mapping[int, float]], seed: int) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    points = [(float(depth), rates[seed]) for depth, rates in rows.items() if seed in rates]
    return np.array([x for x, _ in points]), np.array([y for _, y in points])
