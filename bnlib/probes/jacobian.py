"""The Jacobian of a network's trunk by its input: singular values after every block, however far apart they are.

A Jacobian is a product of one factor a block. Computing it first and decomposing then would lose all singular values below 1e-16 of
the largest. So k directions of image space are pushed forward (forward-mode differentiation) and made orthonormal again after each
block; the triangles of these QR decompositions are k x k factors of the Jacobian on the k directions, and `matrices` multiplies them.
Source: the paper's Sec 4, which looks at products of random matrices in place of the network's.
"""

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import jvp, replace_all_batch_norm_modules_, vmap
from torch.nn import functional as F

from bnlib import matrices
from bnlib.config import ConfigError
from bnlib.nets import WIDTHS, Block, ResNet
from bnlib.probes.population import frozen

Number = float | int
Map = Callable[[Tensor], Tensor]
AT_ONCE = 8  # images whose tangents are pushed together; with more, allocating takes longer than computing


def layers(depth: int) -> np.ndarray:
    """The numbers of the layers after which the trunk is looked at: the first convolution, and the second of each block."""
    return np.arange(1, depth, 2)


def random_directions(k: int, shape: Sequence[int], seed: int) -> Float[Tensor, "k *shape"]:
    """k orthonormal directions of image space, drawn uniformly. Raises ConfigError where there is no room for them."""
    size = math.prod(shape)
    if not 1 <= k <= size:
        raise ConfigError(f"{k} directions do not fit into images of {size} numbers")
    drawn = torch.randn(size, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    Q: Tensor = torch.linalg.qr(drawn).Q
    return Q.T.reshape(k, *shape)


def image_directions(x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "k 3 height width"]:
    """Orthonormal directions, one fewer than images, that span the differences between image 0 and the others."""
    apart = (x[1:] - x[0]).double()
    Q: Tensor = torch.linalg.qr(apart.flatten(1).T).Q
    return Q.T.reshape(apart.shape)


def of_network(
    net: ResNet, x: Float[Tensor, "batch 3 height width"], V: Float[Tensor, "k 3 height width"], held: bool = True
) -> Float[np.ndarray, "block k"]:
    """ln of the singular values, descending, of J_l V after each of `layers`, in float64.

    J_l is the Jacobian of the trunk of image 0 of x, after its ReLU, by that image; V holds k orthonormal directions. With BN the trunk
    of an image depends on the whole mini-batch x. `held`: the statistics of x are constants, so that BN is a linear map like the
    others. Otherwise they are differentiated, as in training, including what comes back through the other images. `net` is left as
    it was. Raises ValueError if it is in evaluation mode.
    """
    if not net.training:
        raise ValueError("the net is in evaluation mode, where BN ignores the mini-batch; call net.train() first")
    if held:
        net, x = frozen(net, x).double(), x[:1].double()
    else:
        net, x = copy.deepcopy(net).double(), x.double()
        replace_all_batch_norm_modules_(net)  # without running averages, which vmap cannot update
    tangents = torch.zeros(len(V), *x.shape, dtype=torch.float64)
    tangents[:, 0] = V
    return _spectra(_pushed([net.stem, *net.blocks], x, tangents))


def of_convolutions(net: ResNet, V: Float[Tensor, "k 3 height width"]) -> Float[np.ndarray, "block k"]:
    """The same without ReLU, bias and normaliser, so that the trunk is a product of convolutions and the image does not matter."""
    net = copy.deepcopy(net).double()
    maps = [_convolution(net.convolutions()[1]), *(_linear(block) for block in net.blocks if isinstance(block, Block))]
    return _spectra(_pushed(maps, torch.zeros_like(V[:1]), V[:, None]))


def of_product(M: int, N: int, k: int, seed: int) -> Float[np.ndarray, "M k"]:
    """The same of the paper's toy: A_l ... A_1 V for l = 1 ... M, N x N entries of variance 1/N, on k of N directions.

    A Gaussian matrix on k orthonormal columns has a triangle whose diagonal is chi-distributed with N, N - 1, ... degrees of freedom,
    and normal entries above. Raises ConfigError unless 1 <= k <= N.
    """
    matrices.check_sizes(M=M, N=N, k=k)
    if k > N:
        raise ConfigError(f"{k} directions do not fit into size {N}")
    rng = np.random.default_rng(seed)

    def factors() -> Iterator[np.ndarray]:
        for _ in range(M):
            R = np.triu(rng.standard_normal((k, k)), 1) + np.diag(np.sqrt(rng.chisquare(np.arange(N, N - k, -1))))
            yield R / math.sqrt(N)

    return np.stack(list(matrices.running_log_singular_values(factors())))


def participation(log_s: Float[np.ndarray, "*shape k"]) -> Float[np.ndarray, "*shape"]:
    """n = (sum s^2)^2 / sum s^4 from ln s, descending: how many of the k directions share the energy; k if all s are alike."""
    squares = np.exp(2 * (log_s - log_s[..., :1]))
    return np.asarray(squares.sum(-1) ** 2 / (squares**2).sum(-1))


def flattened(depth: int, size: int = 32) -> Float[np.ndarray, " block"]:
    """The sum of 1/N over the convolutions up to each of `layers`, with N the numbers that a convolution puts out for one image."""
    n = (depth - 2) // 6
    outputs = np.repeat([width * (size >> stage) ** 2 for stage, width in enumerate(WIDTHS)], 2 * n)
    sums: np.ndarray = np.cumsum(1 / np.append(outputs[0], outputs))
    return np.array(sums[layers(depth) - 1])


def law(spread: Float[np.ndarray, "*shape"], k: int) -> Float[np.ndarray, "*shape"]:
    """n = 1 / (1/k + sum 1/N), the participation of k directions after Gaussian matrices with N rows each, if there are few of them.

    With S = V^T A^T A V: a factor raises E (tr S)^2 by 2 E tr S^2 / N and E tr S^2 by E [(tr S)^2 + tr S^2] / N, so that the ratio of the
    second to the first grows by 1/N, but for terms smaller by k/N. At k = N it is the Fuss-Catalan law's: second moment M + 1.
    """
    return np.asarray(1 / (1 / k + spread))


def pace(n: Number, spread: Number, k: int) -> float:
    """How many times as fast as by `law` the directions spread: (1/n - 1/k) / sum 1/N."""
    return float((1 / n - 1 / k) / spread)


def effective_size(M: int, n: Number, k: int) -> float:
    """The size N of Gaussian matrices of which M leave, by `law`, the participation n: the smaller, the faster do directions spread."""
    gained = 1 / n - 1 / k
    return float(M / gained) if gained > 0 else math.inf


def _pushed(maps: Sequence[Map], x: Tensor, tangents: Tensor) -> Iterator[tuple[Tensor, np.ndarray]]:
    """After each map the orthonormal tangents [k, batch, ...] at the trunk, and the k x k factor that was taken out of them."""
    k, chunk = len(tangents), max(1, AT_ONCE // len(x))
    for f in maps:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch's first jvp warns of torch's own script functions
            moved = vmap(lambda t, f=f, x=x: jvp(f, (x,), (t,))[1], chunk_size=chunk)(tangents)
            x = f(x)
            Q, R = torch.linalg.qr(moved.reshape(k, -1).T)
        tangents = Q.T.reshape(moved.shape)
        yield tangents, R.numpy()


def _spectra(pushed: Iterator[tuple[Tensor, np.ndarray]]) -> Float[np.ndarray, "block k"]:
    """ln singular values of what has arrived at image 0 after each map."""
    factors, seen = [], []
    for tangents, R in pushed:
        factors.append(R)
        if tangents.shape[1] > 1:
            own = torch.linalg.qr(tangents[:, 0].flatten(1).T, mode="r").R
            seen.append(matrices.log_singular_values_of([*factors, own.numpy()]))
    return np.stack(seen or list(matrices.running_log_singular_values(factors)))


def _linear(block: Block) -> Map:
    branch = [_convolution(m) for m in block.branch if isinstance(m, nn.Conv2d)]
    projection = next((_convolution(m) for m in block.shortcut.modules() if isinstance(m, nn.Conv2d)), block.shortcut)

    def apply(t: Tensor) -> Tensor:
        out = t
        for convolution in branch:
            out = convolution(out)
        return out if block.plain else out + projection(t)

    return apply


def _convolution(conv: nn.Conv2d) -> Map:
    return lambda t: F.conv2d(t, conv.weight, stride=conv.stride, padding=conv.padding)
