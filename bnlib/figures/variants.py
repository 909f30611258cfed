"""Variants of BN and of the initialisation (paper, appendix): at the start, in their first steps, and trained.

Records of the studies `init`, `steps`, `variants` and their small likes in, figures and Markdown out.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from bnlib.claims import BN_RATE, OTHERS, beginning, ending, explodes_at, final, growth, held, spread, step_text, whole
from bnlib.figures.depth import Cell, cells
from bnlib.figures.marks import labels_apart, theory
from bnlib.figures.style import RED, SERIES, TEXT, Axis, Series, coarse, figure, powers
from bnlib.probes.lines import MINI_BATCHES
from bnlib.records import Record
from bnlib.studies import NORMAL
from bnlib.text import number_text, power_label, readable

NORMS = ("none", "layer", "group", "instance", "last-features", "last-logits", "batch")
MEASURES = {
    "growth of σ over the network": "growth",
    "a / b, median layer": "coherence_ratio",
    "kurtosis of gradients, median layer": "gradient_kurtosis",
    "loss": "loss",
}
RANGE = {"growth": (1e-3, 1e10), "coherence_ratio": (1.0, 300.0), "gradient_kurtosis": (2.0, 40.0), "loss": (1.0, 1e9)}
AXIS = {
    "growth": "growth of σ, first to last",
    "coherence_ratio": "a / b (median layer)",
    "gradient_kurtosis": "kurtosis (median layer)",
    "loss": "initial loss",
}
ROWS = {"last-features": "BN at the end"}  # shorter than its label
INITS = {"xavier": ("circle-open", "Xavier"), "he": ("circle", "He"), "torch": ("triangle-up", "PyTorch's default")}
KEY = "○ Xavier · ● He · ▲ PyTorch's default"
DEPTH = Axis("depth", 0, 150, ticks=(8, 20, 32, 44, 56, 110))
SINGLE = ("none", "last-features", "batch")
PARTS = {"none": "without BN", "last-features": "with BN at the end", "batch": "with BN"}
BEYOND = 2.0  # where a step is drawn that is longer than any measured


def value(record: Record, measure: str) -> float:
    """A measure of a network at initialisation, or of one that was probed later: of layers the median, of sigma the growth in all.

    NaN where half of the layers have none, as where gradients are zero.
    """
    if measure == "growth":
        return float(np.exp(growth(record) * (len(record.array("ln_std")) - 2)))
    values = record.array(measure)
    return float(np.nanmedian(values)) if np.isfinite(values).mean() > 0.5 else float("nan")


def at_start(init: Sequence[Record], measure: str, depth: int) -> go.Figure:
    """A measure of each normaliser's network at initialisation, by three initialisations; a mark a seed, a line between Xavier and He."""
    found = {(n, by): np.array([value(r, measure) for r in beginning(init, n, by, depth)[:3]]) for n in NORMS for by in INITS}
    median = {key: float(np.median(values)) for key, values in found.items()}
    what = {"growth": "σ", "coherence_ratio": "a/b is", "gradient_kurtosis": "kurtosis is", "loss": "the loss is"}[measure]
    said = {n: [median[n, by] for by in ("xavier", "he")] for n in ("none", "batch")}
    words = {n: _grow(*pair) if measure == "growth" else tuple(map(readable, pair)) for n, pair in said.items()}
    title = (
        f"{depth} layers, without: {what} {words['none'][0]} from Xavier's start, {words['none'][1]} from He's; "
        f"with BN {'it ' * (measure == 'growth')}{words['batch'][0]} and {words['batch'][1]}"
    )
    fig = rows(title, [ROWS.get(n, SERIES[n].label) for n in NORMS], Axis(AXIS[measure], *RANGE[measure], log=True))
    for row, n in enumerate(NORMS):
        ends = {"color": SERIES[n].colour, "width": 1.5}
        fig.add_scatter(
            x=[median[n, "xavier"], median[n, "he"]], y=[row, row], mode="lines", line=ends, name=SERIES[n].label, hoverinfo="skip"
        )
        for by_init, (symbol, name) in INITS.items():
            marker = {"symbol": symbol, "size": 10, "color": SERIES[n].colour, "line": {"width": 1.8 if symbol.endswith("open") else 0}}
            fig.add_scatter(
                x=coarse(found[n, by_init]), y=[row] * 3, mode="markers", marker=marker, opacity=0.75, name=f"{SERIES[n].label}, {name}"
            )  # fmt: skip
    note(fig, KEY)
    return fig


def _grow(one: float, other: float) -> tuple[str, str]:
    """Two factors in words, such as "shrinks to 0.47" and "grows 5.5-fold"; the verb once where it is the same."""
    first, second = (f"grows {readable(factor)}-fold" if factor >= 1 else f"shrinks to {readable(factor)}" for factor in (one, other))
    verb = first.split()[0] + " "
    return first, second.removeprefix(verb)


def rows(title: str, names: Sequence[str], x: Axis) -> go.Figure:
    """An empty figure with a row for each name, the first at the top. A logarithmic axis has few ticks, beside so long names."""
    if x.log:
        ticks = powers(x.low, x.high, most=5)
        x = replace(x, ticks=ticks, labels=[power_label(tick) for tick in ticks])
    fig = figure(title, (x, Axis("", len(names) - 0.5, -0.5, ticks=range(len(names)), labels=names)), height=90 + 38 * len(names))
    fig.update_layout(margin={"l": 142, "t": 30})
    return fig


def note(fig: go.Figure, text: str) -> None:
    """What the marks mean, above the panel."""
    at = {"x": 0.0, "xanchor": "left", "y": 1.0, "yanchor": "bottom", "xref": "paper", "yref": "paper"}
    fig.add_annotation(text=text, showarrow=False, font={"color": TEXT, "size": 13}, yshift=4, **at)


def last_layer(steps: Sequence[Record], mini_batch: int) -> go.Figure:
    """The step along the gradient at which the loss doubles, against depth: without BN, with one at the end, with BN everywhere.

    Seeds faint, their median strong; open triangles where no measured step doubles it.
    """
    ticks = [10.0**k for k in range(-5, 1)]
    y = Axis("step at which the loss doubles", 1e-5, 5, log=True, ticks=[*ticks, BEYOND], labels=[*map(power_label, ticks), "> 1"])
    fig, said, labels = figure("", (DEPTH, y), height=420), dict[str, str](), []
    for norm in SINGLE:
        series = SERIES[norm]
        by_depth = {depth: explosions(steps, norm, depth, mini_batch) for depth in (8, 14, 20, 32, 44, 56, 110)}
        by_depth = {depth: values for depth, values in by_depth.items() if len(values)}
        for depth, values in by_depth.items():
            look = {"mode": "markers", "opacity": 0.35, "name": f"{series.label}, each seed", "hoverinfo": "skip"}
            faint = {"symbol": _symbols(values, series), "size": 5, "color": series.colour}
            fig.add_scatter(x=[depth] * len(values), y=np.minimum(values, BEYOND), marker=faint, **look)
        middle = np.array([np.median(values) for values in by_depth.values()])
        line = {"color": series.colour, "width": 2.5, "dash": series.dash}
        marker = {"symbol": _symbols(middle, series), "size": 8, "color": series.colour}
        drawn = np.minimum(middle, BEYOND)
        fig.add_scatter(x=list(by_depth), y=drawn, mode="lines+markers", line=line, marker=marker, name=series.label)
        if 110 in by_depth:
            said[norm] = step_text(by_depth[110])
            labels.append((110, drawn[-1], series.label.replace("BN on the last features", "BN at<br>the end"), series.colour))
    labels_apart(fig, labels)
    words = [f"{said.get(norm, '(not measured)')} {text}" for norm, text in PARTS.items()]
    fig.layout.title.text = f"Mini-batch {mini_batch}, 110 layers: the loss doubles at a step of {', '.join(words)}"
    return fig


def _symbols(steps: Float[np.ndarray, " n"], series: Series) -> list[str]:
    return [series.symbol if np.isfinite(step) else "triangle-up-open" for step in steps]


def explosions(steps: Sequence[Record], norm: str, depth: int, mini_batch: int) -> Float[np.ndarray, " seeds"]:
    """The step at which the loss doubles, a seed each; infinite where none that is measured doubles it."""
    assert mini_batch in MINI_BATCHES
    return np.array([explodes_at(r, mini_batch) for r in held(steps, study="steps", norm=norm, lr=NORMAL[norm], depth=depth)])


def normal_table(init: Sequence[Record]) -> str:
    """Markdown: every normaliser's ResNet-110 at initialisation, medians and ranges over the seeds."""
    lines = ["| ResNet-110 at initialisation | growth of σ | a / b | kurtosis | loss |", "|---|---|---|---|---|"]
    for norm in NORMS:
        held_ = beginning(init, norm)[:3]
        cells = [spread([value(r, m) for r in held_], ".2g" if m != "coherence_ratio" else ".3g") for m in RANGE]
        lines.append(f"| {SERIES[norm].label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def rates_table(max_lr: Sequence[Record], short: Sequence[Record]) -> str:
    """Markdown: how 100 updates of ResNet-110 go at each rate, without BN, with one at the end, with BN everywhere; the seeds together."""
    found = cells([r for r in (*max_lr, *short) if r.config.model and r.config.model.depth == 110])
    rates = sorted({lr for norm, _, lr in found if norm == "last-features"})
    lines = ["| learning rate | without | BN at the end | BN everywhere |", "|---|---|---|---|"]
    lines += [f"| {number_text(lr)} | {' | '.join(found.get((norm, 110, lr), Cell()).words for norm in SINGLE)} |" for lr in rates]
    return "\n".join(lines)


def trained(records: Sequence[Record], part: str, percent: int) -> go.Figure:
    """Accuracy on the test or the training images after a share of each whole training, a mark a seed, a row a network; between the
    medians without BN and with BN everywhere a line half way. At the scale that `claims.whole` takes.
    """
    groups = whole_trainings(records)
    reached = {norm: np.array([_after(run, part, percent) for run in runs]) for norm, runs in groups.items()}
    middle = {norm: _median(values) for norm, values in reached.items()}
    fig = rows("", [ROWS.get(norm, SERIES[norm].label) for norm in groups], Axis(f"{part} accuracy, %", 0, 100, ticks=range(0, 101, 20)))
    for row, (norm, values) in enumerate(reached.items()):
        ended, look = np.isfinite(values), SERIES[norm]
        marker = {
            "symbol": [look.symbol if one else "x" for one in ended],
            "size": 10,
            "color": [look.colour if one else RED for one in ended],
        }
        x = coarse(np.where(ended, values, 2.0))
        fig.add_scatter(x=x, y=[row] * len(x), mode="markers", marker=marker, opacity=0.75, name=look.label)
    half = (middle["none"] + middle["batch"]) / 2
    theory(fig, np.array([half, half]), np.array([-0.5, len(groups) - 0.5]), "half of the gain")
    said = ", ".join(f"{_reached(reached[norm])} {words}" for norm, words in PARTS.items())
    fig.layout.title.text = f"{'Training' if part == 'train' else 'Test'} images right after {percent} % of training: {said}"
    note(fig, "line: half of what BN everywhere gains")
    return fig


def whole_trainings(records: Sequence[Record]) -> dict[str, Sequence[Record]]:
    """The runs that `trained` draws, by normaliser; empty while one BN at the end has not been trained beside the two extremes."""
    none, batch, last = whole(records, ("none", "large"), ("last-features",))
    if not last:
        return {}
    others: dict[str, Sequence[Record]] = {n: held(records, study=last[0].config.study, norm=n, lr=BN_RATE) for n in OTHERS}
    return {"none": none, **{norm: runs for norm, runs in others.items() if runs}, "last-features": last, "batch": batch}


def _after(run: Record, part: str, percent: int) -> float:
    """Accuracy in per cent after this share of a run's epochs; NaN where it had diverged by then."""
    assert run.config.train is not None
    accuracy, epoch = run.array(f"{part}_acc"), max(1, round(run.config.train.epochs * percent / 100))
    return float(100 * accuracy[epoch - 1]) if epoch <= len(accuracy) else math.nan


def _median(accuracy: Float[np.ndarray, " seeds"]) -> float:
    """Of the runs that have not diverged; NaN where all have."""
    there = accuracy[np.isfinite(accuracy)]
    return float(np.median(there)) if len(there) else math.nan


def _reached(accuracy: Float[np.ndarray, " seeds"]) -> str:
    gone = int(np.isnan(accuracy).sum())
    if gone == len(accuracy):
        return "diverged"
    return f"{_median(accuracy):.0f} %" + f" ({gone} of {len(accuracy)} diverged)" * bool(gone)


def trained_table(variants: Sequence[Record], fig1: Sequence[Record]) -> str:
    """Markdown: final test accuracy of ResNet-110 in whole trainings, as far as there are records, and the command that makes the rest."""
    kinds: list[tuple[str, Callable[[Record], bool]]] = [
        *((f"{SERIES[n].label}, {number_text(lr)}", _is(n, lr)) for n, lr in (("none", NORMAL["none"]), ("batch", BN_RATE))),
        *((f"BN on the last features, {number_text(lr)}", _is("last-features", lr)) for lr in (0.003, 0.01, 0.03, 0.1)),
        *((f"{SERIES[n].label}, {BN_RATE}", _is(n, BN_RATE)) for n in ("layer", "group", "instance", "last-logits")),
        *((f"{name}, {BN_RATE}", _is("none", BN_RATE, block)) for block, name in (("fixup", "Fixup"), ("skipinit", "SkipInit"))),
    ]
    lines = ["| ResNet-110, 165 epochs (without: 2,400) | test accuracy | seeds |", "|---|---|---|"]
    for name, chosen in kinds:
        runs = [r for r in (*fig1, *variants) if chosen(r)]
        shown = ending(np.array([final(r) for r in runs])) if runs else "not yet measured"
        lines.append(f"| {name} | {shown} | {len(runs)} |")
    return "\n".join(lines)


def _is(norm: str, lr: float, block: str = "residual") -> Callable[[Record], bool]:
    def chosen(record: Record) -> bool:
        model, train = record.config.model, record.config.train
        return model is not None and train is not None and (model.norm, model.block, train.lr) == (norm, block, lr)

    return chosen
