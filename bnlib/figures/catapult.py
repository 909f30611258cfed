"""Rates after the paper: the catapult, kernels without a size, effective rates (studies `catapult`, `rescaling`, `effective`).

Records in, figures out.
"""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from bnlib.claims import catapulted, held, rise, scaling_gap
from bnlib.figures.marks import crosses, curve, joined, label, labels_apart, theory
from bnlib.figures.style import SERIES, TEXT, Axis, Series, coarse, figure, place
from bnlib.probes.catapult import MULTIPLES
from bnlib.records import Record
from bnlib.studies import EFFECTIVE
from bnlib.text import number_text, readable

NETWORKS = {"two layers": "two", "ResNet-8 with BN": "batch", "ResNet-8 without BN": "none"}
RATES = {
    0.01: Series("rate 0.01", "#5fa8da", "dot", "triangle-up"),
    0.1: Series("rate 0.1", "#2a86c4", "longdash", "square"),
    1.0: Series("rate 1", "#0072B2", "solid", "circle"),
}
SHOWN = {"effective rate": "rate", "squared length": "length"}
_TWO = Series("two layers", "#009E73", "longdash", "square")
_TOP = 5e3
_FLOOR = 1e-7  # of the losses that are drawn
_LOSS = Axis("loss", _FLOOR, _TOP, log=True)


def runs(catapult: Sequence[Record], network: str) -> list[Record]:
    """The records of "two" layers, or of ResNet-8 with "batch" or "none"."""
    return held(catapult, M=2, relu=True) if network == "two" else held(catapult, depth=8, norm=network)


def highest_safe(catapult: Sequence[Record]) -> float:
    """The largest multiple of 2 / lambda_max at which the loss of two layers rises and comes back on every seed; 1.5 without any."""
    each = [set(catapulted(r).tolist()) for r in runs(catapult, "two")]
    return max(set.intersection(*each), default=1.5) if each else 1.5


def fate(record: Record, multiple: float) -> tuple[float, float]:
    """The largest loss over the first, and the last over the first, at this multiple of 2 / lambda_max; NaN if it diverged."""
    i = list(MULTIPLES).index(multiple)
    loss = record.array("loss")[i]
    return float(rise(record)[i]), float(loss[-1] / loss[0])


def descent(catapult: Sequence[Record], network: str, multiple: float) -> go.Figure:
    """The loss of every seed at one rate, in units of 2 / lambda_max; below, for all rates, the highest loss and the last."""
    found, series = runs(catapult, network), _TWO if network == "two" else SERIES[network]
    fig = figure(
        _fates(found, network, multiple),
        (Axis("update", 0, 125, ticks=range(0, 101, 20)), _LOSS),
        (Axis("rate / (2/λ)", 0.2, 20, log=True, ticks=(0.25, 0.5, 1, 2, 4, 8), labels=("¼", "½", "1", "2", "4", "8")), _LOSS),
        height=600,
        stack=True,
    )
    i = list(MULTIPLES).index(multiple)
    top, bottom = place(0, stack=True), place(1, stack=True)
    losses = [r.array("loss")[i] for r in found]
    ended = [loss[np.isfinite(loss)] for loss in losses]
    x, y = joined([(np.arange(len(loss), dtype=float), loss.clip(2 * _FLOOR)) for loss in ended])
    fig.add_scatter(x=x, y=coarse(y), mode="lines", line={"color": series.colour, "width": 1.8}, opacity=0.7, name=series.label, **top)
    gone = [float(len(part)) for part, whole in zip(ended, losses, strict=True) if len(part) < len(whole)]
    crosses(fig, np.array(gone), np.full(len(gone), _TOP), **top)
    for where, end in ((top, 100.0), (bottom, 8.0)):
        theory(fig, np.array([0.25 if where is bottom else 0.0, end]), np.array([1e3, 1e3]), "the paper's limit", **where)
        label(fig, end, 1e3, "10³, the<br>paper's limit", TEXT, "left", 0, **where)
    if found:
        _all_rates(fig, found, series, i)
    return fig


def _all_rates(fig: go.Figure, found: Sequence[Record], series: Series, i: int) -> None:
    """Highest and last loss against the rate, medians of the seeds; red crosses where one diverged; a line at the rate chosen."""
    where = place(1, stack=True)
    highest = np.array([np.nanmax(r.array("loss"), axis=1) for r in found])
    last = np.array([r.array("loss")[:, -1] for r in found])
    rates = np.array(MULTIPLES)
    whole = np.isfinite(last).all(axis=0)
    middle = np.where(whole, np.median(np.nan_to_num(last), axis=0), np.nan).clip(2 * _FLOOR)
    for values, dash, symbol, name in ((np.median(highest, axis=0), "dot", "triangle-up", "highest"), (middle, "solid", "circle", "last")):
        look = {"symbol": symbol, "size": 8, "color": series.colour}
        line = {"color": series.colour, "width": 2, "dash": dash}
        fig.add_scatter(x=rates, y=coarse(values), mode="lines+markers", marker=look, line=line, name=name, **where)
    crosses(fig, rates[~whole], np.full(int((~whole).sum()), _TOP), **where)
    fig.add_shape(type="line", x0=rates[i], x1=rates[i], y0=_FLOOR, y1=_TOP, line={"color": TEXT, "width": 1, "dash": "dot"}, **where)
    label(fig, 8, 0.3, "▲ highest<br>● last<br><span style='color:#d11149'>✕</span> diverged", series.colour, "left", 0, **where)


def _fates(found: Sequence[Record], network: str, multiple: float) -> str:
    name = next(text for text, key in NETWORKS.items() if key == network)
    name = f"{name[0].upper()}{name[1:]} at {number_text(multiple)} times 2/λ"
    if not found:
        return f"{name}: not yet measured"
    fates = [fate(r, multiple) for r in found]
    ended = [last for _, last in fates if np.isfinite(last)]
    if len(ended) < len(fates):
        return f"{name}: diverges in {len(fates) - len(ended)} of {len(fates)} runs"
    highest, last = np.median(fates, axis=0)
    top = readable(highest) if highest >= 2 else f"{highest:.3g}"
    rose = f"the loss rises {top}-fold, then" if highest > 1.01 else "the loss never rises;"
    return f"{name}: {rose} ends at {readable(last)} of its start"


def scaled(rescaling: Sequence[Record], norm: str, factor: float) -> go.Figure:
    """The loss of 20 updates of the network as drawn, and with kernels `factor` times as large at the same rate and at `factor`^2 times."""
    found, series = held(rescaling, norm=norm), SERIES[norm]
    where = f"Kernels × {number_text(factor)}, {series.label}{' BN' if norm == 'none' else ''}"
    fig = figure(f"{where}: not yet measured", (Axis("update", 0, 30, ticks=(0, 5, 10, 15, 19)), Axis("loss", 0.02, 200, log=True)))
    if not found:
        return fig
    i = list(found[0].array("factor")).index(factor)
    if factor == 1:
        fig.layout.title.text = f"{where}: the network as it was drawn"
    else:
        differ = max(scaling_gap(r)[i - (i > list(found[0].array("factor")).index(1))] for r in found)
        if differ < 1e-3:
            to = readable(differ) if differ else "the last digit"
            fig.layout.title.text = f"{where}: rate × {number_text(factor**2)} makes the same network, to {to} of the loss"
        else:
            fig.layout.title.text = f"{where}: not the same network"
    own, follow, alone = (
        np.array([_within(r.array(key)[j]) for r in found])
        for key, j in (("losses", list(found[0].array("factor")).index(1)), ("losses", i), ("alone_losses", i))
    )
    x, ends = np.arange(20.0), []
    looks = (
        (own, Series("as drawn", TEXT, "solid", "circle"), "as drawn"),
        (alone, Series("same rate", "#8a8a8a", "dot", "x"), "same rate"),
        (follow, Series("rate × c²", series.colour, "dash", series.symbol), f"rate × {number_text(factor**2)}"),
    )
    for values, look, name in looks:
        curve(fig, x, values, look, markers=look.label == "rate × c²", geometric=True)
        whole = np.exp(np.log(values).mean(axis=0))
        last = np.flatnonzero(np.isfinite(whole))
        if len(last):
            ends.append((float(x[last[-1]]), float(whole[last[-1]]), name, look.colour))
    labels_apart(fig, ends)
    return fig


def _within(loss: Float[np.ndarray, " update"]) -> Float[np.ndarray, " update"]:
    """The losses as far as they stay on the axis."""
    beyond = np.flatnonzero(~(loss <= 200))
    return np.where(np.arange(len(loss)) < (beyond[0] if len(beyond) else len(loss)), loss.clip(0.02), np.nan)


def effective(records: Sequence[Record], kernel: int, shown: str) -> go.Figure:
    """lr / |w|^2 of a convolution of ResNet-8 with BN, or |w|^2, through 200 updates at each rate."""
    axis = Axis("rate / |w|²", 1e-4, 1, log=True) if shown == "rate" else Axis("|w|²", 1, 1e4, log=True)
    fig = figure(f"Kernel {kernel}: not yet measured", (Axis("update", 0, 260, ticks=range(0, 201, 50)), axis))
    found = {lr: held(records, lr=lr) for lr in EFFECTIVE}
    if not all(found.values()):
        return fig
    labels, middle = [], {}
    for lr, seeds in found.items():
        length = np.array([r.array("norm2")[kernel - 1] for r in seeds])
        values = lr / length if shown == "rate" else length
        middle[lr] = np.median(length, axis=0)
        curve(fig, seeds[0].array("update"), values, RATES[lr], geometric=True)
        labels.append((200.0, float(np.median(values[:, -1])), RATES[lr].label, RATES[lr].colour))
    labels_apart(fig, labels)
    if shown == "rate":
        apart = [100 * middle[0.01][j] / middle[1.0][j] for j in (0, -1)]
        text = f"effective rates {readable(apart[0])}-fold apart at the start are {readable(apart[1])}-fold apart after 200 updates"
    else:
        grown = [f"{values[-1] / values[0]:.3g} at {lr:g}" for lr, values in middle.items()]
        text = f"in 200 updates |w|² is multiplied by {', '.join(grown)}"
    fig.layout.title.text = f"Kernel {kernel}: {text}"
    return fig
