"""The loss and the channel moments along the line of one update, theta - t g: Figs 3 and 4 of the paper."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from bnlib import data
from bnlib.config import RunConfig
from bnlib.nets import ResNet, apply, layer_at
from bnlib.train import Trainer
from bnlib.train.device import arithmetic

# 1, 2 ... 9 in each decade: so an update at any power of ten is also seen at 10, 20 ... 100 % of its way.
SIZES = (*(float(f"{k}e{power}") for power in range(-5, 0) for k in range(1, 10)), 1.0)
MINI_BATCHES = (1, 4, 7)  # as in Fig 3
LAYERS = (8, 44, 80)  # as in Fig 4


def along_gradient(
    net: ResNet,
    x: Float[Tensor, "batch 3 height width"],
    y: Int[Tensor, "batch"],
    sizes: Sequence[float],
    layers: Sequence[int] = (),
) -> dict[str, Any]:
    """The mean cross-entropy L of the mini-batch x, y at theta - t dL/dtheta for t = 0 and the given sizes; `net` is left as it was.

    Keys: `step` [t], `loss` [t], `gradient_norm`, and for each of the numbered convolutions `mean_<layer>` and `variance_<layer>`
    [t, channel]: moments over images and positions of the convolution's output, before any normaliser. In training mode: BN uses the
    statistics of this mini-batch.
    """
    weights: dict[str, Tensor] = dict(net.named_parameters())
    loss = F.cross_entropy(apply(net, x), y)
    gradient = torch.autograd.grad(loss, list(weights.values()))
    steps = (0.0, *sizes)
    losses = []
    with torch.no_grad(), _moments(net, layers) as seen:
        for t in steps:
            moved = {name: weight - t * g for (name, weight), g in zip(weights.items(), gradient, strict=True)}
            losses.append(F.cross_entropy(apply(net, x, moved), y).item())
    norm = torch.stack([g.norm() for g in gradient]).norm().item()
    return {"step": steps, "loss": losses, "gradient_norm": norm, **{name: np.array(rows) for name, rows in seen.items()}}


def of_first_mini_batches(run: RunConfig, dataset: data.Dataset | None) -> dict[str, Any]:
    """Train as `run` says, and before the updates on mini-batches 1, 4 and 7 look along their gradients (Fig 3).

    Keys: `mini_batch` [3], `step` [t], `loss` [mini-batch, t], `gradient_norm` [mini-batch].
    """
    assert run.train is not None
    lines = []
    with arithmetic(run.train):
        trainer = Trainer(run, dataset)
        for number in range(1, MINI_BATCHES[-1] + 1):
            if number in MINI_BATCHES:
                lines.append(along_gradient(trainer.net, *trainer.mini_batch(), SIZES))
            trainer.advance()
    columns = {key: [line[key] for line in lines] for key in ("loss", "gradient_norm")}
    return {"mini_batch": MINI_BATCHES, "step": lines[0]["step"], **columns}


def of_first_update(run: RunConfig, dataset: data.Dataset | None) -> dict[str, Any]:
    """The loss and the channel moments at layers 8, 44 and 80, or their like, along the first mini-batch's gradient (Fig 4).

    Keys as in `along_gradient`; moments to four significant digits.
    """
    assert run.train is not None
    with arithmetic(run.train):
        trainer = Trainer(run, dataset)
        layers = [layer_at(trainer.net.config.depth, layer) for layer in LAYERS]
        line = along_gradient(trainer.net, *trainer.mini_batch(), SIZES, layers)
    rounded = {key: [[float(f"{v:.4g}") for v in row] for row in line[key]] for key in line if key.startswith(("mean_", "variance_"))}
    return line | rounded


@contextmanager
def _moments(net: ResNet, layers: Sequence[int]) -> Iterator[dict[str, list[np.ndarray]]]:
    seen: dict[str, list[np.ndarray]] = {f"{moment}_{layer}": [] for layer in layers for moment in ("mean", "variance")}

    def observe(layer: int, module: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
        variance, mean = torch.var_mean(output.double(), (0, 2, 3), correction=0)
        seen[f"mean_{layer}"].append(mean.cpu().numpy())
        seen[f"variance_{layer}"].append(variance.cpu().numpy())

    with ExitStack() as hooks:
        for layer in layers:
            hooks.enter_context(net.convolutions()[layer].register_forward_hook(partial(observe, layer)))
        yield seen
