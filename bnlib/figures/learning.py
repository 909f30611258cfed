"""Larger learning rates (paper, Fig 1): accuracy while training.

Records of one of the studies that `claims.fig1` chooses from in, figures out; beside them the paper's curves, as digitised.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from bnlib import sources
from bnlib.claims import PAPER as PAPERS
from bnlib.claims import arms, final, gain, rate
from bnlib.figures.marks import Curve, faint, labels_apart
from bnlib.figures.style import PAPER, RED, SERIES, Axis, Series, coarse, figure, powers
from bnlib.records import Record

POINTS = 120  # of a curve, at most
IMAGES = {"test images": "test", "training images": "train"}
LOOKS = {
    "large": SERIES["batch"],
    "between": Series("", "#2a86c4", "longdash", "square"),
    "matched": Series("", "#5fa8da", "dot", "triangle-up"),
    "none": SERIES["none"],
}


GLYPHS = {"large": "○", "between": "□", "matched": "△", "none": "◇"}  # the paper's marks


def setting(norm: str, lr: float, at: str = " at ") -> str:
    """Such as "BN at 0.1"."""
    return f"{'BN' if norm == 'batch' else 'no BN'}{at}{lr:g}"


def epochs_of(run: Record) -> int:
    """How long the run was to last."""
    assert run.config.train is not None
    return run.config.train.epochs


def names(runs: Sequence[Record]) -> dict[str, str]:
    """Each arm by its setting: ours, or the paper's where there is no run."""
    held = arms(runs)
    return {a: setting(norm, rate(held[a])) if a in held else f"the paper's {setting(norm, lr)}" for a, (norm, lr) in PAPERS.items()}


def menu(runs: Sequence[Record]) -> dict[str, str]:
    """What to show, for a figure's control: all arms, or one of them."""
    return {"all four": "all"} | {name: arm for arm, name in names(runs).items()}


def digitised(arm: str, part: str) -> tuple[int, Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
    """The paper's curve of an arm: its epochs, per cent of them done, and accuracy in per cent."""
    norm, lr = PAPERS[arm]
    found, key = sources.paper("fig1"), f"{'bn' if norm == 'batch' else norm}_{lr:g}"
    return found["epochs"][key], np.array(found["percent"], float), np.array(found[part][key], float)


def accuracy(runs: Sequence[Record], shown: str, part: str, epochs: bool) -> go.Figure:
    """Fig 1: accuracy on the test or the training images, against the share of training done or the epochs (logarithmic).

    Seeds faint, their median strong, a red cross where one diverged; grey and hollow, the paper.
    """
    held, chosen = arms(runs), list(PAPERS) if shown == "all" else [shown]
    x = Axis("epochs", 0.9, 90_000, log=True, ticks=powers(1, 1000)) if epochs else Axis("% of training", 0, 150, ticks=range(0, 101, 25))
    fig = figure(_finding(runs, shown, part), (x, Axis(f"{part} accuracy, %", _lowest(runs), 101)), height=420)
    labels = []
    for arm in chosen:
        total, percent, values = digitised(arm, part)
        look, at = LOOKS[arm], percent * total / 100 if epochs else percent
        marker = {"symbol": f"{look.symbol}-open", "size": 8, "color": PAPER, "line": {"width": 1.6}}
        name, line = f"the paper, digitised: {setting(*PAPERS[arm])}", {"color": PAPER, "width": 1}
        fig.add_scatter(x=coarse(at), y=values, mode="lines+markers", marker=marker, line=line, name=name)
        labels.append((float(at[-1]), float(values[-1]), f"{GLYPHS[arm]} {setting(*PAPERS[arm], ' ')}", PAPER))
    for arm in chosen:
        if arm in held:
            labels.append(_draw(fig, held[arm], arm, part, epochs, setting(PAPERS[arm][0], rate(held[arm]), " ")))
    labels_apart(fig, labels)
    return fig


def _draw(fig: go.Figure, seeds: Sequence[Record], arm: str, part: str, epochs: bool, name: str) -> tuple[float, float, str, str]:
    """Draw the runs of an arm; returns the label at their end."""
    look, low = LOOKS[arm], float(fig.layout.yaxis.range[0])
    curves = [_curve(run, part, epochs, low) for run in seeds]
    if len(curves) > 1:
        faint(fig, curves, replace(look, label=name))
    gone = [float(x[-1]) for (x, _), run in zip(curves, seeds, strict=True) if run.status != "completed"]
    if gone:
        marker = {"symbol": "x", "size": 9, "color": RED}
        fig.add_scatter(x=gone, y=[low + 1.5] * len(gone), mode="markers", marker=marker, name=f"{name} diverges")
    ended = [curve for curve, run in zip(curves, seeds, strict=True) if run.status == "completed"]
    if not ended:
        return gone[0], low + 1.5, f"{name} diverges", RED
    x, middle = ended[0][0], np.median([y for _, y in ended], axis=0)
    line = {"color": look.colour, "width": 2.5, "dash": look.dash}
    fig.add_scatter(x=x, y=coarse(middle), mode="lines", line=line, name=name)
    return float(x[-1]), float(middle[-1]), name, ink(arm)


def ink(arm: str) -> str:
    """The colour of an arm's label, darker than its line may be."""
    return SERIES[PAPERS[arm][0]].colour


def _curve(run: Record, part: str, epochs: bool, low: float) -> Curve:
    """At most POINTS of a run's curve, the first and the last among them; not finite below `low`, or where it diverged."""
    epoch, y = run.array("epoch"), 100 * run.array(f"{part}_acc")
    kept = _spread(len(epoch))
    x = epoch if epochs else 100 * epoch / epochs_of(run)
    return coarse(x[kept]), coarse(np.where(y >= low, y, np.nan)[kept])


def _spread(count: int) -> np.ndarray:
    """At most POINTS of the numbers 0 ... count - 1, half of them evenly, half evenly over their logarithm."""
    if count <= POINTS:
        return np.arange(count)
    even, logarithmic = np.linspace(0, count - 1, POINTS // 2), np.geomspace(1, count, POINTS // 2) - 1
    return np.unique(np.concatenate([even, logarithmic]).round().astype(int))


def _lowest(runs: Sequence[Record]) -> int:
    """Where the axis of accuracy begins: the tens below all that is shown of the last 95 % of training."""
    shown = [digitised(arm, part)[2] for arm in PAPERS for part in IMAGES.values()]
    for seeds in arms(runs).values():
        for run in seeds:
            late = run.array("epoch") >= 0.05 * epochs_of(run)
            shown += [100 * run.array(f"{part}_acc")[late] for part in IMAGES.values()]
    return int(np.nanmin(np.concatenate(shown)) // 10) * 10


def _finding(runs: Sequence[Record], shown: str, part: str) -> str:
    """How far above the net without BN those with it end, ours beside the paper's: medians over seeds."""
    held = arms(runs)
    if shown != "all":
        return _one_arm(held.get(shown, []), shown, part)
    with_bn = ("large", "matched")
    papers = [float(digitised(arm, part)[2][-1] - digitised("none", part)[2][-1]) for arm in with_bn]
    on = ", training images" * (part == "train")
    if not {"large", "none"} <= held.keys():
        return f"The paper{on}: {_above(papers, PAPERS['large'][1], PAPERS['none'][1])}"
    ours = _above([median_gain(runs, arm, "none", part) for arm in with_bn if arm in held], rate(held["large"]), rate(held["none"]))
    return f"Ours{on}: {ours} (the paper: {' and '.join(f'{points:+.1f}' for points in papers)})".replace("-", "−")


def _above(points: Sequence[float], large: float, own: float) -> str:
    """Such as "BN at 0.1 ends 20.2 points above none at 0.01, and at that same rate 15.2 above"."""
    same = f", and at that same rate {_apart(points[1], '')}" if len(points) == 2 else ""
    return f"BN at {large:g} ends {_apart(points[0], ' points')} none at {own:g}{same}"


def _apart(points: float, unit: str) -> str:
    """Such as "0.7 points below"; a question mark where a run diverged."""
    if not math.isfinite(points):
        return f"?{unit} (diverged) above"
    return f"{abs(points):.1f}{unit} {'above' if points >= 0 else 'below'}"


def median_gain(runs: Sequence[Record], better: str, worse: str, part: str = "test") -> float:
    """Points of final accuracy between two arms, the median over the seeds that both have; NaN where one of them diverged."""
    points = gain(runs, better, worse, part)
    return float(np.median(points)) if len(points) and np.isfinite(points).all() else math.nan


def _one_arm(seeds: Sequence[Record], arm: str, part: str) -> str:
    total, _, values = digitised(arm, part)
    if not seeds:
        return f"The paper's {setting(*PAPERS[arm])}: {values[-1]:.1f} % after {total:,} epochs; not measured here yet"
    ended = [value for run in seeds if math.isfinite(value := final(run, part))]
    ours = f"{np.median(ended):.1f} % after {epochs_of(seeds[0]):,} epochs" if ended else "diverges"
    papers = f" at {PAPERS[arm][1]:g}" if rate(seeds) != PAPERS[arm][1] else ""
    return f"{setting(PAPERS[arm][0], rate(seeds))}: {ours}; the paper{papers}: {values[-1]:.1f} % after {total:,}"


def provenance(runs: Sequence[Record]) -> sources.Source:
    """The line below a figure of these runs; of the paper's curves alone where there are none."""
    if runs:
        ours = sources.source(runs)
        return replace(ours, line=f"in colour · {ours.line} · in grey: the paper's Fig 1, digitised")
    return sources.Source("from the paper", "Fig 1, digitised; no run of ours is recorded yet", None, [])
