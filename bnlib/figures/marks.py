"""What the figures draw with: curves with their seeds, theory, the paper's points, crosses, and words in place of a legend."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from bnlib.figures.style import PAPER, RED, SERIES, TEXT, Series, coarse
from bnlib.text import Number

Curve = tuple[Float[np.ndarray, " _"], Float[np.ndarray, " _"]]  # x and y


def curve(
    fig: go.Figure,
    x: Float[np.ndarray, " x"],
    seeds: Float[np.ndarray, "seeds x"],
    series: Series,
    markers: bool = False,
    geometric: bool = False,
    **where: int,
) -> None:
    """The mean over seeds, or their geometric mean, as a strong line in the style of `series`, each seed as a faint one behind it."""
    mean = np.exp(np.mean(np.log(seeds), axis=0)) if geometric else np.mean(seeds, axis=0)
    if len(seeds) > 1:
        faint(fig, [(x, values) for values in seeds], series, **where)
    line = {"color": series.colour, "width": 2.5, "dash": series.dash}
    mode: Literal["lines", "lines+markers"] = "lines+markers" if markers else "lines"
    marker = {"symbol": series.symbol, "size": 7, "color": series.colour}
    fig.add_scatter(x=x, y=mean, mode=mode, line=line, marker=marker, name=series.label, **where)


def faint(fig: go.Figure, curves: Sequence[Curve], series: Series, opacity: float = 0.3, **where: int) -> None:
    """The curve of each seed, thin and faint, behind what is drawn next. One trace, however many: each costs a move of a slider time."""
    x, y = joined(curves)
    line, name = {"color": series.colour, "width": 1}, f"{series.label}, each seed"
    fig.add_scatter(x=x, y=coarse(y), mode="lines", line=line, opacity=opacity, name=name, hoverinfo="skip", **where)


def joined(curves: Sequence[Curve]) -> Curve:
    """Several curves as one, with a gap after each: so a figure has as many traces, however many seeds there are."""
    x, y = (np.concatenate([np.append(part[i], np.nan) for part in curves] or [np.array([np.nan])])[:-1] for i in range(2))
    return x, y


def until(x: Float[np.ndarray, " x"], y: Float[np.ndarray, " x"], top: Number) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """A curve up to where it first exceeds `top` or is not finite, ending on `top` there; straight between points if both axes are logs."""
    beyond = np.flatnonzero(~(y <= top))
    if not len(beyond):
        return x, y
    k = int(beyond[0])
    share = math.log(top / y[k - 1]) / math.log(y[k] / y[k - 1]) if k and np.isfinite(y[k]) else 1.0
    end = x[k] if not k else x[k - 1] * (x[k] / x[k - 1]) ** share if x[k - 1] > 0 else x[k - 1] + (x[k] - x[k - 1]) * share
    return np.append(x[:k], end), np.append(y[:k], top)


def crosses(fig: go.Figure, x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], size: int = 8, **where: Any) -> None:
    """Red crosses where a run diverged or left the axis, or for another reason, given as `name`.

    The pointer is told their x alone: their y is where there is room.
    """
    marker = {"symbol": "x", "size": size, "color": RED}
    fig.add_scatter(x=x, y=y, mode="markers", marker=marker, hoverinfo="x", cliponaxis=False, **{"name": "diverged"} | where)


def band(
    fig: go.Figure, x: Float[np.ndarray, " x"], low: Float[np.ndarray, " x"], high: Float[np.ndarray, " x"], series: Series, **where: int
) -> None:
    """The area between two curves, in a wash of its series' colour."""
    colour = series.colour
    wash = f"rgba({','.join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))},0.18)"
    fig.add_scatter(
        x=np.concatenate([x, x[::-1]]), y=np.concatenate([high, low[::-1]]), mode="lines", line={"width": 0},
        fill="toself", fillcolor=wash, name=f"{series.label}, its width", hoverinfo="skip", **where,
    )  # fmt: skip


def from_paper(fig: go.Figure, x: Sequence[Number], y: Sequence[Number | None], symbol: str = "circle", **where: int) -> None:
    """Points read off the paper's figure: grey and hollow."""
    marker = {"symbol": f"{symbol}-open", "size": 9, "color": PAPER, "line": {"width": 1.8}}
    fig.add_scatter(x=list(x), y=list(y), mode="markers", marker=marker, name="the paper, digitised", **where)


def theory(fig: go.Figure, x: Float[np.ndarray, " x"], y: Float[np.ndarray, " x"], name: str, **where: int) -> None:
    """A thin line in the colour of the text."""
    fig.add_scatter(x=x, y=y, mode="lines", line={"color": TEXT, "width": 1.2}, name=name, **where)


def label(fig: go.Figure, x: Number, y: Number, text: str, colour: str = TEXT, anchor: str = "left", shift: int = 0, **where: Any) -> None:
    """A word beside a curve in place of a legend; x and y in data units, also on logarithmic axes."""
    axis_x, axis_y = (next(getattr(fig, f"select_{a}axes")(**(where or {"row": 1, "col": 1}))) for a in "xy")
    fig.add_annotation(
        x=math.log10(x) if axis_x.type == "log" else x, y=math.log10(y) if axis_y.type == "log" else y,
        text=text, font={"color": colour, "size": 13}, showarrow=False, xanchor=anchor, xshift=6 if anchor == "left" else -6,
        yshift=shift, **(where or {"row": 1, "col": 1}),
    )  # fmt: skip


def end_labels(fig: go.Figure, x: Number, ends: Mapping[str, float]) -> None:
    """The names of the series beside the ends (x, y) of their curves, moved apart where they would touch. For one panel."""
    names = {name: (SERIES[name].label.removeprefix("BN on the "), SERIES[name].colour) for name in ends}
    labels_apart(fig, [(x, y, *names[name]) for name, y in ends.items()])


def labels_apart(fig: go.Figure, labels: Sequence[tuple[Number, float, str, str]], **where: Any) -> None:
    """Words beside (x, y), each with its text and colour, moved up or down where they would touch. All panels have one y axis."""
    axis, margin = fig.layout.yaxis, fig.layout.margin
    pixels = (fig.layout.height - margin.t - margin.b) / abs(axis.range[1] - axis.range[0])
    falling = sorted(labels, key=lambda one: -one[1])
    if not falling:
        return
    wanted = [pixels * (math.log10(y) if axis.type == "log" else y) for _, y, _, _ in falling]
    given = [min(wanted[k] - 17 * (i - k) for k in range(i + 1)) for i in range(len(falling))]
    middle = sum(wanted) / len(wanted) - sum(given) / len(given)
    for (x, y, text, colour), there, free in zip(falling, wanted, given, strict=True):
        label(fig, x, y, text, colour, shift=round(free + middle - there), **where)
