"""The figures of the chapters on activations and gradients, on records with known content; the expectation for wide layers on real nets."""

import datetime
import math
from itertools import pairwise

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from torch.nn import functional as F

from bnlib import claims, nets, probes, records
from bnlib.config import ConfigError, DataConfig, ModelConfig, ProbeConfig, RunConfig
from bnlib.figures import activations, gradients, marks, setting, style
from bnlib.figures import made as how_made
from bnlib.matrices import meanfield
from bnlib.studies import DEPTHS
from bnlib.text import readable

SLOPE = {"none": 0.05, "batch": 0.001}


def made(depth: int, norm: str, seed: int, **changes: str) -> records.Record:
    """A record of plausible shape: ln sigma and ln |mu| straight lines, gradients without BN ten times as large."""
    layers, rng = np.arange(1, depth + 1), np.random.default_rng([depth, seed, norm == "none"])
    scale, of_layers = 10.0 if norm == "none" else 1.0, np.ones(depth - 1)
    row, column = rng.uniform(1, 2, (2, 32))
    measured = {
        "ln_std": SLOPE.get(norm, 0.0) * layers + 0.1 * seed,
        "ln_mean": SLOPE.get(norm, 0.0) * layers - 1,
        "ln_std_spread": 0.2 * np.ones(depth),
        "ln_mean_spread": 0.5 * np.ones(depth),
        "gradient_std": scale * of_layers,
        "gradient_kurtosis": (18.0 if norm == "none" else 3.5) * of_layers,
        "gradient_hill": 4.0 * of_layers,
        "gradient_hill_error": 0.5 * of_layers,
        "gradient_max_over_median": 50.0 * of_layers,
        "gradient_histogram": np.tile(np.histogram(rng.normal(size=1000), probes.BINS)[0], (depth - 1, 1)),
        "gradient_outside": np.tile([3, 5], (depth - 1, 1)),
        "coherence_a": 1e-4 * of_layers,
        "coherence_b": 1e-4 / (2.0 if norm == "none" else 100.0) * of_layers,
        "coherence_ratio": (2.0 if norm == "none" else 100.0) * of_layers,
        "coherence_random": 80.0 * of_layers,
        "channel_matrix": np.outer(row, column) if norm == "none" else rng.uniform(1, 2, (32, 32)),
        "output_gradient": (rng.dirichlet(np.ones(10), 128) - np.eye(10)[np.arange(128) % 10]) / 128,
        "mean_row_energy": 0.5 if norm == "none" else 0.1,
        **{f"powerlaw_{key}": 2.5 for key in ("alpha", "sigma", "exponential_R", "exponential_p")},
        **{"powerlaw_lognormal_R": -2.5, "powerlaw_lognormal_p": 0.025},
        "powerlaw_tail": 921,
    }  # fmt: skip
    run = RunConfig("init", seed, ModelConfig(depth=depth, norm=norm, **changes), DataConfig(), ProbeConfig())  # type: ignore[arg-type]
    return records.new(run, measured, datetime.datetime.now(datetime.UTC), 1.0)


@pytest.fixture(scope="module")
def init() -> list[records.Record]:
    pairs = [made(depth, norm, seed) for depth in DEPTHS for norm in ("batch", "none") for seed in range(3)]
    he = [made(20, norm, seed, init="he") for norm in ("batch", "none", "layer") for seed in range(3)]
    return [*pairs, *he, *(made(110, norm, 0) for norm in ("layer", "group", "instance", "last-features"))]


def lines(fig: go.Figure, name: str) -> list[go.Scatter]:
    return [trace for trace in fig.data if trace.name == name]


def outside(fig: go.Figure) -> list[str]:
    """The drawn values that lie beyond their axes."""
    found = []
    for trace in fig.data:
        for letter in "xy":
            axis = fig.layout[(trace[f"{letter}axis"] or letter).replace(letter, f"{letter}axis")]
            values = np.array(trace[letter] if trace[letter] is not None else [], dtype=float)
            low, high = sorted(axis.range)
            if axis.type == "log":  # as `Axis` takes it: numpy's may differ in the last digit
                values = np.array([math.log10(value) if value > 0 else -math.inf for value in values.ravel()])
            found += [f"{trace.name}: {letter} = {value}" for value in values[np.isfinite(values)] if not low <= value <= high]
    return found


# What is read off the records


def test_growth_is_the_slope_over_the_convolutions(init):
    ln = activations.over_seeds(claims.in_paper_setting(init, "none", 56), "ln_std")
    ln[:, -1] = 1e3  # the logits are no convolution
    assert activations.growth(ln) == pytest.approx(np.full(3, 0.05))


def test_growth_per_block_sees_only_the_insides_of_stages():
    n = 4
    ln = np.full((1, 6 * n + 2), np.nan)
    for stage, rate in enumerate((0.1, 0.2, 0.3)):
        readers = 2 * n * stage + 2 + 2 * np.arange(1, n) - 1
        ln[0, readers] = rate * np.arange(n - 1) + 10 * stage
    assert activations.per_block(ln)[0] == pytest.approx([0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="needs 3, so depth 20"):
        activations.per_block(np.zeros((1, 14)))


def test_paired_leaves_out_everything_but_the_papers_networks(init):
    found = activations.paired(init)
    assert len(found) == len(DEPTHS) * 2 * 3
    assert {record.config.model.init for record in found} == {"xavier"}


# The figures about activations


@pytest.mark.parametrize("quantity", activations.QUANTITIES.values())
@pytest.mark.parametrize("depth", DEPTHS)
def test_by_layer_draws_the_mean_of_the_seeds(init, depth, quantity):
    fig = activations.by_layer(init, depth, quantity, theory_too=True)
    line = lines(fig, "without")[0]
    expected = np.exp(activations.over_seeds(claims.in_paper_setting(init, "none", depth), quantity).mean(0))
    assert list(line.x) == list(range(2, depth, 2))
    assert line.y == pytest.approx(expected[1:-1:2])
    assert len(lines(fig, "expected")) == 2
    assert len(lines(fig, "the paper, digitised")) == (2 if depth == 110 else 0)
    assert outside(fig) == []


def test_by_layer_says_what_came_of_it(init):
    assert activations.by_layer(init, 110, "ln_std", False).layout.title.text.startswith(
        "110 layers: σ grows 220-fold without BN, grows 1.1-fold"
    )


@pytest.mark.parametrize("place", activations.PLACES)
def test_by_depth_compares_like_with_like(init, place):
    fig = activations.by_depth(init, place, "ln_mean")
    at = [nets.layer_at(depth, place) for depth in DEPTHS]
    assert lines(fig, "without")[0].y == pytest.approx(np.exp(0.05 * np.array(at) - 1))
    assert outside(fig) == []


@pytest.mark.parametrize("within", [False, True])
def test_growth_by_depth(init, within):
    fig = activations.growth_by_depth(init, within)
    assert lines(fig, "without")[0].y == pytest.approx(np.full(5 if within else 7, 0.05))
    assert outside(fig) == []


def test_another_normaliser_stands_beside_bn_and_none(init):
    fig = activations.normalisers(init, "layer", "he", 20)
    assert {trace.name.removesuffix(", each seed") for trace in fig.data} == {"with BN", "without", "layer norm"}
    assert fig.layout.title.text.startswith("Layer norm, 20 layers: σ ")
    assert outside(fig) == []
    more = activations.normalisers([*init, *(made(20, norm, 7, init="he") for norm in ("batch", "none"))], "layer", "he", 20)
    assert more.to_json() == fig.to_json(), "layer norm lacks that seed"


# The figures about gradients


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("where", gradients.PLACES)
def test_histogram_keeps_its_mass_in_any_units(init, where, own):
    fig = gradients.histogram(init, 110, where, own)
    for name, width in (("without", 1.0), ("with BN", 1.0 if own else 0.1)):
        line = lines(fig, name)[0]
        assert np.nansum(line.y) * (line.x[1] - line.x[0]) == pytest.approx(1, abs=0.01)
        assert line.x[-1] == pytest.approx(width * 4 * 40 / 41)
    assert outside(fig) == []
    assert "10 times larger without BN; kurtosis 18, with BN 3.5" in fig.layout.title.text


def test_histogram_counts_what_lies_outside():
    record = made(8, "none", 0)
    inside = (gradients._density(record, 5) * np.diff(probes.BINS)).sum()
    counts = record.array("gradient_histogram")[4].sum()
    assert inside == pytest.approx(counts / (counts + 8))


@pytest.mark.parametrize("measure", gradients.MEASURES.values())
def test_along_draws_every_layer(init, measure):
    fig = gradients.along(init, measure, 110)
    assert lines(fig, "without")[0].y == pytest.approx(
        gradients.at_layer(claims.in_paper_setting(init, "none", 110)[:1], measure, 5)[0] * np.ones(109)
    )
    assert outside(fig) == []


def test_output_gradients_are_sorted_by_true_class(init):
    fig = gradients.output_gradients(init, 1)
    assert fig.layout.title.text.startswith("The part common to all images carries ")
    assert [trace.colorbar.title.text for trace in fig.data] == ["gradient", "gradient"]
    for heat in fig.data:
        true = np.argmin(heat.z, axis=1)
        assert (np.diff(true) >= 0).all()
        assert np.abs(heat.z).max() <= 1
        assert np.sum(heat.z, axis=1) == pytest.approx(np.zeros(128), abs=0.05)


def test_coherence(init):
    fig = gradients.coherence(init, 20)
    assert lines(fig, "with BN")[0].y == pytest.approx(np.full(19, 100))
    assert lines(fig, "random signs")[0].y == pytest.approx(np.full(19, 80))
    assert fig.layout.title.text == "20 layers: adding up leaves 1/2 of the terms without BN, 1/100 with BN"
    assert outside(fig) == []


def test_table_1_shows_ours_and_what_is_remembered(init):
    rows = gradients.table_1(init).splitlines()
    assert len(rows) == 2 + len(gradients.REMEMBERED)
    assert rows[0].startswith("| layer | network | a | b |")
    assert rows[2] == "| 18 | with BN | 1.0×10⁻⁴ | 1.0×10⁻⁶ | 100 (100 to 100) | 80 | 251.8 |".replace(
        "100 (100 to 100)", "100\xa0(100\xa0to\xa0100)"
    )


def test_the_normalisers_are_compared_by_what_they_subtract(init):
    rows = gradients.by_normaliser(init).splitlines()
    assert rows[2] == "| without | nothing | 2 | 2 | 2 |"
    assert rows[-1].startswith("| BN on the last features | each channel, at the end only | 100 |")
    odd = made(110, "none", 1)
    odd.measured["coherence_ratio"] = [9.0] * 109
    others = [r for r in init if (r.config.model.depth, r.config.model.norm) != (110, "none")]
    assert gradients.by_normaliser([*others, made(110, "none", 0), odd]).splitlines()[2] == rows[2], "the others have only seed 0"


def test_what_is_remembered_of_table_1_agrees_with_itself():
    for a, b, ratio in gradients.REMEMBERED.values():
        assert a / b == pytest.approx(ratio, rel=0.04)


@pytest.mark.parametrize(
    ("ln", "words"),
    [(np.log(3), "grows 3-fold"), (-np.log(4), "shrinks to 0.25"), (0.0, "stays as it is"), (0.02, "stays as it is")],
)
def test_a_change_in_words(ln: float, words: str):
    assert activations.change(ln) == words


def test_power_law_table(init):
    rows = gradients.power_law_table(init).splitlines()
    assert len(rows) == 2 + 6
    assert rows[2] == "| without | 0 | 2.50 ± 2.50 | 10% | −2.5 (0.025) | 2.5 (2.5) |"
    assert gradients.fits_better(init, "none", "lognormal") == (0, 3)
    assert gradients.fits_better(init, "none", "exponential") == (3, 3)


@pytest.mark.parametrize("by_size", [False, True])
def test_channel_matrix(init, by_size):
    fig = gradients.channel_matrix(init, 0, by_size)
    z = np.array(fig.data[0].z)
    assert z.max() == 1
    assert (np.diff(z.sum(0)) <= 1e-6).all() == (np.diff(z.sum(1)) <= 1e-6).all() == by_size


def test_rank_measures_on_matrices_of_known_rank():
    assert gradients.leading_share(np.ones((5, 5))) == pytest.approx(1)
    assert gradients.leading_share(np.eye(5)) == pytest.approx(0.2)
    assert claims.effective_rank(np.ones((5, 5))) == pytest.approx(1)
    assert claims.effective_rank(np.diag([1.0, 1, 1, 0, 0])) == pytest.approx(3)


def test_left_out_of_an_outer_product_is_nothing(init):
    fig = gradients.left_out(init, 20)
    s = np.linalg.svd(made(20, "batch", 0).array("channel_matrix"), compute_uv=False)
    kept = np.cumsum(s**2)[:16] / np.sum(s**2)
    assert gradients._rest(made(20, "batch", 0).array("channel_matrix"))[:16] == pytest.approx(1 - kept)
    assert max(lines(fig, "without")[0].y) < 1e-8
    assert "with it (" in fig.layout.title.text


# The setting, and how the numbers were made


@pytest.mark.parametrize(
    ("mean", "title"),
    [
        (-1e-9, "In: mean 0.0, spread 1. Out: mean 0, spread 1."),
        (-4.0, "In: mean −4.0, spread 1. Out: mean 0, spread 1."),
    ],
)
def test_a_channel_says_its_mean_and_spread(mean, title):
    values = np.array([-1.0, 1.0] * 10)
    assert setting.channel(values + mean, values).layout.title.text == title


def test_every_row_of_the_studies_has_three_cells(tmp_path):
    rows = [line for line in how_made.studies_table(tmp_path).splitlines() if line.startswith("|")]
    assert {line.replace(r"\|", "").count("|") for line in rows} == {4}
    assert any(r"lr / \|w\|^2 of each kernel" in line for line in rows)


# Style


@pytest.mark.parametrize(
    ("value", "text"), [(0.0343, "0.034"), (2.51, "2.5"), (1.0, "1"), (9.96, "10"), (228.0, "230"), (48_123, "48,000"), (3.14e8, "3.1×10⁸")]
)
def test_readable(value, text):
    assert readable(value) == text


def test_end_labels_keep_apart():
    fig = style.figure("", (style.Axis("x", 0, 1), style.Axis("y", 1e-2, 1e2, log=True)))
    marks.end_labels(fig, 1, {"none": 10.0, "batch": 1.0, "layer": 1.0})
    height = fig.layout.height - fig.layout.margin.t - fig.layout.margin.b
    at = [note.y * height / 4 + note.yshift for note in fig.layout.annotations]
    assert fig.layout.annotations[0].text == "without"
    assert all(above - below >= 16 for above, below in pairwise(at))


# The expectation for wide layers


@pytest.mark.parametrize("init", ["xavier", "he", "torch"])
def test_gain_is_fan_in_times_the_variance_of_the_kernel(init):
    net = nets.build(ModelConfig(depth=8, init=init), seed=0)
    for conv in (*net.convolutions().values(), *net.projections().values()):
        taps = conv.weight[0, 0].numel()
        found = conv.in_channels * taps * conv.weight.square().mean().item()
        assert found == pytest.approx(meanfield.gain(init, conv.in_channels, conv.out_channels, taps), rel=0.25)


@pytest.mark.parametrize(("size", "stride"), [(32, 1), (16, 1), (8, 1), (16, 2), (8, 2)])
def test_coverage_counts_the_taps_inside_the_image(size, stride):
    ones = torch.ones(1, 1, size * stride, size * stride)
    taps = F.conv2d(ones, torch.ones(1, 1, 3, 3), stride=stride, padding=1)
    assert meanfield.coverage(size, stride) == pytest.approx(taps.mean().item() / 9)


@pytest.mark.parametrize("branch", [0.05, 0.5, 2.0])
def test_block_factor_is_what_a_long_stage_settles_at(branch):
    factor = meanfield.block_factor(branch)
    assert 1 < factor < 1 + branch
    h, squares = np.abs(np.random.default_rng(1).normal(size=100_000)), []
    for _ in range(60):
        squares.append(np.mean(h**2))
        h = np.maximum(h + np.random.default_rng(len(squares)).normal(scale=(branch * squares[-1]) ** 0.5, size=h.size), 0)
    assert np.diff(np.log(squares))[20:].mean() == pytest.approx(np.log(factor), rel=0.05)


@pytest.mark.parametrize("changes", [{}, {"init": "he"}, {"init": "torch"}, {"shortcut": "pad"}])
def test_without_bn_real_networks_have_the_expected_mean_square(changes):
    config = ModelConfig(depth=14, norm="none", **changes)
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    squares = []
    for seed in range(40):
        net, seen = nets.build(config, seed), []
        for conv in net.convolutions().values():
            conv.register_forward_hook(lambda module, args, output, seen=seen: seen.append(output.square().mean().item()))
        with torch.no_grad():
            net(image)
        squares.append(seen)
    ln_rms = np.log(np.mean(squares, axis=0)) / 2
    assert meanfield.expected(config).rms == pytest.approx(ln_rms, abs=0.25)


@pytest.mark.parametrize("changes", [{}, {"init": "he"}, {"shortcut": "pad"}])
def test_with_bn_real_networks_have_the_expected_spread(changes):
    config = ModelConfig(depth=20, **changes)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(8, 3, 32, 32, generator=generator), torch.randint(10, (8,), generator=generator)
    measured = probes.at_initialisation(nets.build(config, 0), x, y, full=False)
    expected = meanfield.expected(config)
    assert expected.std[1:] == pytest.approx(measured["ln_std"][1:-1], abs=0.25)
    assert np.median(measured["ln_mean"][1:-1] - expected.mean[1:]) == pytest.approx(0, abs=0.25)


def test_expectation_splits_the_mean_square_with_bn_only():
    with_bn, without = meanfield.expected(ModelConfig(depth=8)), meanfield.expected(ModelConfig(depth=8, norm="none"))
    mean_square = np.exp(2 * (with_bn.mean - meanfield.LN_MAGNITUDE))
    assert np.exp(2 * with_bn.rms) == pytest.approx(np.exp(2 * with_bn.std) + mean_square)
    assert np.isnan(without.std).all()
    assert np.isnan(without.mean).all()


@pytest.mark.parametrize("changes", [{"norm": "layer"}, {"norm": "none", "block": "skipinit"}, {"block": "plain"}])
def test_expectation_refuses_what_it_does_not_know(changes):
    with pytest.raises(ConfigError, match="no expectation for norm"):
        meanfield.expected(ModelConfig(depth=8, **changes))
