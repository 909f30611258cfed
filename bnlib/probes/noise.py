"""The noise of mini-batch gradients (paper, Sec 2.1): E |a g_B - a g|^2 <= a^2 C / |B|, C the mean of |grad l_i - g|^2.

Without BN the loss is a mean over examples, and all follows from the Gram matrix of their gradients. With BN in training mode an
example has no loss of its own: the mini-batch gradient is not only noisy but biased, and both are measured on drawn mini-batches.
"""

from dataclasses import dataclass
from itertools import combinations, product
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from bnlib.nets import ResNet, apply

GROUPS = 10  # of draws, for the standard error of the bias
Way = Literal["with replacement", "without replacement", "independent"]


def gradient(net: ResNet, x: Float[Tensor, "batch 3 height width"], y: Int[Tensor, " batch"]) -> Float[Tensor, " parameter"]:
    """The gradient of the mean cross-entropy over x, y, in training mode; `net` is left as it was."""
    loss = F.cross_entropy(apply(net, x), y)
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()))])


def gram(net: ResNet, x: Float[Tensor, "n 3 height width"], y: Int[Tensor, " n"]) -> Float[np.ndarray, "n n"]:
    """G_ij = grad l_i . grad l_j of the examples' gradients. Raises ValueError with BN, where an example alone has none."""
    if any(isinstance(module, torch.nn.modules.batchnorm._BatchNorm) for module in net.modules()):
        raise ValueError("with BN in training mode an example has no gradient of its own; use bias_and_variance")
    rows = torch.stack([gradient(net, x[i : i + 1], y[i : i + 1]) for i in range(len(x))])
    rows = rows.double()
    return (rows @ rows.T).numpy()


def constant(G: Float[np.ndarray, "n n"]) -> float:
    """C = (1/N) sum_i |grad l_i - g|^2, g the mean of all."""
    return float(np.trace(G) / len(G) - G.mean())


def expected(G: Float[np.ndarray, "n n"], size: int, replacement: bool) -> float:
    """E |g_B - g|^2 over mini-batches of `size` examples: C / |B| with replacement, (N - |B|) / (N - 1) times that without.

    Raises ValueError on a size that cannot be drawn.
    """
    if not size >= 1 or (size > len(G) and not replacement):
        raise ValueError(f"a mini-batch of {size} cannot be drawn from {len(G)} examples")
    shrink = 1.0 if replacement else (len(G) - size) / max(1, len(G) - 1)
    return shrink * constant(G) / size


def drawn(G: Float[np.ndarray, "n n"], size: int, replacement: bool, draws: int, seed: int) -> Float[np.ndarray, " draws"]:
    """|g_B - g|^2 of mini-batches drawn at random."""
    generator, n = np.random.default_rng(seed), len(G)
    weights = np.full((draws, n), -1 / n)
    for row in weights:
        np.add.at(row, generator.choice(n, size, replace=replacement), 1 / size)
    squares: Float[np.ndarray, " draws"] = np.einsum("di,ij,dj->d", weights, G, weights, optimize=True)
    return squares


def every(n: int, size: int, way: Way) -> tuple[Float[np.ndarray, "batches n"], Float[np.ndarray, " batches"]]:
    """All mini-batches of `size` out of n: how often each has each example, and its probability. For small n: there are up to n^size.

    "independent" takes each example with probability size / n, so that the size itself is random.
    """
    if way == "independent":
        counts = np.array(list(product((0.0, 1.0), repeat=n)))
        taken = counts.sum(1)
        return counts, (size / n) ** taken * (1 - size / n) ** (n - taken)
    chosen = list(product(range(n), repeat=size) if way == "with replacement" else combinations(range(n), size))
    counts = np.array([np.bincount(batch, minlength=n) for batch in chosen], float)
    return counts, np.full(len(counts), 1 / len(counts))


@dataclass(frozen=True)
class Moments:
    """Of the mini-batch gradient about the full one g: |E g_B - g|^2 and E |g_B - E g_B|^2, without bias, and |g|^2.

    `error` is the standard error of `bias`, by the jackknife over ten groups of draws; NaN of fewer than three draws.
    """

    bias: float
    variance: float
    norm: float
    error: float


def bias_and_variance(net: ResNet, x: Float[Tensor, "n 3 height width"], y: Int[Tensor, " n"], size: int, draws: int, seed: int) -> Moments:
    """How mini-batches of `size` out of the n examples, drawn without replacement, estimate the gradient of all n together."""
    generator = torch.Generator().manual_seed(seed)
    full = gradient(net, x, y).double()
    sums, square = torch.zeros(min(GROUPS, draws), len(full), dtype=torch.float64), 0.0
    for draw in range(draws):
        chosen = torch.randperm(len(x), generator=generator)[:size]
        g = gradient(net, x[chosen], y[chosen]).double() - full
        sums[draw % len(sums)] += g
        square += g.square().sum().item() / draws
    inner = (sums @ sums.T).numpy()
    mean = float(inner.sum()) / draws**2
    variance = (square - mean) * draws / (draws - 1)
    return Moments(mean - variance / draws, variance, full.square().sum().item(), _error(inner, draws / len(sums)))


def _error(inner: Float[np.ndarray, "k k"], each: float) -> float:
    """The jackknife's standard error of the mean of m_i . m_j over pairs i != j of groups, from the inner products of the groups' sums."""
    k = len(inner)
    if k < 3:
        return float("nan")
    between = (inner - np.diag(np.diag(inner))) / each**2
    without = (between.sum() - 2 * between.sum(1)) / ((k - 1) * (k - 2))  # each group left out in turn
    return float(np.sqrt((k - 1) / k * ((without - without.mean()) ** 2).sum()))
