"""Gradients at initialisation: their size and tails (Fig 2), at the output (Fig 6), summand by summand (Table 1), by channel (Fig 7).

Records of studies `init` and `channels` in, figures and Markdown tables out.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from bnlib import sources
from bnlib.claims import TABLE_1, in_paper_setting, mean_and_gradient, spread, together
from bnlib.figures.activations import LAYERS, PAIR
from bnlib.figures.marks import band, curve, end_labels, from_paper, label, theory
from bnlib.figures.style import SEQUENTIAL, SERIES, SIGNED, Axis, coarse, figure, place
from bnlib.nets import layer_at
from bnlib.probes import BINS
from bnlib.probes.channels import QUANTILES
from bnlib.records import Record
from bnlib.text import readable

PLACES = (5, 29, 55, 81, 107)  # at depth 110, where the paper shows layer 55
MEASURES = {
    "kurtosis": "gradient_kurtosis",
    "standard deviation": "gradient_std",
    "Hill's tail index": "gradient_hill",
    "largest over median magnitude": "gradient_max_over_median",
}
_RANGE = {
    "gradient_kurtosis": (1.5, 300.0),
    "gradient_std": (1e-4, 1e2),
    "gradient_hill": (1.0, 100.0),
    "gradient_max_over_median": (2.0, 1e6),
}

# Table 1 of the paper as we remember it, not checked against the paper: (norm, layer): mean |d|, |mean d|, and their ratio.
REMEMBERED = {
    ("batch", 18): (7.5e-05, 3.0e-07, 251.8),
    ("batch", 54): (1.9e-05, 1.7e-07, 112.8),
    ("batch", 90): (6.6e-06, 1.6e-07, 40.7),
    ("none", 18): (6.3e-05, 3.6e-05, 1.7),
    ("none", 54): (2.2e-04, 8.4e-05, 2.6),
    ("none", 90): (2.6e-04, 1.2e-04, 2.1),
}

SUBTRACTS = {
    "none": "nothing",
    "batch": "each channel, in every layer",
    "instance": "each channel and image, in every layer",
    "group": "8 channels together, for each image",
    "layer": "all channels together, for each image",
    "last-features": "each channel, at the end only",
}


def at_layer(records: Sequence[Record], key: str, layer: int) -> Float[np.ndarray, " seeds"]:
    """A measurement of one layer, by number; an entry a seed."""
    return np.array([record.measured[key][layer - 1] for record in records], float)


def histogram(records: Sequence[Record], depth: int, where: int, own: bool) -> go.Figure:
    """Fig 2: the kernel gradient's entries at layer `where` of 110 or its like, both in units of the wider distribution or each in its own.

    Strong, the mean shape over seeds at its typical width, the median; on its own scale each seed's shape faintly.
    """
    layer = layer_at(depth, where)
    held = {norm: in_paper_setting(records, norm, depth) for norm in PAIR}
    width = {norm: at_layer(held[norm], "gradient_std", layer) for norm in PAIR}
    typical = {norm: float(np.median(width[norm])) for norm in PAIR}
    kurtosis = {norm: float(np.median(at_layer(held[norm], "gradient_kurtosis", layer))) for norm in PAIR}
    wider, narrower = sorted(PAIR, key=lambda norm: -typical[norm])
    ratio = f"{readable(np.median(width[wider] / width[narrower]))} times {'larger' if wider == 'none' else 'smaller'}"
    title = f"Layer {layer} of {depth}: {ratio} without BN; kurtosis {readable(kurtosis['none'])}, with BN {readable(kurtosis['batch'])}"
    unit = "its standard deviation" if own else f"the larger std, {readable(typical[wider])} (median)"
    fig = figure(title, (Axis(f"entry / {unit}", -4, 4), Axis("density", 1e-4, 1e3, log=True)))
    for norm in (wider, narrower):
        series = SERIES[norm]
        shapes = np.stack([_density(record, layer) for record in held[norm]])
        for shape in shapes if own else ():
            _outline(
                fig, shape, 1.0, opacity=0.3, line={"color": series.colour, "width": 1}, name=f"{series.label}, each seed", hoverinfo="skip"
            )
        scale = 1.0 if own else typical[norm] / typical[wider]
        _outline(fig, shapes.mean(0), scale, line={"color": series.colour, "width": 2.5, "dash": series.dash}, name=series.label)
    spots = {wider: (2.2, 0.1), narrower: (0.1, 0.3 * typical[wider] / typical[narrower])}
    if own:
        spots = {"none": (2.4, 0.06), "batch": (1.1, 0.5)}
        z = np.linspace(-4, 4, 81)
        theory(fig, z, np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi), "Gaussian")
        label(fig, 3.2, 4e-4, "Gaussian", anchor="right")
    for norm, (x, y) in spots.items():
        label(fig, x, y, SERIES[norm].label, SERIES[norm].colour)
    return fig


def _density(record: Record, layer: int) -> Float[np.ndarray, " bins"]:
    """Of gradient / gradient_std in each of BINS; what lies outside them counts in the total."""
    counts = np.array(record.measured["gradient_histogram"][layer - 1], float)
    total = float(counts.sum() + sum(record.measured["gradient_outside"][layer - 1]))
    return np.array(counts / total / np.diff(BINS))


def _outline(fig: go.Figure, density: Float[np.ndarray, " bins"], scale: float, **look: Any) -> None:
    """A histogram's outline through the middles of its bins, which are `scale` times as wide."""
    x = (BINS[1:] + BINS[:-1]) / 2 * scale
    fig.add_scatter(x=x, y=coarse(np.where(density > 0, density / scale, np.nan)), mode="lines", **look)


def along(records: Sequence[Record], measure: str, depth: int) -> go.Figure:
    """A measure of the kernel gradient's distribution at every layer; Hill's index with its standard error."""
    held = {norm: in_paper_setting(records, norm, depth) for norm in PAIR}
    median = {norm: float(np.median([record.array(measure) for record in held[norm]])) for norm in PAIR}
    name = {key: text for text, key in MEASURES.items()}[measure]
    title = f"{depth} layers: {name} {readable(median['none'])} without BN, {readable(median['batch'])} with it (medians)"
    fig = figure(title, (LAYERS, Axis(name, *_RANGE[measure], log=True)))
    layers, ends = np.arange(1.0, depth), dict[str, float]()
    for norm in PAIR:
        seeds = np.stack([record.array(measure) for record in held[norm]])
        if measure == "gradient_hill":
            error = np.stack([record.array("gradient_hill_error") for record in held[norm]]).mean(0)
            band(fig, layers, (middle := np.exp(np.log(seeds).mean(0))) - error, middle + error, SERIES[norm])
        curve(fig, layers, seeds, SERIES[norm], geometric=True)
        ends[norm] = float(np.exp(np.log(seeds[:, -6:]).mean()))
    end_labels(fig, depth - 1, ends)
    if measure == "gradient_kurtosis":
        theory(fig, np.array([1.0, 109.0]), np.array([3.0, 3.0]), "Gaussian")
    if depth == 110 and measure in ("gradient_kurtosis", "gradient_std"):
        digitised = sources.paper("fig2")
        both = {"gradient_kurtosis": ("kurtosis", "kurtosis_lower_bound"), "gradient_std": ("std", "std_visible")}[measure]
        from_paper(fig, [55], [digitised["bn"][both[0]]])
        from_paper(fig, [55], [digitised["none"][both[1]]], "triangle-up")
    return fig


def output_gradients(records: Sequence[Record], seed: int) -> go.Figure:
    """Fig 6: dL_b/dO_{b,j} of each image b and class j; the images sorted by their class, so that the true classes make a staircase."""
    held = {norm: next(r for r in in_paper_setting(records, norm, 110) if r.config.seed == seed) for norm in PAIR}
    share = {norm: held[norm].measured["mean_row_energy"] for norm in PAIR}
    title = f"The part common to all images carries {share['none']:.0%} of the energy without BN, {share['batch']:.0%} with it"
    x, y = Axis("class j", -0.5, 9.5, ticks=(0, 3, 6, 9)), Axis("image b, sorted by class", 127.5, -0.5, ticks=(0, 32, 64, 96, 127))
    fig = figure(title, (x, y), (x, y), names=[SERIES[norm].label for norm in PAIR], height=460)
    fig.update_layout(margin_r=96)
    rows = {norm: record.array("output_gradient") for norm, record in held.items()}
    true = rows["batch"].argmin(1)  # without BN the row of a rightly guessed image vanishes
    order = np.lexsort((rows["none"].argmax(1), true))
    for panel, norm in enumerate(PAIR):
        _heat(fig, rows[norm][order] * len(order), panel, {-1.0: "−1/128", 0.0: "0", 1.0: "1/128"}, SIGNED, "gradient")
    return fig


def coherence(records: Sequence[Record], depth: int) -> go.Figure:
    """Table 1 at every layer: mean |d| over |mean d|, and what tossing a coin for each sign would give (thin)."""
    held = {norm: in_paper_setting(records, norm, depth) for norm in PAIR}
    median = {norm: float(np.median([record.array("coherence_ratio") for record in held[norm]])) for norm in PAIR}
    title = f"{depth} layers: adding up leaves 1/{readable(median['none'])} of the terms without BN, 1/{readable(median['batch'])} with BN"
    fig = figure(title, (LAYERS, Axis("a / b = mean |d| over |mean d|", 1, 1000, log=True)))
    layers, ends = np.arange(1.0, depth), dict[str, float]()
    for norm in PAIR:
        seeds = np.stack([record.array("coherence_ratio") for record in held[norm]])
        curve(fig, layers, seeds, SERIES[norm], geometric=True)
        ends[norm] = float(np.exp(np.log(seeds[:, -6:]).mean()))
    random = np.stack([record.array("coherence_random") for record in held["batch"]]).mean(0)
    theory(fig, layers, random, "random signs")
    label(fig, depth - 1, float(random[-1]), "random signs", shift=9)
    end_labels(fig, depth - 1, ends)
    return fig


def table_1(records: Sequence[Record]) -> str:
    """Table 1 in Markdown: ours over the seeds, what random signs would give, and the paper's ratio as remembered."""
    rows = ["| layer | network | a | b | a / b | random signs | the paper, remembered |", "|---|---|---|---|---|---|---|"]
    for (norm, layer), (_, _, remembered) in REMEMBERED.items():
        held = in_paper_setting(records, norm, 110)
        a, b, random = (readable(np.median(at_layer(held, f"coherence_{part}", layer))) for part in ("a", "b", "random"))
        ratio = spread(at_layer(held, "coherence_ratio", layer), ".3g").replace(" ", "\N{NO-BREAK SPACE}")
        rows.append(f"| {layer} | {SERIES[norm].label} | {a} | {b} | {ratio} | {random} | {remembered} |")
    return "\n".join(rows)


def by_normaliser(records: Sequence[Record]) -> str:
    """Markdown: what each normaliser subtracts, and a / b at layers 18, 54 and 90 of 110 (medians over the seeds that all have)."""
    rows = ["| normaliser | subtracts the mean of | layer 18 | layer 54 | layer 90 |", "|---|---|---|---|---|"]
    groups = together(*(in_paper_setting(records, norm, 110) for norm in SUBTRACTS))
    for (norm, subtracts), held in zip(SUBTRACTS.items(), groups, strict=True):
        ratios = " | ".join(readable(np.median(at_layer(held, "coherence_ratio", layer))) for layer in TABLE_1)
        rows.append(f"| {SERIES[norm].label} | {subtracts} | {ratios} |")
    return "\n".join(rows)


def channel_matrix(records: Sequence[Record], seed: int, by_size: bool) -> go.Figure:
    """Fig 7: M_{i,o}, the size of the gradient from in-channel i to out-channel o at layer 45; each panel in units of its largest entry."""
    held = {norm: next(r for r in in_paper_setting(records, norm, 110) if r.config.seed == seed).array("channel_matrix") for norm in PAIR}
    shares, largest = ({norm: measure(M) for norm, M in held.items()} for measure in (leading_share, np.max))
    scale = readable(largest["none"] / largest["batch"])
    title = f"One pattern carries {shares['none']:.1%} of the energy without BN (scale {scale} times wider), {shares['batch']:.1%} with it"
    x, y = Axis("out-channel o", -0.5, 31.5, ticks=(0, 15, 31)), Axis("in-channel i", 31.5, -0.5, ticks=(0, 15, 31))
    fig = figure(title, (x, y), (x, y), names=[SERIES[norm].label for norm in PAIR], height=380)
    fig.update_layout(margin_r=96)
    for panel, (norm, M) in enumerate(held.items()):
        shown = M[np.argsort(-M.sum(1))][:, np.argsort(-M.sum(0))] if by_size else M
        _heat(fig, shown / largest[norm], panel, {0.0: "0", 1.0: "max"}, SEQUENTIAL, "|gradient|")
    return fig


def leading_share(M: Float[np.ndarray, "i o"]) -> float:
    """Share of the energy sum M^2 in the largest singular value: 1 where all rows are multiples of one."""
    energy = np.linalg.svd(M, compute_uv=False) ** 2
    return float(energy[0] / energy.sum())


def left_out(records: Sequence[Record], depth: int) -> go.Figure:
    """What the k largest singular values of M leave out of its energy; thin, for the same entries in random places."""
    held = {norm: [record.array("channel_matrix") for record in in_paper_setting(records, norm, depth)] for norm in PAIR}
    rest = {norm: np.stack([_rest(M) for M in matrices]) for norm, matrices in held.items()}
    rng = np.random.default_rng(0)
    shuffled = {norm: np.stack([_rest(rng.permutation(M.ravel()).reshape(M.shape)) for M in matrices]) for norm, matrices in held.items()}
    out, chance = ({norm: f"{readable(100 * float(np.median(x[norm][:, 0])))} %" for norm in PAIR} for x in (rest, shuffled))
    without, with_bn = (f"{out[norm]} {text} (shuffled {chance[norm]})" for norm, text in zip(PAIR, ("without BN", "with it"), strict=True))
    title = f"{depth} layers: one pattern leaves out {without}, {with_bn}"
    fig = figure(title, (Axis("singular values kept, k", 0, 20, ticks=(1, 4, 8, 12, 16)), Axis("energy left out", 1e-7, 1, log=True)))
    k = np.arange(1.0, 17)
    for norm in PAIR:
        curve(fig, k, rest[norm][:, :16], SERIES[norm], geometric=True)
        chance_curve = shuffled[norm][:, :16].mean(0)
        theory(fig, k, chance_curve, f"{SERIES[norm].label}, shuffled")
        label(fig, 6, float(chance_curve[5]), f"{SERIES[norm].label}, shuffled", SERIES[norm].colour, shift=13)
    end_labels(fig, 16, {norm: float(np.exp(np.log(rest[norm][:, 15]).mean())) for norm in PAIR})
    return fig


def means(channels: Sequence[Record], layer: int) -> go.Figure:
    """Each in-channel's mean, and the gradient of the weights that read it, both over the average of its layer and seed."""
    held = {norm: in_paper_setting(channels, norm) for norm in PAIR}
    order = {norm: np.median([mean_and_gradient(r, layer) for r in rows]) for norm, rows in held.items()}
    share = {norm: np.median([r.measured[f"constant_share_{layer}"] for r in rows]) for norm, rows in held.items()}
    ranks = " and ".join(f"{order[norm]:.2f}".replace("-", "−") for norm in ("none", "batch"))
    energy = f"{share['none']:.0%} of the gradient's energy without BN, {share['batch']:.0%} with it"
    title = f"Layer {layer}: the channels' means make {energy}; rank correlations {ranks}"
    x, y = Axis("channel's mean / average", 0.01, 10, log=True), Axis("gradient of the weights that read it / average", 0.01, 10, log=True)
    fig = figure(title, (x, y), height=440)
    ends = np.array([0.01, 10.0])
    theory(fig, ends, ends, "in proportion")
    label(fig, 4, 5, "in proportion", anchor="right", shift=6)
    for norm, rows in held.items():
        series = SERIES[norm]
        points = np.array([[_over_average(r, key, layer) for key in ("mean", "gradient")] for r in rows])
        marker = {"symbol": series.symbol, "size": 7, "color": series.colour, "opacity": 0.55}
        fig.add_scatter(x=coarse(points[:, 0].ravel()), y=coarse(points[:, 1].ravel()), mode="markers", marker=marker, name=series.label)
    for norm, at in zip(PAIR, ((0.05, 0.25), (1.6, 0.35)), strict=True):
        label(fig, *at, SERIES[norm].label, SERIES[norm].colour)
    return fig


def _over_average(record: Record, key: str, layer: int) -> Float[np.ndarray, " i"]:
    """In the range of the axes: what lies beyond is drawn at their edge."""
    values = np.abs(record.array(f"channel_{key}_{layer}"))
    return np.array(np.clip(values / values.mean(), 0.01, 10))


def parameters(channels: Sequence[Record]) -> str:
    """Markdown: of single parameters, how many times as large as their sum the terms of the gradient are; quantiles, medians of seeds."""
    rows = [f"| layer | network | {' | '.join(f'{share:.0%}' for share in QUANTILES)} |", "|---|---|" + "---|" * len(QUANTILES)]
    for layer, norm in ((layer, norm) for layer in TABLE_1 for norm in PAIR):
        of = np.median([r.array(f"parameter_ratio_{layer}") for r in in_paper_setting(channels, norm)], axis=0)
        rows.append(f"| {layer} | {SERIES[norm].label} | {' | '.join(map(readable, of))} |")
    return "\n".join(rows)


def _rest(M: Float[np.ndarray, "i o"]) -> Float[np.ndarray, " k"]:
    """1 - (s_1^2 + ... + s_k^2) / sum s^2 for k = 1, 2, ..."""
    energy = np.linalg.svd(M, compute_uv=False) ** 2
    return np.array(np.append(np.cumsum(energy[:0:-1])[::-1], 0.0) / energy.sum())


def fits_better(records: Sequence[Record], norm: str, rival: str) -> tuple[int, int]:
    """On how many seeds the power law fits the tail at layer 55 better than "lognormal" or "exponential"; and the number of seeds."""
    signs = [record.measured[f"powerlaw_{rival}_R"] > 0 for record in in_paper_setting(records, norm, 110)]
    return sum(signs), len(signs)


def power_law_table(records: Sequence[Record]) -> str:
    """The power law fitted to layer 55 in Markdown, a row a seed, and what fits better: R > 0 speaks for the power law."""
    rows = ["| network | seed | α ± s.e. | tail | lognormal: R (p) | exponential: R (p) |", "|---|---|---|---|---|---|"]
    for norm in PAIR:
        for record in in_paper_setting(records, norm, 110):
            fit = {key.removeprefix("powerlaw_"): value for key, value in record.measured.items() if key.startswith("powerlaw_")}
            rivals = " | ".join(f"{fit[f'{other}_R']:.1f} ({readable(fit[f'{other}_p'])})" for other in ("lognormal", "exponential"))
            share = f"{fit['tail'] / 9216:.0%}"
            rows.append(f"| {SERIES[norm].label} | {record.config.seed} | {fit['alpha']:.2f} ± {fit['sigma']:.2f} | {share} | {rivals} |")
    return "\n".join(rows).replace("| -", "| −")  # a minus, not a hyphen


def _heat(fig: go.Figure, z: Float[np.ndarray, "row column"], panel: int, ticks: dict[float, str], colours: str, name: str) -> None:
    """One panel of a heat map; beside the right one the scale of colours, with its `name`."""
    bar: dict[str, Any] = {
        "title": {"text": name, "side": "right", "font": {"size": 13}},
        "thickness": 8,
        "len": 0.9,
        "tickvals": list(ticks),
        "ticktext": list(ticks.values()),
        "outlinewidth": 0,
    }
    ends = {"zmin": min(ticks), "zmax": max(ticks), "colorscale": colours}
    fig.add_heatmap(
        z=np.round(z, 2), showscale=panel == 1, colorbar=bar, name=SERIES[PAIR[panel]].label, hoverinfo="x+y+z", **ends, **place(panel)
    )
