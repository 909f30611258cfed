"""Batch normalisation with the statistics of a mini-batch, and with those of the images it stands for."""

import copy
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from bnlib.nets import ResNet, apply

_BN = (nn.BatchNorm1d, nn.BatchNorm2d)
Statistics = dict[str, tuple[Float[Tensor, " channel"], Float[Tensor, " channel"]]]  # mean and variance by the normaliser's name


def frozen(net: ResNet, x: Float[Tensor, "batch 3 height width"]) -> ResNet:
    """A copy of `net` in evaluation mode that normalises with the means and (biased) variances of x: on x itself it computes the same."""
    held = copy.deepcopy(net).eval()

    def take(bn: nn.Module, args: tuple[Tensor]) -> None:
        variance, mean = torch.var_mean(args[0], [d for d in range(args[0].ndim) if d != 1], correction=0)
        bn.running_mean, bn.running_var = mean, variance

    with ExitStack() as hooks, torch.no_grad():
        for bn in held.modules():
            if isinstance(bn, _BN):
                hooks.enter_context(bn.register_forward_pre_hook(take))
        held(x)
    return held


def statistics(held: ResNet) -> Statistics:
    """What a `frozen` network normalises with, in the order of its modules."""
    found = {name: bn for name, bn in held.named_modules() if isinstance(bn, _BN)}
    return {
        name: (bn.running_mean, bn.running_var) for name, bn in found.items() if bn.running_mean is not None and bn.running_var is not None
    }


@dataclass(frozen=True)
class Gap:
    """Between a mini-batch in training mode and the same images with the population's statistics.

    mean, spread   [normaliser] rms over channels of (mu_B - mu) / sigma, and of ln(sigma_B / sigma)
    logits         rms difference of the logits over their standard deviation over images and classes, the population's
    loss           mean cross-entropy in training mode, and with the population's statistics
    cosine, ratio  of the gradients: cosine, and length in training mode over the other's. The population's statistics are constants
                   to it, those of the mini-batch are differentiated.
    """

    mean: Float[np.ndarray, " normaliser"]
    spread: Float[np.ndarray, " normaliser"]
    logits: float
    loss: tuple[float, float]
    cosine: float
    ratio: float


def gap(net: ResNet, population: ResNet, x: Float[Tensor, "batch 3 height width"], y: Int[Tensor, " batch"]) -> Gap:
    """Compare `net` in training mode on x, y with its copy `population`, made by `frozen` on many images; neither is changed."""
    own, theirs = statistics(frozen(net, x)), statistics(population)
    shifts = [((own[name][0] - mean) / variance.sqrt()).square().mean().sqrt().item() for name, (mean, variance) in theirs.items()]
    scales = [((own[name][1] / variance).log() / 2).square().mean().sqrt().item() for name, (_, variance) in theirs.items()]
    logits, loss, gradient = _look(net, x, y)
    logits_p, loss_p, gradient_p = _look(population, x, y)
    off = (logits - logits_p).square().mean().sqrt() / logits_p.std(correction=0)
    cosine, ratio = F.cosine_similarity(gradient, gradient_p, dim=0), gradient.norm() / gradient_p.norm()
    return Gap(np.array(shifts), np.array(scales), off.item(), (loss, loss_p), cosine.item(), ratio.item())


def _look(net: ResNet, x: Tensor, y: Tensor) -> tuple[Tensor, float, Tensor]:
    logits = apply(net, x)
    loss = F.cross_entropy(logits, y)
    gradient = torch.cat([g.flatten().double() for g in torch.autograd.grad(loss, list(net.parameters()))])
    return logits.detach(), loss.item(), gradient
