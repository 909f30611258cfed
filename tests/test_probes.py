"""The probes against sums written out summand by summand, scipy, and samples of known laws."""

import copy
import itertools
import json
import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from bnlib.config import ModelConfig
from bnlib.nets import ResNet, build
from bnlib.probes import BINS, at_initialisation, hill, powerlaw_fit, watch
from bnlib.probes.initialisation import QUANTILES

FULL = {"gradient_quantiles", "gradient_histogram", "gradient_outside", "channel_matrix", "output_gradient"}


def batch(size: int = 4, side: int = 8, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, 3, side, side, generator=generator), torch.randint(0, 10, (size,), generator=generator)


def seen_by_autograd(net: ResNet, x: Tensor, y: Tensor) -> tuple[dict[nn.Module, tuple[Tensor, Tensor, Tensor]], Tensor, Tensor]:
    """A layer's input, output and the gradient at its output; the logits and the gradient there; from a plain backward pass."""
    kept = {}

    def keep(layer, args, output):
        output.retain_grad()
        kept[layer] = args[0], output

    net = net.train()
    hooks = [layer.register_forward_hook(keep) for layer in (*net.layers().values(), *net.projections().values())]
    logits = net(x)
    logits.retain_grad()
    F.cross_entropy(logits, y).backward()
    for hook in hooks:
        hook.remove()
    return {layer: (image.detach(), out.detach(), out.grad) for layer, (image, out) in kept.items()}, logits.detach(), logits.grad


def summands(conv: nn.Conv2d, image: Tensor, gradient: Tensor) -> Tensor:
    """All d, as [parameter o i x' y', summand b x y], in float64."""
    patches = F.unfold(image.double(), conv.kernel_size, padding=conv.padding, stride=conv.stride)
    d = torch.einsum("bol,bil->oibl", gradient.double().flatten(2), patches)
    return d.reshape(conv.weight.numel(), -1)


def test_the_oracle_itself_term_by_term():
    conv = nn.Conv2d(2, 3, 3, stride=2, padding=1)
    image, generator = torch.randn(2, 2, 4, 4), torch.Generator().manual_seed(1)
    gradient = torch.randn(2, 3, 2, 2, generator=generator)
    d = summands(conv, image, gradient).reshape(3, 2, 3, 3, 2, 2, 2)
    for o, i, u, v, b, x, y in itertools.product(range(3), range(2), range(3), range(3), range(2), range(2), range(2)):
        row, column = 2 * x + u - 1, 2 * y + v - 1
        inside = 0 <= row < 4 and 0 <= column < 4
        expected = float(gradient[b, o, x, y]) * float(image[b, i, row, column]) if inside else 0.0
        assert d[o, i, u, v, b, x, y].item() == pytest.approx(expected)


NETS = [
    ModelConfig(depth=8),
    ModelConfig(depth=8, norm="none"),
    ModelConfig(depth=8, norm="last-logits"),
    ModelConfig(depth=8, norm="group", shortcut="pad"),
    ModelConfig(depth=14, norm="none", block="plain"),
]


@pytest.mark.parametrize("config", NETS, ids=lambda c: f"{c.depth}-{c.norm}-{c.shortcut}-{c.block}")
def test_everything_against_sums_written_out(config):
    net, (x, y) = build(config, seed=1), batch()
    measured = at_initialisation(net, x, y)
    seen, logits, outer = seen_by_autograd(copy.deepcopy(net), x, y)
    layers = list(seen)  # in the order of the forward pass, where a projection follows its block's branch
    numbered = [layer for layer in layers if getattr(layer, "kernel_size", (3, 3)) == (3, 3)]
    shortcuts = [layer for layer in layers if layer not in numbered]
    assert len(numbered) == config.depth

    for prefix, group in (("", numbered), ("projection_", shortcuts)):
        for place, layer in enumerate(group):
            image, output, gradient = seen[layer]
            out = output.double().transpose(0, 1).flatten(1).numpy()
            for key, values in (("ln_mean", np.log(np.abs(out.mean(1)))), ("ln_std", np.log(out.std(1)))):
                assert measured[f"{prefix}{key}"][place] == pytest.approx(values.mean(), rel=1e-3, abs=1e-3)
                assert measured[f"{prefix}{key}_spread"][place] == pytest.approx(values.std(), rel=1e-2, abs=1e-3)
            if not isinstance(layer, nn.Conv2d):
                continue
            d = summands(layer, image, gradient)
            a, b = d.abs().mean(1).mean(), d.mean(1).abs().mean()
            random = d.abs().sum(1).mean() / (2 / math.pi * d.square().sum(1)).sqrt().mean()
            for key, value in (("a", a), ("b", b), ("ratio", a / b), ("random", random)):
                assert measured[f"{prefix}coherence_{key}"][place] == pytest.approx(value.item(), rel=1e-3), (key, place)
            g = d.sum(1).numpy()
            rows = {
                "mean": g.mean(),
                "std": g.std(),
                "skewness": scipy.stats.skew(g),
                "kurtosis": scipy.stats.kurtosis(g, fisher=False),
                "max_over_median": np.abs(g).max() / np.median(np.abs(g)),
            }
            for key, value in rows.items():
                assert measured[f"{prefix}gradient_{key}"][place] == pytest.approx(value, rel=2e-3, abs=1e-4 * g.std()), (key, place)

    matrix_layer = numbered[4 if config.depth == 8 else 6]  # the like of layer 45
    d = summands(matrix_layer, seen[matrix_layer][0], seen[matrix_layer][2]).sum(1).reshape(matrix_layer.weight.shape)
    np.testing.assert_allclose(measured["channel_matrix"], d.abs().sum((2, 3)).T.numpy(), rtol=1e-3, atol=1e-6 * float(d.abs().max()))

    np.testing.assert_allclose(measured["output_gradient"], (logits.softmax(1) - F.one_hot(y, 10)).numpy() / 4, atol=1e-6)
    np.testing.assert_allclose(measured["output_gradient"], outer.numpy(), atol=1e-7)
    assert measured["loss"] == pytest.approx(-logits.log_softmax(1)[range(4), y].mean().item(), rel=1e-5)
    assert measured["one_class"] == max(np.bincount(logits.argmax(1).numpy())) / 4
    mean_row = np.tile(outer.numpy().mean(0), (4, 1))
    assert measured["mean_row_energy"] == pytest.approx((mean_row**2).sum() / (outer.numpy() ** 2).sum(), rel=1e-4)


def test_a_row_shared_by_the_batch_has_all_the_energy():
    net, (x, y) = build(ModelConfig(depth=8, norm="none"), seed=0), batch()
    measured = at_initialisation(net, x[:1].expand(4, -1, -1, -1), y[:1].expand(4))
    assert measured["mean_row_energy"] == pytest.approx(1)
    assert measured["one_class"] == 1


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_the_distributions_are_those_of_the_bare_pass(norm):
    net, (x, y) = build(ModelConfig(depth=8, norm=norm), seed=2), batch()
    measured = at_initialisation(net, x, y)
    bare = copy.deepcopy(net)
    F.cross_entropy(bare(x), y).backward()
    for place, conv in enumerate(bare.convolutions().values()):
        g = conv.weight.grad.double().numpy().ravel()
        assert measured["gradient_mean"][place] == g.mean()
        assert measured["gradient_quantiles"][place].tolist() == np.quantile(g, QUANTILES).tolist()
        z = g / g.std()
        counted = [int(((z >= low) & ((z < high) | ((high == 4) & (z == 4)))).sum()) for low, high in itertools.pairwise(BINS)]
        assert measured["gradient_histogram"][place].tolist() == counted
        assert measured["gradient_outside"][place].tolist() == [(z < -4).sum(), (z > 4).sum()]
        assert sum(counted) + measured["gradient_outside"][place].sum() == g.size


@pytest.mark.parametrize("config", NETS, ids=lambda c: f"{c.depth}-{c.norm}-{c.shortcut}-{c.block}")
def test_watching_changes_no_bit_of_the_pass(config):
    bare, (x, y) = build(config, seed=0), batch()
    watched = copy.deepcopy(bare)
    loss = F.cross_entropy(bare(x), y)
    loss.backward()
    with watch(watched) as seen:
        same = F.cross_entropy(watched(x), y)
        same.backward()
    assert torch.equal(loss, same)
    assert all(torch.equal(p.grad, q.grad) for p, q in zip(bare.parameters(), watched.parameters(), strict=True))
    assert all(torch.equal(p, q) for p, q in zip(bare.buffers(), watched.buffers(), strict=True))
    assert set(seen) == {*watched.layers().values(), *watched.projections().values()}


def test_watching_ends_with_the_context_even_on_an_error():
    net, (x, _) = build(ModelConfig(depth=8), seed=0), batch()
    with pytest.raises(RuntimeError, match="stop"), watch(net) as seen:
        raise RuntimeError("stop")
    net(x)
    assert not seen


def test_probing_leaves_the_net_as_it_was():
    net, (x, y) = build(ModelConfig(depth=8), seed=0), batch()
    before, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    first, second = at_initialisation(net, x, y), at_initialisation(net, x, y)
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in before.items())
    assert all(p.grad is None for p in net.parameters())
    assert net.training
    assert torch.equal(state, torch.get_rng_state())
    assert all(np.array_equal(first[key], second[key]) for key in first)


def test_a_summary_is_the_full_record_less_the_large_parts():
    net, (x, y) = build(ModelConfig(depth=8), seed=0), batch()
    full, summary = at_initialisation(net, x, y), at_initialisation(net, x, y, full=False)
    assert set(full) - set(summary) == FULL
    assert all(np.array_equal(full[key], summary[key]) for key in summary)
    assert {len(full[key]) for key in full if key.startswith(("gradient_", "coherence_"))} == {7}
    assert {len(full[key]) for key in full if key.startswith("ln_")} == {8}
    assert {len(full[key]) for key in full if key.startswith("projection_")} == {2}
    json.dumps({key: np.asarray(value).tolist() for key, value in full.items()}, allow_nan=False)


def test_without_projections_there_are_no_keys_for_them():
    net, (x, y) = build(ModelConfig(depth=8, shortcut="pad"), seed=0), batch()
    assert not [key for key in at_initialisation(net, x, y) if key.startswith("projection_")]


def test_the_power_law_is_fitted_on_request_to_the_middle_layer(monkeypatch):
    net, (x, y) = build(ModelConfig(depth=8), seed=0), batch()
    monkeypatch.setattr("bnlib.probes.initialisation.powerlaw_fit", lambda gradient: powerlaw_fit(gradient[:300]))
    plain, fitted = at_initialisation(net, x, y, full=False), at_initialisation(net, x, y, full=False, powerlaw=True)
    F.cross_entropy(net(x), y).backward()
    expected = powerlaw_fit(net.layers()[5].weight.grad.flatten().numpy()[:300])
    assert {key: fitted[key] for key in fitted if key not in plain} == {f"powerlaw_{key}": value for key, value in expected.items()}


def test_what_a_vanishing_gradient_leaves_undefined_is_nan():
    net, (x, y) = build(ModelConfig(depth=8, norm="none", block="fixup"), seed=0), batch()
    measured = at_initialisation(net, x, y)
    for key in (
        "gradient_skewness",
        "gradient_kurtosis",
        "gradient_max_over_median",
        "gradient_hill",
        "coherence_ratio",
        "coherence_random",
    ):
        assert np.isnan(measured[key]).all()
    for key in ("gradient_mean", "gradient_std", "coherence_a", "coherence_b"):
        assert not measured[key].any()
    assert not measured["gradient_histogram"].any()
    assert measured["ln_std"][-1] == -np.inf
    assert measured["loss"] == pytest.approx(math.log(10))


def test_squares_below_the_range_of_fp32_are_still_summed():
    """In a deep plain net activations shrink by half a layer; here all images are scaled by 1e-25."""
    net, (x, y) = build(ModelConfig(depth=8, norm="none", block="plain"), seed=0), batch()
    single = at_initialisation(net, x * 1e-25, y, full=False)
    double = at_initialisation(net.double(), (x * 1e-25).double(), y, full=False)
    for key in ("coherence_a", "coherence_ratio", "coherence_random"):
        np.testing.assert_allclose(single[key], double[key], rtol=1e-3)


def test_evaluation_mode_is_refused():
    net, (x, y) = build(ModelConfig(depth=8), seed=0), batch()
    with pytest.raises(ValueError, match=r"evaluation mode.*call net.train\(\)"):
        at_initialisation(net.eval(), x, y)


def test_hill_by_its_formula():
    values = np.array([1.0, 8.0, 2.0, 4.0])
    alpha, error = hill(values, share=0.5)
    assert alpha == pytest.approx(2 / (math.log(8 / 2) + math.log(4 / 2)))
    assert error == pytest.approx(alpha / math.sqrt(2))


@settings(max_examples=25, deadline=None)
@given(alpha=st.floats(0.5, 6), seed=st.integers(0, 2**31), scale=st.floats(1e-12, 1e6))
def test_hill_finds_the_index_of_pareto_samples_in_any_unit(alpha, seed, scale):
    sample = np.random.default_rng(seed).uniform(size=40_000) ** (-1 / alpha)
    found, error = hill(sample * scale)
    assert error == pytest.approx(found / 20)
    assert abs(found - alpha) < 6 * alpha / 20


def test_hill_refuses_too_few_values():
    with pytest.raises(ValueError, match="2 values leave no threshold"):
        hill(np.array([1.0, 2.0]))


@pytest.mark.parametrize("index", [1.5, 4.0])
def test_power_law_of_a_pareto_sample(index):
    generator = np.random.default_rng(0)
    sample = generator.choice([-1.0, 1.0], 600) * generator.uniform(size=600) ** (-1 / index)
    fit = powerlaw_fit(sample)
    assert abs(fit["alpha"] - 1 - index) < 4 * fit["sigma"]
    assert fit["sigma"] == pytest.approx((fit["alpha"] - 1) / math.sqrt(fit["tail"]))
    beyond = np.abs(sample)[np.abs(sample) >= fit["xmin"]]
    x, excess = beyond / fit["xmin"], beyond - fit["xmin"]
    assert fit["tail"] == beyond.size
    assert fit["alpha"] - 1 == pytest.approx(1 / np.log(x).mean(), rel=1e-6)
    power_law = math.log((fit["alpha"] - 1) / fit["xmin"]) - fit["alpha"] * np.log(x)
    exponential = -math.log(excess.mean()) - excess / excess.mean()
    ratio = (power_law - exponential).sum() / ((power_law - exponential).std() * math.sqrt(beyond.size))
    assert fit["exponential_R"] == pytest.approx(ratio, rel=1e-3)
    assert fit["exponential_R"] > 2
    assert fit["exponential_p"] == pytest.approx(math.erfc(ratio / math.sqrt(2)), rel=1e-2)


def test_the_tail_of_an_exponential_sample_is_steep():
    assert powerlaw_fit(np.random.default_rng(0).exponential(size=600))["alpha"] > 4


@pytest.mark.parametrize("values", [np.zeros(5), np.array([0.0, -2.0])])
def test_power_law_refuses_a_vanishing_gradient(values):
    with pytest.raises(ValueError, match="needs two entries that are not zero"):
        powerlaw_fit(values)
