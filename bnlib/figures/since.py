"""Random networks after the paper: exploding gradients, the trunk, the rank (studies `mlp` and `trunk`). Records in, figures out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from bnlib.claims import explosion, held, total_growth
from bnlib.figures.marks import curve, label, labels_apart, theory
from bnlib.figures.style import SERIES, TEXT, Axis, Series, figure
from bnlib.matrices.mlp import EXPLOSION
from bnlib.probes.trunk import exponent, stages, walk
from bnlib.records import Record
from bnlib.text import readable

PLAIN = Series("with BN, no shortcuts", "#56B4E9", "dashdot", "triangle-up")
QUANTITIES = {"spread of the trunk": "rms", "share of the branch": "share"}
_GRADIENT = Axis("squared gradient / that at the last layer", 1e-4, 1e14, log=True)
_TRUNK = Axis("squared gradient / that at the last block", 1e-3, 1e20, log=True)
_BLOCK = Axis("block of the stage", 0.9, 48, log=True, ticks=(1, 2, 3, 5, 9, 18), labels=("1", "2", "3", "5", "9", "18"))
_SPREAD = {
    "rms": Axis("root mean square of the block's output", 0.1, 1000, log=True),
    "share": Axis("branch / (branch + shortcut), rms", 0, 1),
}


def stacked(records: Sequence[Record], key: str, **where: Any) -> Float[np.ndarray, "seeds n"]:
    """A measurement of every seed's record with these settings, a row a seed; no rows where there are none."""
    rows = [record.array(key) for record in held(records, **where)]
    return np.stack(rows) if rows else np.empty((0, 0))


def gradients(mlp: Sequence[Record], N: int, batch: int) -> go.Figure:
    """|dL/dH_k|^2 over that at the last of 64 layers, with BN at this batch and without; thin, the law for infinite width and batch."""
    rows = {"batch": held(mlp, M=64, N=N, batch=batch, restandardise=True), "none": held(mlp, M=64, N=N, restandardise=False)}
    said = [f"{np.exp(np.median([explosion(r) for r in found])):.2f} {SERIES[norm].label}" for norm, found in rows.items() if found]
    title = f"Width {N}, batch {batch}: each layer back multiplies the squared gradient by {', '.join(said) or '… not yet measured'}"
    fig = figure(title, (Axis("layer", 0, 80, ticks=range(0, 65, 16)), _GRADIENT))
    x = np.arange(1.0, 65.0)
    theory(fig, x, np.exp(EXPLOSION * (64 - x)), "π/(π−1) a layer")
    label(fig, 34, float(np.exp(EXPLOSION * 30)), f"thin: π/(π−1) = {np.exp(EXPLOSION):.3f}", shift=10)
    for norm, found in rows.items():
        if found:
            ln = np.stack([r.array("ln_gradient") for r in found])
            curve(fig, found[0].array("layer"), np.exp(ln - ln[:, -1:]), SERIES[norm], geometric=True)
    label(fig, 3, 1e13, SERIES["batch"].label, SERIES["batch"].colour)
    label(fig, 3, 1e-2, SERIES["none"].label, SERIES["none"].colour)
    return fig


def blocks(trunk: Sequence[Record], depth: int) -> go.Figure:
    """|dL/dh|^2 over that at the last block of ResNets of this depth, against the layer; thin, the law for wide plain networks."""
    kinds = (("batch", "plain", PLAIN), ("batch", "residual", SERIES["batch"]), ("none", "residual", SERIES["none"]))
    said = []
    for block, how in (("plain", "without"), ("residual", "with")):
        grown = [total_growth(r) for r in held(trunk, depth=depth, norm="batch", block=block)]
        said += [f"{readable(np.exp(np.median(grown)))}-fold {how} shortcuts"] if grown else []
    title = f"{depth} layers with BN: the squared gradient grows {', '.join(said) or '… not yet measured'}"
    fig = figure(title, (Axis("after layer", 0, 145, ticks=(1, 20, 37, 56, 73, 109)), _TRUNK))
    layer = np.arange(1.0, depth, 2.0)
    law = np.exp(EXPLOSION * (layer[-1] - layer))
    theory(fig, layer, law, "π/(π−1) a layer")
    for norm, block, series in kinds:
        ln = stacked(trunk, "ln_gradient", depth=depth, norm=norm, block=block)
        if len(ln):
            curve(fig, layer, np.exp(ln - ln[:, -1:]), series, geometric=True)
    names = (("thin: π/(π−1) a layer", TEXT), *((s.label.replace("without", "without BN"), s.colour) for _, _, s in kinds))
    for i, (text, colour) in enumerate(names):
        label(fig, 70, 1e19, text, colour, shift=-17 * i)
    return fig


def growth(trunk: Sequence[Record], depth: int, stage: int, quantity: str) -> go.Figure:
    """The trunk's root mean square, or the branch's share, against the block of a stage; thin, the random walk of very wide layers."""
    rows = {norm: held(trunk, depth=depth, norm=norm, block="residual") for norm in ("batch", "none")}
    fig = figure(_grown(rows, depth, stage, quantity), (_BLOCK, _SPREAD[quantity]))
    n = (depth - 2) // 6
    k, expected = np.arange(1.0, n + 1), walk(n, projected=stage > 1)
    if quantity == "share":
        before = np.concatenate([[1.0 if stage > 1 else 0.5], expected[:-1] ** 2])
        expected = 1 / np.sqrt(1 + before)
    theory(fig, k, expected, "random walk")
    labels = [(n, float(expected[-1]), "thin: theory", TEXT)]
    for norm, found in rows.items():
        if found:
            values = np.stack([_of_stage(r, stage, quantity) for r in found])
            curve(fig, k, values, SERIES[norm], markers=True, geometric=quantity == "rms")
            labels.append((n, float(np.median(values[:, -1])), SERIES[norm].label, SERIES[norm].colour))
    labels_apart(fig, labels)
    return fig


def _of_stage(record: Record, stage: int, quantity: str) -> Float[np.ndarray, " block"]:
    values = record.array("branch") / record.array("sum") if quantity == "share" else record.array("rms")
    return stages(values)[stage - 1]


def _grown(rows: dict[str, list[Record]], depth: int, stage: int, quantity: str) -> str:
    where = f"Stage {stage} of {depth} layers"
    if not all(rows.values()):
        return f"{where}: not yet measured"
    values = {norm: [_of_stage(r, stage, quantity) for r in found] for norm, found in rows.items()}
    if quantity == "share":
        last = {norm: np.median([row[-1] for row in found]) for norm, found in values.items()}
        return f"{where}: the branch is {last['batch']:.0%} of the last block with BN, {last['none']:.0%} without"
    powers = [exponent(row) for row in values["batch"]]
    fold = np.median([row[-1] / row[0] for row in values["none"]])
    return f"{where}: the trunk grows with the power {np.median(powers):.2f} of the block with BN, {readable(fold)}-fold without"


def rank(mlp: Sequence[Record], N: int, relu: bool) -> go.Figure:
    """How many directions the samples span after each of 512 layers; thin, the root of the width."""
    rows = {norm: held(mlp, M=512, N=N, relu=relu, restandardise=norm == "batch") for norm in ("batch", "none")}
    said = [f"{np.median([r.array('rank')[-1] for r in found]):.1f} {SERIES[norm].label}" for norm, found in rows.items() if found]
    kind = "ReLU" if relu else "linear"
    title = f"Width {N}, {kind}: directions left after 512 layers: {', '.join(said) or 'not yet measured'}"
    x = Axis("layer", 0.9, 2500, log=True, ticks=(1, 10, 100, 512), labels=("1", "10", "100", "512"))
    fig = figure(title, (x, Axis("rank (participation ratio)", 0.8, 150, log=True)))
    theory(fig, np.array([1.0, 512.0]), np.array([N**0.5] * 2), "√width")
    label(fig, 1, N**0.5, f"√{N}", shift=-10)
    for norm, found in rows.items():
        if found:
            values = np.stack([r.array("rank") for r in found])
            curve(fig, found[0].array("layer"), values, SERIES[norm], geometric=True)
            label(fig, 512, float(np.median(values[:, -1])), SERIES[norm].label, SERIES[norm].colour)
    return fig
