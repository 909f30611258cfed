"""The noise of mini-batch gradients, against all mini-batches counted out."""

from itertools import combinations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bnlib import data, nets
from bnlib.config import ModelConfig
from bnlib.probes import noise

IMAGES = data.synthetic(40, 10)


def some(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    return IMAGES.standardise(IMAGES.x_train[:count]), IMAGES.y_train[:count]


def net(norm: str = "none") -> nets.ResNet:
    return nets.build(ModelConfig(depth=8, norm=norm), 0)


def vectors(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 7))


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 6), st.integers(1, 4), st.integers(0, 99))
def test_the_expected_noise_is_that_of_all_mini_batches_counted_out(n: int, size: int, seed: int):
    rows = vectors(n, seed)
    G = rows @ rows.T

    def counted(batches) -> float:
        return np.mean([((rows[list(b)].mean(0) - rows.mean(0)) ** 2).sum() for b in batches])

    assert noise.expected(G, size, replacement=True) == pytest.approx(counted(product(range(n), repeat=size)))
    if size <= n:
        assert noise.expected(G, size, replacement=False) == pytest.approx(counted(combinations(range(n), size)), abs=1e-12)
        assert noise.expected(G, size, replacement=False) <= noise.constant(G) / size + 1e-12


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 6), st.integers(1, 4), st.integers(0, 99))
def test_every_mini_batch_is_there_with_its_probability(n: int, size: int, seed: int):
    size, rows = min(size, n), vectors(n, seed)
    G, off = rows @ rows.T, rows - rows.mean(0)
    for way, exact in (
        ("with replacement", noise.expected(G, size, replacement=True)),
        ("without replacement", noise.expected(G, size, replacement=False)),
        ("independent", (n - size) / n * noise.constant(G) / size),
    ):
        counts, probability = noise.every(n, size, way)
        assert probability.sum() == pytest.approx(1)
        assert probability @ counts == pytest.approx(np.full(n, size / n))
        assert probability @ ((counts @ off / size) ** 2).sum(1) == pytest.approx(exact, abs=1e-12)


def test_drawn_mini_batches_have_the_expected_noise():
    rows = vectors(50, 1)
    G = rows @ rows.T
    for size, replacement in product((1, 5, 20), (False, True)):
        squares = noise.drawn(G, size, replacement, draws=4000, seed=2)
        error = squares.std() / 4000**0.5
        assert squares.mean() == pytest.approx(noise.expected(G, size, replacement), abs=4 * error)


def test_the_gram_matrix_gives_the_gradient_of_the_mean():
    x, y = some(6)
    G = noise.gram(net(), x, y)
    assert G.mean() == pytest.approx(noise.gradient(net(), x, y).double().square().sum().item(), rel=1e-5)
    np.testing.assert_allclose(G, G.T, rtol=1e-12)  # BLAS may sum either triangle in its own order


def test_with_bn_an_example_has_no_gradient_of_its_own():
    with pytest.raises(ValueError, match="no gradient of its own"):
        noise.gram(net("batch"), *some(4))


def test_without_bn_the_mini_batch_gradient_is_unbiased():
    x, y = some(30)
    moments = noise.bias_and_variance(net(), x, y, size=5, draws=60, seed=0)
    G = noise.gram(net(), x, y)
    assert moments.variance == pytest.approx(noise.expected(G, 5, replacement=False), rel=0.3)
    assert abs(moments.bias) < 5 * moments.error
    assert moments.norm == pytest.approx(G.mean(), rel=1e-5)


def test_with_bn_small_mini_batches_are_biased():
    x, y = some(30)
    moments = noise.bias_and_variance(net("batch"), x[:, :, ::4, ::4], y, size=4, draws=200, seed=0)
    assert moments.bias > 0.02 * moments.norm
    assert moments.bias > 5 * moments.error


def test_the_error_of_the_bias_is_the_spread_of_repetitions(monkeypatch: pytest.MonkeyPatch):
    rows = torch.from_numpy(vectors(12, 3))

    def mean(net: nets.ResNet, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return rows[y].mean(0) + 0.5 * (len(y) < 12)  # biased, were it not for the full one

    monkeypatch.setattr(noise, "gradient", mean)
    x, y = torch.zeros(12, 3, 1, 1), torch.arange(12)
    found = [noise.bias_and_variance(net(), x, y, 3, 50, seed) for seed in range(200)]
    biases = np.array([m.bias for m in found])
    assert biases.mean() == pytest.approx(7 * 0.25, abs=4 * biases.std() / 200**0.5)
    assert np.median([m.error for m in found]) == pytest.approx(biases.std(), rel=0.25)
    assert np.isnan(noise.bias_and_variance(net(), x, y, 3, 2, 0).error)


def test_looking_leaves_the_net_as_it_was():
    looked = net("batch")
    before = {name: value.clone() for name, value in looked.state_dict().items()}
    noise.bias_and_variance(looked, *some(8), size=4, draws=2, seed=0)
    assert all(torch.equal(before[name], value) for name, value in looked.state_dict().items())


@pytest.mark.parametrize(("size", "replacement"), [(0, True), (0, False), (8, False)])
def test_a_size_that_cannot_be_drawn_is_refused(size: int, replacement: bool):
    with pytest.raises(ValueError, match="cannot be drawn from 7"):
        noise.expected(np.eye(7), size, replacement)
