"""Random fully connected networks, layer by layer: how large gradients are, and how many directions the activations span.

Layer k is Z_k = A_k H_{k-1}, X_k = (Z_k - mean) / std over the batch where there is BN (gamma = 1, beta = 0, eps = 0) and Z_k where not,
H_k = relu(X_k) or X_k. In wide networks with BN and ReLU each layer multiplies |gradient|^2 by pi / (pi - 1) on the way back (Yang et
al., 2019); without BN all samples of a deep network come to lie on one line, with it they do not (Daneshmand et al., 2020).
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from bnlib.config import ConfigError
from bnlib.matrices.products import check_sizes

EXPLOSION = math.log(math.pi / (math.pi - 1))  # nats of |gradient|^2 a layer: half the slopes, over a batch variance of (pi - 1) / 2 pi


@dataclass(frozen=True)
class Layers:
    """What was seen at the recorded layers."""

    layer: Int[np.ndarray, " recorded"]
    ln_gradient: Float[np.ndarray, " recorded"]  # ln |dL/dH_k|^2, over all neurons and samples
    rank: Float[np.ndarray, " recorded"]  # of X_k, its participation ratio


def recorded(M: int) -> Int[np.ndarray, " recorded"]:
    """The layers that are kept of M: spread evenly over them, and over their logarithm."""
    return np.unique(np.concatenate([np.geomspace(1, M, 20), np.linspace(1, M, 15)]).round().astype(int))


def random_network(M: int, N: int, batch: int, seed: int, norm: bool, relu: bool) -> Layers:
    """Send a Gaussian batch through M layers of N neurons, and the gradient of L = sum(R * H_M) back, R Gaussian.

    A has entries N(0, 2/N) before a ReLU (He et al.), N(0, 1/N) where there is none. Raises ConfigError on a size below 1, or a batch
    below 2.
    """
    check_sizes(M=M, N=N, batch=batch)
    if batch < 2:
        raise ConfigError("batch is 1; it must be at least 2, one sample has no variance")
    keep = recorded(M)
    H = _drawn(seed, 0, N, batch)
    normalised, scales, ranks, gradients = [], [], {}, {}
    for k in range(1, M + 1):
        X = _weights(seed, k, N, relu) @ H
        scale = np.ones((N, 1))
        if norm:
            X -= X.mean(axis=1, keepdims=True)
            scale = X.std(axis=1, keepdims=True)
            X /= scale
        H = X.clip(0) if relu else X
        normalised.append(X)
        scales.append(scale)
        if k in keep:
            ranks[k] = participation(X)
    G = _drawn(seed, M + 1, N, batch)
    for k in range(M, 0, -1):
        if k in keep:
            gradients[k] = 2 * math.log(np.linalg.norm(G))
        X = normalised.pop()
        G = G * (X > 0) if relu else G
        if norm:
            G = (G - G.mean(axis=1, keepdims=True) - X * (G * X).mean(axis=1, keepdims=True)) / scales.pop()
        G = _weights(seed, k, N, relu).T @ G
    return Layers(keep, np.array([gradients[k] for k in keep]), np.array([ranks[k] for k in keep]))


def participation(X: Float[np.ndarray, "neuron sample"]) -> float:
    """(tr K)^2 / tr K^2 with K = X X^T: 1 if all samples lie on one line, n if they spread evenly over n directions."""
    X = X / np.abs(X).max()
    gram = X @ X.T if len(X) < X.shape[1] else X.T @ X
    return float(np.trace(gram) ** 2 / (gram**2).sum())


def _drawn(seed: int, layer: int, *shape: int) -> Float[np.ndarray, "..."]:
    return np.random.default_rng([seed, layer]).standard_normal(shape)


def _weights(seed: int, layer: int, N: int, relu: bool) -> Float[np.ndarray, "N N"]:
    """Drawn again on the way back rather than kept: at N = 1000 they would take 8 MB a layer."""
    return _drawn(seed, layer, N, N) * math.sqrt((2 if relu else 1) / N)
