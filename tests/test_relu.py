"""Products with ReLUs against the network that they are the map of, against the law's edge, and against the exact algorithm without."""

import numpy as np
import pytest
import torch

from bnlib import matrices
from bnlib.config import ConfigError
from bnlib.matrices import relu


def test_it_is_the_jacobian_of_a_relu_network():
    M, N, seed = 4, 12, 3
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.standard_normal(N))
    factors = [torch.from_numpy(rng.standard_normal((N, N)) * (2 / N) ** 0.5) for _ in range(M)]

    def network(h):
        for A in factors:
            h = torch.relu(A @ h)
        return h

    s = torch.linalg.svdvals(torch.func.jacrev(network)(x))
    assert np.exp(relu.log_singular_values(M, N, seed)[1]) == pytest.approx(s[: N // 4].numpy(), rel=1e-10)


def test_without_relus_it_is_the_product():
    rng = np.random.default_rng(1)
    rng.standard_normal(20)
    factors = [rng.standard_normal((20, 20)) / 20**0.5 for _ in range(6)]
    assert relu.log_singular_values(6, 20, 1)[0] == pytest.approx(matrices.log_singular_values_of(factors)[:10], abs=1e-8)


def test_one_factor_ends_at_the_edge_of_marchenko_and_pastur():
    """Half of the rows are left, with variance 2/N: (sqrt(N) + sqrt(N/2))^2 2/N."""
    assert relu.edge(1) == pytest.approx((1 + 2**0.5) ** 2)


@pytest.mark.parametrize("M", [1, 2, 4])
def test_samples_end_at_the_edge(M: int):
    largest = np.mean([relu.log_singular_values(M, 400, seed)[1][0] for seed in range(20, 24)])
    assert np.exp(2 * largest) == pytest.approx(relu.edge(M), rel=0.1)


def test_the_edge_is_the_least_of_its_curve():
    for M in (1, 3, 10, 64):
        z = np.geomspace(1e-4, 10, 100_001)
        assert relu.edge(M) == pytest.approx(((1 + z) / z * (1 + 2 * z) ** M).min(), rel=1e-6)


def test_sizes_are_checked():
    with pytest.raises(ConfigError, match="M is 0"):
        relu.edge(0)
    with pytest.raises(ConfigError, match="N is 0"):
        relu.log_singular_values(1, 0, 0)
