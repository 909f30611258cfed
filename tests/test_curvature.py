"""Lanczos against the dense Hessian."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bnlib import data, nets
from bnlib.config import ModelConfig
from bnlib.probes import curvature

IMAGES = data.synthetic(40, 10)
X, Y = IMAGES.standardise(IMAGES.x_train[:12])[:, :, ::4, ::4].double(), IMAGES.y_train[:12]


def small(norm: str) -> nets.ResNet:
    """A net so narrow that its Hessian fits in memory: 1 to 3 channels, double precision."""
    widths = nets.WIDTHS
    nets.WIDTHS = (1, 2, 3)
    try:
        net = nets.build(ModelConfig(depth=8, norm=norm), 3).double()
    finally:
        nets.WIDTHS = widths
    return net


def dense(net: nets.ResNet) -> np.ndarray:
    weights = list(net.parameters())
    gradient = torch.autograd.grad(F.cross_entropy(net(X), Y), weights, create_graph=True)
    flat = torch.cat([g.flatten() for g in gradient])
    rows = [torch.autograd.grad(entry, weights, retain_graph=True, materialize_grads=True) for entry in flat]
    return torch.stack([torch.cat([part.flatten() for part in row]) for row in rows]).numpy()


@pytest.mark.parametrize("norm", ["batch", "none", "instance"])
def test_the_sharpness_is_the_largest_eigenvalue_of_the_dense_hessian(norm: str):
    net = small(norm)
    expected = np.linalg.eigvalsh(dense(net))[-1]
    assert curvature.sharpness(net, X, Y, tolerance=1e-6) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_products_are_those_of_the_dense_hessian(norm: str):
    net = small(norm)
    H, v = dense(net), np.random.default_rng(1).standard_normal(sum(p.numel() for p in net.parameters()))
    np.testing.assert_allclose(curvature.Hessian(net, X, Y) @ v, H @ v, rtol=1e-6, atol=1e-9)


def test_the_net_is_left_as_it_was():
    net = small("batch")
    before = {name: value.clone() for name, value in net.state_dict().items()}
    curvature.sharpness(net, X, Y)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


def test_in_evaluation_mode_there_is_none():
    with pytest.raises(ValueError, match="evaluation mode"):
        curvature.sharpness(small("batch").eval(), X, Y)


def test_a_loss_that_is_not_finite_has_none():
    net = small("none")
    with torch.no_grad():
        net.linear.weight.fill_(float("nan"))
    assert np.isnan(curvature.sharpness(net, X, Y))


def test_too_few_restarts_are_said():
    with pytest.raises(ValueError, match="did not converge in 1 restarts"):
        curvature.sharpness(nets.build(ModelConfig(depth=8), 0), X.float(), Y, tolerance=1e-14, most=1)
