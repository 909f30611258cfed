"""The setting: what batch normalisation does to one channel."""

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from bnlib.figures.marks import label
from bnlib.figures.style import SERIES, TEXT, Axis, figure, place

LIMIT = 12.0
BINS = np.linspace(-LIMIT, LIMIT, 97)
WHAT = ("what the convolution sends", "what BN passes on")


def channel(before: Float[np.ndarray, " n"], after: Float[np.ndarray, " n"]) -> go.Figure:
    """Histograms of one channel's values before and after BN, on the same axis."""
    upper, lower, share = Axis("", -LIMIT, LIMIT), Axis("value in the channel", -LIMIT, LIMIT), Axis("share", 0, 0.4)
    mean = f"{round(float(before.mean()), 1) + 0.0:.1f}".replace("-", "−")  # no sign before a zero
    title = f"In: mean {mean}, spread {before.std():.2g}. Out: mean {abs(after.mean()):.0f}, spread {after.std():.0f}."
    fig = figure(title, (upper, share), (lower, share), names=WHAT, stack=True)
    for panel, (what, values, series) in enumerate(zip(WHAT, (before, after), (SERIES["none"], SERIES["batch"]), strict=True)):
        counts, _ = np.histogram(values, BINS)
        x = (BINS[1:] + BINS[:-1]) / 2
        fig.add_bar(
            x=x, y=counts / len(values), marker_color=series.colour, width=float(BINS[1] - BINS[0]), name=what, **place(panel, stack=True)
        )
        fig.add_vline(x=float(values.mean()), line={"color": TEXT, "width": 1.2}, **place(panel, stack=True))
        outside = 1 - counts.sum() / len(values)
        if outside > 0.005:
            label(fig, LIMIT, 0.3, f"{outside:.0%} lie beyond the axis", anchor="right", row=panel + 1, col=1)
    return fig
