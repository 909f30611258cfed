"""Sharpness along training: looked at when it should be, and of the net as it is then."""

import numpy as np
import pytest
import torch

from bnlib import data, nets, train
from bnlib.config import DataConfig, ModelConfig, ProbeConfig, RunConfig, TrainConfig
from bnlib.probes import curvature, sharpening

IMAGES = data.synthetic(16, 8)


def run(batch: int, steps: int, lr: float = 0.05, norm: str = "batch") -> RunConfig:
    setting = TrainConfig(lr=lr, steps=steps, batch=batch, schedule="constant", augment=False, weight_decay=0.0)
    return RunConfig("toy", 1, ModelConfig(depth=8, norm=norm), DataConfig("synthetic", 16, 8), ProbeConfig(batch=8), train=setting)


def test_every_so_many_updates_the_net_is_looked_at():
    measured = sharpening.along_training(run(16, 5), IMAGES, every=2)
    assert measured["step"] == [0, 2, 4]
    assert measured["end"] == "completed"
    assert len(measured["epoch_loss"]) == 5
    assert np.isnan(measured["test_acc"][0])
    trainer = train.Trainer(run(16, 5), IMAGES)
    for _ in range(4):
        trainer.advance()
    assert measured["test_loss"][2] == pytest.approx(trainer.test()[0], rel=1e-4)
    x, y = IMAGES.standardise(IMAGES.x_train[:8]), IMAGES.y_train[:8]
    assert measured["sharpness"][2] == pytest.approx(curvature.sharpness(trainer.net, x, y), rel=0.02)
    assert measured["loss"][2] == pytest.approx(torch.nn.functional.cross_entropy(trainer.net(x), y).item(), rel=1e-4)


def test_a_level_is_met_where_an_epochs_loss_first_reaches_it_and_the_last_one_ends_the_run():
    whole = sharpening.along_training(run(8, 24), IMAGES)
    assert len(whole["epoch_loss"]) == 12
    assert whole["step"] == [0]
    levels = (1e9, whole["epoch_loss"][3] + 1e-3, whole["epoch_loss"][6] + 1e-3)
    below = [next(k for k, loss in enumerate(whole["epoch_loss"]) if loss <= level) for level in levels]
    measured = sharpening.along_training(run(8, 24), IMAGES, levels)
    assert measured["reached"] == [2 * (k + 1) for k in below]
    assert measured["step"] == [0, *sorted(set(measured["reached"]))]
    assert measured["end"] == "reached"
    assert measured["epoch_loss"] == pytest.approx(whole["epoch_loss"][: below[-1] + 1])


def test_a_level_that_is_not_met_stays_open():
    measured = sharpening.along_training(run(8, 2), IMAGES, (1e9, 1e-9))
    assert measured["reached"] == [2, None]
    assert measured["end"] == "completed"


def test_a_run_that_diverges_says_so():
    measured = sharpening.along_training(run(8, 40, lr=1e6, norm="none"), IMAGES, (1e-9,))
    assert measured["end"].startswith("diverged@")


def test_looking_changes_nothing():
    watch = sharpening.Watch(IMAGES, 8, every=1)
    looked, plain = (train.train(run(8, 4), IMAGES, callbacks).measured["step_loss"] for callbacks in ([watch], []))
    assert looked == plain


def test_at_the_start_it_is_the_fresh_net_that_is_looked_at():
    x, y = IMAGES.standardise(IMAGES.x_train[:8]), IMAGES.y_train[:8]
    net = nets.build(ModelConfig(depth=8), 1)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    watch = sharpening.Watch(IMAGES, 8)
    watch.look(net, 0)
    assert watch.rows["sharpness"][0] == pytest.approx(curvature.sharpness(net, x, y), rel=0.02)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
