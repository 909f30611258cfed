"""Scale invariance: a kernel with BN behind it has a direction but no size, and its learning rate is lr / |w|^2.

L(c w) = L(w), so that the gradient at c w is 1 / c of that at w: kernels c times as large, with c^2 times the rate, stay c times as
large, and the network computes the same (van Laarhoven, 2017; Hoffer et al., 2018; Arora et al., 2019; Li & Arora, 2020).
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from bnlib import data, nets, train
from bnlib.config import ModelConfig, RunConfig

FACTORS = (0.1, 0.5, 1.0, 2.0, 10.0)  # by which kernels are scaled
EVERY = 5  # updates between two looks at the kernels


def kernels(net: nets.ResNet) -> list[Tensor]:
    """The weights of all convolutions, projections last."""
    return [conv.weight for conv in (*net.convolutions().values(), *net.projections().values())]


def trajectory(
    config: ModelConfig,
    seed: int,
    x: Float[Tensor, "batch 3 height width"],
    y: Int[Tensor, " batch"],
    lr: float,
    factor: float,
    steps: int,
    follow: bool = True,
) -> Float[np.ndarray, " steps"]:
    """The losses of `steps` updates with momentum 0.9 on one mini-batch, all kernels `factor` times as large, their rate `factor`^2 times.

    Without `follow` the rate is left as it was. In float64, and with eps = 1e-30: the usual 1e-5 in the root of BN breaks the invariance.
    """
    net = nets.build(config, seed).double()
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eps = 1e-30
    scaled = kernels(net)
    with torch.no_grad():
        for kernel in scaled:
            kernel.mul_(factor)
    others = [p for p in net.parameters() if all(p is not kernel for kernel in scaled)]
    rate = lr * factor**2 if follow else lr
    optimiser = torch.optim.SGD([{"params": scaled, "lr": rate}, {"params": others, "lr": lr}], momentum=0.9)
    losses = []
    for _ in range(steps):
        loss = F.cross_entropy(net(x.double()), y)
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return np.array(losses)


def rescaled(config: ModelConfig, seed: int, dataset: data.Dataset, lr: float, size: int = 32, steps: int = 20) -> dict[str, Any]:
    """`trajectory` for each of FACTORS: [factor, steps] losses with the rate following, and (`alone_`) with the rate as it was.

    And `gap` [factor], the largest relative difference from the unscaled network's losses when the rate follows.
    """
    x, y = data.batch(dataset, seed, size)
    losses, alone = (np.array([trajectory(config, seed, x, y, lr, c, steps, follow) for c in FACTORS]) for follow in (True, False))
    own = losses[FACTORS.index(1.0)]
    return {"factor": FACTORS, "losses": losses, "alone_losses": alone, "gap": np.max(np.abs(losses / own - 1), axis=1)}


def effective(run: RunConfig, dataset: data.Dataset | None) -> dict[str, Any]:
    """Train, and look at the kernels every EVERY updates.

    update               [look]
    norm2                [kernel, look] |w|^2 of the convolutions 1 ... depth - 1; the effective rate is lr over it
    status, step_loss    as of `train.train`
    """
    looks: dict[int, list[float]] = {}

    def look(trainer: train.Trainer) -> None:
        if trainer.step % EVERY == 0 or trainer.step == 1:
            convolutions = trainer.net.convolutions().values()
            looks[trainer.step] = [conv.weight.detach().double().square().sum().item() for conv in convolutions]

    assert run.model is not None
    first = nets.build(run.model, run.seed).convolutions().values()
    looks[0] = [conv.weight.detach().double().square().sum().item() for conv in first]
    result = train.train(run, dataset, [look])
    measured = {"update": list(looks), "norm2": np.array(list(looks.values())).T}
    return measured | {"status": result.status, "step_loss": result.measured["step_loss"]}
