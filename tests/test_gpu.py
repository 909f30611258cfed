"""What only a GPU can show; run by `make test-gpu`. The synthetic images serve, so that nothing is needed but the device."""

from typing import Any

import numpy as np
import pytest
import torch

from bnlib import data, train
from bnlib.config import DataConfig, ModelConfig, RunConfig, TrainConfig

pytestmark = pytest.mark.gpu
TOLERANCE = {"graph": 1e-6, "compiled": 2e-2}
"""Relative difference of the first 50 losses from eager ones: a graph runs the same kernels; the compiler's round differently."""


@pytest.fixture(scope="module")
def images() -> data.Dataset:
    return data.synthetic(5_000, 1_000).to("cuda")


def run(depth: int, norm: str, seed: int = 0, **setting: Any) -> RunConfig:
    lr = {"batch": 0.1, "none": 1e-4}[norm]
    setting = {"lr": lr, "steps": 50, "schedule": "constant", **setting}
    model = ModelConfig(depth=depth, norm=norm)
    return RunConfig("gpu", seed, model, DataConfig("synthetic", 5_000, 1_000), train=TrainConfig(**setting))


def losses(config: RunConfig, images: data.Dataset) -> np.ndarray:
    return np.array(train.train(config, images, device="cuda").measured["step_loss"])


@pytest.mark.parametrize("depth", [20, 110])
@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("engine", ["graph", "compiled"])
def test_a_captured_run_has_the_losses_of_an_eager_one(images: data.Dataset, depth: int, norm: str, engine: str):
    eager = losses(run(depth, norm), images)
    assert losses(run(depth, norm, engine=engine), images) == pytest.approx(eager, rel=TOLERANCE[engine])


def test_a_captured_run_clips_as_an_eager_one_does(images: data.Dataset):
    eager = losses(run(20, "none", lr=0.1, clip=0.5), images)
    assert losses(run(20, "none", lr=0.1, clip=0.5, engine="graph"), images) == pytest.approx(eager, rel=TOLERANCE["graph"])
    assert losses(run(20, "none", lr=0.1), images) != pytest.approx(eager, rel=1e-3)


def test_a_captured_run_repeats_itself_to_the_bit(images: data.Dataset):
    config = run(20, "batch", engine="graph")
    assert losses(config, images).tolist() == losses(config, images).tolist()


def test_a_captured_run_is_the_same_whatever_runs_beside_it(images: data.Dataset):
    from concurrent.futures import ThreadPoolExecutor

    configs = [run(20, "batch", seed, engine="graph", precision="bf16") for seed in range(4)]
    alone = [losses(config, images).tolist() for config in configs]
    with ThreadPoolExecutor(4) as pool:
        beside = list(pool.map(lambda config: losses(config, images).tolist(), configs))
    assert beside == alone


def test_the_mini_batches_are_those_of_the_processor(images: data.Dataset):
    here, there = train.Trainer(run(8, "batch"), images, "cuda"), train.Trainer(run(8, "batch"), images.to("cpu"), "cpu")
    (x, y), (x_cpu, y_cpu) = here.mini_batch(), there.mini_batch()
    assert torch.equal(y.cpu(), y_cpu)
    torch.testing.assert_close(x.cpu(), x_cpu)


def test_divergence_is_named_to_the_update(images: data.Dataset):
    config = run(20, "none", lr=1e4, steps=0, epochs=2, engine="graph")
    captured, there = (train.train(config, where, device=device) for where, device in ((images, "cuda"), (images.to("cpu"), "cpu")))
    assert captured.status == there.status
    assert captured.measured["steps"] == len(captured.measured["step_loss"]) - 1


def test_a_captured_run_resumes_to_the_bit(images: data.Dataset):
    config = run(8, "batch", steps=0, epochs=3, engine="graph")
    states: list[dict[str, Any]] = []

    def stop(trainer: train.Trainer) -> None:
        if trainer.step == 50:
            states.append({key: _copied(value) for key, value in trainer.state_dict().items()})
            raise train.Stopped

    whole = train.train(config, images, device="cuda").measured
    with pytest.raises(train.Stopped):
        train.train(config, images, [stop], device="cuda")
    resumed = train.train(config, images, device="cuda", resume=states[0]).measured
    assert {k: v for k, v in resumed.items() if k != "seconds"} == {k: v for k, v in whole.items() if k != "seconds"}


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("depth", [20, 110])
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_other_arithmetic_trains_as_well(images: data.Dataset, depth: int, precision: str):
    """The mean of the last 20 of 100 losses over five seeds lies within three standard errors of fp32's."""

    def last(precision: str) -> np.ndarray:
        return np.array(
            [losses(run(depth, "batch", seed, steps=100, engine="graph", precision=precision), images)[-20:].mean() for seed in range(5)]
        )

    exact, rough = last("fp32"), last(precision)
    error = np.sqrt((exact.var(ddof=1) + rough.var(ddof=1)) / 5)
    assert abs(exact.mean() - rough.mean()) < 3 * error
