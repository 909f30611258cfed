"""The studies of the bridge: what their runs are called, what they measure, and images at other scales."""

import numpy as np
import pytest
import torch

from bnlib import data, studies
from bnlib.config import ConfigError, DataConfig, InputConfig, JacobianConfig, ModelConfig, ProbeConfig, RunConfig
from bnlib.studies import bridge

IMAGES = data.synthetic(40, 10)


def test_run_ids_never_change():
    jacobian = JacobianConfig(directions="images", held=False)
    assert RunConfig("bridge", 0, ModelConfig(), DataConfig(), ProbeConfig(batch=8), jacobian=jacobian).run_id == "fad569793359"
    assert RunConfig("inputs", 1, ModelConfig(), DataConfig(), ProbeConfig(), inputs=InputConfig("bytes")).run_id == "e14fd1a12960"


def test_a_jacobian_needs_a_direction():
    with pytest.raises(ConfigError, match="at least 1"):
        JacobianConfig(k=0)


@pytest.mark.parametrize(
    "setting", [{}, {"linear": True}, {"directions": "images"}, {"held": False}], ids=["random", "linear", "images", "differentiated"]
)
def test_bridge_measures_after_every_block(setting: dict):
    model = ModelConfig(depth=8, norm="none" if setting.get("linear") else "batch")
    run = RunConfig("bridge", 0, model, DataConfig("synthetic"), ProbeConfig(batch=4), jacobian=JacobianConfig(k=5, **setting))
    measured = studies.get("bridge").measure(run, IMAGES)
    assert np.shape(measured["log_singular_values"]) == (3, 5)
    assert {np.shape(measured[key]) for key in ("participation", "stable_rank", "ln_largest", "ln_rms", "ln_smallest")} == {(4,)}
    assert measured["ln_largest"][-1] == measured["log_singular_values"][-1, 0]
    assert measured["ln_smallest"][-1] <= measured["ln_rms"][-1] <= measured["ln_largest"][-1]
    assert measured["stable_rank"][-1] <= measured["participation"][-1] <= 5


def test_rescaled_gives_back_the_bytes():
    x = IMAGES.standardise(IMAGES.x_train[:6])
    bytes_, unit = (bridge.rescaled(IMAGES, x, scale) for scale in ("bytes", "unit"))
    torch.testing.assert_close(bytes_, IMAGES.x_train[:6].float(), atol=1e-3, rtol=0)
    torch.testing.assert_close(255 * unit, bytes_)
    assert bridge.rescaled(IMAGES, x, "standardised") is x


def test_patch_moments_are_those_of_the_patches_written_out():
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))
    patches = torch.stack([padded[b, :, i : i + 3, j : j + 3].flatten() for b in range(2) for i in range(5) for j in range(5)])
    torch.testing.assert_close(bridge.patch_moments(x), torch.linalg.eigvalsh(patches.T @ patches / 50))


def test_inputs_measures_along_the_first_gradient():
    run = RunConfig("inputs", 0, ModelConfig(depth=8), DataConfig("synthetic"), ProbeConfig(batch=4), inputs=InputConfig("bytes"))
    measured = studies.get("inputs").measure(run, IMAGES)
    assert len(measured["loss"]) == len(measured["step"]) == len(bridge.STEPS) + 1
    assert measured["patch_moments"].shape == (27,)


def test_population_measures_every_size(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bridge, "SIZES", {2: 3, 4: 2})
    run = RunConfig("population", 0, ModelConfig(depth=8), DataConfig("synthetic"), ProbeConfig(batch=16))
    measured = studies.get("population").measure(run, IMAGES)
    assert measured["size"] == [2, 4]
    assert np.shape(measured["mean"]) == (2, 9)
    assert [len(row) for row in measured["logits"]] == [3, 2]
    assert [np.shape(row) for row in measured["loss"]] == [(3, 2), (2, 2)]
