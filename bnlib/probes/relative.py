"""How far each update moves the kernels, relative to their length: the step by which networks of any kind can be compared.

With w all kernels as one vector, w' the same after the update, the relative step is rho = |w' - w| / |w|. It is the learning rate that
a network feels. Three cases show it, for plain descent w' = w - alpha g:

scale-invariant kernels   L(c w) = L(w), as where BN follows: then g(c w) = g(w) / c, and rho = (alpha / |w|^2) |w| |g(w)|, of which the
                          second factor does not change with c. So alpha / |w|^2 is what counts, the effective learning rate.
clipping to length k      rho <= alpha k / |w|, with momentum beta alpha k / ((1 - beta) |w|) (and the share of the weight decay).
any other                 rho = alpha |g| / |w|; no rescaling takes one rate to another.
"""

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bnlib import data
from bnlib.config import RunConfig
from bnlib.nets import ResNet
from bnlib.probes import initialisation
from bnlib.train import Callback, Trainer
from bnlib.train.device import arithmetic

# Of what `initialisation.at_initialisation` measures, what is kept of a network that was trained.
PROBED = ("loss", "ln_std", "gradient_std", "gradient_kurtosis", "gradient_hill", "coherence_ratio", "coherence_random", "mean_row_energy")


class RelativeSteps:
    """A callback of `train.train` that keeps the relative step of each update, and the length of the kernels.

    whole     of all kernels as one vector, an entry an update; shortcut projections count, the linear layer, biases and scalars do not
    layers    of each convolution 1 ... depth - 1 alone, a row an update; infinite where a kernel was zero
    lengths   |w|, before the first update and after each
    norms     of the whole gradient, before any clipping, an entry an update
    """

    def __init__(self, net: ResNet) -> None:
        self.convolutions = len(net.convolutions())
        self.kernels = [conv.weight for conv in (*net.convolutions().values(), *net.projections().values())]
        self.before = [kernel.detach().clone() for kernel in self.kernels]
        self.whole: list[float] = []
        self.layers: list[list[float]] = []
        self.lengths = [_whole(_lengths(self.before))]
        self.norms: list[float] = []

    def __call__(self, trainer: Trainer) -> None:
        """Compare the kernels with those of the last call."""
        with torch.no_grad():
            moved = _lengths([new - old for new, old in zip(self.kernels, self.before, strict=True)])
            step = moved / _lengths(self.before)
            for old, new in zip(self.before, self.kernels, strict=True):
                old.copy_(new)
        self.layers.append(step[: self.convolutions].tolist())
        self.whole.append(_whole(moved) / self.lengths[-1])
        self.lengths.append(_whole(_lengths(self.before)))
        self.norms.append(_norm(trainer, trainer.step - 1))


def of_run(run: RunConfig, dataset: data.Dataset | None, callbacks: Iterable[Callback] = ()) -> dict[str, Any]:
    """Train as `run` says, a number of `steps`, and look at each update; with a section `probe`, at the network after the last one, too.

    Keys: those of `train.Trainer`; `relative_step` [update]; `layer_step` [layer], the median over the updates; `gradient_norm` [update],
    of the whole gradient before any clipping; `kernel_length` before the first update and after the last; `status` as in `train.Result`.
    And unless the run diverged, PROBED as `initialisation.at_initialisation` has them, on the mini-batch that study `init` takes for its
    seed.
    """
    assert run.train is not None
    with arithmetic(run.train):
        trainer = Trainer(run, dataset)
        steps = RelativeSteps(trainer.net)
        result = trainer.finish([steps, *callbacks])
        measured = result.measured | {
            "relative_step": steps.whole,
            "layer_step": torch.tensor(steps.layers).nanmedian(0).values if steps.layers else [],
            "gradient_norm": steps.norms + [_norm(trainer, trainer.step)] * (trainer.diverged is not None),
            "kernel_length": [steps.lengths[0], steps.lengths[-1]],
            "status": result.status,
        }
        if run.probe is not None and result.status == "completed":
            seen = initialisation.at_initialisation(trainer.net, *data.batch(trainer.dataset, run.seed, run.probe.batch), full=False)
            measured |= {name: seen[name] for name in PROBED}
    return measured


def _norm(trainer: Trainer, step: int) -> float:
    """The gradient's norm in update `step` of the present epoch."""
    return trainer.seen[step % trainer.steps_per_epoch, 2].item()


def _lengths(tensors: list[Tensor]) -> Float[Tensor, " n"]:
    return torch.stack([torch.linalg.vector_norm(tensor, dtype=torch.float64) for tensor in tensors])


def _whole(lengths: Float[Tensor, " n"]) -> float:
    """The length of the vector that is made of parts of these lengths."""
    return float(torch.linalg.vector_norm(lengths))
