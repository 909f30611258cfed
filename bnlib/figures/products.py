"""Products of random matrices: singular values against their limiting law (Theorem 1, Fig 8), their spread, and re-standardising.

Records of studies `spectra`, `relu` and `propagation` in, figures and a Markdown table out.
"""

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from bnlib import matrices, sources
from bnlib.claims import law_distance
from bnlib.figures.marks import curve, from_paper, label, labels_apart, theory
from bnlib.figures.style import PAPER, SERIES, Axis, Series, coarse, figure, place
from bnlib.records import Record, select
from bnlib.studies import FACTORS
from bnlib.text import power_label, readable

SIZES = (50, 200, 1000)
VIEWS = {"singular values s": "s", "squares s²": "square", "logarithms (ln s)/M": "log"}
QUANTITIES = {"condition number": "condition", "largest singular value": "largest", "stable rank": "rank"}
HELD = {"stable rank": "stable_rank", "cosine of two samples": "cosine", "scale": "rms"}
BINS = 50  # of the paper's Fig 8
_PLAIN, _STANDARD = SERIES["none"], SERIES["batch"]
_WITH_RELU = Series("with ReLUs", "#009E73", "solid", "square")
_WITHOUT_RELU = Series("without", _PLAIN.colour, _PLAIN.dash, _PLAIN.symbol)
_POWER = {"s": 1, "square": 2}
_DENSITY = {
    "s": (Axis("s / law's largest", 0, 1.12, ticks=(0, 0.25, 0.5, 0.75, 1)), Axis("density", 0.01, 100, log=True)),
    "square": (Axis("s² / law's largest", 0, 1.12, ticks=(0, 0.25, 0.5, 0.75, 1)), Axis("density", 0.01, 100, log=True)),
    "log": (Axis("(ln s)/M", -4, 1), Axis("density", 0, 2.4)),
}
_CONDITION = Axis(
    "condition number", 1, 1e120, log=True, ticks=[10.0**k for k in range(0, 121, 30)], labels=["1", "10³⁰", "10⁶⁰", "10⁹⁰", "10¹²⁰"]
)
_MANY = Axis("factors M", 0, 68, ticks=(1, 16, 32, 48, 64))
_FEW = Axis("factors M", 0.9, 110, log=True, ticks=(1, 2, 4, 8, 16, 32, 64))
_GROWTH = {
    "condition": (_MANY, _CONDITION),
    "largest": (_FEW, Axis("largest singular value", 0.9, 20, log=True, ticks=(1, 2, 5, 10, 20))),
    "rank": (_FEW, Axis("stable rank", 0.9, 1000, log=True)),
}
_HELD = {
    "stable_rank": Axis("stable rank", 0.9, 100, log=True),
    "cosine": Axis("mean |cosine|", 0, 1),
    "rms": Axis("root mean square", 0.2, 5, log=True, ticks=(0.2, 0.5, 1, 2, 5)),
}


Group = Mapping[tuple[int, int], Sequence[Record]]


def by_size(records: Sequence[Record]) -> dict[tuple[int, int], list[Record]]:
    """The records of study `spectra` by (M, N), a seed each."""
    return {(M, N): select(records, M=M, N=N) for N in SIZES for M in FACTORS}


def log_values(records: Sequence[Record]) -> Float[np.ndarray, "seeds N"]:
    """ln of the singular values, descending; a row a seed."""
    return np.stack([record.array("log_singular_values") for record in records])


def density(spectra: Group, M: int, N: int, view: str) -> go.Figure:
    """Theorem 1: histograms of sampled values, faint for a seed and strong for all, against the law (thin).

    Singular values and squares are shown in units of the law's largest one, logarithms per factor. Grey and hollow, of Fig 8: the
    height of the first bin and the right edge.
    """
    logs, edge = log_values(spectra[M, N]), matrices.log_largest_limit(M)
    gap = max(law_distance(record) for record in spectra[M, N])
    largest = np.exp(np.median(logs[:, 0]))
    title = f"M = {M}, N = {N}: largest s {largest:.3g}, the law's {np.exp(edge):.3g}; no share is off by more than {gap:.1%}"
    fig = figure(title, _DENSITY[view])
    values = logs / M if view == "log" else np.exp(_POWER[view] * (logs - edge))
    axis = _DENSITY[view][0]
    bins = np.linspace(axis.low, axis.high, BINS + 7)
    for i, row in enumerate([*values[:5], values]):
        share = np.histogram(row, bins)[0] / row.size / np.diff(bins)
        y = coarse(np.append(np.where(share > 0, share, np.nan), np.nan))
        line = {"color": _PLAIN.colour, "shape": "hv", "width": 2.5 if i == len(values[:5]) else 1}
        fig.add_scatter(x=bins, y=y, mode="lines", line=line, opacity=1 if i == len(values[:5]) else 0.3, name="sampled")
    x, y = _law(M, view)
    theory(fig, x, y, "law")
    top = 2.2 if view == "log" else 50
    if matrices.limit_warning(M, N):
        label(fig, axis.high, top, f"{M} factors are not few against N = {N}:", anchor="right")
        label(fig, axis.high, top, "the law (thin) does not apply", anchor="right", shift=-17)
    else:
        label(fig, axis.high, top, "thin: the law for N → ∞", anchor="right")
    digitised = sources.paper("fig8")
    if N == 1000 and view == "s" and M in digitised["factors"]:
        right, count = (
            digitised[key][digitised["factors"].index(M)] / unit for key, unit in (("right_edge", np.exp(edge)), ("first_bin_count", 1e4))
        )
        from_paper(fig, [right / BINS / 2, right], [count * BINS / right, 0.012])
        label(fig, right / BINS / 2, count * BINS / right, "the paper", PAPER, shift=12)
    return fig


@cache
def _law(M: int, view: str) -> tuple[Float[np.ndarray, " x"], Float[np.ndarray, " x"]]:
    """x and density of the law in the units of a view."""
    law, edge = matrices.FussCatalan(M), matrices.log_largest_limit(M)
    if view == "log":
        x = np.concatenate([np.linspace(-4, edge / M - 0.2, 80), edge / M - 0.2 * np.linspace(1, 0, 60)[1:] ** 2])
        s = np.exp(M * x)
        return x, M * s * law.pdf_singular(s)
    x = np.concatenate([np.geomspace(1e-4, 0.05, 40), np.linspace(0.05, 0.9, 60)[1:], 1 - 0.1 * np.linspace(1, 0, 40)[1:] ** 2])
    scale = np.exp(_POWER[view] * edge)
    return x, scale * (law.pdf if view == "square" else law.pdf_singular)(scale * x)


def fig_8(spectra: Group) -> str:
    """Fig 8 in Markdown, ten products of each kind at N = 1000 in 50 bins: largest value and first bin, ours, the law's, the paper's."""
    digitised = sources.paper("fig8")
    rows = ["| M | largest s: ours | the law | the paper | first bin: ours | the law | the paper |", "|---|---|---|---|---|---|---|"]
    for M, right, count in zip(digitised["factors"], digitised["right_edge"], digitised["first_bin_count"], strict=True):
        values = np.exp(log_values(spectra[M, 1000]))
        width = values.max() / BINS
        expected = values.size * float(matrices.FussCatalan(M).cdf_singular(np.array(width)))
        ours = f"{values.max():.3f} | {np.exp(matrices.log_largest_limit(M)):.3f} | {right}"
        rows.append(f"| {M} | {ours} | {(values < width).sum()} | {expected:.0f} | {count} |")
    return "\n".join(rows)


def growth(spectra: Group, N: int, quantity: str) -> go.Figure:
    """How a product's singular values spread with the number of factors; thin, the limit for large N or for large M."""
    logs = _all_factors(spectra, N)
    M = np.arange(1.0, 65.0)
    if quantity == "condition":
        shown = np.exp(logs[..., 0] - logs[..., -1])
        title = f"N = {N}: each factor multiplies the condition number by {readable(per_factor(spectra, N))}"
        limit, name = np.array([np.exp(matrices.log_condition_limit(int(m), N)) for m in M]), "law, M → ∞"
    elif quantity == "largest":
        shown = np.exp(logs[..., 0])
        title = f"N = {N}: the largest singular value is {_at_ends(shown)} for 64"
        limit, name = np.array([np.exp(matrices.log_largest_limit(int(m))) for m in M]), "law, N → ∞"
    else:
        shown = matrices.stable_rank(logs)
        title = f"N = {N}: the stable rank is {_at_ends(shown)} for 64"
        limit, name = np.array([matrices.stable_rank_limit(int(m), N) for m in M]), "law, N → ∞"
    fig = figure(title, _GROWTH[quantity])
    curve(fig, np.array(FACTORS, dtype=float), shown, _PLAIN, markers=True, geometric=True)
    drawn = limit > _GROWTH[quantity][1].low
    theory(fig, M[drawn], limit[drawn], name)
    if quantity == "condition":
        label(fig, 48, float(limit[47]), name, shift=-16)
    else:
        label(fig, 24, float(limit[23]), name, anchor="right", shift=12 if quantity == "largest" else -12)
    return fig


def _all_factors(spectra: Group, N: int) -> Float[np.ndarray, "seeds factors N"]:
    """ln of the singular values of the seeds that have all numbers of factors."""
    each = [log_values(spectra[M, N]) for M in FACTORS]
    return np.stack([values[: min(map(len, each))] for values in each], axis=1)


def per_factor(spectra: Group, N: int) -> float:
    """What each factor multiplies the condition number by: of a line fitted to its logarithm, the median over seeds."""
    logs = _all_factors(spectra, N)
    return float(np.exp(np.median(np.polyfit(FACTORS, (logs[..., 0] - logs[..., -1]).T, 1)[0])))


def power_of_largest(spectra: Group, N: int) -> float:
    """The power of M that the square of the largest singular value grows with from 4 factors on, the median over seeds."""
    factors = [M for M in FACTORS if M >= 4]
    largest = _all_factors(spectra, N)[:, [FACTORS.index(M) for M in factors], 0]
    return float(np.median(np.polyfit(np.log(factors), 2 * largest.T, 1)[0]))


def _at_ends(values: Float[np.ndarray, "seeds factors"]) -> str:
    first, last = np.median(values[:, [0, -1]], axis=0)
    return f"{readable(first)} for one factor, {readable(last)}"


def with_relu(records: Sequence[Record], M: int) -> go.Figure:
    """The singular values of products with a ReLU after each factor, and of the same without, from the largest to the middle one of those
    that are left, in units of the largest.
    """
    held = select(records, M=M)
    N = next(r.config.product.N for r in held if r.config.product)
    x, y = Axis("share of the directions left", 0, 0.66, ticks=(0, 0.1, 0.2, 0.3, 0.4, 0.5)), Axis("s / largest s", 1e-11, 3, log=True)
    kinds = (("log_with", N // 2, _WITH_RELU), ("log_without", N, _WITHOUT_RELU))
    logs = {key: np.stack([r.array(key) for r in held]) for key, _, _ in kinds}
    times = [readable(np.exp(np.median(values[:, 0] - values[:, -1]))) for values in logs.values()]
    fig = figure(
        f"M = {M}: the first direction is stretched {times[0]} times as much as the middle one with ReLUs, {times[1]} without", (x, y)
    )
    ends = []
    for key, left, series in kinds:
        values = np.exp(logs[key] - logs[key][:, :1])
        curve(fig, np.arange(1, values.shape[1] + 1) / left, values, series, geometric=True)
        ends.append((0.5, float(np.exp(np.log(values[:, -1]).mean())), series.label, series.colour))
    labels_apart(fig, ends)
    return fig


def restandardised(records: Sequence[Record], N: int, quantity: str) -> go.Figure:
    """What re-standardising after each factor holds (above), and the condition number of the same maps (below)."""
    held = {
        on: {name: np.stack([r.array(name) for r in select(records, N=N, restandardise=on)]) for name in (quantity, "log_condition")}
        for on in (False, True)
    }
    text = next(text for text, key in HELD.items() if key == quantity)
    ends = {on: np.median(of[quantity][:, -1]) for on, of in held.items()}
    powers = [power_label(np.exp(np.median(of["log_condition"][:, -1]))) for of in held.values()]
    title = f"64 factors: {text} {readable(ends[False])} without, {readable(ends[True])} with BN; condition {powers[0]}, {powers[1]}"
    x = Axis("after factor", 0, 82, ticks=(1, 16, 32, 48, 64))
    fig = figure(title, (x, _HELD[quantity]), (x, _CONDITION), height=520, stack=True)
    for on, series in ((False, _PLAIN), (True, _STANDARD)):
        for panel, values in enumerate((held[on][quantity], np.exp(held[on]["log_condition"]))):
            where = place(panel, stack=True)
            curve(fig, np.arange(1.0, 65.0), values, series, markers=False, geometric=quantity != "cosine", **where)
            shift = 9 if ends[on] > ends[not on] else -9
            label(fig, 64, float(np.median(values[:, -1])), series.label, series.colour, "left", shift, **where)
    return fig
