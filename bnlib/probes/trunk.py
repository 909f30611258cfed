"""The trunk of a ResNet at initialisation, block by block: how its spread grows, what a branch adds, and how gradients come back.

With BN every branch adds a variance of 1, so the trunk's mean square grows in proportion to the number of blocks, and the branch's
share of it falls as 1 / sqrt(block): the block comes close to the identity (De & Smith, 2020).
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from bnlib.nets import Block, ResNet, apply


def measure(net: ResNet, x: Float[Tensor, "batch 3 height width"], y: Int[Tensor, " batch"]) -> dict[str, Any]:
    """One training-mode pass and the gradient of the mean cross-entropy; `net` is left as it was.

    rms           [block] root mean square of the block's output, after its ReLU, over images, positions and channels
    sum           [block] the same of branch plus shortcut, before the ReLU; in a plain network of the branch alone
    branch        [block] the same of the branch
    ln_gradient   [block + 1] ln |dL/dh|^2, the square summed over the same; h the output of the stem, then of each block
    """
    with _watched(net) as (branches, shortcuts, trunk):
        loss = F.cross_entropy(apply(net, x), y)
        gradients = torch.autograd.grad(loss, trunk)
    plain = net.config.block == "plain"
    sums = branches if plain else [b + s for b, s in zip(branches, shortcuts, strict=True)]
    return {
        "rms": [_rms(h.detach()) for h in trunk[1:]],
        "sum": [_rms(s) for s in sums],
        "branch": [_rms(b) for b in branches],
        "ln_gradient": [2 * g.double().norm().log().item() for g in gradients],
    }


def _rms(x: Tensor) -> float:
    return x.double().square().mean().sqrt().item()


@contextmanager
def _watched(net: ResNet) -> Iterator[tuple[list[Tensor], list[Tensor], list[Tensor]]]:
    """What the branches, the shortcuts and (with gradients) the trunk let out in a pass made in this context."""
    branches: list[Tensor] = []
    shortcuts: list[Tensor] = []
    trunk: list[Tensor] = []
    blocks = [block for block in net.blocks if isinstance(block, Block)]
    with ExitStack() as hooks:
        hooks.enter_context(net.stem.register_forward_hook(lambda module, args, output: trunk.append(output)))
        for block in blocks:
            hooks.enter_context(block.branch.register_forward_hook(lambda module, args, output: branches.append(output.detach())))
            hooks.enter_context(block.shortcut.register_forward_hook(lambda module, args, output: shortcuts.append(output.detach())))
            hooks.enter_context(block.register_forward_hook(lambda module, args, output: trunk.append(output)))
        yield branches, shortcuts, trunk


def walk(blocks: int, projected: bool, draws: int = 100_000) -> Float[np.ndarray, " blocks"]:
    """The root mean square of the output of each block of a stage with BN, if its layers were very wide: a random walk held above zero.

    h_k = relu(h_{k-1} + z_k), z standard Gaussian; h_0 is the ReLU of such a z in the first stage, in the others (`projected`) z itself.
    """
    rng = np.random.default_rng(0)
    h, squares = rng.standard_normal(draws), []
    h = h if projected else h.clip(0)
    for _ in range(blocks):
        h = (h + rng.standard_normal(draws)).clip(0)
        squares.append(np.mean(h**2))
    return np.sqrt(squares)


def exponent(rms: Float[np.ndarray, " block"]) -> float:
    """p in rms_k ~ k^p over the blocks k = 1, 2, ... of a stage, by least squares in logarithms. Raises ValueError on a single block."""
    if len(rms) < 2:
        raise ValueError("one block has no exponent; take a depth of at least 14")
    return float(np.polyfit(np.log(np.arange(1, len(rms) + 1)), np.log(rms), 1)[0])


def stages(values: Float[np.ndarray, " block"]) -> list[Float[np.ndarray, " n"]]:
    """The three stages of what was measured a block."""
    return list(np.split(values, 3))
