"""What came after the paper, put to the test: gradients, trunk and rank of random networks, the catapult, scale invariance."""

from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

from torch.nn import functional as F

from bnlib import data, nets
from bnlib.config import DataConfig, LinearConfig, ModelConfig, ProbeConfig, ProductConfig, RunConfig, TrainConfig
from bnlib.matrices import mlp
from bnlib.probes import catapult, rescale, trunk
from bnlib.studies.study import Study

WIDTHS = (64, 256, 1000)  # of the networks whose gradients are followed through 64 layers
BATCHES = (16, 64, 256)
NARROW = (16, 32, 64, 128)  # widths of those whose rank is followed through 512
TRUNKS = (14, 20, 32, 56, 110)
KINDS = (("batch", "residual"), ("batch", "plain"), ("none", "residual"))  # normaliser and block
EFFECTIVE = (0.01, 0.1, 1.0)  # learning rates


def _mlp_runs() -> Iterator[RunConfig]:
    """64 layers with a ReLU; without BN a sample does not see the others, so one batch will do. Then 512 narrow layers."""
    for seed, N, (norm, batch) in product(range(5), reversed(WIDTHS), ((False, 256), *((True, batch) for batch in reversed(BATCHES)))):
        yield RunConfig("mlp", seed, product=ProductConfig(64, N), linear=LinearConfig(norm, batch, relu=True))
    for seed, N, relu, norm in product(range(5), reversed(NARROW), (False, True), (False, True)):
        yield RunConfig("mlp", seed, product=ProductConfig(512, N), linear=LinearConfig(norm, 256, relu=relu))


def _measure_mlp(run: RunConfig, dataset: data.Dataset | None) -> dict[str, Any]:
    assert run.product is not None
    assert run.linear is not None
    M, N, setting = run.product.M, run.product.N, run.linear
    return vars(mlp.random_network(M, N, setting.batch, run.seed, setting.restandardise, setting.relu))


def _trunk_runs() -> Iterator[RunConfig]:
    for seed, depth, (norm, block) in product(range(5), reversed(TRUNKS), KINDS):
        yield RunConfig("trunk", seed, ModelConfig(depth=depth, norm=norm, block=block), DataConfig(), ProbeConfig())  # type: ignore[arg-type]


def _measure_trunk(run: RunConfig, dataset: data.Dataset | None) -> dict[str, Any]:
    assert run.model is not None
    assert run.probe is not None
    assert dataset is not None
    return trunk.measure(nets.build(run.model, run.seed), *data.batch(dataset, run.seed, run.probe.batch))


def _catapult_runs() -> Iterator[RunConfig]:
    """Two layers of 512 neurons, then ResNet-8 with BN and without: 32 images, all in each update."""
    for seed in range(5):
        yield RunConfig("catapult", seed, None, DataConfig(), ProbeConfig(32), ProductConfig(2, 512), LinearConfig(steps=100, relu=True))
    for seed, norm in product(range(5), ("batch", "none")):
        setting = TrainConfig(steps=60, batch=32, momentum=0.0, weight_decay=0.0, schedule="constant", augment=False)
        yield RunConfig("catapult", seed, ModelConfig(depth=8, norm=norm), DataConfig(), ProbeConfig(32), train=setting)  # type: ignore[arg-type]


def _measure_catapult(run: RunConfig, dataset: data.Dataset | None) -> dict[str, Any]:
    """Rates are multiples of 2 / lambda_max, not the configuration's; squared error for the two layers, else cross-entropy."""
    assert run.probe is not None
    assert dataset is not None
    x, y = data.batch(dataset, run.seed, run.probe.batch)
    if run.model is not None and run.train is not None:
        return catapult.measure(partial(nets.build, run.model, run.seed), x, y, F.cross_entropy, run.train.steps)
    assert run.product is not None
    assert run.linear is not None
    return catapult.measure(partial(catapult.TwoLayers, run.product.N, run.seed), x, y, catapult.squared_error, run.linear.steps)


def _rescaling_runs() -> Iterator[RunConfig]:
    for seed, norm in product(range(5), ("batch", "none")):
        setting = TrainConfig(lr=0.1, steps=20, batch=16, weight_decay=0.0, schedule="constant", augment=False)
        yield RunConfig("rescaling", seed, ModelConfig(depth=8, norm=norm), DataConfig(), train=setting)  # type: ignore[arg-type]


def _measure_rescaling(run: RunConfig, dataset: data.Dataset | None) -> dict[str, Any]:
    assert run.model is not None
    assert run.train is not None
    assert dataset is not None
    return rescale.rescaled(run.model, run.seed, dataset, run.train.lr, run.train.batch, run.train.steps)


def _effective_runs() -> Iterator[RunConfig]:
    for seed, lr in product(range(5), EFFECTIVE):
        setting = TrainConfig(lr=lr, steps=200, batch=64, schedule="constant")
        yield RunConfig("effective", seed, ModelConfig(depth=8), DataConfig(), train=setting)


SINCE = (
    Study("mlp", "random fully connected networks: gradients and rank, layer by layer", tuple(_mlp_runs()), _measure_mlp),
    Study("trunk", "the trunk of ResNets at initialisation, block by block", tuple(_trunk_runs()), _measure_trunk),
    Study("catapult", "full-batch descent at rates around 2 / lambda_max", tuple(_catapult_runs()), _measure_catapult),
    Study("rescaling", "kernels scaled, and their learning rate with them", tuple(_rescaling_runs()), _measure_rescaling),
    Study("effective", "lr / |w|^2 of each kernel of ResNet-8 with BN in its first updates", tuple(_effective_runs()), rescale.effective),
)
