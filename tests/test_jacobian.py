"""Singular values of Jacobians against automatic differentiation of the whole trunk and a dense SVD, and against plain products."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call
from torch.nn import functional as F

from bnlib import matrices, nets
from bnlib.config import ConfigError, ModelConfig
from bnlib.probes import jacobian

SHAPE = (3, 8, 8)


def images(count: int) -> torch.Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def net(norm: str = "batch", block: str = "residual", depth: int = 8) -> nets.ResNet:
    return nets.build(ModelConfig(depth=depth, norm=norm, block=block), 1).double()  # type: ignore[arg-type]


def dense(of: nets.ResNet, x: torch.Tensor, V: torch.Tensor, blocks: int) -> np.ndarray:
    """ln of the singular values of J V, J by reverse mode through the whole mini-batch; in training mode, so not held."""
    buffers = {name: buffer.clone() for name, buffer in of.named_buffers()}
    part = torch.nn.Sequential(of.stem, *of.blocks[:blocks])
    own = {name: value for name, value in buffers.items() if name in dict(part.named_buffers())}

    def trunk(image: torch.Tensor) -> torch.Tensor:
        return functional_call(part, own, (torch.cat([image[None], x[1:]]),))[0]

    J = torch.autograd.functional.jacobian(trunk, x[0]).flatten(-3).flatten(0, 2)
    return torch.linalg.svdvals(J @ V.flatten(1).T).log().numpy()


@pytest.mark.parametrize("norm", ["batch", "none", "group"])
@pytest.mark.parametrize("block", ["residual", "plain"])
def test_a_network_has_the_singular_values_of_its_dense_jacobian(norm: str, block: str):
    x, V = images(4), jacobian.random_directions(6, SHAPE, 0)
    found = jacobian.of_network(net(norm, block), x, V, held=False)
    assert found.shape == (4, 6)
    for blocks in range(4):
        np.testing.assert_allclose(found[blocks], dense(net(norm, block), x, V, blocks), atol=1e-9)


def test_held_statistics_are_those_of_the_mini_batch_and_are_not_differentiated():
    x, V = images(4), jacobian.image_directions(images(4))
    held, free = (jacobian.of_network(net(), x, V, held=held) for held in (True, False))
    maps = dict(net().named_modules())

    def stem(image: torch.Tensor) -> torch.Tensor:
        out = maps["stem.0"](x)
        variance, mean = torch.var_mean(out, (0, 2, 3), correction=0)
        return F.relu((maps["stem.0"](image[None])[0] - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt())

    J = torch.autograd.functional.jacobian(stem, x[0]).flatten(-3).flatten(0, 2)
    np.testing.assert_allclose(held[0], torch.linalg.svdvals(J @ V.flatten(1).T).log().detach().numpy(), atol=1e-9)
    assert np.abs(held - free).max() > 1e-3


def test_without_bn_other_images_do_not_matter():
    V = jacobian.random_directions(5, SHAPE, 0)
    one, other = (jacobian.of_network(net("none"), images(count), V, held) for count, held in ((4, True), (2, False)))
    np.testing.assert_allclose(one, other, atol=1e-10)


@pytest.mark.parametrize("block", ["residual", "plain"])
def test_convolutions_multiply_as_their_matrices(block: str):
    V, linear = jacobian.random_directions(7, SHAPE, 3), net("none", block)
    found = jacobian.of_convolutions(linear, V)

    def matrix(conv: torch.nn.Conv2d, size: int) -> torch.Tensor:
        basis = torch.eye(conv.in_channels * size**2, dtype=torch.float64).view(-1, conv.in_channels, size, size)
        return F.conv2d(basis, conv.weight, stride=conv.stride, padding=conv.padding).flatten(1).T.detach()

    convolutions, projections = linear.convolutions(), linear.projections()
    product, size = matrix(convolutions[1], 8) @ V.flatten(1).T, 8
    for k in range(3):
        first, second = convolutions[2 * k + 2], convolutions[2 * k + 3]
        after = size // first.stride[0]
        moved = matrix(second, after) @ matrix(first, size) @ product
        if block == "residual":
            moved = moved + (matrix(projections[2 * k + 2], size) @ product if k else product)
        product, size = moved, after
        np.testing.assert_allclose(found[k + 1], torch.linalg.svdvals(product).log().numpy(), atol=1e-9)


def test_small_singular_values_of_a_deep_net_are_not_lost():
    """A plain product in float64 would lose what is below 1e-16 of the largest."""
    found = jacobian.of_convolutions(net("none", "plain", depth=110), jacobian.random_directions(48, (3, 4, 4), 0))
    assert np.ptp(found[-1]) > np.log(1e16)
    assert np.isfinite(found).all()
    assert (np.diff(found, axis=1) <= 0).all()


def test_looking_leaves_the_net_as_it_was():
    looked = net()
    before = {name: value.clone() for name, value in looked.state_dict().items()}
    for held in (True, False):
        jacobian.of_network(looked, images(3), jacobian.random_directions(2, SHAPE, 0), held)
    assert all(torch.equal(before[name], value) for name, value in looked.state_dict().items())
    assert looked.training
    with pytest.raises(ValueError, match="evaluation mode"):
        jacobian.of_network(looked.eval(), images(3), jacobian.random_directions(2, SHAPE, 0))


def test_directions_are_orthonormal_and_those_of_images_span_their_differences():
    for V in (jacobian.random_directions(9, SHAPE, 0), jacobian.image_directions(images(10))):
        rows = V.flatten(1)
        torch.testing.assert_close(rows @ rows.T, torch.eye(9, dtype=torch.float64))
    apart = (images(10)[1:] - images(10)[0]).flatten(1)
    torch.testing.assert_close(apart @ rows.T @ rows, apart)


def test_more_directions_than_room_are_refused():
    with pytest.raises(ConfigError, match="193 directions do not fit into images of 192"):
        jacobian.random_directions(193, SHAPE, 0)
    with pytest.raises(ConfigError, match="5 directions do not fit into size 4"):
        jacobian.of_product(2, 4, 5, 0)


# The toy and its law


def test_all_directions_of_a_product_have_the_law_of_the_whole():
    whole = np.mean([matrices.log_singular_values(3, 30, seed) for seed in range(200)], axis=0)
    part = np.mean([jacobian.of_product(3, 30, 30, 1000 + seed)[-1] for seed in range(200)], axis=0)
    np.testing.assert_allclose(part[:25], whole[:25], atol=0.06)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 6), st.integers(2, 5), st.integers(0, 99))
def test_a_product_on_few_directions_is_that_of_real_matrices(M: int, k: int, seed: int):
    """In law: the mean of tr S is k whatever is multiplied."""
    squares = np.exp(2 * np.stack([jacobian.of_product(M, 40, k, 1000 * seed + i)[-1] for i in range(60)])).sum(1)
    assert squares.mean() == pytest.approx(k, abs=5 * squares.std() / 60**0.5)


@pytest.mark.parametrize(("M", "N"), [(5, 500), (40, 1000), (40, 4000)])
def test_participation_follows_its_law(M: int, N: int):
    found = np.mean([1 / jacobian.participation(jacobian.of_product(M, N, 32, seed)[-1]) for seed in range(10)])
    assert 1 / found == pytest.approx(float(jacobian.law(np.array(M / N), 32)), rel=0.05)
    assert jacobian.pace(1 / found, M / N, 32) == pytest.approx(1, rel=0.15)


def test_participation_counts():
    assert float(jacobian.participation(np.zeros(5))) == pytest.approx(5)
    assert float(jacobian.participation(np.array([800.0, 0.0, 0.0]))) == pytest.approx(1)
    assert float(jacobian.participation(np.log([2.0, 1.0]))) == pytest.approx(25 / 17)


def test_the_flattened_sizes_are_what_the_convolutions_put_out():
    deep = net("none", "plain", depth=14)
    sizes: list[int] = []
    for conv in deep.convolutions().values():
        conv.register_forward_hook(lambda conv, args, output: sizes.append(output[0].numel()))
    deep(torch.zeros(1, *SHAPE, dtype=torch.float64))
    expected = np.cumsum(1 / np.array(sizes))[jacobian.layers(14) - 1]
    np.testing.assert_allclose(jacobian.flattened(14, size=8), expected)
    assert jacobian.layers(14).tolist() == [1, 3, 5, 7, 9, 11, 13]
