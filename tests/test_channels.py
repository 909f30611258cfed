"""Channels and single parameters against sums written out summand by summand, and the part of a gradient that constant channels make."""

import numpy as np
import pytest
import torch
from test_probes import batch, seen_by_autograd, summands

from bnlib.config import ModelConfig
from bnlib.nets import build, layer_at
from bnlib.probes import at_initialisation
from bnlib.probes.channels import LAYERS, QUANTILES, at_layers


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_each_layer_against_its_summands(norm: str):
    net = build(ModelConfig(depth=8, norm=norm), seed=0)  # type: ignore[arg-type]
    x, y = batch()
    found, kept = at_layers(net, x, y), seen_by_autograd(net, x, y)[0]
    for layer in LAYERS:
        conv = net.convolutions()[layer_at(8, layer)]
        image, _, gradient = kept[conv]
        d = summands(conv, image, gradient)
        total, size = d.sum(1), d.abs().sum(1)
        assert found[f"channel_mean_{layer}"] == pytest.approx(image.double().mean((0, 2, 3)).numpy(), abs=1e-6)
        by_channel = total.abs().reshape(conv.weight.shape).sum((0, 2, 3)).numpy()
        assert found[f"channel_gradient_{layer}"] == pytest.approx(by_channel, rel=1e-3, abs=1e-9)
        ratio = np.nanquantile((size / total.abs()).numpy(), QUANTILES[:3])  # a sum close to zero is no more certain than its rounding
        assert found[f"parameter_ratio_{layer}"][:3] == pytest.approx(ratio, rel=1e-3)


def test_what_constant_channels_make_is_all_where_they_are_constant_and_nothing_behind_bn():
    """The first convolution of a net that sees constant images; and BN, which no constant shift of a channel gets through."""
    x, y = torch.ones(4, 3, 8, 8) * torch.tensor([1.0, -2.0, 0.5])[:, None, None], torch.arange(4)
    net = build(ModelConfig(depth=8, norm="none"), seed=0)
    places = {layer: layer_at(8, layer) for layer in LAYERS}
    assert places[18] > 1, "no layer of the probe sees the images themselves, so the share is below 1 through the zeros around them"
    assert 0.5 < at_layers(net, x, y)["constant_share_18"] < 1
    normalised = at_layers(build(ModelConfig(depth=8), seed=0), *batch(16, 32))
    assert all(abs(normalised[f"constant_share_{layer}"]) < 0.1 for layer in LAYERS)


def test_the_channel_matrix_of_fig_7_has_the_same_rows():
    net, (x, y) = build(ModelConfig(depth=8, norm="none"), seed=0), batch()
    rows = at_initialisation(net, x, y)["channel_matrix"].sum(1)
    assert at_layers(net, x, y)["channel_gradient_45"] == pytest.approx(rows, rel=1e-3)


def test_the_network_is_left_as_it_was():
    net = build(ModelConfig(depth=8), seed=0)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    at_layers(net, *batch())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert not any(conv._forward_hooks for conv in net.convolutions().values())
