"""What one step does: the loss along the gradient (Fig 3), the channels during an update (Fig 4), and how fast they grow.

Records of the studies `steps` and `divergence` in, figures and Markdown tables out.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from bnlib import sources
from bnlib.claims import explodes_at, held, relative_loss, spread, step_text
from bnlib.figures.activations import PAIR, change
from bnlib.figures.marks import Curve, crosses, faint, from_paper, label, theory, until
from bnlib.figures.style import PAPER, SEQUENTIAL, SERIES, SIGNED, TEXT, Axis, Series, figure, place
from bnlib.probes.lines import SIZES
from bnlib.records import Record
from bnlib.studies import NORMAL
from bnlib.text import number_text, power_label, readable

RATES = (1e-4, 1e-3, 1e-2, 0.1, 1.0)
MOMENTS = {"variance": "variance", "mean": "mean"}
TOP = 1e6  # of the relative loss, as in Fig 3
_ROOM = 8.0  # the end of the axis of steps, with room for the names of curves
_STEP = [10.0**k for k in range(-5, 1)]
_COLOURS = {"variance": (-2.0, 20.0), "mean": (-10.0, 10.0)}  # decimal logarithms; of the mean, with its sign
_GROWN = 1e30  # the largest factor that is drawn
_STEPS = Axis("step size t", 1e-5, _ROOM, log=True, ticks=_STEP, labels=[power_label(t) for t in _STEP])
_RELATIVE = Axis("relative loss L(θ − t g) / L(θ)", 1e-3, 10 * TOP, log=True)


def depths(steps: Iterable[Record]) -> list[int]:
    """The depths at which the loss was measured along gradients, with BN and without."""
    both = ({r.config.model.depth for r in steps if r.config.model and r.config.model.norm == norm} for norm in PAIR)
    return sorted(set.intersection(*both))


def along_step(steps: Sequence[Record], mini_batch: int, lr: float, depth: int) -> go.Figure:
    """Fig 3: the relative loss against the step size, in training on normal schedules; that of BN begins at rate `lr`.

    Strong, the median over seeds; a large marker at the step that the schedule takes; red crosses beyond the axis.
    """
    rates = NORMAL | {"batch": lr}
    found = {norm: held(steps, norm=norm, lr=rate, depth=depth) for norm, rate in rates.items()}
    arms = [(name, found[norm]) for norm, name in (("none", "without BN"), ("batch", "with it")) if found[norm]]
    double = {name: step_text([explodes_at(r, mini_batch) for r in rows]) for name, rows in arms}
    said = f"the loss doubles at a step {', '.join(f'of {text} {name}' for name, text in double.items())}"
    if all(text.startswith("more") for text in double.values()):
        said = f"no step up to {SIZES[-1]:g} doubles the loss, {' or '.join(double)}"
    fig = figure(f"Mini-batch {mini_batch}: {said}", (_STEPS, _RELATIVE), height=420)
    for norm in ("last-features", "none", "batch"):
        t, middle = _seeds(fig, [(r.array("step")[1:], relative_loss(r, mini_batch)[1:]) for r in found[norm]], SERIES[norm], TOP)
        taken = np.isclose(t, rates[norm]) & (norm in PAIR)  # the third one's rate is from memory
        marker = {"symbol": SERIES[norm].symbol, "size": 10, "color": SERIES[norm].colour, "line": {"width": 1.5, "color": TEXT}}
        fig.add_scatter(x=t[taken], y=np.minimum(middle[taken], TOP), mode="markers", marker=marker, name="the step taken")
        if len(t):
            _ends(fig, norm, *until(t, middle, TOP))
    if not found["batch"]:
        label(fig, 1.2e-5, 3e4, f"BN at rate {number_text(lr)}:<br>not measured at {depth} layers", SERIES["batch"].colour)
    if depth == 110 and lr == NORMAL["batch"]:
        _digitised(fig, mini_batch)
    return fig


def along_distance(steps: Sequence[Record], mini_batch: int, depth: int) -> go.Figure:
    """The same against the distance t |g| that the parameters move; both on their normal schedules."""
    fig, double = figure("", (Axis("distance moved t |g|", 1e-3, 1e5, log=True), _RELATIVE), height=400), {}
    for norm in PAIR:
        rows = held(steps, norm=norm, lr=NORMAL[norm], depth=depth)
        sizes = np.array([r.measured["gradient_norm"][r.measured["mini_batch"].index(mini_batch)] for r in rows])
        curves = [(r.array("step")[1:] * size, relative_loss(r, mini_batch)[1:]) for r, size in zip(rows, sizes, strict=True)]
        t, middle = _seeds(fig, curves, SERIES[norm], TOP)
        if len(t):
            _ends(fig, norm, *until(t, middle, TOP))
        double[norm] = distance_text([explodes_at(r, mini_batch) for r in rows], sizes)
    fig.update_layout(
        title_text=f"Mini-batch {mini_batch}: the loss doubles at a distance of {double['none']} without BN, of {double['batch']} with it"
    )
    return fig


def distance_text(steps: Sequence[float], sizes: Float[np.ndarray, " seeds"]) -> str:
    """The median over seeds of the distances t |g| for steps as `explodes_at` finds them, and gradients of these sizes.

    "More than" the median of the longest, where the median step is none.
    """
    middle = float(np.median(np.array(steps) * sizes))
    return readable(middle) if math.isfinite(middle) else f"more than {readable(np.median(SIZES[-1] * sizes))}"


def _ends(fig: go.Figure, norm: str, x: Float[np.ndarray, " x"], y: Float[np.ndarray, " x"]) -> None:
    """The name of a curve: at its end or, where that is the top of the figure, beside its rise."""
    if y[-1] < TOP:
        name, shift = {"last-features": ("BN at<br>the end", -20)}.get(norm, (SERIES[norm].label, 8))
        label(fig, x[-1], y[-1], name, SERIES[norm].colour, shift=shift)
    else:
        label(fig, x[-1] / 3, TOP / 30, SERIES[norm].label, SERIES[norm].colour, anchor="right")


def _seeds(fig: go.Figure, curves: Sequence[Curve], series: Series, top: float) -> Curve:
    """The seeds in one faint trace, their median strong, and red crosses where that is above `top`. Gives the median.

    The seeds' x may differ by factors; their median is taken, too.
    """
    faint(fig, [until(*each, top) for each in curves], series)
    t, middle = (np.median([curve[i] for curve in curves], axis=0) if curves else np.array([]) for i in (0, 1))
    x, y = until(t, middle, top)
    fig.add_scatter(x=x, y=y, mode="lines", line={"color": series.colour, "width": 2.5, "dash": series.dash}, name=series.label)
    beyond = t[~(middle <= top)]
    crosses(fig, beyond, np.full(len(beyond), 3 * top))
    return t, middle


def _digitised(fig: go.Figure, mini_batch: int) -> None:
    digitised, k = sources.paper("fig3"), (1, 4, 7).index(mini_batch)
    bn, none = digitised["bn"], digitised["none"]
    from_paper(fig, [bn["step_of_minimum"][k]], [bn["relative_loss_at_minimum"][k]])
    from_paper(fig, [none["step_where_relative_loss_is_1e6"][k]], [TOP], "diamond")
    label(fig, none["step_where_relative_loss_is_1e6"][k], TOP, "the paper", PAPER, shift=-10)
    label(fig, bn["step_of_minimum"][k], bn["relative_loss_at_minimum"][k], "the paper", PAPER, anchor="center", shift=-18)


def step_table(steps: Sequence[Record]) -> str:
    """Markdown: what Fig 3 shows for each mini-batch at 110 layers, ours over seeds beside the paper's as digitised."""
    digitised = sources.paper("fig3")
    rows = [
        "| mini-batch | BN: step of the minimum | the paper | relative loss there | the paper | without: 10⁶ at a step of | the paper |",
        "|---|---|---|---|---|---|---|",
    ]
    batch, none = (held(steps, norm=norm, lr=NORMAL[norm], depth=110) for norm in ("batch", "none"))
    for k, mini_batch in enumerate((1, 4, 7)):
        losses = [relative_loss(r, mini_batch) for r in batch]
        ours = [
            spread([r.array("step")[loss.argmin()] for r, loss in zip(batch, losses, strict=True)], ".2g"),
            spread([loss.min() for loss in losses], ".2f"),
            spread([explodes_at(r, mini_batch, TOP) for r in none], ".2g"),
        ]
        paper = [digitised["bn"][key][k] for key in ("step_of_minimum", "relative_loss_at_minimum")]
        paper.append(digitised["none"]["step_where_relative_loss_is_1e6"][k])
        rows.append(f"| {mini_batch} | " + " | ".join(f"{own} | {theirs}" for own, theirs in zip(ours, paper, strict=True)) + " |")
    return "\n".join(rows)


def during(record: Record, moment: str, layer: int, rate: float) -> Float[np.ndarray, "share channel"]:
    """Channel moments at 0, 10, 20 ... 100 % of an update at a rate that is a power of ten; NaN where not finite."""
    steps, rows = record.array("step"), record.array(f"{moment}_{layer}")
    return np.stack([rows[np.argmin(np.abs(steps - share * rate))] for share in np.arange(11) / 10])


def channels(divergence: Sequence[Record], rate: float, layer: int, moment: str, seed: int = 0) -> go.Figure:
    """Fig 4: a moment of each channel of a layer while an update is made, on one logarithmic colour scale; red crosses beyond numbers."""
    found = {norm: during(held(divergence, norm=norm, seed=seed)[0], moment, layer, rate) for norm in PAIR}
    what = {norm: _change(np.abs(rows[0]).max(), np.abs(rows[-1]).max()) for norm, rows in found.items()}
    title = f"Layer {layer}, one update at {number_text(rate)}: largest {moment} {what['none']} without BN, {what['batch']} with it"
    count = len(found["none"][0])
    x = Axis("share of the update (%)", -5, 105, ticks=(0, 50, 100))
    y = Axis("channel", 1, 0, ticks=(0.5 / count, 1 - 0.5 / count), labels=("1", str(count)))
    fig = figure(title, (x, y), (x, y), names=[SERIES[norm].label for norm in PAIR], height=380)
    fig.update_layout(margin_r=84)
    low, high = _COLOURS[moment]
    ticks = {power: power_label(10.0**power) for power in range(0, 21, 5)} if moment == "variance" else _SIGNED_TICKS
    bar = {"thickness": 8, "len": 0.9, "tickvals": list(ticks), "ticktext": list(ticks.values()), "outlinewidth": 0}
    bar |= {"title": {"text": moment, "font": {"size": 13}}}
    shares = np.arange(0, 101, 10)
    for panel, norm in enumerate(PAIR):
        rows = found[norm]
        with np.errstate(divide="ignore"):
            z = np.log10(rows) if moment == "variance" else np.sign(rows) * np.log10(1 + np.abs(rows))
        fig.add_heatmap(
            x=shares, y=(np.arange(count) + 0.5) / count, z=np.round(np.clip(z.T, low, high), 2), zmin=low, zmax=high,
            colorscale=SEQUENTIAL if moment == "variance" else SIGNED, colorbar=bar, showscale=panel == 1,
            name=SERIES[norm].label, hoverinfo="x+z", **place(panel),
        )  # fmt: skip
        lost = shares[~np.isfinite(rows).all(1)].astype(float)
        crosses(fig, np.repeat(lost, 3), np.tile([0.2, 0.5, 0.8], len(lost)), 9, **place(panel))
    return fig


_SIGNED_TICKS = {-10: "−10¹⁰", -5: "−10⁵", 0: "0", 5: "10⁵", 10: "10¹⁰"}


def _change(before: float, after: float) -> str:
    """Such as 340 → 7.1×10²⁴; "overflows" where the numbers end."""
    return f"{readable(before)} → {readable(after)}" if math.isfinite(after) else "overflows"


def growth(divergence: Sequence[Record], layer: int) -> go.Figure:
    """The mean channel variance of a layer over that before the step, against the step size; thin, the power of t that it tends to."""
    factors = {norm: [_factors(r, layer) for r in held(divergence, norm=norm)] for norm in PAIR}
    at = {norm: [f[np.argmin(np.abs(t - 0.1))] for t, f in curves] for norm, curves in factors.items()}
    said = {norm: change(math.log(mid)) if math.isfinite(mid := float(np.median(values))) else "overflows" for norm, values in at.items()}
    title = f"Layer {layer}, a step of 0.1: the variance {said['none']} without BN, {said['batch']} with it"
    ticks = [10.0**k for k in range(0, 31, 10)]
    fig = figure(
        title, (_STEPS, Axis("variance over that before", 1e-6, 1e33, log=True, ticks=ticks, labels=[power_label(v) for v in ticks]))
    )
    for norm, curves in factors.items():
        t, middle = _seeds(fig, curves, SERIES[norm], _GROWN)
        if norm == "none":
            t_end, end = (part[-1] for part in until(t, middle, _GROWN))
            foot = float((1e-3 / end) ** (0.5 / layer))
            theory(fig, t_end * np.array([foot, 1.0]), end * np.array([foot, 1.0]) ** (2 * layer), "tends to")
            label(fig, t_end * foot, 1e-3, f"t<sup>{2 * layer}</sup>", anchor="left")
            label(fig, t_end, end, "without", SERIES[norm].colour, anchor="right", shift=-6)
        else:
            label(fig, 1, float(middle[-1]), "with BN", SERIES[norm].colour)
    return fig


def _factors(record: Record, layer: int) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, " t"]]:
    variance = record.array(f"variance_{layer}").mean(1)
    return record.array("step")[1:], np.where(np.isfinite(variance), variance / variance[0], np.inf)[1:]
