"""The network against a forward pass written out by hand, its numbering, sizes, initialisation and recipes."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from bnlib.config import ModelConfig
from bnlib.nets import Block, ResNet, build, layer_at, parameter_groups


def images(batch: int = 4, size: int = 16, seed: int = 0) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))


def batch_norm(x: Tensor) -> Tensor:
    """Eq (1) of the paper at gamma = 1, beta = 0."""
    mu = x.mean((0, 2, 3), keepdim=True)
    variance = ((x - mu) ** 2).mean((0, 2, 3), keepdim=True)
    return (x - mu) / torch.sqrt(variance + 1e-5)


def by_hand(net: ResNet, x: Tensor) -> Tensor:
    """The forward pass from the numbered layers alone."""
    layers, projections = net.layers(), net.projections()
    normalise = batch_norm if net.config.norm == "batch" else lambda out: out

    def conv(layer: nn.Conv2d, out: Tensor) -> Tensor:
        return normalise(F.conv2d(out, layer.weight, layer.bias, stride=layer.stride, padding=layer.weight.shape[-1] // 2))

    x = conv(layers[1], x).relu()
    for first, second in zip(range(2, net.config.depth, 2), range(3, net.config.depth, 2), strict=True):
        out = conv(layers[second], conv(layers[first], x).relu())
        if first in projections:
            x = conv(projections[first], x)
        elif layers[first].stride == (2, 2):
            half = x.shape[1] // 2
            zeros = torch.zeros(len(x), half, *out.shape[2:])
            x = torch.cat([zeros, x[:, :, ::2, ::2], zeros], 1)
        x = (out if net.config.block == "plain" else out + x).relu()
    return layers[net.config.depth](x.mean((2, 3)))


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("shortcut", ["projection", "pad"])
@pytest.mark.parametrize("block", ["residual", "plain"])
@pytest.mark.parametrize("depth", [8, 20])
def test_forward_is_the_one_written_by_hand(norm, shortcut, block, depth):
    net = build(ModelConfig(depth=depth, norm=norm, shortcut=shortcut, block=block), seed=1)
    torch.testing.assert_close(net(images()), by_hand(net, images()), rtol=1e-4, atol=1e-5)


def test_batch_norm_at_test_time_uses_the_running_averages():
    net = build(ModelConfig(depth=8), seed=0)
    x, bn = images(), net.stem[1]
    out = net.layers()[1](x).detach()
    net(x)
    n = out.numel() / out.shape[1]
    torch.testing.assert_close(bn.running_mean, 0.1 * out.mean((0, 2, 3)))
    torch.testing.assert_close(bn.running_var, 0.9 + 0.1 * out.var((0, 2, 3), correction=0) * n / (n - 1))
    net.eval()
    torch.testing.assert_close(net(x)[:1], net(x[:1]))


def test_numbering_at_depth_110():
    net = build(ModelConfig(), seed=0)
    layers = net.layers()
    assert list(layers) == list(range(1, 111))
    assert layers[1].in_channels == 3
    assert [layers[n].out_channels for n in (1, 2, 8, 37, 38, 44, 73, 74, 80, 109)] == [16, 16, 16, 16, 32, 32, 32, 64, 64, 64]
    assert [n for n in range(1, 110) if layers[n].stride == (2, 2)] == [38, 74]
    assert (layers[110].in_features, layers[110].out_features) == (64, 10)
    assert {n: tuple(m.weight.shape) for n, m in net.projections().items()} == {38: (32, 16, 1, 1), 74: (64, 32, 1, 1)}
    assert all(later.in_channels == earlier.out_channels for earlier, later in pairwise(net.convolutions().values()))


@pytest.mark.parametrize("block", ["residual", "plain", "fixup", "skipinit"])
def test_the_numbers_follow_the_forward_pass(block):
    net = build(ModelConfig(depth=14, norm="none", block=block), seed=0)
    called = []
    for number, layer in net.layers().items():
        layer.register_forward_hook(lambda *_, number=number: called.append(number))
    net(images())
    assert called == list(range(1, 15))


def test_layer_at_depth_110_is_the_layer_itself():
    assert [layer_at(110, layer) for layer in range(1, 111)] == list(range(1, 111))


def test_layer_at_known_places():
    assert [layer_at(8, layer) for layer in (1, 2, 37, 38, 45, 54, 55, 74, 109, 110)] == [1, 2, 3, 4, 5, 4, 5, 6, 7, 8]
    assert [layer_at(20, layer) for layer in (6, 18, 30, 45, 55, 90)] == [2, 4, 6, 9, 11, 16]


@given(n=st.integers(1, 40), layer=st.integers(2, 109))
def test_layer_at_keeps_the_stage_and_the_place_in_the_block(n, layer):
    found = layer_at(6 * n + 2, layer)
    assert (found - 2) // (2 * n) == (layer - 2) // 36
    assert found % 2 == layer % 2
    assert layer > 107 or found <= layer_at(6 * n + 2, layer + 2)


@pytest.mark.parametrize("layer", [0, 111, -3])
def test_layer_at_refuses_a_layer_that_is_not_there(layer):
    with pytest.raises(ValueError, match="not in a net of depth 110; choose 1 to 110"):
        layer_at(56, layer)


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (ModelConfig(), 1_730_714),
        (ModelConfig(shortcut="pad"), 1_727_962),
        # Published sizes of the option-A nets: He et al. (2016, Table 6) print 0.27, 0.46, 0.66 and 0.85 million.
        (ModelConfig(depth=20, shortcut="pad"), 269_722),
        (ModelConfig(depth=32, shortcut="pad"), 464_154),
        (ModelConfig(depth=44, shortcut="pad"), 658_586),
        (ModelConfig(depth=56, shortcut="pad"), 853_018),
    ],
)
def test_parameter_count(config, count):
    assert sum(p.numel() for p in build(config, seed=0).parameters()) == count


@pytest.mark.parametrize("init", ["xavier", "he", "torch"])
def test_initialisation_follows_its_formula(init):
    net = build(ModelConfig(depth=20, init=init), seed=3)
    for conv in (*net.convolutions().values(), *net.projections().values()):
        w = conv.weight.detach().numpy().ravel().astype(float)
        fan_in, fan_out = conv.in_channels * conv.kernel_size[0] ** 2, conv.out_channels * conv.kernel_size[0] ** 2
        variance = {"xavier": 2 / (fan_in + fan_out), "he": 2 / fan_out, "torch": 1 / (3 * fan_in)}[init]
        kurtosis = 1.8 if init == "torch" else 3.0
        assert abs(w.mean()) < 4.5 * math.sqrt(variance / w.size)
        assert abs(w.var() / variance - 1) < 4.5 * math.sqrt((kurtosis - 1) / w.size)
        if init == "torch":
            assert np.abs(w).max() <= fan_in**-0.5


def test_the_linear_layer_has_pytorchs_default():
    for init in ("xavier", "he", "torch"):
        linear = build(ModelConfig(depth=8, init=init), seed=0).linear
        assert 0.12 < linear.weight.abs().max() <= 0.125
        assert 0 < linear.bias.abs().max() <= 0.125


@pytest.mark.parametrize("norm", ["batch", "layer", "group", "instance"])
def test_normalised_convolutions_have_no_bias(norm):
    net = build(ModelConfig(depth=8, norm=norm), seed=0)
    assert all(conv.bias is None for conv in (*net.convolutions().values(), *net.projections().values()))


@pytest.mark.parametrize("norm", ["none", "last-features", "last-logits"])
def test_unnormalised_convolutions_have_a_bias_that_starts_at_zero(norm):
    net = build(ModelConfig(depth=8, norm=norm), seed=0)
    assert all(conv.bias is not None and not conv.bias.any() for conv in (*net.convolutions().values(), *net.projections().values()))


def test_equal_seeds_give_equal_nets_and_the_global_state_is_left_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (build(ModelConfig(depth=14), seed) for seed in (7, 7, 8))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    assert all(not torch.equal(first.layers()[n].weight, other.layers()[n].weight) for n in range(1, 15))


@pytest.mark.parametrize(
    "changes", [{"norm": "none"}, {"norm": "group"}, {"shortcut": "pad"}, {"block": "plain"}, {"norm": "none", "block": "skipinit"}]
)
def test_equal_seeds_give_equal_layers_whatever_surrounds_them(changes):
    nets = build(ModelConfig(depth=14), 2), build(ModelConfig(depth=14, **changes), 2)
    assert all(torch.equal(a.weight, b.weight) for a, b in zip(*(net.layers().values() for net in nets), strict=True))


def normalisers(net: ResNet) -> list[nn.Module]:
    return [m for m in net.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm))]


@pytest.mark.parametrize(("norm", "groups"), [("batch", None), ("layer", [1, 1, 1]), ("group", [2, 4, 8]), ("instance", [16, 32, 64])])
def test_each_convolution_is_followed_by_its_normaliser(norm, groups):
    net = build(ModelConfig(depth=14, norm=norm), seed=0)
    found = normalisers(net)
    assert len(found) == len(net.convolutions()) + len(net.projections())
    if groups:
        by_width = dict(zip((16, 32, 64), groups, strict=True))
        assert all(m.num_groups == by_width[m.num_channels] and m.affine and m.eps == 1e-5 for m in found)


def test_last_features_normalises_the_output_of_the_last_block_alone():
    net = build(ModelConfig(depth=8, norm="last-features"), seed=0)
    assert normalisers(net) == [net.features_norm]
    pooled = []
    net.linear.register_forward_pre_hook(lambda _, args: pooled.append(args[0]))
    net(images())
    torch.testing.assert_close(pooled[0].mean(0), torch.zeros(64), rtol=0, atol=1e-5)


def test_last_logits_normalises_the_logits_alone():
    net = build(ModelConfig(depth=8, norm="last-logits"), seed=0)
    assert normalisers(net) == [net.logits_norm]
    raw = []
    net.linear.register_forward_hook(lambda _, args, out: raw.append(out))
    logits, variance = net(images(batch=64)), raw[0].var(0, correction=0)
    torch.testing.assert_close(logits, (raw[0] - raw[0].mean(0)) / (variance + 1e-5).sqrt(), rtol=1e-4, atol=1e-5)


def test_no_normaliser_means_none():
    assert normalisers(build(ModelConfig(depth=8, norm="none"), seed=0)) == []


@pytest.mark.parametrize("block", ["fixup", "skipinit"])
def test_at_first_each_block_of_fixup_and_skipinit_is_its_shortcut(block):
    net = build(ModelConfig(depth=20, norm="none", block=block), seed=0)
    x = torch.relu(net.stem(images()))
    for module in net.blocks:
        assert isinstance(module, Block)
        assert torch.equal(module(x), torch.relu(module.shortcut(x)))
        x = module(x)


def test_fixup_starts_by_its_rules():
    net = build(ModelConfig(depth=110, norm="none", block="fixup"), seed=0)
    layers = net.layers()
    assert torch.equal(net(images()), torch.zeros(4, 10))
    for n in range(2, 110, 2):
        fan_out = layers[n].out_channels * 9
        assert layers[n].weight.std().item() == pytest.approx(math.sqrt(2 / fan_out) * 54**-0.5, rel=0.1)
        assert not layers[n + 1].weight.any()
    assert layers[1].weight.std().item() == pytest.approx(math.sqrt(2 / 144), rel=0.1)
    assert net.projections()[38].weight.std().item() == pytest.approx(math.sqrt(2 / 32), rel=0.15)
    scalars = {name: p.item() for name, p in net.named_parameters() if p.ndim == 0}
    assert len(scalars) == 54 * 5 + 2 + 2  # four biases and a multiplier a block; projections; stem and linear layer
    assert all(value == name.endswith("alpha") for name, value in scalars.items())


@pytest.mark.parametrize("block", ["fixup", "skipinit"])
def test_the_recipes_take_a_tenth_of_the_rate_for_biases_and_scalars(block):
    net = build(ModelConfig(depth=8, norm="none", block=block), seed=0)
    fast, slow = parameter_groups(net, lr=0.1, weight_decay=1e-4)
    kernels = {id(layer.weight) for layer in (*net.layers().values(), *net.projections().values())}
    assert {id(p) for p in fast["params"]} == kernels
    assert {id(p) for p in slow["params"]} == {id(p) for p in net.parameters()} - kernels
    assert (fast["lr"], slow["lr"], fast["weight_decay"], slow["weight_decay"]) == (0.1, pytest.approx(0.01), 1e-4, 1e-4)


@pytest.mark.parametrize("config", [ModelConfig(depth=8), ModelConfig(depth=8, norm="none")])
def test_every_other_net_has_one_rate(config):
    net = build(config, seed=0)
    (group,) = parameter_groups(net, lr=0.1, weight_decay=1e-4)
    assert [id(p) for p in group["params"]] == [id(p) for p in net.parameters()]
    assert (group["lr"], group["weight_decay"]) == (0.1, 1e-4)


@pytest.mark.parametrize("block", ["residual", "plain", "fixup", "skipinit"])
def test_a_few_steps_lower_the_loss(block):
    net = build(ModelConfig(depth=8, norm="none", block=block), seed=0)
    optimiser = torch.optim.SGD(parameter_groups(net, lr=0.02, weight_decay=0.0), lr=1.0)
    x, y = images(batch=16), torch.arange(16) % 10
    losses = []
    for _ in range(15):
        optimiser.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
