"""Sharpness and progress at small and large learning rates (paper, Sec 2.1).

Records of the studies `sharpness` and `max-lr` in, figures out.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from bnlib.claims import at_loss, held, limit, of_sgd, updates_to
from bnlib.figures.depth import PAIR
from bnlib.figures.marks import crosses, faint, label, labels_apart, theory
from bnlib.figures.style import SERIES, Axis, coarse, figure
from bnlib.records import Record
from bnlib.studies import SHARPNESS_EVERY, SHARPNESS_FULL, SHARPNESS_LOOKS, SHARPNESS_RATES, SHARPNESS_STEPS, full_batch
from bnlib.text import Number, number_text, readable
from bnlib.train import WINDOW

MEASURES = {"sharpness": "sharpness", "test accuracy, %": "test_acc", "updates needed": "updates"}
RUNS = {"full batch": 0.0} | {f"SGD at {lr:g}": lr for lr in SHARPNESS_RATES}
LOSSES = (2.25, 2.2, 2.15, 2.1, 2.05, 2.0)
_AXES = {
    "sharpness": Axis("sharpness", 0.1, 2000, log=True),
    "test_acc": Axis("test accuracy, %", 0, 60),
    "updates": Axis("updates needed", 10, 3000, log=True, ticks=(10, 30, 100, 300, 1000)),
}
_RATE = Axis("learning rate α", 0.002, 1.5, log=True, ticks=SHARPNESS_RATES)
_LADDER = Axis("learning rate α", 5e-6, 60, log=True)
_NEVER = 190.0  # where a run is drawn that did not get there in 100 updates


def measured(records: Sequence[Record], norm: str, level: float, measure: str) -> dict[float, Float[np.ndarray, " seeds"]]:
    """`measure` of each seed's SGD run where its epoch's training loss first reached `level`, by learning rate; NaN where it did not."""

    def read(run: Record) -> float:
        return updates_to(run, level) if measure == "updates" else at_loss(run, level, measure) * (100 if measure == "test_acc" else 1)

    runs = {lr: of_sgd(records, norm, lr) for lr in SHARPNESS_RATES}
    return {lr: np.array([read(r) for r in seeds]) for lr, seeds in runs.items() if seeds}


def at_level(records: Sequence[Record], level: float, measure: str) -> go.Figure:
    """`measure` against the learning rate, all networks at the same training loss; seeds faint, their mean strong.

    With the sharpness, thin, 2 (1 + β) / α: a limit for descent on the full batch, and for SGD only something to compare with. At the
    foot, runs that did not get to this loss: hollow, or a red cross where they diverged.
    """
    axis = _AXES[measure]
    fig = figure("", (_RATE, axis), height=420)
    said, labels = [], []
    if measure == "sharpness":
        line = np.array([limit(lr) for lr in SHARPNESS_RATES])
        theory(fig, np.array(SHARPNESS_RATES), line, "2(1 + β)/α")
        label(fig, SHARPNESS_RATES[2], float(line[2]), "2(1 + β)/α")
    for norm in PAIR:
        series, values = SERIES[norm], measured(records, norm, level, measure)
        rates = np.array(list(values))
        seeds = max((len(v) for v in values.values()), default=0)
        lines = [np.array([v[k] if k < len(v) else np.nan for v in values.values()]) for k in range(seeds)]
        faint(fig, [(rates, one) for one in lines], series)
        reached = {lr: v[np.isfinite(v)] for lr, v in values.items() if np.isfinite(v).any()}
        mean = [float(v.mean() if measure == "test_acc" else np.exp(np.log(v).mean())) for v in reached.values()]
        look = {"line": {"width": 2.5, "dash": series.dash, "color": series.colour}, "marker": {"symbol": series.symbol, "size": 8}}
        fig.add_scatter(x=list(reached), y=coarse(np.array(mean)), mode="lines+markers", name=series.label, **look)
        _lost(fig, records, norm, level, axis.low * 1.25 if axis.log else axis.low + 2.0)
        if mean:
            ends = min(reached), max(reached)
            said.append(f"{series.label} {readable(mean[0])} at {ends[0]:g}, {readable(mean[-1])} at {ends[1]:g}")
            labels.append((ends[1], mean[-1], series.label, series.colour))
    if labels:
        labels_apart(fig, labels)
    what = next(name for name, key in MEASURES.items() if key == measure).partition(",")[0]
    per_cent = " in %" if measure == "test_acc" else ""
    start = f"{what.capitalize()}{per_cent} at training loss {level:g}: "
    fig.update_layout(title_text=start + ("; ".join(said) if said else "not yet measured"))
    return fig


def _lost(fig: go.Figure, records: Sequence[Record], norm: str, level: float, height: float) -> None:
    """Mark at the foot the rates at which some run did not get to this loss."""
    runs = [r for lr in SHARPNESS_RATES for r in of_sgd(records, norm, lr) if not math.isfinite(updates_to(r, level))]
    diverged = [r.measured["end"].startswith("diverged") for r in runs]
    shift = 1.06 if norm == "none" else 1 / 1.06
    places = [
        sorted({r.config.train.lr * shift for r, gone in zip(runs, diverged, strict=True) if r.config.train and gone == g})
        for g in (False, True)
    ]
    look = {"symbol": f"{SERIES[norm].symbol}-open", "size": 8, "color": SERIES[norm].colour}
    fig.add_scatter(x=places[0], y=[height] * len(places[0]), mode="markers", marker=look, name=f"{SERIES[norm].label}, not reached")
    crosses(fig, np.array(places[1], float), np.full(len(places[1]), height))


def along(records: Sequence[Record], norm: str, lr: float) -> go.Figure:
    """Sharpness, above, and loss along training, on all images at once (`lr` 0) or by SGD; each seed.

    Thin, 2 (1 + β) / α.
    """
    whole = lr == 0.0
    rate = SHARPNESS_FULL[norm] if whole else lr
    runs = [r for r in held(records, norm=norm, lr=rate) if full_batch(r.config) == whole]
    series, length = SERIES[norm], _longest(whole, norm)
    x = Axis("update", 0, 1.02 * length)
    fig = figure("", (x, _AXES["sharpness"]), (x, Axis("training loss", 0.01, 10, log=True)), height=500, stack=True)
    fig.layout.yaxis.domain, fig.layout.yaxis2.domain = (0.42, 1.0), (0.0, 0.3)
    fig.update_xaxes(title_text="", row=1, col=1)
    theory(fig, np.array([0.0, length]), np.full(2, limit(rate)), "2(1 + β)/α", row=1, col=1)
    label(fig, 0.98 * length, limit(rate), f"2(1 + β)/α = {readable(limit(rate))}", anchor="right", shift=10, row=1, col=1)
    for run in runs:
        for row, name in ((1, "sharpness"), (2, "loss")):
            y = coarse(np.maximum(run.array(name), 0.011 if name == "loss" else 0.11))
            look = {"line": {"width": 1.5, "dash": series.dash, "color": series.colour}, "marker": {"symbol": series.symbol, "size": 6}}
            fig.add_scatter(
                x=run.array("step"), y=y, mode="lines+markers", opacity=0.8, name=f"seed {run.config.seed}", **look, row=row, col=1
            )
    how = f"{'Full batch' if whole else 'SGD'}, {series.label}{'' if norm == 'batch' else ' BN'} at {rate:g}"
    if not runs:
        fig.update_layout(title_text=f"{how}: not yet measured")
        return fig
    fig.update_layout(title_text=f"{how}: {_risen(runs)}; 2(1 + β)/α is {readable(limit(rate))}")
    return fig


def _risen(runs: Sequence[Record]) -> str:
    """From where to where the sharpness rises, if it does; medians of the runs."""
    start, peak = (readable(np.median([f(r.array("sharpness")) for r in runs])) for f in (lambda s: s[0], np.nanmax))
    if max(len(r.array("step")) for r in runs) == 1:
        return f"sharpness {start} at the start, and no loss reached to look again"
    return f"sharpness from {start} up to {peak}" if peak != start else f"sharpness {start} at the start, and never more"


def _longest(whole: bool, norm: str) -> Number:
    return SHARPNESS_EVERY[norm] * SHARPNESS_LOOKS if whole else SHARPNESS_STEPS


def progress(max_lr: Sequence[Record], depth: int, loss: float) -> go.Figure:
    """Updates until the mean of 20 mini-batch losses is at most `loss`, against the learning rate; at the top, more than 100.

    Of the first seed, which has every rate.
    """
    never = Axis("updates needed", 15, 260, log=True, ticks=(20, 30, 50, 100, _NEVER), labels=("20", "30", "50", "100", "> 100"))
    fig = figure("", (_LADDER, never), height=420)
    said, labels = [], []
    for norm in PAIR:
        series, needed = SERIES[norm], needs(max_lr, norm, depth, loss)
        rates, updates = np.array(list(needed)), np.array(list(needed.values()), float)
        got = np.isfinite(updates)
        shift = 1.0 if norm == "batch" else 1.12
        look = {"line": {"width": 2.5, "dash": series.dash, "color": series.colour}, "marker": {"symbol": series.symbol, "size": 8}}
        fig.add_scatter(x=rates[got], y=updates[got], mode="lines+markers", name=series.label, **look)
        hollow = {"symbol": f"{series.symbol}-open", "size": 8, "color": series.colour}
        lost = rates[~got]
        fig.add_scatter(x=lost, y=np.full(len(lost), _NEVER * shift), mode="markers", marker=hollow, name=f"{series.label}, not in 100")
        if got.any():
            said.append(f"{series.label} {_fewest(rates[got], updates[got])}")
            labels.append((float(rates[got][-1]), float(updates[got][-1]), series.label, series.colour))
        else:
            said.append(f"{series.label} {'no rate in 100' if len(needed) else 'not yet measured'}")
    if labels:
        labels_apart(fig, labels)
    fig.update_layout(title_text=f"{depth} layers, to a loss of {loss:g}, fewest updates: {'; '.join(said)}")
    return fig


def _fewest(rates: Float[np.ndarray, " n"], updates: Float[np.ndarray, " n"]) -> str:
    """Such as "45 at 0.1", or "20 or fewer at 0.0316, 0.1": a mean over 20 losses tells of nothing sooner."""
    least = float(updates.min())
    fastest = ", ".join(number_text(float(rate)) for rate in rates[updates == least])
    return f"{least:.0f}{' or fewer' * (least == WINDOW)} at {fastest}"


def needs(max_lr: Sequence[Record], norm: str, depth: int, loss: float) -> Mapping[float, float]:
    """Updates until the mean of the last 20 mini-batch losses is at most `loss`, by learning rate; NaN where it is not in 100."""
    found = {}
    for run in held(max_lr, norm=norm, depth=depth, seed=0):
        assert run.config.train is not None
        sums = np.convolve(run.array("step_loss"), np.ones(WINDOW), mode="valid")
        below = np.flatnonzero(sums <= WINDOW * loss)
        found[run.config.train.lr] = float(below[0] + WINDOW) if len(below) else math.nan
    return dict(sorted(found.items()))
