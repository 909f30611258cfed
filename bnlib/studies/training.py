"""Networks in training (paper, Sec 2 and the appendix): those two cores can train, and those that need a GPU."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, get_args

import numpy as np

from bnlib import train
from bnlib.config import DataConfig, ModelConfig, Precision, RunConfig, TrainConfig
from bnlib.records import Record
from bnlib.studies.beginning import DEPTHS
from bnlib.studies.study import Study

LADDER = tuple(float(f"{rate:.3g}") for rate in np.geomspace(1e-5, 10, 13))  # learning rates, half-decades
FIG1 = (("batch", 0.1, 165), ("none", 1e-4, 2400), ("batch", 1e-4, 2400), ("batch", 0.003, 1320))  # normaliser, rate, epochs
EDGE = 0.1  # the largest rate of the ladder at which 100 updates train an unnormalised ResNet-32, by the first seed of `max-lr`
BETWEEN = LADDER[7]  # 0.0316, between EDGE and a tenth of it in the logarithm
GPU: dict[str, Any] = {"engine": "graph", "precision": "tf32"}  # of the runs that need a GPU; bf16 only once `precision` clears it


def _cell(study: str, seed: int, depth: int, norm: str, setting: TrainConfig) -> RunConfig:
    return RunConfig(study, seed, ModelConfig(depth=depth, norm=norm), DataConfig(), train=setting)  # type: ignore[arg-type]


def _max_lr_runs() -> Iterator[RunConfig]:
    """The whole map with one seed; depth 32 first, since `fig1-small` takes its rates from there."""
    for depth, norm, lr in product((32, 110, 8, 20, 56, 14, 44), ("none", "batch"), LADDER):
        yield _cell("max-lr", 0, depth, norm, TrainConfig(lr=lr, steps=100, schedule="constant"))
    for seed in (1, 2):  # at the paper's rate, far from the edge of the unnormalised net
        yield _cell("max-lr", seed, 110, "none", TrainConfig(lr=0.1, steps=100, schedule="constant"))


def outcome(record: Record) -> str:
    """`train.outcome`: "diverged", "dead", "slow" or "trains"; of a run of epochs, by the mean loss of the last."""
    assert record.config.train is not None
    seen = record.array("step_loss") if record.config.train.steps else record.array("train_loss")[-1:]
    return train.outcome(record.status, seen.tolist(), float(record.array("logit_spread")))


def largest_that_trains(found: Iterable[Record]) -> float | None:
    """The largest learning rate among these runs with one that trains; survival is not monotone, so smaller ones may not."""
    return _largest(r for r in found if outcome(r) == "trains")


def largest_that_survives(found: Iterable[Record]) -> float | None:
    """The largest learning rate among these runs with one that does not diverge."""
    return _largest(r for r in found if r.status == "completed")


def _largest(found: Iterable[Record]) -> float | None:
    return max((r.config.train.lr for r in found if r.config.train), default=None)


def _refine_max_lr(found: Sequence[Record]) -> Iterator[RunConfig]:
    """Two more seeds within two stops of each edge, wherever the first seed's row is complete: of the largest rate that trains, and of the
    largest that does not diverge; of this since 2026-11-28, when the rest was known.
    """
    rows: dict[tuple[int, str], list[Record]] = {}
    for record in found:
        assert record.config.model is not None
        if record.config.seed == 0:
            rows.setdefault((record.config.model.depth, record.config.model.norm), []).append(record)
    for (depth, norm), row in rows.items():
        if len(row) == len(LADDER):
            edges = {LADDER.index(edge) for edge in (largest_that_trains(row), largest_that_survives(row)) if edge}
            near = [lr for place, lr in enumerate(LADDER) if any(abs(place - edge) <= 2 for edge in edges)]
            for lr, seed in product(near, (1, 2)):
                yield _cell("max-lr", seed, depth, norm, TrainConfig(lr=lr, steps=100, schedule="constant"))


def _recovery_runs() -> Iterator[RunConfig]:
    """300 updates at the rates at which runs of `max-lr` were stopped with a loss that was still finite, and some beside them; here a run
    goes on as long as its loss is a number. Left out is BN at 110 layers and a rate of 10, which takes a quarter of an hour a seed.

    The rates 0.316 at 14 and 20 layers and those above 1 at 44 were added when the other runs were known.
    """
    explode = {
        ("none", (8, 14, 20, 32)): (1.0, 3.16, 10.0),
        ("none", (44, 56)): (0.1, 0.316, 1.0),
        ("none", (110,)): (0.001, 0.00316, 0.01),
        ("batch", (56,)): (10.0,),
        ("none", (14, 20)): (0.316,),
        ("none", (44,)): (3.16, 10.0),
    }
    for seed, ((norm, depths), rates) in product(range(5), explode.items()):
        for depth, lr in product(depths, rates):
            yield _cell("recovery", seed, depth, norm, TrainConfig(lr=lr, steps=300, schedule="constant", limit=0.0))


def _fig1_runs(study: str, equal_epochs: int | None, seeds: int) -> Iterator[RunConfig]:
    for seed, (norm, lr, epochs) in product(range(seeds), FIG1):
        yield _cell(study, seed, 110, norm, TrainConfig(lr=lr, epochs=equal_epochs or epochs, **GPU))


def _fig1_small_runs() -> Iterator[RunConfig]:
    """What two cores can show: ResNet-32 on a fifth of the images, each arm at the unnormalised net's largest rate, BN at ten times that
    too; and the first 300 updates of the paper's own four settings, before their rates would first be divided.

    At its largest rate the unnormalised net gets through 100 updates, but not through 40 epochs. So both arms at a tenth of that, too:
    added, and made the arms of `claims.learning`, when this had been seen, and nothing yet of what they do there. The third seed of
    those arms was added when two had been seen, and so was that of ResNet-110 at 0.1, whose 100 updates of `max-lr` are too few to tell.
    BN at the rate between its two was added with three seeds, when those were known; last, the unnormalised net at the same rate: whether
    a tenth of its largest is the best for it.
    """
    images = DataConfig(train_size=10_000, test_size=2_000)
    for seed in range(2):
        for norm, lr in (("none", EDGE), ("batch", EDGE), ("batch", 10 * EDGE)):
            yield replace(_cell("fig1-small", seed, 32, norm, TrainConfig(lr=lr, epochs=40)), data=images)
        for norm, lr, _ in FIG1:
            yield _cell("fig1-small", seed, 110, norm, TrainConfig(lr=lr, steps=300, schedule="constant"))
    for seed, norm in product(range(2), ("none", "batch")):
        yield replace(_cell("fig1-small", seed, 32, norm, TrainConfig(lr=EDGE / 10, epochs=40)), data=images)
    for norm, lr in (("batch", EDGE), ("batch", EDGE / 10), ("none", EDGE / 10)):
        yield replace(_cell("fig1-small", 2, 32, norm, TrainConfig(lr=lr, epochs=40)), data=images)
    yield _cell("fig1-small", 2, 110, "batch", TrainConfig(lr=0.1, steps=300, schedule="constant"))
    for norm, seed in product(("batch", "none"), range(3)):
        yield replace(_cell("fig1-small", seed, 32, norm, TrainConfig(lr=BETWEEN, epochs=40)), data=images)


def _fig1_plateau_runs() -> Iterator[RunConfig]:
    for seed, (norm, lr), schedule in product(range(2), (("batch", 0.1), ("none", 0.01)), ("plateau", "steps")):
        yield _cell("fig1-plateau", seed, 20, norm, TrainConfig(lr=lr, schedule=schedule, **GPU))  # type: ignore[arg-type]


def _map_runs() -> Iterator[RunConfig]:
    for seed, depth, lr, norm in product(range(3), DEPTHS, LADDER, ("none", "batch")):
        yield _cell("map", seed, depth, norm, TrainConfig(lr=lr, epochs=10, schedule="constant", **GPU))


def _precision_runs() -> Iterator[RunConfig]:
    """Whether coarser arithmetic trains as well: the first epochs at two depths, and ResNet-20 to its end."""
    for (depth, epochs), seed, precision in product(((110, 3), (20, 3), (20, 60)), range(5), get_args(Precision)):
        yield _cell("precision", seed, depth, "batch", TrainConfig(epochs=epochs, **GPU | {"precision": precision}))


def _variants_runs() -> Iterator[RunConfig]:
    """The appendix: BN in one place only at falling rates, other normalisers, and none with the recipes that replace it."""
    last = [({"norm": "last-features"}, lr) for lr in (0.1, 0.03, 0.01, 0.003)]
    others = [({"norm": norm}, 0.1) for norm in ("layer", "group", "instance", "last-logits")]
    recipes = [({"norm": "none", "block": block}, 0.1) for block in ("fixup", "skipinit")]
    for seed, (changes, lr) in product(range(3), [*last, *others, *recipes]):
        yield RunConfig("variants", seed, ModelConfig(**changes), DataConfig(), train=TrainConfig(lr=lr, **GPU))  # type: ignore[arg-type]


def _variants_short_runs() -> Iterator[RunConfig]:
    """What two cores can show of the same: the rates that BN at the end bears for 100 updates, and other normalisers at BN's rate."""
    short: dict[str, Any] = {"steps": 100, "schedule": "constant"}
    for seed in range(3):
        for norm in ("layer", "group", "instance"):
            yield _cell("variants-short", seed, 20, norm, TrainConfig(lr=0.1, **short))
        for lr in sorted(LADDER[4:11], key=lambda lr: abs(np.log(lr / 0.0316))):  # 0.001 to 1, those near the paper's 0.03 first
            yield _cell("variants-short", seed, 110, "last-features", TrainConfig(lr=lr, **short))


def _variants_small_runs() -> Iterator[RunConfig]:
    """The appendix on two cores, to set beside `fig1-small`: BN at the end at the rung next to the paper's 0.03, others at BN's rate."""
    images = DataConfig(train_size=10_000, test_size=2_000)
    last, others = [("last-features", BETWEEN)], [(norm, EDGE) for norm in ("group", "layer", "instance")]
    for arms, seed in product((last, others), range(3)):
        for norm, lr in arms:
            yield replace(_cell("variants-small", seed, 32, norm, TrainConfig(lr=lr, epochs=40)), data=images)


TRAINING = (
    Study("max-lr", "100 updates at every depth and learning rate", tuple(_max_lr_runs()), refine=_refine_max_lr),
    Study("recovery", "300 updates at rates that make the loss pass 1000, not stopped there", tuple(_recovery_runs())),
    Study("fig1-small", "Fig 1 as far as two cores go: ResNet-32, 10,000 images, 40 epochs", tuple(_fig1_small_runs())),
    Study("fig1", "the paper's Fig 1: ResNet-110, four settings", tuple(_fig1_runs("fig1", None, 5))),
    Study("fig1-165", "the four settings of Fig 1, 165 epochs each", tuple(_fig1_runs("fig1-165", 165, 2))),
    Study("fig1-plateau", "ResNet-20, the rate divided when learning slows, or at fixed times", tuple(_fig1_plateau_runs())),
    Study("map", "10 epochs at every depth and learning rate", tuple(_map_runs())),
    Study("precision", "fp32, TF32 and bf16 side by side", tuple(_precision_runs())),
    Study("variants-short", "100 updates: BN at the end at seven rates, other normalisers at 0.1", tuple(_variants_short_runs())),
    Study("variants-small", "BN at the end, other normalisers: ResNet-32, 10,000 images, 40 epochs", tuple(_variants_small_runs())),
    Study("variants", "BN in one place only, other normalisers, Fixup and SkipInit, 165 epochs", tuple(_variants_runs())),
)
