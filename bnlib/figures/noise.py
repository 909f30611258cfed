"""The noise of mini-batch gradients at initialisation (paper, Sec 2.1): against its bound, and beside the bias that BN adds.

Records of study `noise` in, figures out.
"""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from bnlib.claims import held
from bnlib.figures.marks import faint, label, theory
from bnlib.figures.style import SERIES, TEXT, Axis, coarse, figure, powers
from bnlib.records import Record
from bnlib.studies import BIASED_SIZES, NOISE_SIZES
from bnlib.text import number_text, power_label, readable

IMAGES = 512  # that the mini-batches are drawn from
RATES = (1e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1)
WAYS = {"with": "with_replacement", "without": "without_replacement"}
_SIZE = Axis("mini-batch size |B|", 0.75, 1200, log=True, ticks=NOISE_SIZES[::2])


def factor(size: int | Float[np.ndarray, " size"]) -> float | Float[np.ndarray, " size"]:
    """(N - |B|) / (N - 1): what drawing without replacement leaves of the noise, N = 512."""
    return (IMAGES - size) / (IMAGES - 1)


def noise(records: Sequence[Record], depth: int, lr: float, size: int) -> go.Figure:
    """The mean of |α g_B - α g|^2 over drawn mini-batches, against |B|, and below it over the bound α^2 C / |B|.

    Thin: the bound, the full step |α g|^2, and below the exact factors 1 and (N - |B|) / (N - 1). Means over seeds; below, each seed.
    """
    seeds = held(records, norm="none", depth=depth)
    sizes = np.array(NOISE_SIZES, float)
    C, step = (np.array([float(r.array(name)) for r in seeds]) for name in ("C", "norm"))
    drawn = {way: np.stack([r.array(name) for r in seeds]) for way, name in WAYS.items()}
    place, bound = NOISE_SIZES.index(size), lr**2 * float(C.mean()) / sizes
    at = {way: lr**2 * float(values[:, place].mean()) for way, values in drawn.items()}
    title = (
        f"|B| = {size} at {number_text(lr)}: bound {readable(bound[place])}, drawn {readable(at['with'])} with replacement, "
        f"{readable(at['without'])} without"
    )
    ends = [RATES[0] ** 2 * C.mean() / 1200, RATES[-1] ** 2 * max(C.mean(), step.mean())]
    low, high = 10 ** np.floor(np.log10(ends[0])), 10 ** np.ceil(np.log10(ends[1]) + 0.3)
    ticks = powers(float(low), float(high), 6)
    top = Axis("mean |α g<sub>B</sub> − α g|²", float(low), float(high), log=True, ticks=ticks, labels=[power_label(t) for t in ticks])
    fig = figure(title, (_SIZE, top), (_SIZE, Axis("over the bound", 0, 1.3, ticks=(0, 0.5, 1))), height=540, stack=True)
    fig.layout.yaxis.domain, fig.layout.yaxis2.domain = (0.45, 1.0), (0.0, 0.3)
    fig.update_xaxes(title_text="", row=1, col=1)
    theory(fig, sizes, coarse(bound), "the bound", row=1, col=1)
    theory(fig, sizes[[0, -1]], coarse(np.full(2, lr**2 * step.mean())), "the full step", row=1, col=1)
    label(fig, 1, float(lr**2 * step.mean()), "the full step, |α g|²", shift=-10, row=1, col=1)
    label(fig, 4, float(bound[2]), "the bound, α²C/|B|", shift=12, row=1, col=1)
    theory(fig, sizes[[0, -1]], np.ones(2), "exact, with replacement", row=2, col=1)
    fine = np.geomspace(1, IMAGES, 40)
    theory(fig, coarse(fine), coarse(np.asarray(factor(fine))), "exact, without", row=2, col=1)
    for way, values in drawn.items():
        look = {"symbol": "diamond" if way == "with" else "diamond-open", "size": 8, "color": SERIES["none"].colour}
        mean = lr**2 * values.mean(0)
        shown = np.where(mean > 0, mean, np.nan)
        fig.add_scatter(x=sizes, y=coarse(shown), mode="markers", marker=look, name=f"drawn {way} replacement", row=1, col=1)
        share = values * sizes / C[:, None]
        for values_of_seed in share:
            faint = look | {"size": 6, "opacity": 0.6}
            y = coarse(values_of_seed)
            fig.add_scatter(x=sizes, y=y, mode="markers", marker=faint, name=f"{way} replacement", row=2, col=1)
    label(fig, 2, 1.0, "◆ drawn with replacement: 1", SERIES["none"].colour, shift=12, row=2, col=1)
    label(fig, 2, 1.0, "◇ without: (N − |B|)/(N − 1)", SERIES["none"].colour, shift=-14, row=2, col=1)
    for axis in ("", "2"):
        mark = {"color": TEXT, "width": 1, "dash": "dot"}
        fig.add_shape(type="line", x0=size, x1=size, y0=0, y1=1, xref=f"x{axis}", yref=f"y{axis} domain", line=mark)
    return fig


def bias(records: Sequence[Record], depth: int, share: bool) -> go.Figure:
    """Variance and squared bias of the mini-batch gradient about the gradient of all 512 images, in units of its squared length.

    With `share`, as shares of the mean squared error, which is their sum. Each seed faint, their median strong.
    """
    sizes = np.array(BIASED_SIZES, float)
    x = Axis("mini-batch size |B|", 6, 260, log=True, ticks=BIASED_SIZES)
    parts = {norm: moments(records, norm, depth) for norm in ("batch", "none")}
    first = {norm: _per_cent(float(np.median(_shown(parts[norm], share)["bias"][:, 0]))) for norm in parts}
    what = "of the squared error" if share else "of the gradient's squared length"
    title = f"{depth} layers, |B| = {BIASED_SIZES[0]}: the squared bias is {first['batch']} {what} with BN, {first['none']} without"
    everything = [_shown(moments(records, norm, d), share) for norm in parts for d in (8, 20)]
    fig = figure(
        title,
        *((x, _axis(name, share, np.concatenate([one[key].ravel() for one in everything]))) for key, name in _PARTS.items()),
        height=500,
        stack=True,
    )
    fig.update_xaxes(title_text="", row=1, col=1)
    for row, key in enumerate(_PARTS, start=1):
        for norm, part in parts.items():
            series, values = SERIES[norm], _shown(part, share)[key]
            faint(fig, [(sizes, one) for one in values], series, row=row, col=1)
            look = {"line": {"color": series.colour, "width": 2.5, "dash": series.dash}, "marker": {"symbol": series.symbol, "size": 8}}
            middle = np.median(values, axis=0)
            fig.add_scatter(x=sizes, y=coarse(middle), mode="lines+markers", name=series.label, **look, row=row, col=1)
            label(fig, sizes[-1], float(middle[-1]), series.label, series.colour, shift=8 if norm == "batch" else -8, row=row, col=1)
    theory(fig, np.array([6.0, 260.0]), np.zeros(2), "no bias", row=1, col=1)
    return fig


_PARTS = {"bias": "bias²", "variance": "variance"}


def moments(records: Sequence[Record], norm: str, depth: int) -> dict[str, Float[np.ndarray, "seeds size"]]:
    """Squared bias and variance over the squared length of the full gradient."""
    seeds = held(records, norm=norm, depth=depth)
    return {name: np.stack([r.array(name) / float(r.array("norm")) for r in seeds]) for name in _PARTS}


def _shown(part: dict[str, Float[np.ndarray, "seeds size"]], share: bool) -> dict[str, Float[np.ndarray, "seeds size"]]:
    whole = part["bias"] + part["variance"] if share else np.ones_like(part["bias"])
    return {name: values / whole for name, values in part.items()}


def _per_cent(share: float) -> str:
    return f"{round(100 * share, 1) + 0.0:.1f} %".replace("-", "−")


def _axis(name: str, share: bool, values: Float[np.ndarray, " n"]) -> Axis:
    unit = "share of the error" if share else "over |g|²"
    room = 0.08 * float(values.max() - min(0.0, values.min()))
    return Axis(f"{name}, {unit}", min(0.0, float(values.min())) - room, float(values.max()) + room)
