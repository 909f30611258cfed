"""Activations at initialisation: channel means and spreads along the network (paper, Fig 5), and how fast they grow.

Records of study `init` in, figures out. The records hold natural logarithms; the figures show factors.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from bnlib import sources
from bnlib.claims import in_paper_setting, slope, together
from bnlib.config import Init, ModelConfig, Norm
from bnlib.figures.marks import band, curve, end_labels, from_paper, label, theory
from bnlib.figures.style import PAPER, SERIES, TEXT, Axis, figure
from bnlib.matrices import meanfield
from bnlib.nets import layer_at
from bnlib.records import Record, select
from bnlib.studies import DEPTHS
from bnlib.text import readable

QUANTITIES = {"spread σ": "ln_std", "mean |μ|": "ln_mean"}
PLACES = (6, 18, 30, 42, 54, 66, 78, 90, 102)  # of the convolutions in the paper's Fig 5, at depth 110
PAIR: tuple[Norm, Norm] = ("none", "batch")
LAYERS = Axis("layer", 0, 134, ticks=(1, 20, 40, 60, 80, 110))  # room at the right for the names of curves
_DEPTH = Axis("depth", 0, 134, ticks=(8, 20, 32, 44, 56, 110))
_NAME = {"none": "No normaliser", "batch": "BN", "last-features": "BN on the last features", "last-logits": "BN on the logits"}
_SYMBOL = {"ln_std": "σ", "ln_mean": "|μ|"}
_TITLE = {"ln_std": "spread σ of a channel", "ln_mean": "mean |μ| of a channel"}
_PAPER = (("bn", "circle"), ("none", "diamond"))  # its keys in the digitised figure, and their markers


def paired(records: Sequence[Record]) -> list[Record]:
    """The records of the paper's residual network at every depth, with BN and without."""
    return [record for norm in PAIR for record in select(records, norm=norm, init="xavier", shortcut="projection", block="residual")]


def over_seeds(records: Sequence[Record], quantity: str) -> Float[np.ndarray, "seeds layer"]:
    """The natural logarithm of a quantity at the convolutions 1 ... depth - 1, and at the logits; a row a seed."""
    return np.stack([record.array(quantity) for record in records])


def growth(ln: Float[np.ndarray, "seeds layer"]) -> Float[np.ndarray, " seeds"]:
    """Growth of each seed in nats a layer, over the convolutions."""
    return np.array([slope(row[:-1]) for row in ln])


def per_block(ln: Float[np.ndarray, "seeds layer"]) -> Float[np.ndarray, "seeds stage"]:
    """Growth from block to block within each stage, in nats: the slope over the convolutions that read the trunk.

    The first block of a stage is left out, as it reads what the stage before left. Raises ValueError below depth 20, where a stage
    has no two others.
    """
    n = (ln.shape[1] - 2) // 6
    if n < 3:
        raise ValueError(f"a net of depth {ln.shape[1]} has {n} blocks a stage; the growth within a stage needs 3, so depth 20")
    readers = [np.arange(2 * n * stage + 4, 2 * n * (stage + 1) + 2, 2) - 1 for stage in range(3)]
    return np.array([[np.polyfit(np.arange(n - 1), row[at], 1)[0] for at in readers] for row in ln])


@cache
def expected(depth: int, norm: Norm) -> meanfield.Expected:
    """What very wide layers would do in the paper's setting."""
    return meanfield.expected(ModelConfig(depth=depth, norm=norm))


def change(ln: float) -> str:
    """The factor e^ln in words."""
    factor = readable(np.exp(ln))
    return "stays as it is" if factor == "1" else f"grows {factor}-fold" if ln > 0 else f"shrinks to {factor}"


def by_layer(records: Sequence[Record], depth: int, quantity: str, theory_too: bool) -> go.Figure:
    """Fig 5: a quantity against the layer, with BN and without. Strong and with its band over channels, the convolutions that read the
    trunk; dots, the second convolutions of the blocks; apart, the logits.
    """
    held = {norm: over_seeds(in_paper_setting(records, norm, depth), quantity) for norm in PAIR}
    total = {norm: float(np.median(growth(ln))) * (depth - 2) for norm, ln in held.items()}
    title = f"{depth} layers: {_SYMBOL[quantity]} {change(total['none'])} without BN, {change(total['batch'])} with it"
    fig = figure(title, (LAYERS, Axis(_TITLE[quantity], 0.01, 1000, log=True)))
    first, second, ends = np.arange(2, depth, 2), np.arange(3, depth, 2), dict[str, float]()
    x = first.astype(float)
    for norm, ln in held.items():
        series = SERIES[norm]
        channels = over_seeds(in_paper_setting(records, norm, depth), f"{quantity}_spread").mean(0)[first - 1]
        mean = ln.mean(0)
        band(fig, x, np.exp(mean[first - 1] - channels), np.exp(mean[first - 1] + channels), series)
        curve(fig, x, np.exp(ln[:, first - 1]), series, geometric=True)
        for at, size, what in ((second, 3, "second convolutions"), (np.array([depth]), 8, "logits")):
            marker = {"symbol": series.symbol, "size": size, "color": series.colour}
            fig.add_scatter(
                x=at, y=np.exp(mean[at - 1]), mode="markers", marker=marker, name=f"{series.label}, {what}", hoverinfo="y", opacity=0.7
            )
        ends[norm] = float(np.exp(mean[first[-1] - 1]))
        if theory_too:
            wide = expected(depth, norm)
            part = wide.rms if norm == "none" else wide.std if quantity == "ln_std" else wide.mean
            theory(fig, x, np.exp(part[first - 1]), "expected")
            if norm == "none":
                label(fig, 0.55 * depth, float(np.exp(part[int(0.55 * depth)])), "expected", anchor="right", shift=16)
    end_labels(fig, depth, ends)
    if depth == 110:
        digitised = sources.paper("fig5")
        for name, symbol in _PAPER:
            from_paper(fig, digitised["layers"], np.exp(digitised[f"{quantity}_{name}"]).tolist(), symbol)
        label(fig, 90, float(np.exp(digitised[f"{quantity}_none"][7])), "the paper", PAPER, shift=-10)
    return fig


def by_depth(records: Sequence[Record], place: int, quantity: str) -> go.Figure:
    """A quantity at the same place of networks of every depth: layer `place` of 110, and its like."""
    held = {
        norm: np.stack(
            [over_seeds(in_paper_setting(records, norm, depth), quantity)[:, layer_at(depth, place) - 1] for depth in DEPTHS], axis=1
        )
        for norm in PAIR
    }
    ratio = {norm: readable(np.exp(np.median(ln[:, -1] - ln[:, 0]))) for norm, ln in held.items()}
    title = f"From 8 to 110 layers {_SYMBOL[quantity]} here changes {ratio['none']}-fold without BN, {ratio['batch']}-fold with it"
    fig = figure(title, (_DEPTH, Axis(_TITLE[quantity], 0.01, 1000, log=True)))
    for norm, ln in held.items():
        curve(fig, np.array(DEPTHS, float), np.exp(ln), SERIES[norm], markers=True, geometric=True)
    end_labels(fig, 110, {norm: float(np.exp(ln[:, -1].mean())) for norm, ln in held.items()})
    digitised = sources.paper("fig5")
    for name, symbol in _PAPER:
        value = digitised[f"{quantity}_{name}"][digitised["layers"].index(place)]
        from_paper(fig, [110], [float(np.exp(value))], symbol)
    label(fig, 110, float(np.exp(digitised[f"{quantity}_none"][digitised["layers"].index(place)])), "the paper", PAPER, "right", -12)
    return fig


def growth_by_depth(records: Sequence[Record], within: bool) -> go.Figure:
    """The growth of sigma per layer against depth: over the whole network, or within its stages only; beside it, very wide layers."""
    depths = [depth for depth in DEPTHS if depth >= 20] if within else list(DEPTHS)
    measured, wide = {}, {}
    for norm in PAIR:
        measured[norm] = np.stack([_rate(over_seeds(in_paper_setting(records, norm, depth), "ln_std"), within) for depth in depths], axis=1)
        parts = [expected(depth, norm).rms if norm == "none" else expected(depth, norm).std for depth in depths]
        wide[norm] = np.stack([_rate(np.append(part, np.nan)[None], within) for part in parts], axis=1)[0]
    median = np.median(measured["none"], axis=0)
    if within:
        title = f"Within a stage, each block multiplies σ by {np.exp(2 * median.min()):.2f} to {np.exp(2 * median.max()):.2f} without BN"
    else:
        turn = min(depth for depth, rate in zip(depths, median, strict=True) if rate > 0)
        title = f"Without BN σ grows along the network only from depth {turn} on"
    fig = figure(title, (_DEPTH, Axis("growth of ln σ per layer", -0.35, 0.15)))
    fig.add_hline(y=0, line={"color": TEXT, "width": 1, "dash": "dot"})
    for norm in PAIR:
        curve(fig, np.array(depths, float), measured[norm], SERIES[norm], markers=True)
        theory(fig, np.array(depths, float), wide[norm], "expected")
    end_labels(fig, 110, {norm: float(rates[:, -1].mean()) for norm, rates in measured.items()})
    return fig


def _rate(ln: Float[np.ndarray, "seeds layer"], within: bool) -> Float[np.ndarray, " seeds"]:
    return per_block(ln).mean(1) / 2 if within else growth(ln)


def normalisers(records: Sequence[Record], norm: Norm, init: Init, depth: int) -> go.Figure:
    """The spread along the network under another normaliser or initialisation, beside BN and none with the same initialisation.

    Of the seeds that all of these have.
    """
    norms = list(dict.fromkeys([*PAIR, norm]))
    rows = together(*(select(records, norm=each, init=init, depth=depth, shortcut="projection", block="residual") for each in norms))
    held = {each: over_seeds(found, "ln_std") for each, found in zip(norms, rows, strict=True)}
    total = float(np.median(growth(held[norm]))) * (depth - 2)
    fig = figure(
        f"{_NAME.get(norm, SERIES[norm].label.capitalize())}, {depth} layers: σ {change(total)} from first to last",
        (LAYERS, Axis(_TITLE["ln_std"], 1e-2, 1e10, log=True)),
    )
    first, ends = np.arange(2, depth, 2), dict[str, float]()
    for each, ln in held.items():
        shown = np.exp(ln[:, first - 1])
        curve(
            fig,
            first.astype(float),
            shown if each == norm else np.exp(ln[:, first - 1].mean(0, keepdims=True)),
            SERIES[each],
            geometric=True,
        )
        ends[each] = float(np.exp(ln[:, first[-1] - 1].mean()))
    end_labels(fig, depth, ends)
    return fig
