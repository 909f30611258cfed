"""Full-batch gradient descent at rates around 2 / lambda_max: the catapult of Lewkowycz et al. (2020).

On a quadratic of curvature lambda descent diverges above the rate 2 / lambda. The loss of a network is no quadratic: above that rate
it rises at first, which moves the weights to where the curvature is lower, and from there it falls.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from bnlib.config import TrainConfig
from bnlib.nets import CLASSES, apply
from bnlib.probes.curvature import Loss, sharpness

DIVERGED = TrainConfig.limit  # of max(1, first loss), as in training
MULTIPLES = (0.25, 0.5, 1.0, 1.25, 1.5, 1.6, 1.75, 2.0, 3.0, 4.0, 6.0, 8.0)  # of 2 / lambda_max at the start


class TwoLayers(nn.Module):
    """v relu(W x) / sqrt(width) on flattened images, for which the catapult was derived: W from N(0, 1 / fan_in), v from N(0, 1)."""

    def __init__(self, width: int, seed: int, inputs: int = 3 * 32 * 32) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.W = nn.Parameter(torch.randn(width, inputs, generator=generator) / inputs**0.5)
        self.v = nn.Parameter(torch.randn(CLASSES, width, generator=generator))

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch class"]:
        logits: Tensor = F.relu(x.flatten(1) @ self.W.T) @ self.v.T / len(self.W) ** 0.5
        return logits


def squared_error(logits: Float[Tensor, "batch class"], y: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
    """Half the squared distance from the one-hot label, mean over images: the loss for which the catapult was derived."""
    return (logits - F.one_hot(y, CLASSES)).square().sum(1).mean() / 2


def measure(
    build: Callable[[], nn.Module], x: Float[Tensor, "batch 3 height width"], y: Int[Tensor, " batch"], loss: Loss, steps: int
) -> dict[str, Any]:
    """Descend from one start, which `build` makes anew each time, at each of MULTIPLES.

    multiple      rates, in units of 2 / start
    start         lambda_max at the start
    loss          [multiple, steps + 1] before each update and after the last; None from where it diverged, as `train` has it
    end           [multiple] lambda_max after the last update; None where it diverged
    """
    start = sharpness(build(), x, y, loss=loss)
    curves, ends = [], []
    for multiple in MULTIPLES:
        net = build()
        losses = descend(net, x, y, 2 * multiple / start, steps, loss)
        curves.append(losses + [float("nan")] * (steps + 1 - len(losses)))
        ends.append(sharpness(net, x, y, tolerance=0.03, loss=loss) if len(losses) > steps else float("nan"))
    return {"multiple": MULTIPLES, "start": start, "loss": curves, "end": ends}


def descend(
    net: nn.Module, x: Float[Tensor, "batch 3 height width"], y: Int[Tensor, " batch"], lr: float, steps: int, loss: Loss
) -> list[float]:
    """Plain gradient descent on all images at once, in training mode: the loss before each update and after the last, as long as it is
    at most DIVERGED times max(1, its start). Moves `net`.
    """
    weights = list(net.parameters())
    losses: list[float] = []
    for step in range(steps + 1):
        value = loss(apply(net, x), y)
        if not value.item() <= DIVERGED * max(1.0, losses[0] if losses else value.item()):
            break
        losses.append(value.item())
        if step < steps:
            gradients = torch.autograd.grad(value, weights)
            with torch.no_grad():
                for weight, gradient in zip(weights, gradients, strict=True):
                    weight.sub_(lr * gradient)
    return losses
