"""How sharp the loss is where training ends, at small learning rates and at large ones (paper, Sec 2.1)."""

from collections.abc import Iterator
from itertools import product
from typing import Any

from bnlib import data
from bnlib.config import DataConfig, ModelConfig, ProbeConfig, RunConfig, TrainConfig
from bnlib.probes import sharpening
from bnlib.studies.study import Study

LEVELS = (2.0, 1.0, 0.5, 0.2)  # training losses at which SGD is looked at; at 0.2 a net has all but learnt its images by heart
SHARPNESS_RATES = (0.003, 0.01, 0.03, 0.1, 0.3)
SHARPNESS_FULL = {"batch": 0.1, "none": 0.03}  # of descent on the full batch
SHARPNESS_EVERY = {"batch": 6, "none": 15}  # updates between two looks at it; without BN it is slower
SHARPNESS_LOOKS = 10
SHARPNESS_STEPS = 1600  # of SGD at most, 100 epochs
_PLAIN: dict[str, Any] = {"weight_decay": 0.0, "schedule": "constant", "augment": False}  # so that the loss is one function throughout


def _runs() -> Iterator[RunConfig]:
    """Descent on 256 images at once; and SGD on 512 images until it has learnt them, 100 epochs at most."""
    for seed, (norm, lr) in product(range(3), SHARPNESS_FULL.items()):
        setting = TrainConfig(lr=lr, steps=SHARPNESS_LOOKS * SHARPNESS_EVERY[norm], batch=256, **_PLAIN)
        yield _run(seed, norm, 256, ProbeConfig(batch=256), setting)
    for seed, lr, norm in product(range(3), reversed(SHARPNESS_RATES), ("batch", "none")):
        yield _run(seed, norm, 512, ProbeConfig(), TrainConfig(lr=lr, steps=SHARPNESS_STEPS, batch=32, **_PLAIN))


def _run(seed: int, norm: str, images: int, probe: ProbeConfig, setting: TrainConfig) -> RunConfig:
    model = ModelConfig(depth=8, norm=norm)  # type: ignore[arg-type]
    return RunConfig("sharpness", seed, model, DataConfig(train_size=images, test_size=2000), probe, train=setting)


def full_batch(run: RunConfig) -> bool:
    """Whether each update sees all the training images."""
    assert run.train is not None
    assert run.data is not None
    return run.train.batch == run.data.train_size


def _measure(run: RunConfig, dataset: data.Dataset | None) -> dict[str, Any]:
    assert run.model is not None
    assert dataset is not None
    if full_batch(run):
        return sharpening.along_training(run, dataset, every=SHARPNESS_EVERY[run.model.norm])
    return sharpening.along_training(run, dataset, levels=LEVELS)


SHARPNESS = Study("sharpness", "sharpness along training, at equal training loss, and of full-batch descent", tuple(_runs()), _measure)
