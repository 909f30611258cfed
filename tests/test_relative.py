"""Relative steps against steps made by hand; clipping against torch's own; what scale does to a network with BN."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from bnlib import data, nets, probes, records, studies, train
from bnlib.config import DataConfig, ModelConfig, ProbeConfig, RunConfig, TrainConfig
from bnlib.probes import relative

IMAGES = data.synthetic(64, 8)
KNOWN = data.load(DataConfig("synthetic"))  # whose fingerprint records accept


def run(norm: str = "batch", block: str = "residual", probe: ProbeConfig | None = None, **setting) -> RunConfig:
    model = ModelConfig(depth=8, norm=norm, block=block)
    plain = {"lr": 0.1, "steps": 3, "batch": 16, "schedule": "constant", "augment": False}
    return RunConfig("ladder", 1, model, DataConfig("synthetic", 64, 8), probe, train=TrainConfig(**plain | setting))


# Clipping


@settings(deadline=None)  # torch takes a second to begin
@given(st.floats(1e-3, 1e3), st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=6))
def test_clipping_is_that_of_torch(most: float, entries: list[float]):
    mine, torchs = (torch.nn.Parameter(torch.zeros(len(entries))) for _ in range(2))
    mine.grad, torchs.grad = torch.tensor(entries), torch.tensor(entries)
    mine.grad *= train.clipped(mine.grad.norm(), most)
    torch.nn.utils.clip_grad_norm_([torchs], most)
    torch.testing.assert_close(mine.grad, torchs.grad)
    assert mine.grad.norm() <= most * (1 + 1e-6)


@pytest.mark.parametrize("most", [0.05, 1e6])
def test_a_clipped_run_is_a_plain_loop_with_torchs_clipping(most: float):
    config = run("none", clip=most, momentum=0.5)
    trainer = train.Trainer(config, IMAGES)
    net = nets.build(config.model, 1).to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.5, weight_decay=1e-4)
    for _ in range(3):
        x, y = trainer.mini_batch()
        trainer.advance()
        optimiser.zero_grad()
        F.cross_entropy(net(x), y).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), most)
        optimiser.step()
    for mine, theirs in zip(trainer.net.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_every_update_has_its_gradient_norm_over_more_than_one_epoch():
    whole, first = (relative.of_run(run(steps=steps), IMAGES)["gradient_norm"] for steps in (6, 3))  # of four mini-batches an epoch
    assert len(whole) == 6
    assert whole[:3] == first
    assert len(set(whole)) == 6


def test_the_norm_that_is_measured_is_that_before_clipping():
    whole, clipped = (relative.of_run(run("none", clip=clip, steps=1), IMAGES)["gradient_norm"] for clip in (0.0, 0.01))
    assert whole[0] == clipped[0]
    assert whole[0] > 0.01


def test_clipping_asks_the_device_for_nothing():
    norm = torch.empty((), device="meta")  # holds no value, so that asking for it would fail
    gradients = [torch.empty(3, device="meta")]
    torch._foreach_mul_(gradients, train.clipped(norm, 1.0))
    assert gradients[0].is_meta


def test_runs_that_clip_nothing_keep_their_ids():
    assert RunConfig("fig1", 1, ModelConfig(), DataConfig(), train=TrainConfig(lr=0.003, epochs=1320, clip=0.0)).run_id == "805f5f386bef"


# Relative steps


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_relative_steps_are_those_of_the_weights(norm: str):
    trainer = train.Trainer(run(norm), IMAGES)
    steps = relative.RelativeSteps(trainer.net)
    kernels = [conv.weight for conv in (*trainer.net.convolutions().values(), *trainer.net.projections().values())]
    for update in range(3):
        before = [kernel.detach().double().numpy().copy() for kernel in kernels]
        trainer.advance()
        steps(trainer)
        moved = [kernel.detach().double().numpy() - old for kernel, old in zip(kernels, before, strict=True)]
        whole = np.linalg.norm(np.concatenate([m.ravel() for m in moved])) / np.linalg.norm(np.concatenate([b.ravel() for b in before]))
        assert steps.whole[update] == pytest.approx(whole, rel=1e-5)
        one = [np.linalg.norm(m) / np.linalg.norm(b) for m, b in zip(moved, before, strict=True)][:7]
        assert steps.layers[update] == pytest.approx(one, rel=1e-5)
    assert len(steps.lengths) == 4


def test_a_step_from_zero_is_infinite_for_the_layer_and_finite_for_the_whole():
    measured = relative.of_run(run("none", "fixup"), IMAGES)
    steps = relative.RelativeSteps(nets.build(ModelConfig(depth=8, norm="none", block="fixup"), 1))
    assert min(float(kernel.norm()) for kernel in steps.before) == 0
    assert np.isfinite(measured["relative_step"]).all()


def test_clipping_bounds_the_step():
    measured = relative.of_run(run("none", lr=0.5, clip=0.1, steps=4, weight_decay=0.0), IMAGES)
    length = min(measured["kernel_length"])
    assert max(measured["relative_step"]) <= 0.5 * 0.1 / (1 - 0.9) / (0.9 * length)
    assert measured["relative_step"][0] <= 0.5 * 0.1 / measured["kernel_length"][0] * (1 + 1e-5)


def test_with_bn_the_effective_rate_is_what_counts():
    """Kernels twice as long at four times the rate: the same relative steps, and the same function."""
    results = []
    for c in (1.0, 2.0):
        net = nets.build(ModelConfig(depth=8), 3).double()
        kernels = [conv.weight for conv in (*net.convolutions().values(), *net.projections().values())]
        with torch.no_grad():
            for kernel in kernels:
                kernel *= c
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eps = 1e-12
        x, y = data.batch(IMAGES, 0, 16)
        loss = F.cross_entropy(net(x.double()), y)
        gradients = torch.autograd.grad(loss, kernels)
        steps = [0.1 * c**2 * (g.norm() / kernel.norm()).item() for g, kernel in zip(gradients, kernels, strict=True)]
        results.append([loss.item(), *steps])
    assert results[0] == pytest.approx(results[1], rel=1e-6)


# The measurement of a run


def test_a_run_is_measured_as_it_is_trained():
    config = run(steps=4)
    measured, plain = relative.of_run(config, IMAGES), train.train(config, IMAGES)
    assert measured["step_loss"] == plain.measured["step_loss"]
    assert measured["status"] == plain.status
    assert len(measured["relative_step"]) == len(measured["gradient_norm"]) == 4
    assert measured["layer_step"].shape == (7,)
    assert "coherence_ratio" not in measured


def test_the_probe_sees_the_network_after_the_last_update():
    config = run(steps=2, probe=ProbeConfig(batch=16, full=False))
    measured = relative.of_run(config, IMAGES)
    trainer = train.Trainer(config, IMAGES)
    trainer.advance()
    trainer.advance()
    expected = probes.at_initialisation(trainer.net, *data.batch(IMAGES, 1, 16), full=False)
    for name in relative.PROBED:
        np.testing.assert_array_equal(measured[name], expected[name])


def test_a_run_that_diverges_is_recorded_as_one(tmp_path):
    config = run("none", lr=1e6, steps=10, probe=ProbeConfig(batch=16, full=False))
    study = studies.Study("ladder", "a small one", (config,), relative.of_run)
    record = records.load(studies.measure(study, config, KNOWN, tmp_path))
    assert record.status.startswith("diverged@")
    assert len(record.measured["gradient_norm"]) == len(record.measured["step_loss"])
    assert "coherence_ratio" not in record.measured
    assert "status" not in record.measured


def test_the_study_has_every_rung_at_every_rate():
    runs = studies.get("ladder").runs
    trained = {(studies.rung(r), r.train.lr, r.seed) for r in runs if r.model.depth == 20}
    assert trained == {(name, lr, seed) for name in studies.RUNGS for lr in studies.rates_of(name) for seed in range(3)}
    assert [studies.rates_of("batch"), studies.rates_of("fixup")] == [[0.01, 0.0316, 0.1, 0.316, 1], [0.01, 0.0316, 0.1, 0.178, 0.316, 1]]
    first = {(studies.rung(r), r.train.lr) for r in runs if r.model.depth == 110}
    assert first == {(name, lr) for name, rates in studies.FIRST.items() for lr in rates}
    assert {(r.train.steps, r.train.batch) for r in runs if r.probe} == {(10, 128)}
    assert sum(r.train.steps * r.train.batch / {20: 550, 110: 106}[r.model.depth] for r in runs) < 45 * 60, (
        "what one thread does in a second"
    )
