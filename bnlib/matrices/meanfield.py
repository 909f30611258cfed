"""How large activations are in a random ResNet, if its layers were very wide: no images, no kernels, nothing fitted.

The output of a convolution whose kernel is random with mean zero is a sum of many terms, so Gaussian over the draws of the kernel,
with E[O^2] = gain E[I^2] and gain = fan_in Var(K). What then happens along the trunk is a random walk held above zero by its ReLUs.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from bnlib.config import ConfigError, Init, ModelConfig
from bnlib.nets import WIDTHS

LN_MAGNITUDE = -(np.euler_gamma + np.log(2)) / 2  # E ln |z| of a standard Gaussian z


@dataclass(frozen=True)
class Expected:
    """In natural logarithms, at the output of each convolution 1 ... depth - 1, over draws of the kernels: `rms`, half of
    ln E[mu_c^2 + sigma_c^2]; its parts `std`, half of ln E[sigma_c^2], and `mean`, E ln |mu_c|. The parts are NaN without BN, where
    they depend on how alike the images are.
    """

    rms: Float[np.ndarray, " layer"]
    std: Float[np.ndarray, " layer"]
    mean: Float[np.ndarray, " layer"]


def expected(config: ModelConfig, draws: int = 30_000) -> Expected:
    """The expectation for standardised images, by `draws` walks along the trunk.

    Zeros around the image weaken the activations as if these were spread evenly over it. Raises ConfigError on a norm other than batch
    and none, and on a block other than residual.
    """
    if config.norm not in ("batch", "none") or config.block != "residual":
        raise ConfigError(f"no expectation for norm {config.norm!r} and block {config.block!r}; take batch or none, and residual")
    rng, batch = np.random.default_rng(0), config.norm == "batch"
    outputs = [(gain(config.init, 3, WIDTHS[0], 9) * coverage(32), 0.0)]  # E[O^2], and the part of it that is E[mu_c^2]

    def convolve(h: Float[np.ndarray, " draws"], c_in: int, c_out: int, size: int, stride: int = 1) -> Float[np.ndarray, " draws"]:
        factor = gain(config.init, c_in, c_out, 9) * coverage(size, stride)
        outputs.append((factor * float(np.mean(h**2)), factor * float(np.mean(h)) ** 2))
        return normal(outputs[-1][0])

    def normal(variance: float) -> Float[np.ndarray, " draws"]:
        return rng.normal(scale=1.0 if batch else variance**0.5, size=draws)

    h = _relu(normal(outputs[0][0]))
    for stage, width in enumerate(WIDTHS):
        for block in range((config.depth - 2) // 6):
            widens, size = stage > 0 and block == 0, 32 >> stage
            c_in, shortcut = (width // 2 if widens else width), h
            if widens and config.shortcut == "pad":
                shortcut = h * (rng.random(draws) < 0.5)  # half of the new channels are zeros
            elif widens:
                shortcut = normal(gain(config.init, c_in, width, 1) * float(np.mean(h**2)))
            branch = convolve(_relu(convolve(h, c_in, width, size, 1 + widens)), width, width, size)
            h = _relu(branch + shortcut)
    square, mean_square = np.array(outputs).T
    with np.errstate(divide="ignore"):
        split = [np.log(square - mean_square) / 2, np.log(mean_square) / 2 + LN_MAGNITUDE]
    return Expected(np.log(square) / 2, *(part if batch else np.full_like(part, np.nan) for part in split))


def block_factor(branch: float = 0.5, draws: int = 100_000) -> float:
    """The factor that repeated blocks without BN come to multiply the trunk's mean square by, if a branch has `branch` times as much.

    E[ReLU(h + b)^2] / E[h^2] with E[b^2] = branch E[h^2], the mean over blocks 11 to 40.
    """
    rng, factors = np.random.default_rng(0), []
    h = _relu(rng.normal(size=draws))
    for _ in range(40):
        h = h / np.sqrt(np.mean(h**2))
        h = _relu(h + rng.normal(scale=branch**0.5, size=draws))
        factors.append(np.mean(h**2))
    return float(np.mean(factors[10:]))


def gain(init: Init, c_in: int, c_out: int, taps: int) -> float:
    """fan_in Var(K), by which a convolution of `taps` positions multiplies the mean square, away from the image's edges."""
    return {"xavier": 2 * c_in / (c_in + c_out), "he": 2 * c_in / c_out, "torch": 1 / 3}[init]


def coverage(size: int, stride: int = 1) -> float:
    """Share of the taps of a 3 x 3 convolution with `size` x `size` outputs that lie inside the image: the others see zeros."""
    return (1 - (2 if stride == 1 else 1) / (3 * size)) ** 2


def _relu(x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    return x.clip(0)
