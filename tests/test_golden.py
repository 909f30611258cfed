"""A golden rerun, in seconds: where it no longer reproduces, `records.NUMERICS` must be raised, since older records are then stale."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from bnlib import data, matrices, nets, probes, records, train
from bnlib.config import DataConfig, ModelConfig, ProbeConfig, RunConfig, TrainConfig
from bnlib.matrices import linear, mlp
from bnlib.probes import catapult, curvature, jacobian, lines, noise, population, relative, rescale, sharpening, trunk

GOLDEN = Path(__file__).with_name("golden.json")
KEYS = ("loss", "ln_mean", "ln_std", "gradient_std", "gradient_kurtosis", "coherence_ratio", "coherence_random", "mean_row_energy")


def networks() -> dict[str, list[float]]:
    """Every block and normaliser at depth 14, on noise."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(16, 3, 32, 32, generator=generator), torch.randint(10, (16,), generator=generator)
    out = {}
    for changes in ({}, {"norm": "none"}, {"norm": "group", "init": "he"}, {"norm": "none", "block": "skipinit"}, {"block": "plain"}):
        measured = probes.at_initialisation(nets.build(ModelConfig(depth=14, **changes), seed=1), x, y)
        out[json.dumps(changes)] = [float(value) for key in KEYS for value in np.ravel(measured[key])]
    return out


def products() -> dict[str, list[float]]:
    """A spectrum beyond float64's range, and a loss curve of either kind."""
    out = {"spectrum": matrices.log_singular_values(M=40, N=8, seed=2).tolist()}
    for restandardise in (False, True):
        out[f"descent {restandardise}"] = linear.descend(4, 6, 0.03, 40, 3, restandardise).loss.tolist()
    return out


def training() -> dict[str, list[float]]:
    """The first losses of short runs, the line of an update, the noise of gradients."""
    images = data.synthetic(64, 8)
    out = {}
    for norm, lr in (("batch", 0.1), ("none", 0.01)):
        setting = TrainConfig(lr=lr, epochs=2, batch=24)
        run = RunConfig("fig1", 1, ModelConfig(depth=8, norm=norm), DataConfig("synthetic", 64, 8), train=setting)
        measured = train.train(run, images).measured
        out[f"curves {norm}"] = [*measured["step_loss"], *measured["test_loss"], *measured["gradient_norm"], measured["logit_spread"]]
        trainer = train.Trainer(run, images)
        line = lines.along_gradient(trainer.net, *trainer.mini_batch(), (0.01, 0.1), layers=(3,))
        out[f"line {norm}"] = [*line["loss"], line["gradient_norm"], *line["variance_3"].ravel()]
    net, x, y = nets.build(ModelConfig(depth=8, norm="none"), 2), *data.batch(images, 0, 8)
    out["noise"] = [noise.constant(noise.gram(net, x, y)), curvature.sharpness(net, x, y)]
    setting = TrainConfig(lr=0.1, steps=4, batch=24, clip=0.5)
    run = RunConfig("ladder", 1, ModelConfig(depth=8, norm="none"), DataConfig("synthetic", 64, 8), train=setting)
    measured = relative.of_run(run, images)
    out["clipped"] = [*measured["relative_step"], *measured["gradient_norm"], *measured["kernel_length"]]
    net = nets.build(ModelConfig(depth=8), 2)
    moments = noise.bias_and_variance(net, x, y, 4, 12, 0)
    out["bias"] = [moments.bias, moments.variance, moments.norm, moments.error]
    setting = TrainConfig(lr=0.03, steps=4, batch=24, schedule="constant", augment=False)
    run = RunConfig("sharpness", 1, ModelConfig(depth=8), DataConfig("synthetic", 48, 8), ProbeConfig(batch=16), train=setting)
    along = sharpening.along_training(run, images, (2.0,), 2)
    out["sharpening"] = [*along["loss"], *along["sharpness"], *along["test_loss"][1:], *along["epoch_loss"]]
    return out


def since() -> dict[str, list[float]]:
    """A random network, a trunk, a catapult, a scaled network."""
    images = data.synthetic(64, 8)
    x, y = data.batch(images, 0, 8)
    seen = mlp.random_network(4, 8, 6, 1, norm=True, relu=True)
    out = {"mlp": [*seen.ln_gradient.tolist(), *seen.rank.tolist()]}
    for block in ("residual", "plain"):
        measured = trunk.measure(nets.build(ModelConfig(depth=14, block=block), 1), x, y)  # type: ignore[arg-type]
        out[f"trunk {block}"] = [value for values in measured.values() for value in values]
    out["catapult"] = catapult.descend(catapult.TwoLayers(32, 0), x, y, 0.05, 5, catapult.squared_error)
    out["trajectory"] = rescale.trajectory(ModelConfig(depth=8), 1, x, y, 0.1, 2.0, 3).tolist()
    return out


def bridge() -> dict[str, list[float]]:
    """Singular values of Jacobians, and what a mini-batch's own statistics change."""
    x, y = data.batch(data.synthetic(64, 8), 0, 24)
    V, out = jacobian.random_directions(4, (3, 32, 32), 0), {}
    for norm, block in (("batch", "residual"), ("none", "plain")):
        net = nets.build(ModelConfig(depth=8, norm=norm, block=block), 2)
        out[f"{norm} {block}"] = jacobian.of_network(net, x, V).ravel().tolist()
    gap = population.gap(net := nets.build(ModelConfig(depth=8), 2), population.frozen(net, x), x[:8], y[:8])
    out["population"] = [*gap.mean, *gap.spread, gap.logits, *gap.loss, gap.cosine, gap.ratio]
    return out


def now() -> dict[str, dict[str, list[float]]]:
    return {"networks": networks(), "products": products(), "training": training(), "since": since(), "bridge": bridge()}


def test_the_golden_numbers_reproduce():
    golden = json.loads(GOLDEN.read_text())
    assert golden["numerics"] == records.NUMERICS, "renew golden.json together with NUMERICS: python tests/test_golden.py"
    for part, measured in now().items():
        rtol = 1e-6 if part == "products" else 1e-3  # fp64; fp32 sums in another order, on another processor
        assert measured.keys() == golden[part].keys()
        for name, values in measured.items():
            np.testing.assert_allclose(values, golden[part][name], rtol=rtol, atol=1e-6, err_msg=f"{part} {name}")


@pytest.mark.parametrize("factor", [1.01, 0.99])
def test_the_golden_numbers_would_notice_a_change(factor: float, monkeypatch: pytest.MonkeyPatch):
    xavier = torch.nn.init.xavier_normal_
    monkeypatch.setattr(torch.nn.init, "xavier_normal_", lambda w, **kw: xavier(w, **kw).detach().mul_(factor))
    golden = json.loads(GOLDEN.read_text())["networks"]
    assert not np.allclose(networks()['{"norm": "none"}'], golden['{"norm": "none"}'], rtol=1e-3, atol=1e-6)


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps({"numerics": records.NUMERICS} | now(), indent=1) + "\n")
