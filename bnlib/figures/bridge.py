"""From matrix products to networks: how directions spread along the layers, the spectra at the end, conditioning and usable rates;
BN with other statistics; standardised and raw images. Records of the studies `bridge`, `max-lr`, `population` and `inputs` in.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float
from scipy.stats import spearmanr

from bnlib.claims import at_end, held, ln_condition, paces, rates_and_conditions, rung, spread, usable_step
from bnlib.figures.activations import PAIR
from bnlib.figures.marks import crosses, curve, faint, label, labels_apart, theory, until
from bnlib.figures.style import RED, SERIES, TEXT, Axis, Series, figure, place
from bnlib.probes import jacobian
from bnlib.records import Record
from bnlib.studies import BOTH, DEPTHS, SMALL
from bnlib.text import power_label, readable

K = 64
RUNGS = {
    "convolutions": Series("convolutions", "#009E73", "longdash", "square"),
    "plain": SERIES["none"],
    "plain-bn": SERIES["batch"],
    "residual": SERIES["none"],
    "residual-bn": SERIES["batch"],
}
WORDS = {
    "convolutions": "product of convolutions",
    "plain": "with ReLU",
    "plain-bn": "with ReLU and BN",
    "residual": "with ReLU and shortcuts",
    "residual-bn": "with ReLU, BN and shortcuts",
}
KINDS = {"without shortcuts": ("convolutions", "plain", "plain-bn"), "with shortcuts": ("residual", "residual-bn")}
QUANTITIES = {"directions that share the energy": "n", "stable rank": "rank", "largest over smallest": "condition", "gain": "gain"}
DIRECTIONS = {"random": "random", "between images": "images"}
SCALES = {"standardised": ("standardised", "solid"), "unit": ("0 to 1", "dash"), "bytes": ("0 to 255", "dot")}
OFF = {"logits": "logits", "means of a layer": "mean", "spreads of a layer": "spread", "gradient: cosine": "cosine"}
TOP = 10.0  # of the relative loss
_SHARE = Axis("layers passed (%)", 0, 148, ticks=(0, 33, 67, 100))
_GAIN = [10.0**k for k in range(-20, 11, 5)]
_AXES = {
    "n": Axis("directions n, of 64", 1, 80, log=True, ticks=(1, 2, 4, 8, 16, 32, 64)),
    "rank": Axis("stable rank, of 64", 1, 80, log=True, ticks=(1, 2, 4, 8, 16, 32, 64)),
    "condition": Axis("largest s / smallest", 1, 1000, log=True),
    "gain": Axis("gain (rms of s)", 1e-22, 1e11, log=True, ticks=_GAIN, labels=[power_label(g) for g in _GAIN]),
}
_BY_DEPTH = {  # one scale from pale to dark, apart from the colours of networks
    8: Series("8 layers", "#d19ccb", "solid", "circle"),
    20: Series("20 layers", "#b877b5", "solid", "square"),
    56: Series("56 layers", "#9a559c", "solid", "triangle-up"),
    110: Series("110 layers", "#783a85", "solid", "diamond"),
}
_ACROSS = {
    "condition": Axis("largest s / smallest, of 64", 1.7, 15, log=True, ticks=(2, 3, 5, 10)),
    "gain": Axis("gain (rms of s)", 0.1, 2000, log=True),
}
_OFF = {
    "logits": Axis("logits off by, in their std", 0.02, 3, log=True, ticks=(0.03, 0.1, 0.3, 1, 3)),
    "mean": Axis("means off by, in σ", 0.005, 5, log=True, ticks=(0.01, 0.1, 1)),
    "spread": Axis("ln σ off by", 0.005, 5, log=True, ticks=(0.01, 0.1, 1)),
    "cosine": Axis("cosine of the gradients", -0.25, 1, ticks=(0, 0.25, 0.5, 0.75, 1)),
}


def values(records: Sequence[Record], quantity: str) -> Float[np.ndarray, "seeds block"]:
    """A quantity over the 64 singular values after each of `jacobian.layers`; a row a seed."""
    ln = {key: np.stack([r.array(f"ln_{key}") for r in records]) for key in ("largest", "rms", "smallest")}
    if quantity in ("n", "rank"):
        return np.stack([r.array({"n": "participation", "rank": "stable_rank"}[quantity]) for r in records])
    return np.array(np.exp(ln["rms"] if quantity == "gain" else ln["largest"] - ln["smallest"]))


def ladder(bridge: Sequence[Record], depth: int, quantity: str) -> go.Figure:
    """The quantity along the layers: left without shortcuts, with the product of the same convolutions; right with shortcuts. Thin, the
    law for flattened Gaussian matrices.
    """
    ends = {name: readable(np.median(values(rung(bridge, name, depth), quantity)[:, -1])) for name in RUNGS}
    text = {"n": "directions left of 64", "rank": "stable rank", "condition": "largest / smallest s", "gain": "gain"}[quantity]
    title = (
        f"{depth} layers, {text}: plain {ends['plain']} without BN, {ends['plain-bn']} with; "
        f"with shortcuts {ends['residual']} and {ends['residual-bn']}"
    )
    y = _AXES[quantity]
    fig = figure(title, (_SHARE, y), (_SHARE, replace(y, title="")), names=list(KINDS), height=420)
    share = 100 * jacobian.layers(depth) / (depth - 1)
    for panel, names in enumerate(KINDS.values()):
        where, labels = place(panel), []
        for name in names:
            seeds, series = values(rung(bridge, name, depth), quantity), RUNGS[name]
            curve(fig, share, seeds, series, False, True, **where)
            labels.append((100, float(np.exp(np.log(seeds[:, -1]).mean())), series.label, series.colour))
        if quantity in ("n", "gain"):
            law = jacobian.law(jacobian.flattened(depth), K) if quantity == "n" else np.ones(len(share))
            theory(fig, share, law, "flattened matrices", **where)
            labels.append((100, float(law[-1]), "law", TEXT))
        labels_apart(fig, labels, **where)
    return fig


def spectrum(bridge: Sequence[Record], kind: str, directions: str, depth: int) -> go.Figure:
    """The 64 singular values after the last block, over their geometric mean; thin, products of Gaussian matrices of the size that
    leaves as many directions as the typical seed has.
    """
    y = Axis("s / geometric mean", 0.03, 100, log=True)
    fig = figure("", (Axis("number i of the singular value", 0, 84, ticks=(1, 16, 32, 48, 64)), y), height=420)
    i, said, labels = np.arange(1.0, K + 1), [], []
    for name in KINDS[kind]:
        records, series = rung(bridge, name, depth, directions), RUNGS[name]
        shown, size = _over_mean(records), _size(records)
        curve(fig, i, shown, series, geometric=True)
        theory(fig, i, matched(depth - 1, size), f"Gaussian matrices, N = {size:,}")
        labels.append((64, float(shown[:, -1].mean()), series.label, series.colour))
        said.append(f"{series.label} N = {readable(size)} (to a factor of {misfit(records):.3g})")
    fig.update_layout(title_text=f"{depth} layers {kind}, nearest product: {', '.join(said)}")
    labels_apart(fig, labels)
    return fig


def _over_mean(records: Sequence[Record]) -> Float[np.ndarray, "seeds k"]:
    logs = np.stack([r.array("log_singular_values")[-1] for r in records])
    return np.array(np.exp(logs - logs.mean(1, keepdims=True)))


def _depth(records: Sequence[Record]) -> int:
    assert records[0].config.model is not None
    return records[0].config.model.depth


def typical(records: Sequence[Record]) -> Record:
    """The seed with the median number of directions left; of two, the one with more."""
    return sorted(records, key=lambda r: float(r.array("participation")[-1]))[len(records) // 2]


def _size(records: Sequence[Record]) -> int:
    n = float(typical(records).array("participation")[-1])
    return max(K, round(jacobian.effective_size(_depth(records) - 1, n, K)))


def misfit(records: Sequence[Record]) -> float:
    """The largest factor between a singular value of the typical seed, over their geometric mean, and that of the product that leaves
    as many directions.
    """
    apart = np.log(_over_mean([typical(records)]))[0] - np.log(matched(_depth(records) - 1, _size(records)))
    return float(np.exp(np.abs(apart).max()))


@cache
def matched(M: int, N: int) -> Float[np.ndarray, " k"]:
    """Singular values over their geometric mean of a product of M Gaussian matrices on K directions, the geometric mean of three draws."""
    logs = np.mean([jacobian.of_product(M, N, K, seed)[-1] for seed in range(3)], axis=0)
    return np.array(np.exp(logs - logs.mean()))


def pace_table(bridge: Sequence[Record], depth: int) -> str:
    """Markdown: from the toy to the network, how fast directions spread and how much they grow. Medians and ranges of seeds."""
    n = float(jacobian.law(jacobian.flattened(depth)[-1:], K)[0])
    rows = [
        "| | directions left of 64 | spread, times the law's pace | largest / smallest s | gain |",
        "|---|---|---|---|---|",
        f"| law of flattened matrices | {n:.0f} | 1 | | 1 |",
    ]
    for name, text in WORDS.items():
        records = rung(bridge, name, depth)
        cells = (at_end(records, "participation"), paces(records), np.exp(ln_condition(records)), np.exp(at_end(records, "ln_rms")))
        rows.append(f"| {text} | " + " | ".join(spread(cell, ".2g") for cell in cells) + " |")
    return "\n".join(rows)


def constants_table(bridge: Sequence[Record]) -> str:
    """Markdown: directions left with the statistics of a small mini-batch as constants, and differentiated."""
    rows = ["| depth | | directions | constants | differentiated |", "|---|---|---|---|---|"]
    for depth in BOTH:
        for name, kind in (("plain-bn", "plain"), ("residual-bn", "shortcuts")):
            for text, directions in DIRECTIONS.items():
                both = [rung(bridge, name, depth, directions, SMALL, constant) for constant in (True, False)]
                if all(both):
                    cells = " | ".join(spread(at_end(records, "participation"), ".3g") for records in both)
                    rows.append(f"| {depth} | {kind} | {text} | {cells} |")
    return "\n".join(rows)


def rates(records: Sequence[Record], joined_by: str) -> go.Figure:
    """The largest rate that trains a residual network against its condition number or its gain at initialisation, each depth a point.

    Strong, the seed with most depths; faint, the others; red crosses where no rate of the ladder trains.
    """
    fig = figure("", (_ACROSS[joined_by], Axis("largest rate that trains", 1e-4, 30, log=True)), height=420)
    said, lost = [], []
    for norm in PAIR:
        series, drawn = SERIES[norm], rates_and_conditions(records, (norm,), joined_by)
        for seed, (at, rate) in sorted(drawn.items(), key=lambda item: item[1].shape[1]):
            strong = seed == max(drawn, key=lambda s: (drawn[s].shape[1], -s))
            shown = np.where(rate > 0, rate, np.nan)
            marker = {"symbol": series.symbol, "size": 9, "color": series.colour}
            line = {"color": series.colour, "width": 2, "dash": series.dash}
            mode = "lines+markers" if strong else "markers"
            fig.add_scatter(x=np.exp(at), y=shown, mode=mode, marker=marker, line=line, opacity=1 if strong else 0.3, name=series.label)
            none = np.exp(at)[rate == 0]
            crosses(fig, none, np.full(len(none), 1.3e-4), name="no rate trains")
            lost.extend(none)
        if drawn:
            at, rate = max(drawn.values(), key=lambda points: points.shape[1])
            label(fig, float(np.exp(at[0])), float(max(rate[0], 2e-4)), series.label, series.colour, "center", 16)
            seen = over_depths(records, norm, joined_by)
            said += [f"{float(np.median(seen)):.2f} {series.label}".replace("-", "−")] if seen else []
    if lost:
        label(fig, float(max(lost)), 1.3e-4, "no rate trains", RED, "right", 14)
    name = {"condition": "condition number", "gain": "gain"}[joined_by]
    fig.update_layout(title_text=f"Largest rate against {name}: rank correlation over depths {', '.join(said) or 'not known yet'}")
    return fig


def over_depths(records: Sequence[Record], norm: str, joined_by: str) -> list[float]:
    """Of each seed with five depths or more, the rank correlation of the largest rate that trains with the condition number or the gain."""
    found = rates_and_conditions(records, (norm,), joined_by)
    return [float(spearmanr(at, rate).statistic) for at, rate in found.values() if len(at) >= 5]


def off_by(records: Sequence[Record], quantity: str) -> Float[np.ndarray, "seeds size"]:
    """What a mini-batch's own statistics change, by its size: the root mean square over layers and mini-batches, of the cosine the mean."""
    mean = np.mean if quantity == "cosine" else lambda row: np.sqrt(np.mean(np.square(row)))
    return np.array([[mean(row) for row in r.measured[quantity]] for r in records])


def off(population: Sequence[Record], quantity: str) -> go.Figure:
    """`off_by` against the size of the mini-batch: a curve a depth, the median of the seeds strong."""
    depths = sorted({r.config.model.depth for r in population if r.config.model})
    x = Axis("images in the mini-batch |B|", 1.6, 700, log=True, ticks=(2, 8, 32, 128))
    fig = figure("", (x, _OFF[quantity]), height=400)
    ends, labels = {}, []
    for depth in depths:
        records, series = held(population, depth=depth), _BY_DEPTH[depth]
        size, rows = np.array(records[0].measured["size"], float), off_by(records, quantity)
        middle = np.median(rows, axis=0)
        faint(fig, [(size, row) for row in rows], series)
        look = {"line": {"color": series.colour, "width": 2.5}, "marker": {"symbol": series.symbol, "size": 8}}
        fig.add_scatter(x=size, y=middle, mode="lines+markers", name=series.label, **look)
        ends[depth] = float(middle[-1])
        labels.append((128, ends[depth], series.label, series.colour))
    labels_apart(fig, labels)
    form = {"logits": ".0%", "cosine": ".2f"}.get(quantity, ".1%")
    shallow, deep = (f"{ends[depth]:{form}}" for depth in (depths[0], depths[-1]))
    text = {
        "logits": "the logits are off by",
        "mean": "the means are off by",
        "spread": "the spreads are off by",
        "cosine": "the gradients have a cosine of",
    }[quantity]
    fig.update_layout(title_text=f"128 images: {text} {shallow} in {depths[0]} layers, {deep} in {depths[-1]}")
    return fig


def pixels(inputs: Sequence[Record], depth: int) -> go.Figure:
    """The relative loss along the first gradient, on images at three scales: left without BN, right with it."""
    ticks = [10.0**k for k in range(-6, 3, 2)]
    x = Axis("step size t", 1e-7, 1e2, log=True, ticks=ticks, labels=[power_label(t) for t in ticks])
    y = Axis("relative loss", 0.2, TOP, log=True, ticks=(0.2, 0.5, 1, 2, 5, 10))
    fig = figure("", (x, y), (x, y), names=[SERIES[norm].label for norm in PAIR], height=400)
    ratio = {}
    for panel, norm in enumerate(PAIR):
        series, where = SERIES[norm], place(panel)
        records = {scale: held(inputs, norm=norm, scale=scale, depth=depth) for scale in SCALES}
        step = {scale: np.array([usable_step(r) for r in rows]) for scale, rows in records.items()}
        ratio[norm] = float(np.median(step["standardised"] / step["bytes"]))
        for (scale, rows), (name, dash) in zip(records.items(), SCALES.values(), strict=True):
            curves = []
            for record in rows:
                t, loss = record.array("step")[1:], record.array("loss")
                curves.append((t, np.where(np.isfinite(loss), loss / loss[0], np.inf)[1:]))
            faint(fig, [until(t, loss, TOP) for t, loss in curves], series, **where)
            mean = np.exp(np.mean([np.log(loss) for _, loss in curves], axis=0))
            line = {"color": series.colour, "width": 2.5, "dash": dash}
            end_x, end_y = until(curves[0][0], mean, TOP)
            fig.add_scatter(x=end_x, y=end_y, mode="lines", line=line, name=name, **where)
            if norm == "none":
                side = "left" if scale == "unit" else "right"
                label(fig, float(end_x[-1]), {"standardised": 3.0, "unit": 5.0, "bytes": 7.0}[scale], name, series.colour, side, **where)
        if norm == "batch":
            label(fig, float(end_x[-1]) / 3, 5.0, "all three", series.colour, "right", **where)
    fig.update_layout(
        title_text=f"{depth} layers: raw bytes divide the usable step by {readable(ratio['none'])} without BN, "
        f"by {readable(ratio['batch'])} with it"
    )
    return fig


def depths_measured(bridge: Sequence[Record], directions: Sequence[str] = ("random",)) -> list[int]:
    """The depths at which every rung has been measured on all these directions."""
    return [depth for depth in DEPTHS if all(rung(bridge, name, depth, way) for name in RUNGS for way in directions)]
