"""The laboratory: gradient descent on a product of M random matrices, plain and re-standardised, over factors and learning rates.

Records of study `laboratory` in, figures out; `edge_along` computes its own.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from bnlib.claims import best_loss, of_product, usable_rate
from bnlib.figures.marks import crosses, curve, faint, joined, label, theory
from bnlib.figures.style import PAPER, RED, SERIES, TEXT, Axis, coarse, figure, place
from bnlib.matrices import linear
from bnlib.records import Record, select
from bnlib.studies import DESCENDED, RATES
from bnlib.text import number_text, readable

ARMS = (SERIES["none"], SERIES["batch"])  # plain, and re-standardised
OUTCOMES = {"largest usable rate": "rate", "loss left at best": "loss"}
WATCHED = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
_WORDS = ("converges", "crawls", "diverges")
_STEP = Axis("step", 0.9, 1100, log=True, ticks=(1, 10, 100, 1000))
_LOSS = Axis("loss / start", 1e-3, 2e3, log=True)
_M = Axis("factors M", -0.7, len(DESCENDED) - 0.3, ticks=(0, 1, 3, 5, 7, 9), labels=[str(DESCENDED[i]) for i in (0, 1, 3, 5, 7, 9)])
_LR = Axis("learning rate", -4.3, 1.3, ticks=range(-4, 2), labels=["10⁻⁴", "10⁻³", "10⁻²", "0.1", "1", "10"])
_FROM_START = Axis("step", 0.4, 3000, log=True, ticks=(0.5, 1, 10, 100, 1000), labels=["0", "1", "10", "100", "1000"])
_FACTORS = Axis("factors M", 0.9, 60, log=True, ticks=(1, 2, 4, 8, 16, 32))


@dataclass(frozen=True, eq=False)
class Runs:
    """All runs of the study: `loss` over its start, NaN once diverged, and `edge` = 2/lambda_max at the start; arms as in ARMS."""

    steps: Float[np.ndarray, " steps"]
    loss: Float[np.ndarray, "arms factors rates seeds steps"]
    edge: Float[np.ndarray, "arms factors seeds"]
    status: np.ndarray  # of text: arms factors rates seeds


def runs(records: Sequence[Record]) -> Runs:
    """The study's records as arrays. Raises RecordError where one is missing."""
    table = [[select(records, M=M, restandardise=on) for M in DESCENDED] for on in (False, True)]
    loss = np.array([[[r.array("loss") for r in cell] for cell in row] for row in table]).swapaxes(2, 3)
    edge = np.array([[[2 / r.measured["lambda_max"] for r in cell] for cell in row] for row in table])
    ends = np.vectorize(lambda last: linear.status(float(last)), otypes=[object])(np.nan_to_num(loss[..., -1], nan=np.inf))
    return Runs(table[0][0][0].array("step"), loss, edge, ends)


def bench(held: Runs, M: int, lr: float) -> go.Figure:
    """Loss against step at M factors and this learning rate, and where that lies on the maps of all runs.

    On the maps a disc is the share of seeds that converge, a cross the share that diverge, a speck that all crawl. The thin line is
    2/lambda_max at the start; the dotted ones cross at (M, lr).
    """
    column, rate = DESCENDED.index(M), RATES.index(lr)
    plain, standard = (_most(held.status[arm, column, rate]) for arm in (0, 1))
    title = f"{M} factor{'s' * (M > 1)}, rate {number_text(lr)}: without BN {plain}, with BN {standard}"
    fig = copy.deepcopy(_maps(held))
    fig.update_layout(title_text=title)
    for arm in (0, 1):
        _losses(fig, held.steps, held.loss[arm, column, rate], arm)
    line = {"color": TEXT, "width": 1, "dash": "dot"}
    for panel in "23":
        for x, y in (((column, column), (_LR.low, _LR.high)), ((_M.low, _M.high), (np.log10(lr), np.log10(lr)))):
            fig.add_shape(type="line", xref=f"x{panel}", yref=f"y{panel}", x0=x[0], x1=x[1], y0=y[0], y1=y[1], line=line)
    return fig


def _most(statuses: np.ndarray) -> str:
    """What becomes of the seeds, in a word or two."""
    counts = {word: int((statuses == word).sum()) for word in _WORDS}
    word, most = max(counts.items(), key=lambda item: item[1])
    return word if most == len(statuses) else f"{word} ({most} of {len(statuses)})"


def _losses(fig: go.Figure, steps: Float[np.ndarray, " steps"], loss: Float[np.ndarray, "seeds steps"], arm: int) -> None:
    """The loss of each seed faintly, their median strongly; a red cross where a seed diverged."""
    series, thin = ARMS[arm], slice(1, None, 2)
    faint(fig, [(steps[thin], row[thin]) for row in loss], series)
    middle = np.median(np.nan_to_num(loss, nan=np.inf), axis=0)[thin]
    line = {"color": series.colour, "width": 2.5, "dash": series.dash}
    fig.add_scatter(x=steps[thin], y=np.where(np.isinf(middle), np.nan, middle), mode="lines", line=line, name=series.label)
    gone = [float(steps[np.isnan(row)][0]) for row in loss if np.isnan(row).any()]
    crosses(fig, np.array(gone), np.full(len(gone), 1e3), name="diverges")


@cache
def _maps(held: Runs) -> go.Figure:
    """The part of `bench` that stays as it is."""
    right = Axis("", _LR.low, _LR.high, ticks=_LR.ticks, labels=[""] * 6)
    fig = figure("", (_STEP, _LOSS), (_M, _LR), (_M, right), height=600, stack=True)
    fig.update_layout(
        yaxis_domain=[0.6, 1], yaxis2_domain=[0, 0.44], yaxis3_domain=[0, 0.44], xaxis2_domain=[0, 0.48], xaxis3_domain=[0.54, 1]
    )
    for arm, series in enumerate(ARMS):
        label(fig, 1, 1e-2 / 5**arm, f"{series.label}{' (dashed)' * (series.dash == 'dash')}", series.colour)
        _map(fig, held, arm)
    return fig


def _map(fig: go.Figure, held: Runs, arm: int) -> None:
    where = place(arm + 1, stack=True)
    x, y = (grid.ravel() for grid in np.meshgrid(np.arange(float(len(DESCENDED))), np.log10(RATES), indexing="ij"))
    looks = {"converges": ("circle", ARMS[arm].colour, 2, 5), "crawls": ("circle", PAPER, 3, 0), "diverges": ("x", RED, 2, 5)}
    for word, (symbol, colour, least, more) in looks.items():
        share = (held.status[arm] == word).mean(axis=-1).ravel()
        shown = share == 1 if word == "crawls" else share > 0
        marker = {"symbol": symbol, "color": colour, "size": np.round(least + more * share[shown], 1), "line": {"width": 0}}
        fig.add_scatter(x=x[shown], y=y[shown], mode="markers", marker=marker, name=word, **where)
    edge = np.log10(held.edge[arm]).mean(axis=-1)
    theory(fig, np.arange(float(len(DESCENDED))), edge, "2/λ_max", **where)
    label(fig, len(DESCENDED) - 1, float(edge[-1]), "2/λ<sub>max</sub>", TEXT, "right", -14, **where)
    name = {"text": ARMS[arm].label, "font": {"color": ARMS[arm].colour, "size": 13}, "showarrow": False}
    fig.add_annotation(**name, xref=f"x{arm + 2} domain", yref=f"y{arm + 2} domain", x=0, y=1, xanchor="left", yanchor="bottom")


def outcomes(records: Sequence[Record], quantity: str) -> go.Figure:
    """Against the number of factors: the largest usable rate beside 2/lambda_max at the start (thin), or the loss left at the best rate."""
    of_record = usable_rate if quantity == "rate" else best_loss
    seeds = [np.stack([of_product(records, of_record, M=M, restandardise=on) for M in DESCENDED], axis=1) for on in (False, True)]
    last = [float(np.median(values[:, -1])) for values in seeds]
    what = "largest usable rate" if quantity == "rate" else "loss left at the best rate"
    axis = Axis("learning rate", 1e-4, 10, log=True) if quantity == "rate" else Axis("loss / start", 1e-3, 2, log=True)
    fig = figure(f"32 factors: {what} {readable(last[0])} without BN, {readable(last[1])} with it", (_FACTORS, axis))
    edges, factors = runs(records).edge, np.array(DESCENDED, dtype=float)
    for arm, series in enumerate(ARMS):
        curve(fig, factors, np.maximum(seeds[arm], axis.low), series, markers=True, geometric=True)
        label(fig, 32, last[arm], series.label, series.colour, shift=7 if last[arm] > last[1 - arm] else -7)
        if quantity == "rate":
            edge = np.exp(np.log(edges[arm]).mean(axis=-1))
            theory(fig, factors, edge, "2/λ_max")
            label(fig, 32, float(edge[-1]), "2/λ<sub>max</sub>", series.colour)
    if quantity == "rate":
        N = next(record.config.product.N for record in records if record.config.product)
        theory(fig, factors, np.full(len(factors), 2 / N), "2/N")
        label(fig, 0.9, 2 / N, "2/N", shift=-9)
    else:
        theory(fig, np.array([1.0, 32.0]), np.full(2, linear.CONVERGED), "converges")
        label(fig, 0.9, linear.CONVERGED, "converges", shift=-9)
    return fig


def edge_along(M: int, lr: float) -> go.Figure:
    """2/lambda_max along descents on M factors of size 10, three seeds of each arm: it moves to meet the learning rate (thin)."""
    edges = [edges_along(M, lr, on) for on in (False, True)]
    words = [_moves(seeds) for seeds in edges]
    fig = figure(
        f"Rate {number_text(lr)}: with BN 2/λ {words[1]}; without, {words[0]}",
        (_FROM_START, Axis("2/λ<sub>max</sub>", 1e-4, 1, log=True)),
    )
    x = np.maximum(WATCHED, 0.5)  # the start, on a logarithmic axis
    theory(fig, np.array([0.5, 1000.0]), np.full(2, lr), "learning rate")
    label(fig, 1000, lr, "rate")
    for series, seeds in zip(ARMS, edges, strict=True):
        all_x, all_y = joined([(x, row) for row in seeds])
        line = {"color": series.colour, "width": 1.8, "dash": series.dash}
        fig.add_scatter(x=all_x, y=coarse(all_y), mode="lines", line=line, opacity=0.8, name=series.label)
        gone = [float(x[np.isnan(row)][0]) for row in seeds if np.isnan(row).any()]
        crosses(fig, np.array(gone), np.full(len(gone), 1.3e-4), name="diverges")
    for arm, series in enumerate(ARMS):
        label(fig, 0.5, 0.7 / 1.6**arm, f"{series.label}{' (dashed)' * (series.dash == 'dash')}", series.colour)
    return fig


@cache
def edges_along(M: int, lr: float, restandardise: bool) -> Float[np.ndarray, "seeds steps"]:
    """2/lambda_max at the steps WATCHED of three descents on M factors of size 10, NaN once diverged."""
    return np.stack([linear.edge_along(M, 10, lr, WATCHED, seed, restandardise) for seed in range(3)])


def _moves(edges: Float[np.ndarray, "seeds steps"]) -> str:
    if np.isnan(edges[:, -1]).any():
        return f"{np.isnan(edges[:, -1]).sum()} of {len(edges)} diverge"
    return f"goes from {readable(np.median(edges[:, 0]))} to {readable(np.median(edges[:, -1]))}"
