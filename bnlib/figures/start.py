"""The first updates in the paper's four settings. Runs by arm in, as `claims.first_updates` finds them, figures out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go

from bnlib import train
from bnlib.claims import PAPER as PAPERS
from bnlib.claims import spread
from bnlib.figures.learning import LOOKS, ink, setting
from bnlib.figures.marks import faint, labels_apart
from bnlib.figures.style import RED, Axis, coarse, figure
from bnlib.records import Record


def losses(held: Mapping[str, Sequence[Record]], close: bool) -> go.Figure:
    """The loss of each of the first mini-batches before its update, in the paper's settings; both axes are logarithmic.

    Seeds faint, their geometric mean strong; in the close-up the axes are linear and the mean is over 11 updates, too.
    """
    found = {arm: [run.array("step_loss") for run in seeds] for arm, seeds in held.items()}
    count, top = max(len(loss) for seeds in found.values() for loss in seeds), 4.0
    ends = np.concatenate([(np.nanmin(loss), np.max(loss[np.isfinite(loss)])) for seeds in found.values() for loss in seeds])
    whole = Axis("mini-batch loss", float(ends.min()) / 1.5, max(10.0, float(ends.max())) * 1.5, log=True)
    y = Axis("mini-batch loss", min(math.floor(2 * ends.min()) / 2, 2.0), top) if close else whole
    x = Axis("mini-batch", 0, 1.5 * count, ticks=range(0, count + 1, 100)) if close else Axis("mini-batch", 0.9, 12 * count, log=True)
    if not close:
        x = replace(x, ticks=[tick for tick in (1, 3, 10, 30, 100, 300) if tick <= count])
    fig = figure(_from_to(held, found), (x, y))
    labels = []
    for arm, seeds in found.items():
        look, name = LOOKS[arm], setting(*PAPERS[arm], " ")
        if len(seeds) > 1:
            shown = [np.where(loss <= top, loss, np.nan) if close else loss for loss in seeds]
            faint(fig, [(np.arange(1.0, len(loss) + 1), loss) for loss in shown], replace(look, label=name))
        gone = [loss for loss, run in zip(seeds, held[arm], strict=True) if run.status != "completed"]
        if gone:
            marker, last = {"symbol": "x", "size": 9, "color": RED}, [min(float(loss[np.isfinite(loss)][-1]), y.high) for loss in gone]
            fig.add_scatter(x=[len(loss) for loss in gone], y=last, mode="markers", marker=marker, name=f"{name} diverges")
        if survived := [loss for loss, run in zip(seeds, held[arm], strict=True) if run.status == "completed"]:
            mean = np.exp(np.mean([np.log(loss) for loss in survived], axis=0))
            end = float(np.exp(np.log(mean[-train.WINDOW :]).mean()))
            if close:
                mean = np.convolve(np.pad(mean, 5, mode="edge"), np.full(11, 1 / 11), mode="valid")
                mean = np.where(mean <= top, mean, np.nan)
            line = {"color": look.colour, "width": 2.5, "dash": look.dash}
            fig.add_scatter(x=np.arange(1.0, len(mean) + 1), y=coarse(mean), mode="lines", line=line, name=name)
            labels.append((count, min(end, y.high), name, ink(arm)))
    labels_apart(fig, labels)
    return fig


def _from_to(held: Mapping[str, Sequence[Record]], losses: Mapping[str, Sequence[np.ndarray]]) -> str:
    """The loss of the first mini-batch and of the last 20 without BN and at the large rate, medians over seeds."""
    words = []
    for arm in [arm for arm in ("none", "large") if arm in held]:
        gone = sum(run.status != "completed" for run in held[arm])
        last = f"{np.median([loss[-train.WINDOW :].mean() for loss in losses[arm]]):.3g}" if not gone else f"{gone} diverge"
        words.append(f"{np.median([loss[0] for loss in losses[arm]]):.3g} → {last} ({setting(*PAPERS[arm])})")
    return f"Loss from the first mini-batch to the last: {', '.join(words)}"


def at_start(held: Mapping[str, Sequence[Record]]) -> str:
    """In words, the loss before the first update, which no rate has changed yet: medians and ranges of the seeds, with BN and without."""
    losses: dict[str, dict[int, float]] = {}
    for arm, seeds in held.items():
        losses.setdefault(PAPERS[arm][0], {}).update({run.config.seed: run.measured["initial_loss"] for run in seeds})
    names = {"batch": "with BN", "none": "without"}
    return "; ".join(f"{spread(list(of_seed.values()), '.3g')} {names[norm]}" for norm, of_seed in losses.items())
