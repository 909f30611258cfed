"""The causal ladder: is it BN, or the rate that it permits?

Records of the studies `ladder` and, of networks at initialisation, `init` in, figures and Markdown out.
"""

import math
import textwrap
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from bnlib import train
from bnlib.claims import BN_RATE, NAMES, SHARE, beginning, progress_at, relative_step, spread, trained, updated
from bnlib.figures.marks import crosses, faint, labels_apart, theory
from bnlib.figures.style import RED, SERIES, TEXT, Axis, Series, coarse, figure
from bnlib.figures.variants import AXIS, RANGE, note, rows, value
from bnlib.records import Record
from bnlib.studies import CAUSAL_RATES, FIRST, RUNGS, rates_of, rung
from bnlib.text import number_text, readable

LOW, TOP = 1.5, 2.6  # of the losses that are drawn
MEASURES = {
    "a / b, median layer": "coherence_ratio",
    "kurtosis of gradients, median layer": "gradient_kurtosis",
    "growth of σ over the network": "growth",
}
BY = {"learning rate": "rate", "relative step": "step"}
LOOKS = {name: SERIES[name] for name in ("none", "last-features", "batch")} | {
    "clip": Series("clipping", TEXT, "dot", "cross"),
    "fixup": Series("Fixup", "#CC79A7", "dashdot", "triangle-up"),
    "skipinit": Series("SkipInit", "#56B4E9", "longdashdot", "x"),
}
WORDS = NAMES | {"batch": "BN", "last-features": "BN at the end"}  # beside a curve
_RATE = Axis("learning rate", 0.007, 1.6, log=True, ticks=CAUSAL_RATES, labels=[number_text(r) for r in CAUSAL_RATES])
_PER_CENT = (0.03, 0.1, 0.3, 1, 3, 10)
_STEP = Axis("relative step ρ, % an update", 0.02, 30, log=True, ticks=_PER_CENT, labels=[f"{x:g}" for x in _PER_CENT])
_ENDS = {"rate": (0.007, 1.6), "step": (0.02, 30.0)}


def loss(run: Record) -> float:
    """The mean of the last 20 mini-batch losses; infinite where the run diverged."""
    return float(run.array("step_loss")[-train.WINDOW :].mean()) if run.status == "completed" else math.inf


def at_equal(ladder: Sequence[Record], by: str) -> go.Figure:
    """The loss after 100 updates against the nominal rate, or against the relative step that it came to; a thin line where BN is at 0.1.

    Seeds faint, their mean strong; red crosses at the top: diverged. Losses above the axis are drawn at its top.
    """
    fig = figure(_finding(ladder, by), (_RATE if by == "rate" else _STEP, Axis("loss after 100 updates", LOW, TOP)), height=440)
    labels = []
    for name, look in LOOKS.items():
        cells = [trained(ladder, name, lr) for lr in rates_of(name)]
        faint(fig, [_points([r for cell in cells for r in cell if r.config.seed == seed], by) for seed in _seeds(ladder)], look)
        kept = [_points([r for r in cell if r.status == "completed"], by) for cell in cells]
        at = np.array([np.exp(np.log(x).mean()) for x, _ in kept if len(x)])
        mean = np.array([y.mean() for _, y in kept if len(y)])
        line, marker = {"color": look.colour, "width": 2.5, "dash": look.dash}, {"symbol": look.symbol, "size": 8, "color": look.colour}
        fig.add_scatter(x=at, y=np.minimum(mean, TOP), mode="lines+markers", line=line, marker=marker, name=WORDS[name])
        if len(at):
            far = int(at.argmax())  # at equal steps a curve may turn back, where a network has died
            labels.append((float(at[far]), min(float(mean[far]), TOP), WORDS[name], look.colour))
    gone = [r for r in ladder if r.config.probe is None and r.status != "completed"]
    x, _ = _points(gone, by)
    crosses(fig, np.clip(x, *_ENDS[by]), np.full(len(x), TOP))
    if gone:
        said = f"✕ diverged: {'; '.join(_where(gone, name) for name in RUNGS if any(rung(r.config) == name for r in gone))}"
        lines = textwrap.wrap(said, 40)  # a narrow window takes no longer ones
        fig.update_layout(margin_t=14 + 16 * len(lines))
        note(fig, "<br>".join(lines))
    _reference(fig, ladder, by)
    labels_apart(fig, labels)
    return fig


def _where(runs: Sequence[Record], name: str) -> str:
    """Such as "clipping at 0.1, 0.316"."""
    rates = sorted({r.config.train.lr for r in runs if r.config.train and rung(r.config) == name})
    return f"{WORDS[name]} at {', '.join(number_text(lr) for lr in rates)}"


def _seeds(ladder: Sequence[Record]) -> list[int]:
    return sorted({r.config.seed for r in ladder if r.config.probe is None})


def _points(runs: Sequence[Record], by: str) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Where runs lie: rate, or relative step in per cent, and loss, not finite as NaN."""
    x = [r.config.train.lr if by == "rate" else 100 * relative_step(r) for r in runs if r.config.train]
    y = [loss(r) for r in runs]
    return np.array(x, float), np.array([min(v, TOP) if math.isfinite(v) else math.nan for v in y], float)


def _reference(fig: go.Figure, ladder: Sequence[Record], by: str) -> None:
    """Thin lines: knowing nothing, and BN at 0.1."""
    low, high = _ENDS[by]
    theory(fig, np.array([low, high]), np.array([train.CHANCE, train.CHANCE]), "ln 10")
    x, _ = _points(trained(ladder, "batch", BN_RATE), by)
    if len(x):
        at = float(np.exp(np.log(x).mean()))
        theory(fig, np.array([at, at]), np.array([LOW, TOP]), f"BN at {BN_RATE}")


def _finding(ladder: Sequence[Record], by: str) -> str:
    """The losses at BN's rate of 0.1, or at the relative step that it makes there, medians over seeds."""
    batch = trained(ladder, "batch", BN_RATE)
    if not batch:
        return "The ladder is not measured yet"
    words = []
    for name in RUNGS:
        if by == "rate" or name == "batch":
            losses = [loss(r) for r in trained(ladder, name, BN_RATE)]
        else:
            losses = [train.CHANCE - progress_at(ladder, name, r.config.seed, relative_step(r)) for r in batch]
        middle = float(np.median(losses)) if losses else math.nan
        words.append(f"{WORDS[name]} {middle:.2f}" if math.isfinite(middle) else f"{WORDS[name]} –")
    step = readable(100 * float(np.median([relative_step(r) for r in batch])))
    where = f"a learning rate of {BN_RATE}" if by == "rate" else f"BN's relative step, {step} %"
    return f"Loss at {where}: {', '.join(words)}"


def losses(ladder: Sequence[Record], lr: float) -> go.Figure:
    """The loss of each mini-batch before its update, at one rate; seeds faint, strong their mean over 11 updates, too."""
    x, y = Axis("update", 0, 138, ticks=range(0, 101, 25)), Axis("mini-batch loss", LOW, 3.0)
    fig, labels, gone = figure(f"100 updates at {number_text(lr)}{_ends(ladder, lr)}", (x, y), height=440), [], []
    for name, look in LOOKS.items():
        runs = trained(ladder, name, lr)
        curves = [(np.arange(len(y), dtype=float), np.where(y <= 3, y, np.nan)) for y in (r.array("step_loss") for r in runs)]
        faint(fig, curves, look, 0.15)
        survived = [r.array("step_loss") for r in runs if r.status == "completed"]
        mean = _smooth(np.mean(survived, axis=0)) if survived else np.array([math.nan])
        line = {"color": look.colour, "width": 2.5, "dash": look.dash}
        fig.add_scatter(y=coarse(np.where(mean <= 3, mean, np.nan)), mode="lines", line=line, name=WORDS[name])
        if survived:
            labels.append((99, min(float(mean[-1]), 3.0), WORDS[name], look.colour))
        diverged = [len(r.array("step_loss")) - 1 for r in runs if r.status != "completed"]
        gone += diverged
        if diverged and not survived:
            labels.append((max(diverged), 2.95, f"{WORDS[name]} diverges", RED))
    crosses(fig, np.array(gone, float), np.full(len(gone), 2.95))
    theory(fig, np.array([0.0, 100.0]), np.array([train.CHANCE, train.CHANCE]), "ln 10")
    labels_apart(fig, labels)
    return fig


def _ends(ladder: Sequence[Record], lr: float) -> str:
    """The rungs from the lowest loss at the end to the highest, medians over seeds, and on how many of these each diverged."""
    ends = {name: [loss(r) for r in trained(ladder, name, lr)] for name in RUNGS}
    middle = {name: float(np.median(values)) for name, values in ends.items() if values}
    said = []
    for name in sorted(middle, key=lambda name: middle[name]):
        end, lost = f"{middle[name]:.2f}" if math.isfinite(middle[name]) else "–", sum(map(math.isinf, ends[name]))
        said.append(f"{WORDS[name]} {end}" + f" ({lost} of {len(ends[name])} diverged)" * (lost > 0))
    if not said:
        return ": not yet measured"
    missing = ", ".join(WORDS[name] for name in RUNGS if name not in middle)
    return f", loss at the end: {', '.join(said)}" + f"; not yet measured: {missing}" * bool(missing)


def _smooth(y: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    return np.convolve(np.pad(y, 5, mode="edge"), np.full(11, 1 / 11), mode="valid")


def after_ten(init: Sequence[Record], ladder: Sequence[Record], measure: str) -> go.Figure:
    """A measure of ResNet-110 on each rung: hollow at initialisation, filled after ten updates; a mark a seed.

    Where the first gradients are zero nothing is defined but the growth of sigma; a red cross where the run diverged before.
    """
    places = [(name, lr) for name in RUNGS for lr in FIRST[name]]
    low, high = RANGE[measure]
    fig = rows(
        _change(init, ladder, measure),
        [f"{WORDS[name]}, {number_text(lr)}" for name, lr in places],
        Axis(AXIS[measure], low, high, log=True),
    )
    for row, (name, lr) in enumerate(places):
        look = LOOKS[name]
        before = np.array([value(r, measure) for r in first(init, name)])
        runs = updated(ladder, name, lr)
        after = np.array([value(r, measure) for r in runs if r.status == "completed"])
        ends = np.array([float(np.median(x)) if len(x) else math.nan for x in (before, after)])
        fig.add_scatter(x=ends, y=[row, row], mode="lines", line={"color": look.colour, "width": 1.5}, name=WORDS[name], hoverinfo="skip")
        for x, symbol, when in ((before, "circle-open", "at first"), (after, "circle", "after 10 updates")):
            marker = {"symbol": symbol, "size": 10, "color": look.colour, "line": {"width": 1.8 if when == "at first" else 0}}
            inside = np.where((x >= low) & (x <= high), x, math.nan)
            fig.add_scatter(x=coarse(inside), y=[row] * len(x), mode="markers", marker=marker, opacity=0.75, name=f"{WORDS[name]}, {when}")
        gone = [r for r in runs if r.status != "completed"]
        crosses(fig, np.full(len(gone), low * 1.15), np.full(len(gone), float(row)))
    note(fig, "○ at first · ● after 10 updates · ✕ diverged")
    return fig


def first(init: Sequence[Record], name: str) -> list[Record]:
    """The records of a rung's ResNet-110 at initialisation, of the ladder's seeds."""
    changes, _ = RUNGS[name]
    return [r for r in beginning(init, changes["norm"], block=changes.get("block", "residual")) if r.config.seed < 3]


def _change(init: Sequence[Record], ladder: Sequence[Record], measure: str) -> str:
    words = []
    for name in ("clip", "fixup", "skipinit", "batch"):
        values = [value(r, measure) for r in updated(ladder, name, BN_RATE) if r.status == "completed"]
        middle = float(np.median(values)) if values else math.nan
        words.append(f"{WORDS[name]} {readable(middle) if math.isfinite(middle) else '–'}")
    what = {"coherence_ratio": "Ratio a/b", "gradient_kurtosis": "Kurtosis", "growth": "Growth of σ"}[measure]
    start = readable(float(np.median([value(r, measure) for r in first(init, "none")])))
    return f"{what} after 10 updates at {BN_RATE}: {', '.join(words)}; without, at first, {start}"


def largest(ladder: Sequence[Record], name: str) -> str:
    """The largest of the rates at which a rung trains (loss below 2.2 in the end) on every seed, in words."""
    held = {lr: trained(ladder, name, lr) for lr in rates_of(name)}
    good = [lr for lr, runs in held.items() if runs and all(loss(r) < 2.2 for r in runs)]
    return number_text(max(good)) if good else "none of these"


def table(ladder: Sequence[Record]) -> str:
    """Markdown: each rung's loss at BN's rate and at BN's relative step, its own relative step, and the largest rate that trains."""
    lines = ["| | loss at 0.1 | relative step there, % | loss at BN's relative step | largest rate that trains |", "|---|---|---|---|---|"]
    batch = trained(ladder, "batch", BN_RATE)
    for name in RUNGS:
        runs = trained(ladder, name, BN_RATE)
        if not runs:
            lines.append(f"| {NAMES[name]} | not yet measured | | | |")
            continue
        ends, steps = np.array([loss(r) for r in runs]), [100 * relative_step(r) for r in runs]
        matched = np.array([train.CHANCE - progress_at(ladder, name, r.config.seed, relative_step(r)) for r in batch])
        matched = ends if name == "batch" else matched
        lines.append(f"| {NAMES[name]} | {_cell(ends)} | {spread(steps, '.2g')} | {_cell(matched)} | {largest(ladder, name)} |")
    return "\n".join(lines)


def _cell(losses: Float[np.ndarray, " seeds"]) -> str:
    finite = losses[np.isfinite(losses)]
    return spread(finite, ".2f") if len(finite) == len(losses) > 0 else f"– in {len(losses) - len(finite)} of {len(losses)} seeds"


def reading(ladder: Sequence[Record]) -> str:
    """What the figure says, in sentences, whichever way it came out: at BN's relative step, who keeps up and who does not."""
    batch = trained(ladder, "batch", BN_RATE)
    if not batch:
        return answer(ladder)
    progress = {name: _matched(ladder, name) for name in ("clip", "fixup", "skipinit", "last-features")}
    own = train.CHANCE - float(np.median([loss(r) for r in batch]))
    shares = {name: value / own for name, value in progress.items() if math.isfinite(value)}
    said = ", ".join(f"{NAMES[name]} {share:.0%}" for name, share in sorted(shares.items(), key=lambda item: -item[1]))
    lost = " and ".join(NAMES[name] for name in progress if name not in shares)
    return (
        "**What it means.** Count how far the loss has come below $\\ln 10$. At BN's relative step the others come this share of its way: "
        + f"{said or 'none'}."
        + f" No rate that we tried brings {lost} to such steps on most seeds." * bool(lost)
        + f" {answer(ladder)}"
    )


def answer(ladder: Sequence[Record]) -> str:
    """Is it BN, or the rate? By the share of BN's progress that clipping makes at BN's relative step: it changes nothing but the step."""
    batch = trained(ladder, "batch", BN_RATE)
    if not batch or not math.isfinite(_matched(ladder, "clip")):
        return "Whether it is BN or the rate, the ladder has not answered yet."
    share = _share(ladder, "clip")
    said = f"Clipping alone, with steps as long as BN's, goes {share:.0%} of its way in a hundred updates"
    if share >= SHARE:
        return f"{said}: so far it is the rate."
    return f"{said}: to bear the step is not yet to learn by it, and so far it is not the rate alone."


def _matched(ladder: Sequence[Record], name: str) -> float:
    """The median over seeds of a rung's progress at BN's relative step."""
    batch = trained(ladder, "batch", BN_RATE)
    return float(np.median([progress_at(ladder, name, r.config.seed, relative_step(r)) for r in batch]))


def _share(ladder: Sequence[Record], name: str) -> float:
    """A rung's progress at BN's relative step, as a share of BN's."""
    return _matched(ladder, name) / (train.CHANCE - float(np.median([loss(r) for r in trained(ladder, "batch", BN_RATE)])))


def cancelling(init: Sequence[Record], ladder: Sequence[Record]) -> str:
    """What a/b after ten updates says of who learns fast, in sentences; nothing until BN and clipping are measured."""
    before = {name: [value(r, "coherence_ratio") for r in first(init, name)] for name in ("batch", "clip")}
    after = {name: [value(r, "coherence_ratio") for r in updated(ladder, name, BN_RATE) if r.status == "completed"] for name in before}
    if not all([*before.values(), *after.values(), trained(ladder, "batch", BN_RATE)]):
        return ""
    moved = {name: f"from {spread(before[name], '.2g')} to {spread(after[name], '.2g')}" for name in before}
    share, times = _share(ladder, "clip"), float(np.median(after["clip"]) / np.median(after["batch"]))
    said = f"**What it means.** Ten updates at {BN_RATE} take $a/b$ {moved['batch']} with BN, and {moved['clip']} with clipping. "
    if times > 1 and share < SHARE:
        return said + (
            f"So clipping ends with {readable(times)} times BN's ratio, while at BN's relative step it comes only {share:.0%} of BN's way "
            "(20 layers, above). Once training has begun, the ratio does not tell who learns fast. What it describes is the first step."
        )
    return said + f"At BN's relative step clipping comes {share:.0%} of BN's way (20 layers, above)."
