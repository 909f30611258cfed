"""The one look of the book: colours, dashes, markers, axes and labels.

BN is blue, solid, with circles; none is vermilion, dashed, with diamonds; other normalisers take the rest of the Okabe-Ito
set; what was read off the paper is grey and hollow; theory is a thin line in the colour of the text.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float
from plotly.subplots import make_subplots

from bnlib.text import Number, power_label

TEXT = "#000001"  # stands for the page's own text colour, light or dark
PAPER = "#8a8a8a"
RED = "#d11149"  # diverged runs
SEQUENTIAL, SIGNED = "Cividis", "RdBu"


@dataclass(frozen=True)
class Series:
    """How one kind of network is named and drawn."""

    label: str
    colour: str
    dash: str
    symbol: str


SERIES = {
    "batch": Series("with BN", "#0072B2", "solid", "circle"),
    "none": Series("without", "#D55E00", "dash", "diamond"),
    "last-features": Series("BN on the last features", "#009E73", "longdash", "square"),
    "last-logits": Series("BN on the logits", "#56B4E9", "dashdot", "triangle-up"),
    "layer": Series("layer norm", "#CC79A7", "dot", "cross"),
    "group": Series("group norm", "#E69F00", "longdashdot", "x"),
    "instance": Series("instance norm", "#7a6a00", "dash", "star"),
}


@dataclass(frozen=True)
class Axis:
    """An axis that stays as it is over every stop of a slider: its title, its range in data units, and whether it is logarithmic."""

    title: str
    low: Number
    high: Number
    log: bool = False
    ticks: Sequence[Number] | None = None
    labels: Sequence[str] | None = None

    def layout(self) -> dict[str, Any]:
        """The axis as plotly's layout wants it."""
        ends = [math.log10(self.low), math.log10(self.high)] if self.log else [self.low, self.high]
        out: dict[str, Any] = {"title": {"text": self.title, "standoff": 8}, "range": ends, "type": "log" if self.log else "linear"}
        ticks, labels = self.ticks, self.labels
        if self.log and ticks is None:
            ticks = powers(self.low, self.high)
            labels = [power_label(t) for t in ticks]
        if ticks is not None:
            out |= {"tickmode": "array", "tickvals": list(ticks), "ticktext": list(labels or [f"{t:g}" for t in ticks])}
        return out


def figure(title: str, *panels: tuple[Axis, Axis], names: Sequence[str] = (), height: int = 400, stack: bool = False) -> go.Figure:
    """An empty figure whose title says the finding: one panel a pair of x and y axes, side by side, or stacked."""
    key = repr((panels, names, height, stack))
    if key not in _empty:  # plotly takes 50 ms to set one up, and a page draws hundreds alike
        _empty[key] = _set_up(panels, names, height, stack)
    fig = copy.deepcopy(_empty[key])
    fig.layout.title.text = title
    return fig


_empty: dict[str, go.Figure] = {}


def _set_up(panels: Sequence[tuple[Axis, Axis]], names: Sequence[str], height: int, stack: bool) -> go.Figure:
    count = len(panels)
    rows, columns = (count, 1) if stack else (1, count)
    gap = {"vertical_spacing": 0.2} if stack else {"horizontal_spacing": 0.12}
    fig = make_subplots(rows=rows, cols=columns, subplot_titles=list(names) or None, **gap)
    for i, (x, y) in enumerate(panels):
        row, column = (i + 1, 1) if stack else (1, i + 1)
        fig.update_xaxes(x.layout(), row=row, col=column)
        fig.update_yaxes(y.layout(), row=row, col=column)
    axes = {"showgrid": True, "gridwidth": 1, "zeroline": False, "ticks": "outside", "ticklen": 4, "fixedrange": True}
    fig.update_xaxes(axes)
    fig.update_yaxes(axes)
    fig.update_annotations(font_size=13)
    fig.update_layout(
        height=height,
        margin={"l": 64, "r": 24, "t": 32 if names else 12, "b": 52},
        font={"size": 13},
        showlegend=False,
        hovermode="closest",
        dragmode=False,
        template="none",
    )
    return fig


def place(panel: int = 0, stack: bool = False) -> dict[str, int]:
    """Row and column of panel number `panel`, for plotly's `add_trace` and its like."""
    return {"row": panel + 1, "col": 1} if stack else {"row": 1, "col": panel + 1}


def coarse(values: Float[np.ndarray, " x"]) -> Float[np.ndarray, " x"]:
    """The values at three significant digits, enough for a faint line and lighter for the page."""
    return np.array([float(f"{value:.3g}") for value in values])


def powers(low: Number, high: Number, most: int = 8) -> list[float]:
    """Powers of ten between `low` and `high`, thinned evenly to at most `most`."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    step = max(1, math.ceil((last - first + 1) / most))
    return [10.0**k for k in range(first, last + 1) if k % step == 0]
