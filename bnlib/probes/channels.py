"""Single channels and single parameters of a convolution at initialisation: where its gradient goes through, and how far its terms agree.

Beside what `probes` says of all layers on average (paper, Sec 3.1 and, as remembered, its appendix).
"""

from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight

from bnlib.nets import ResNet, apply, layer_at

LAYERS = (18, 45, 54, 90)  # of Table 1 and Fig 7
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def at_layers(net: ResNet, x: Float[Tensor, "batch 3 height width"], y: Int[Tensor, "batch"]) -> dict[str, Any]:
    """Measure `net` on the mini-batch x, y (mean cross-entropy, training mode); `net` is left as it was.

    Keys, for each of LAYERS, at other depths its like (`layer_at`), with d = dL/dO_{b,o,x,y} I_{b,i,x+x',y+y'}:

    channel_mean_<layer>      [i] mean over b, x, y of the input I
    channel_gradient_<layer>  [i] sum_o M_{i,o} = sum_{o,x',y'} |sum_{b,x,y} d|, the size of the gradient of the weights that read channel i
    constant_share_<layer>    1 - |g - g'|^2 / |g|^2 for the kernel's gradient g, and g' with each channel of I constant at its mean
    parameter_ratio_<layer>   [QUANTILES] quantiles over the kernel's parameters of (sum_{b,x,y} |d|) / |sum_{b,x,y} d|
    """
    places = {layer: net.convolutions()[layer_at(net.config.depth, layer)] for layer in LAYERS}
    seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def keep(module: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
        seen[module] = args[0].detach(), output

    with ExitStack() as hooks:
        for conv in {*places.values()}:
            hooks.enter_context(conv.register_forward_hook(keep))
        loss = F.cross_entropy(apply(net, x), y)
    outer = dict(zip(seen, torch.autograd.grad(loss, [output for _, output in seen.values()]), strict=True))
    measured: dict[str, Any] = {}
    for layer, conv in places.items():
        found = _of_layer(conv, seen[conv][0].double(), outer[conv].double())
        measured |= {f"{key}_{layer}": value for key, value in found.items()}
    return measured


def _of_layer(conv: nn.Conv2d, image: Tensor, gradient: Tensor) -> dict[str, Any]:
    kernel = partial(conv2d_weight, weight_size=conv.weight.shape, stride=conv.stride, padding=conv.padding)  # sum_{b,x,y} d
    means = image.mean((0, 2, 3))
    g = kernel(image, grad_output=gradient)
    constant = kernel(means[:, None, None].expand_as(image), grad_output=gradient)
    ratio = kernel(image.abs(), grad_output=gradient.abs()) / g.abs()
    return {
        "channel_mean": means.cpu().numpy(),
        "channel_gradient": g.abs().sum((0, 2, 3)).cpu().numpy(),
        "constant_share": (1 - (g - constant).square().sum() / g.square().sum()).item(),
        "parameter_ratio": ratio.flatten().nanquantile(torch.tensor(QUANTILES, dtype=ratio.dtype, device=ratio.device)).cpu().numpy(),
    }
