"""Sharpness along training (paper, Sec 2.1, after Keskar et al. 2017): a probe that a training run calls back.

Runs are compared at equal training loss, not after equal time: the Hessian of the cross-entropy shrinks with the loss itself, and
after equal time a small learning rate has got less far. So SGD is looked at when an epoch's loss first reaches each of some
levels; descent on the full batch, where the rate predicts the sharpness at every moment, every so many updates.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F

from bnlib import nets
from bnlib.config import RunConfig
from bnlib.data import Dataset
from bnlib.nets import ResNet
from bnlib.probes.curvature import sharpness
from bnlib.train import Stopped, Trainer, train

TOLERANCE, BASIS = 0.03, 8  # of Lanczos: 9 products as a rule; within 0.2 % of 20 vectors to 1e-3 where both were tried


class Watch:
    """A callback for `train`: measures when an epoch's training loss first reaches the next of `levels`, and every `every` updates.

    Raises `Stopped` at the last of the levels. `rows` holds a list for each of

    step         updates made
    loss         mean cross-entropy over the watched images, in training mode
    sharpness    largest eigenvalue of its Hessian
    test_loss, test_acc    over the test images, in evaluation mode; NaN before the first update
    """

    def __init__(self, dataset: Dataset, images: int, levels: Sequence[float] = (), every: int = 0) -> None:
        self.x, self.y = dataset.standardise(dataset.x_train[:images]), dataset.y_train[:images]
        self.levels, self.every = list(levels), every
        self.reached: list[int | None] = [None] * len(self.levels)  # the update at which each level was first reached
        self.epoch_loss: list[float] = []
        self.rows: dict[str, list[float]] = {name: [] for name in ("step", "loss", "sharpness", "test_loss", "test_acc")}

    def look(self, net: ResNet, step: int, test: tuple[float, float] = (math.nan, math.nan)) -> None:
        """Add a row."""
        with torch.no_grad():
            loss = F.cross_entropy(nets.apply(net, self.x), self.y).item()
        row = (step, loss, sharpness(net, self.x, self.y, tolerance=TOLERANCE, basis=BASIS), *test)
        for name, value in zip(self.rows, row, strict=True):
            self.rows[name].append(value)

    def __call__(self, trainer: Trainer) -> None:
        """After an update."""
        passed = []
        if trainer.step % trainer.steps_per_epoch == 0:
            last = trainer.step_loss[-trainer.steps_per_epoch :]
            self.epoch_loss.append(sum(last) / len(last))
            passed = [k for k, level in enumerate(self.levels) if self.reached[k] is None and self.epoch_loss[-1] <= level]
            for k in passed:
                self.reached[k] = trainer.step
        if passed or (self.every and trainer.step % self.every == 0):
            self.look(trainer.net, trainer.step, trainer.test())
        if self.levels and self.reached[-1] is not None:
            raise Stopped


def along_training(run: RunConfig, dataset: Dataset, levels: Sequence[float] = (), every: int = 0) -> dict[str, Any]:
    """Train as `run` says, with the rate and on the images of its section train, watching the first `run.probe.batch` of them.

    Beside the rows of `Watch`: `epoch_loss`, the mean loss of each epoch's mini-batches as seen on the way; `level` and `reached`;
    `end`: "reached" the last level, "completed" without it, or "diverged@<updates>".
    """
    assert run.model is not None
    assert run.probe is not None
    watch = Watch(dataset, run.probe.batch, levels, every)
    watch.look(nets.build(run.model, run.seed), 0)
    try:
        end = train(run, dataset, [watch]).status
    except Stopped:
        end = "reached"
    return {
        **watch.rows,
        "epoch_loss": watch.epoch_loss,
        "level": watch.levels,
        "reached": watch.reached,
        "end": end,
        "status": "completed" if end == "reached" else end,
    }
