"""Is it BN, or the rate that it permits? Networks with and without BN, a rung each, at equal nominal rates and equal relative steps."""

from collections.abc import Iterator
from itertools import product
from typing import Any

from bnlib.config import DataConfig, ModelConfig, ProbeConfig, RunConfig, TrainConfig
from bnlib.probes import relative
from bnlib.studies.study import Study
from bnlib.studies.training import LADDER

CLIP = 1.0  # the length to which the second rung shortens its gradients
RUNGS: dict[str, tuple[dict[str, Any], float]] = {  # settings of the model, and clipping
    "none": ({"norm": "none"}, 0.0),
    "clip": ({"norm": "none"}, CLIP),
    "fixup": ({"norm": "none", "block": "fixup"}, 0.0),
    "skipinit": ({"norm": "none", "block": "skipinit"}, 0.0),
    "last-features": ({"norm": "last-features"}, 0.0),
    "batch": ({"norm": "batch"}, 0.0),
}
CAUSAL_RATES = LADDER[6:11]  # 0.01 to 1, in half-decades
BESIDE = {"fixup": (0.178,), "skipinit": (0.562,)}  # half way between two of them, where a rung's step passes BN's
# The rates of the first updates at depth 110: BN's for each rung, and before it the normal one of those that have a smaller.
FIRST: dict[str, tuple[float, ...]] = dict.fromkeys(RUNGS, (0.1,)) | {"none": (1e-4, 0.1), "last-features": (0.03, 0.1)}


def rates_of(name: str) -> list[float]:
    """The rates at which a rung is trained for 100 updates, rising."""
    return sorted((*CAUSAL_RATES, *BESIDE.get(name, ())))


def rung(config: RunConfig) -> str:
    """The name of the rung that a run belongs to."""
    assert config.model is not None
    assert config.train is not None
    if config.model.block in RUNGS:
        return config.model.block
    return "clip" if config.train.clip else config.model.norm


def _run(seed: int, name: str, depth: int, probe: ProbeConfig | None = None, **setting: Any) -> RunConfig:
    changes, clip = RUNGS[name]
    train = TrainConfig(schedule="constant", clip=clip, **setting)
    return RunConfig("ladder", seed, ModelConfig(depth=depth, **changes), DataConfig(), probe, train=train)


def _ladder_runs() -> Iterator[RunConfig]:
    """A seed at a time: 10 updates of ResNet-110, probed after the last; then 100 of ResNet-20.

    The rate of 1 was added when the other four were known: below it SkipInit, and on one seed BN at the end, make no step as long as BN's.
    Then, since SkipInit diverges there, and Fixup stands still at 0.316 on one seed, each at one rate between.
    """
    for seed in range(3):
        for name, rates in FIRST.items():
            for lr in rates:
                yield _run(seed, name, 110, ProbeConfig(full=False), lr=lr, steps=10)
        for lr, name in product((0.1, 0.0316, 0.316, 0.01), RUNGS):
            yield _run(seed, name, 20, lr=lr, steps=100)
    for seed, name in product(range(3), RUNGS):
        yield _run(seed, name, 20, lr=CAUSAL_RATES[-1], steps=100)
    for seed, (name, rates) in product(range(3), BESIDE.items()):
        for lr in rates:
            yield _run(seed, name, 20, lr=lr, steps=100)


CAUSAL = (Study("ladder", "none, clipping, Fixup, SkipInit, BN at the end and BN, at equal rates", tuple(_ladder_runs()), relative.of_run),)
