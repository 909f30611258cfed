"""What the paper looks at in a network at initialisation: channel moments, kernel gradients and their coherence, output gradients.

One forward and one backward pass. Hooks reduce each convolution's output, and its input with the gradient at its output, to a few
numbers while they are at hand, so nothing large outlives the pass.
"""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight

from bnlib.nets import ResNet, apply, layer_at

QUANTILES = (0.0, 0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999, 1.0)
BINS = np.linspace(-4, 4, 42)  # of the gradient histograms, in standard deviations of the layer's gradient


def at_initialisation(
    net: ResNet, x: Float[Tensor, "batch 3 height width"], y: Int[Tensor, "batch"], full: bool = True, powerlaw: bool = False
) -> dict[str, Any]:
    """Measure `net` on the mini-batch x, y (mean cross-entropy, training mode); `net` is left as it was.

    Keys, with [layer] an array over the convolutions 1 ... depth - 1, in order:

    loss                      mean cross-entropy
    ln_mean, ln_mean_spread   [layer, then the logits] mean and standard deviation over the channels c of ln |mu_c|, where mu_c is the
                              mean over images and positions of the convolution's output, before any normaliser (Fig 5)
    ln_std, ln_std_spread     the same for ln sigma_c
    gradient_mean, _std, _skewness, _kurtosis        [layer] moments of the kernel's gradient entries (Fig 2); kurtosis 3 if Gaussian
    gradient_max_over_median                         [layer] of the magnitudes
    gradient_hill, gradient_hill_error               [layer] tail index of the largest 1 % of magnitudes, and its standard error
    coherence_a, coherence_b                         [layer] Table 1, with d = dL/dO_{b,o,x,y} I_{b,i,x+x',y+y'}: the mean over the kernel's
                              parameters of mean |d| and of |mean d|, both over b, x, y. Summands in the zero padding are zeros, and count.
    coherence_ratio           [layer] a / b
    coherence_random          [layer] a / b expected if the signs of all d were independent coin tosses:
                              (mean over parameters of sum |d|) / (mean over parameters of sqrt(2/pi sum d^2))
    projection_*              all of these for the shortcut projections, in order; no such key where there are none
    one_class                 share of the batch assigned to the most frequent class
    mean_row_energy           share of |dL/dO|^2 that the mean over the batch carries: batch |mean_b g_b|^2 / sum_b |g_b|^2

    With `full` also

    gradient_quantiles        [layer, QUANTILES]
    gradient_histogram        [layer, 41] counts of gradient / gradient_std between BINS, 41 bins from -4 to 4
    gradient_outside          [layer, 2] counts below and above these
    channel_matrix            M_{i,o} = sum_{x',y'} |sum_{b,x,y} d| of layer 45 (at other depths its like, `layer_at`) (Fig 7)
    output_gradient           [batch, 10] dL/dO_{b,j} (Fig 6)

    and with `powerlaw` the keys of `powerlaw_fit`, prefixed powerlaw_, for layer 55 or its like.

    What a vanishing gradient or a constant channel leaves undefined is NaN, and ln 0 is -inf. Gradients are fp32 if `net` and `x` are and
    TF32 is off. Raises ValueError if `net` is in evaluation mode.
    """
    if not net.training:
        raise ValueError("the net is in evaluation mode, where BN ignores the mini-batch; call net.train() first")
    numbered, projections = net.convolutions(), [*net.projections().values()]
    kernels = [conv.weight for conv in (*numbered.values(), *projections)]
    with watch(net) as seen:
        logits = apply(net, x)
        loss = F.cross_entropy(logits, y)
        outer, *gradients = torch.autograd.grad(loss, [logits, *kernels])

    gradient = dict(zip((*numbered.values(), *projections), gradients, strict=True))
    place = partial(layer_at, net.config.depth)
    measured = {
        "loss": loss.item(),
        **_columns([_moments(seen[layer]) for layer in net.layers().values()]),
        **_columns([_kernel(gradient[conv], seen[conv]) for conv in numbered.values()]),
        **_prefixed("projection_", _columns([_moments(seen[conv]) | _kernel(gradient[conv], seen[conv]) for conv in projections])),
        "one_class": logits.argmax(1).bincount().max().item() / len(y),
        "mean_row_energy": (len(y) * outer.mean(0).square().sum() / outer.square().sum()).item(),
    }
    if full:
        measured |= _columns([_distribution(gradient[conv]) for conv in numbered.values()])
        measured["channel_matrix"] = gradient[numbered[place(45)]].abs().sum((2, 3)).T.cpu().numpy()
        measured["output_gradient"] = outer.cpu().numpy()
    if powerlaw:
        measured |= _prefixed("powerlaw_", powerlaw_fit(gradient[numbered[place(55)]].flatten().cpu().numpy()))
    return measured


@dataclass
class Seen:
    """What the hooks keep of a layer: ln |mu_c| and ln sigma_c; of a convolution, once its gradient came by, also the number of
    d's that are summed over b, x, y, and the mean over the kernel of sum |d| and of sqrt(2/pi sum d^2).
    """

    ln_mean: Tensor
    ln_std: Tensor
    summands: int = 0
    absolute: float = 0.0
    random: float = 0.0


@contextmanager
def watch(net: ResNet) -> Iterator[dict[nn.Module, Seen]]:
    """Observe a pass of `net` made in this context, without changing it by a bit: {layer or projection: what was seen}."""
    seen: dict[nn.Module, Seen] = {}
    layers = (*net.layers().values(), *net.projections().values())
    with ExitStack() as hooks:
        for layer in layers:
            hooks.enter_context(layer.register_forward_hook(partial(_observe, seen)))
        yield seen


def _observe(seen: dict[nn.Module, Seen], layer: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
    over = (0, 2, 3) if output.ndim == 4 else (0,)
    variance, mean = torch.var_mean(output.detach(), over, correction=0)
    seen[layer] = Seen(mean.abs().log(), variance.log() / 2)
    if isinstance(layer, nn.Conv2d) and output.requires_grad:
        held = [args[0].detach()]  # popped at use, so that the input lives no longer than in a pass without hooks

        def backward(gradient: Tensor) -> None:
            _sum_magnitudes(seen[layer], layer, held.pop(), gradient)

        output.register_hook(backward)  # type: ignore[no-untyped-call]


def _sum_magnitudes(seen: Seen, conv: nn.Conv2d, image: Tensor, gradient: Tensor) -> None:
    """|d| and d^2 factorise as d does: their sums over b, x, y are the kernel gradients of |I|, |dL/dO| and of I^2, (dL/dO)^2."""
    image, gradient = image.abs(), gradient.abs()
    unit = 1.0
    for magnitudes in (image, gradient):  # in units of the largest: in a deep plain net the squares would underflow
        largest = magnitudes.amax().clamp_min(torch.finfo(magnitudes.dtype).tiny)
        magnitudes /= largest
        unit *= largest.item()
    kernel = partial(conv2d_weight, weight_size=conv.weight.shape, stride=conv.stride, padding=conv.padding)
    seen.summands = gradient.numel() // conv.out_channels
    seen.absolute = unit * kernel(image, grad_output=gradient).mean().item()
    squares = kernel(image.square_(), grad_output=gradient.square_())
    seen.random = unit * (2 / np.pi * squares).sqrt().mean().item()


def _moments(seen: Seen) -> dict[str, float]:
    return {
        "ln_mean": seen.ln_mean.mean().item(),
        "ln_mean_spread": seen.ln_mean.std(correction=0).item(),
        "ln_std": seen.ln_std.mean().item(),
        "ln_std_spread": seen.ln_std.std(correction=0).item(),
    }


@np.errstate(invalid="ignore", divide="ignore")
def _kernel(gradient: Float[Tensor, "out in height width"], seen: Seen) -> dict[str, Any]:
    g = gradient.flatten().double().cpu().numpy()
    mean, std = g.mean(), g.std()
    z = (g - mean) / std
    magnitudes = np.abs(g)
    tail, error = hill(magnitudes)
    summed = magnitudes.mean()
    return {
        "gradient_mean": mean,
        "gradient_std": std,
        "gradient_skewness": (z**3).mean(),
        "gradient_kurtosis": (z**4).mean(),
        "gradient_max_over_median": magnitudes.max() / np.median(magnitudes),
        "gradient_hill": tail,
        "gradient_hill_error": error,
        "coherence_a": seen.absolute / seen.summands,
        "coherence_b": summed / seen.summands,
        "coherence_ratio": seen.absolute / summed,
        "coherence_random": np.float64(seen.absolute) / seen.random,
    }


@np.errstate(invalid="ignore", divide="ignore")
def _distribution(gradient: Float[Tensor, "out in height width"]) -> dict[str, np.ndarray]:
    g = gradient.flatten().double().cpu().numpy()
    z = g / g.std()
    return {
        "gradient_quantiles": np.quantile(g, QUANTILES),
        "gradient_histogram": np.histogram(z, BINS)[0],
        "gradient_outside": np.array([(z < BINS[0]).sum(), (z > BINS[-1]).sum()]),
    }


def _prefixed(prefix: str, values: dict[str, Any]) -> dict[str, Any]:
    return {prefix + key: value for key, value in values.items()}


def _columns(rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """One array a key, over the rows."""
    return {key: np.array([row[key] for row in rows]) for key in (rows[0] if rows else {})}


@np.errstate(invalid="ignore", divide="ignore")
def hill(magnitudes: Float[np.ndarray, "n"], share: float = 0.01) -> tuple[float, float]:
    """Hill's estimate of the tail index alpha, P(X > x) ~ x^-alpha, and its standard error alpha / sqrt(k).

    1 / alpha = mean of ln(x_(j) / x_(k+1)) over the k = max(2, floor(share n)) largest values x_(1) >= ... >= x_(k).
    Raises ValueError unless n > k.
    """
    k = max(2, int(share * len(magnitudes)))
    if k >= len(magnitudes):
        raise ValueError(f"{len(magnitudes)} values leave no threshold below the largest {k}; give more, or a smaller share")
    top = np.sort(np.partition(magnitudes, -k - 1)[-k - 1 :])
    alpha = float(1 / np.log(top[1:] / top[0]).mean())
    return alpha, alpha / k**0.5


def powerlaw_fit(gradient: Float[np.ndarray, "n"]) -> dict[str, float]:
    """Clauset, Shalizi & Newman's (2009) power law p(x) ~ x^-alpha, x >= xmin, for the entries' magnitudes; 5-50 s for 9216 entries.

    alpha (Hill's index plus one) and its standard error sigma = (alpha - 1) / sqrt(tail); xmin; tail, the number of entries above it;
    <other>_R and <other>_p for other = lognormal, exponential: the normalised log likelihood ratio (positive where the power law
    fits better) and the p-value of its sign. Raises ValueError if fewer than two magnitudes are above zero.
    """
    magnitudes = np.abs(gradient.astype(np.float64))
    magnitudes = magnitudes[magnitudes > 0]
    if len(magnitudes) < 2:
        raise ValueError(f"a power law needs two entries that are not zero; there are {len(magnitudes)} of {len(gradient)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package warns of its own deprecations
        from powerlaw import Fit  # here, because it takes seconds to import

        fit = Fit(magnitudes, parameter_ranges={"alpha": [1, None]}, verbose=False)  # its own range ends at 3
        compared = {other: fit.distribution_compare("power_law", other, normalized_ratio=True) for other in ("lognormal", "exponential")}
    alpha, tail = float(fit.power_law.alpha), int((magnitudes >= fit.power_law.xmin).sum())
    ratios = {f"{other}_{name}": float(value) for other, pair in compared.items() for name, value in zip("Rp", pair, strict=True)}
    return {"alpha": alpha, "sigma": (alpha - 1) / tail**0.5, "xmin": float(fit.power_law.xmin), "tail": tail, **ratios}
