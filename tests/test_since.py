"""Random networks, the trunk, the catapult and scaled kernels, against autograd, closed forms and direct computation."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from bnlib import data, nets
from bnlib.config import ConfigError, DataConfig, ModelConfig, RunConfig, TrainConfig
from bnlib.matrices import mlp
from bnlib.probes import catapult, curvature, rescale, trunk

IMAGES = data.synthetic(64, 8)

# Random fully connected networks


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_gradients_are_those_of_autograd(norm: bool, relu: bool):
    M, N, batch, seed = 5, 12, 9, 3
    seen = mlp.random_network(M, N, batch, seed, norm, relu)
    drawn = [torch.from_numpy(np.random.default_rng([seed, k]).standard_normal((N, batch if k in (0, M + 1) else N))) for k in range(M + 2)]
    H, held, ranks = drawn[0], [], []
    for k in range(1, M + 1):
        Z = drawn[k] * ((2 if relu else 1) / N) ** 0.5 @ H
        X = F.batch_norm(Z.T, None, None, training=True, eps=1e-30).T if norm else Z
        H = F.relu(X) if relu else X
        H.requires_grad_() if k == 1 and not H.requires_grad else None
        held.append(H)
        ranks.append((X.square().sum() ** 2 / (X @ X.T).square().sum()).item())
    gradients = torch.autograd.grad((H * drawn[M + 1]).sum(), held)
    assert seen.layer.tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(seen.ln_gradient, [g.square().sum().log().item() for g in gradients], rtol=1e-9)
    np.testing.assert_allclose(seen.rank, ranks, rtol=1e-9)


def test_the_rank_counts_directions():
    assert mlp.participation(np.outer(np.arange(1.0, 5), np.arange(1.0, 8))) == pytest.approx(1)
    assert mlp.participation(np.eye(6)[:4] * 1e-200) == pytest.approx(4)
    assert mlp.participation(np.diag([2.0, 1.0])) == pytest.approx(25 / 17)


def test_the_law_is_half_the_slopes_over_the_variance_of_a_relu():
    z = np.linspace(-8, 8, 200_001)
    p = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    h = z.clip(0)
    variance = (p * h**2).sum() - (p * h).sum() ** 2
    assert math.log(0.5 / variance) == pytest.approx(mlp.EXPLOSION, abs=1e-6)


@given(st.integers(1, 600))
def test_recorded_layers_go_from_the_first_to_the_last(M: int):
    layers = mlp.recorded(M)
    assert layers[0] == 1
    assert layers[-1] == M
    assert (np.diff(layers) > 0).all()


def test_sizes_must_make_sense():
    with pytest.raises(ConfigError, match="at least 2, one sample has no variance"):
        mlp.random_network(2, 3, 1, 0, norm=True, relu=True)
    with pytest.raises(ConfigError):
        mlp.random_network(0, 3, 4, 0, norm=True, relu=True)


# The trunk


@pytest.mark.parametrize("block", ["residual", "plain"])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_the_trunk_is_what_a_loop_over_the_blocks_sees(norm: str, block: str):
    net = nets.build(ModelConfig(depth=14, norm=norm, block=block), 1)  # type: ignore[arg-type]
    x, y = data.batch(IMAGES, 0, 8)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    seen = trunk.measure(net, x, y)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    h, trunks, rms, sums, branches = net.stem(x), [], [], [], []
    trunks.append(h)
    for part in net.blocks:
        b = part.branch(h)
        s = b if block == "plain" else b + part.shortcut(h)
        h = F.relu(s)
        trunks.append(h)
        for values, kept in ((h, rms), (s, sums), (b, branches)):
            kept.append(values.square().mean().sqrt().item())
    loss = F.cross_entropy(net.linear(net.pool(h)), y)
    gradients = [g.square().sum().log().item() for g in torch.autograd.grad(loss, trunks)]
    np.testing.assert_allclose(seen["rms"], rms, rtol=1e-4)
    np.testing.assert_allclose(seen["sum"], sums, rtol=1e-4)
    np.testing.assert_allclose(seen["branch"], branches, rtol=1e-4)
    np.testing.assert_allclose(seen["ln_gradient"], gradients, rtol=1e-3)


def test_the_walk_begins_as_its_moments_say():
    """relu(z + z') has the mean square 1; relu(relu(z) + z') that of half of 1/2 + 1, and the upper half of what lies above zero."""
    assert trunk.walk(1, projected=True, draws=1_000_000)[0] == pytest.approx(1, rel=5e-3)
    z = np.random.default_rng(1).standard_normal((2, 1_000_000))
    assert trunk.walk(1, projected=False)[0] == pytest.approx(((z[0].clip(0) + z[1]).clip(0) ** 2).mean() ** 0.5, rel=2e-2)
    assert trunk.exponent(trunk.walk(300, projected=True, draws=20_000)) == pytest.approx(0.5, abs=0.02)


@settings(max_examples=20)
@given(st.floats(-2, 2), st.floats(0.1, 10), st.integers(2, 30))
def test_the_exponent_is_that_of_a_power(p: float, scale: float, n: int):
    assert trunk.exponent(scale * np.arange(1.0, n + 1) ** p) == pytest.approx(p, abs=1e-9)


def test_one_block_has_no_exponent():
    with pytest.raises(ValueError, match="take a depth of at least 14"):
        trunk.exponent(np.ones(1))


def test_stages_are_thirds():
    assert [part.tolist() for part in trunk.stages(np.arange(6.0))] == [[0, 1], [2, 3], [4, 5]]


# The catapult


class Quadratic(torch.nn.Module):
    """Two logits, each a weight times the first pixel times 1 or 1/2: a quadratic loss of known curvature."""

    def __init__(self) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor([3.0, 0.0], dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = self.w * torch.tensor([1.0, 0.5], dtype=torch.float64) * x[:, 0, 0, :1]
        return F.pad(logits, (0, nets.CLASSES - 2))


def test_descent_on_a_quadratic_is_a_geometric_sequence_about_two_over_lambda():
    x, y = torch.full((1, 3, 1, 1), 2.0, dtype=torch.float64), torch.tensor([5])
    seen = catapult.measure(Quadratic, x, y, catapult.squared_error, steps=6)
    assert seen["start"] == pytest.approx(4)
    for multiple, losses in zip(seen["multiple"], seen["loss"], strict=True):
        distance = 6 * (1 - 2 * multiple) ** np.arange(7.0)
        expected = (1 + distance**2) / 2
        beyond = np.flatnonzero(expected > 1e3 * expected[0])
        expected[beyond[0] if len(beyond) else 7 :] = np.nan
        np.testing.assert_allclose(losses, expected, rtol=1e-9)
    ends = np.array(seen["end"])
    assert np.isfinite(ends[np.array(seen["multiple"]) <= 1]).all()
    assert np.isnan(ends[-1])


def test_squared_error_is_half_the_distance_from_the_label():
    logits = torch.zeros(2, nets.CLASSES)
    assert catapult.squared_error(logits, torch.tensor([0, 3])).item() == 0.5
    assert catapult.squared_error(torch.full((1, nets.CLASSES), 0.1), torch.tensor([0])).item() == pytest.approx(0.45)


def test_two_layers_compute_their_formula():
    x, _ = data.batch(IMAGES, 0, 8)
    net = catapult.TwoLayers(16, 0)
    expected = [[sum(net.v[k, i] * F.relu(net.W[i] @ image.flatten()) for i in range(16)).item() / 4 for k in range(10)] for image in x[:2]]
    np.testing.assert_allclose(net(x[:2]).detach(), expected, rtol=1e-4)
    assert torch.equal(catapult.TwoLayers(16, 0).W, net.W)


def test_two_layers_catapult():
    """A single image, so that the whole error lies along the largest curvature; at 3 / lambda_max it rises at once."""
    x, y = data.batch(IMAGES, 0, 1)
    net = catapult.TwoLayers(256, 0)
    start = curvature.sharpness(net, x, y, loss=catapult.squared_error)
    losses = catapult.descend(net, x, y, 3 / start, 100, catapult.squared_error)
    assert losses[1] > losses[0]
    assert max(losses) > 1.2 * losses[0]
    assert losses[-1] < 1e-3 * losses[0]
    assert curvature.sharpness(net, x, y, loss=catapult.squared_error) < 2 / 3 * start


# Kernels without a size


@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_with_bn_a_scaled_network_is_the_same_to_float64(factor: float):
    x, y = data.batch(IMAGES, 1, 4)
    own, follow, alone = (
        rescale.trajectory(ModelConfig(depth=8), 1, x, y, 0.1, c, 3, on) for c, on in ((1.0, True), (factor, True), (factor, False))
    )
    np.testing.assert_allclose(follow, own, rtol=1e-12)
    assert np.ptp(own) > 0.01
    assert np.abs(alone / own - 1).max() > 0.01


def test_without_bn_it_is_another():
    measured = rescale.rescaled(ModelConfig(depth=8, norm="none"), 1, IMAGES, lr=0.01, size=4, steps=2)
    assert np.delete(measured["gap"], 2).min() > 0.01
    assert measured["gap"][2] == 0
    assert measured["losses"].shape == measured["alone_losses"].shape == (5, 2)


def test_lengths_are_those_of_the_trained_kernels():
    setting = TrainConfig(lr=0.1, steps=7, batch=16, schedule="constant")
    run = RunConfig("effective", 0, ModelConfig(depth=8), DataConfig("synthetic", 64, 8), train=setting)
    measured = rescale.effective(run, IMAGES)
    assert measured["update"] == [0, 1, 5]
    assert measured["norm2"].shape == (7, 3)
    assert measured["status"] == "completed"
    first = nets.build(ModelConfig(depth=8), 0).convolutions()
    np.testing.assert_allclose(measured["norm2"][:, 0], [conv.weight.square().sum().item() for conv in first.values()], rtol=1e-5)
    assert len(measured["step_loss"]) == 7


def test_a_pure_step_lengthens_a_kernel_as_pythagoras_says():
    net = nets.build(ModelConfig(depth=8), 0).double()
    x, y = data.batch(IMAGES, 0, 16)
    kernels = rescale.kernels(net)
    gradients = torch.autograd.grad(F.cross_entropy(net(x.double()), y), kernels)
    for kernel, gradient in zip(kernels, gradients, strict=True):
        before, after = kernel.square().sum(), (kernel - 0.1 * gradient).square().sum()
        assert (after - before).item() == pytest.approx(0.01 * gradient.square().sum().item(), rel=0.05)
