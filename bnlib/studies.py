"""The studies the book needs: named grids of runs, and how a run is measured."""

import datetime
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np

from bnlib import data, linear, lines, matrices, nets, noise, probes, provenance, records, train
from bnlib.config import (
    ConfigError,
    DataConfig,
    Init,
    LinearConfig,
    ModelConfig,
    Norm,
    Precision,
    ProbeConfig,
    ProductConfig,
    RunConfig,
    TrainConfig,
)
from bnlib.records import Record

DEPTHS = (8, 14, 20, 32, 44, 56, 110)
LADDER = tuple(float(f"{rate:.3g}") for rate in np.geomspace(1e-5, 10, 13))  # learning rates, half-decades
NORMAL = {"batch": 0.1, "none": 1e-4, "last-features": 0.03}  # learning rates of the paper's normal schedules; the last as remembered
FIG1 = (("batch", 0.1, 165), ("none", 1e-4, 2400), ("batch", 1e-4, 2400), ("batch", 0.003, 1320))  # normaliser, rate, epochs
FACTORS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64)
DESCENDED = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # numbers of factors that gradient descent is run on
RATES = tuple(float(f"{rate:.3g}") for rate in np.geomspace(1e-4, 10, 21))  # four a decade

EDGE = 0.1  # the largest rate of the ladder at which an unnormalised ResNet-32 trains, by the first seed of `max-lr`
GPU: dict[str, Any] = {"engine": "graph", "precision": "tf32"}  # of the runs that need a GPU; bf16 only once `precision` clears it

Measure = Callable[[RunConfig, data.Dataset | None], dict[str, Any]]
Refine = Callable[[Sequence[Record]], Iterable[RunConfig]]


@dataclass(frozen=True)
class Study:
    """A named grid of runs, most valuable first.

    `measure` measures one of them; without it, a run is trained. `refine` names the runs that the records of `runs` call for.
    """

    name: str
    about: str
    runs: tuple[RunConfig, ...]
    measure: Measure | None = None
    refine: Refine | None = None

    @property
    def needs_data(self) -> bool:
        """Whether its runs see images."""
        return any(run.data is not None for run in self.runs)

    def planned(self, root: Path) -> list[RunConfig]:
        """All runs, those included that the records below `root` call for."""
        if self.refine is None:
            return list(self.runs)
        return [*self.runs, *self.refine(_recorded(self.runs, root))]

    def done(self, root: Path) -> list[Record]:
        """The records of the planned runs. Raises RecordError on a damaged or a stale one."""
        return _recorded(self.planned(root), root)

    def missing(self, root: Path) -> list[RunConfig]:
        """The planned runs without a record below `root`."""
        return [run for run in self.planned(root) if not records.path_of(run, root).exists()]

    def only(self, where: dict[str, Any]) -> "Study":
        """The study with just the runs whose settings match. Raises ConfigError on an unknown key, or where none is left."""
        known = sorted({key for run in self.runs for key in records.settings(run)} - {"study"})
        if unknown := sorted(set(where) - set(known)):
            raise ConfigError(f"study {self.name} has no setting {unknown[0]!r}; it has {', '.join(known)}")

        def chosen(runs: Iterable[RunConfig]) -> tuple[RunConfig, ...]:
            return tuple(run for run in runs if all(records.settings(run).get(key) == value for key, value in where.items()))

        refine = self.refine
        kept = chosen(self.runs)
        if not kept and refine is None:
            values = {key: sorted({str(records.settings(run).get(key)) for run in self.runs}) for key in where}
            offered = "; ".join(f"{key}: {', '.join(options)}" for key, options in values.items())
            raise ConfigError(f"study {self.name} has no run with these settings together; it has {offered}")
        return replace(self, runs=kept, refine=refine and (lambda found: chosen(refine(found))))


def _recorded(runs: Iterable[RunConfig], root: Path) -> list[Record]:
    paths = [records.path_of(run, root) for run in runs]
    return [records.load(path) for path in paths if path.exists()]


def get(name: str) -> Study:
    """The study called `name`. Raises ConfigError on an unknown one."""
    if name not in STUDIES:
        raise ConfigError(f"there is no study {name!r}; there are {', '.join(STUDIES)}")
    return STUDIES[name]


def measure(
    study: Study,
    run: RunConfig,
    dataset: data.Dataset | None,
    root: Path,
    callbacks: Iterable[train.Callback] = (),
    resume: dict[str, Any] | None = None,
    device: str = "cpu",
    hardware: dict[str, Any] | None = None,
) -> Path:
    """Measure one run of `study` and write its record below `root`. `callbacks`, `resume` and `device` serve runs that train."""
    started, clock = datetime.datetime.now(datetime.UTC), time.perf_counter()
    if study.measure is None:
        result = train.train(run, dataset, callbacks, device, resume)
        status, measured, seconds = result.status, result.measured, result.seconds
    else:
        status, measured = "completed", study.measure(run, dataset)
        seconds = time.perf_counter() - clock
    facts = {"data": dataset, "status": status, "hardware": hardware or provenance.hardware(device)}
    return records.write(records.new(run, measured, started, seconds, **facts), root)


def _init_runs() -> Iterator[RunConfig]:
    """In full: every depth, BN and none. In summary: the other normalisers, initialisations, shortcuts and recipes at two depths."""
    for seed, depth, norm in product(range(5), reversed(DEPTHS), ("batch", "none")):
        probe = ProbeConfig(powerlaw=depth == 110)
        yield RunConfig("init", seed, ModelConfig(depth=depth, norm=norm), DataConfig(), probe)  # type: ignore[arg-type]
    summary = [
        *({"norm": norm, "init": init} for norm, init in product(get_args(Norm), get_args(Init))),
        *({"norm": norm, "shortcut": "pad"} for norm in ("batch", "none")),
        *({"norm": norm, "block": "plain"} for norm in ("batch", "none")),
        *({"norm": "none", "block": block} for block in ("fixup", "skipinit")),
    ]
    for seed, depth, changes in product(range(3), (110, 20), summary):
        if changes not in ({"norm": "batch", "init": "xavier"}, {"norm": "none", "init": "xavier"}):
            yield RunConfig("init", seed, ModelConfig(depth=depth, **changes), DataConfig(), ProbeConfig(full=False))


def _measure_init(run: RunConfig, dataset: data.Dataset | None) -> dict[str, Any]:
    assert run.model is not None
    assert run.probe is not None
    assert dataset is not None
    net = nets.build(run.model, run.seed)
    images, labels = data.batch(dataset, run.seed, run.probe.batch)
    return probes.at_initialisation(net, images, labels, full=run.probe.full, powerlaw=run.probe.powerlaw)


def _spectra_runs() -> Iterator[RunConfig]:
    """Fig 8's three products ten times, then every number of factors at three sizes."""
    for seed, M in product(range(10), (1, 3, 5)):
        yield RunConfig("spectra", seed, product=ProductConfig(M, 1000))
    for seed, N, M in product(range(5), (1000, 200, 50), FACTORS):
        if N < 1000 or (M not in (1, 3, 5) and seed < 3):
            yield RunConfig("spectra", seed, product=ProductConfig(M, N))


def _measure_spectra(run: RunConfig, dataset: data.Dataset | None) -> dict[str, Any]:
    assert run.product is not None
    return {"log_singular_values": matrices.log_singular_values(run.product.M, run.product.N, run.seed)}


def _propagation_runs() -> Iterator[RunConfig]:
    """The deepest product, which passes through all the shallower ones on the way."""
    for seed, N, restandardise in product(range(5), (100, 50, 200), (False, True)):
        yield RunConfig("propagation", seed, product=ProductConfig(64, N), linear=LinearConfig(restandardise))


def _measure_propagation(run: RunConfig, dataset: data.Dataset | None) -> dict[str, Any]:
    assert run.product is not None
    assert run.linear is not None
    return vars(linear.propagate(run.product.M, run.product.N, run.linear.batch, run.seed, run.linear.restandardise))


def _laboratory_runs() -> Iterator[RunConfig]:
    """Gradient descent on products of 10 x 10 matrices; seeds 0 to 4 served to choose the verdict's thresholds."""
    for seed, restandardise, M in product(range(5, 10), (False, True), DESCENDED):
        yield RunConfig("laboratory", seed, product=ProductConfig(M, 10), linear=LinearConfig(restandardise))


def _measure_laboratory(run: RunConfig, dataset: data.Dataset | None) -> dict[str, Any]:
    """The loss over its start, a row a rate, at steps spread evenly over their logarithm; None once it has diverged."""
    assert run.product is not None
    assert run.linear is not None
    M, N, setting = run.product.M, run.product.N, run.linear
    loss = linear.loss_curves(M, N, RATES, setting.steps, run.seed, setting.restandardise)
    steps = np.unique(np.append(0, np.geomspace(1, setting.steps, 50).round().astype(int)))
    return {
        "lambda_max": linear.sharpness(M, N, run.seed, setting.restandardise),
        "rate": RATES,
        "step": steps,
        "loss": loss[:, steps],
        "status": [linear.status(float(last)) for last in loss[:, -1]],
    }


def _steps_runs() -> Iterator[RunConfig]:
    """The normal schedules at every depth, the deepest first; then BN at the paper's other rates."""
    for depth, seed, (norm, lr) in product(reversed(DEPTHS), range(5), NORMAL.items()):
        yield RunConfig("steps", seed, ModelConfig(depth=depth, norm=norm), DataConfig(), train=TrainConfig(lr=lr))  # type: ignore[arg-type]
    for seed, lr in product(range(5), (1e-4, 0.003)):
        yield RunConfig("steps", seed, ModelConfig(), DataConfig(), train=TrainConfig(lr=lr))


def _divergence_runs() -> Iterator[RunConfig]:
    for seed, norm in product(range(5), ("none", "batch")):
        yield RunConfig("divergence", seed, ModelConfig(norm=norm), DataConfig(), train=TrainConfig(lr=NORMAL[norm]))  # type: ignore[arg-type]


def _cell(study: str, seed: int, depth: int, norm: str, setting: TrainConfig) -> RunConfig:
    return RunConfig(study, seed, ModelConfig(depth=depth, norm=norm), DataConfig(), train=setting)  # type: ignore[arg-type]


def _max_lr_runs() -> Iterator[RunConfig]:
    """The whole map with one seed; depth 32 first, since `fig1-small` takes its rates from there."""
    for depth, norm, lr in product((32, 110, 8, 20, 56, 14, 44), ("none", "batch"), LADDER):
        yield _cell("max-lr", 0, depth, norm, TrainConfig(lr=lr, steps=100, schedule="constant"))


def outcome(record: Record) -> str:
    """`train.outcome` of a run of few steps."""
    losses, spread = record.array("step_loss"), record.array("logit_spread")
    return train.outcome(record.status, list(losses), float(spread))


def largest_that_trains(found: Iterable[Record]) -> float | None:
    """The largest learning rate among these runs with one that trains; survival is not monotone, so smaller ones may not."""
    rates = [r.config.train.lr for r in found if r.config.train and outcome(r) == "trains"]
    return max(rates, default=None)


def _refine_max_lr(found: Sequence[Record]) -> Iterator[RunConfig]:
    """Two more seeds within two stops of the edge, wherever the first seed's row is complete."""
    rows: dict[tuple[int, str], list[Record]] = {}
    for record in found:
        assert record.config.model is not None
        rows.setdefault((record.config.model.depth, record.config.model.norm), []).append(record)
    for (depth, norm), row in rows.items():
        edge = largest_that_trains(row)
        if len(row) == len(LADDER) and edge is not None:
            place = LADDER.index(edge)
            for lr, seed in product(LADDER[max(0, place - 2) : place + 3], (1, 2)):
                yield _cell("max-lr", seed, depth, norm, TrainConfig(lr=lr, steps=100, schedule="constant"))


def _fig1_runs(study: str, equal_epochs: int | None, seeds: int) -> Iterator[RunConfig]:
    for seed, (norm, lr, epochs) in product(range(seeds), FIG1):
        yield _cell(study, seed, 110, norm, TrainConfig(lr=lr, epochs=equal_epochs or epochs, **GPU))


def _fig1_small_runs() -> Iterator[RunConfig]:
    """What two cores can show: ResNet-32 on a fifth of the images, each arm at the unnormalised net's largest rate, BN at ten times that
    too; and the first 300 updates of the paper's own four settings, before their rates would first be divided.
    """
    images = DataConfig(train_size=10_000, test_size=2_000)
    for seed in range(2):
        for norm, lr in (("none", EDGE), ("batch", EDGE), ("batch", 10 * EDGE)):
            yield replace(_cell("fig1-small", seed, 32, norm, TrainConfig(lr=lr, epochs=40)), data=images)
        for norm, lr, _ in FIG1:
            yield _cell("fig1-small", seed, 110, norm, TrainConfig(lr=lr, steps=300, schedule="constant"))


def _fig1_plateau_runs() -> Iterator[RunConfig]:
    for seed, (norm, lr), schedule in product(range(2), (("batch", 0.1), ("none", 0.01)), ("plateau", "steps")):
        yield _cell("fig1-plateau", seed, 20, norm, TrainConfig(lr=lr, schedule=schedule, **GPU))  # type: ignore[arg-type]


def _map_runs() -> Iterator[RunConfig]:
    for seed, depth, lr, norm in product(range(3), DEPTHS, LADDER, ("none", "batch")):
        yield _cell("map", seed, depth, norm, TrainConfig(lr=lr, epochs=10, schedule="constant", **GPU))


NOISE_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)  # of mini-batches out of 512 images
BIASED_SIZES = (8, 32, 128)


def _noise_runs() -> Iterator[RunConfig]:
    for seed, depth, norm in product(range(5), (8, 20), ("none", "batch")):
        yield RunConfig("noise", seed, ModelConfig(depth=depth, norm=norm), DataConfig(), ProbeConfig(batch=512))  # type: ignore[arg-type]


def _measure_noise(run: RunConfig, dataset: data.Dataset | None) -> dict[str, Any]:
    """Without BN the constant C and |g_B - g|^2 of 2000 mini-batches a size; with and without it bias and variance from 50."""
    assert run.model is not None
    assert run.probe is not None
    assert dataset is not None
    net = nets.build(run.model, run.seed)
    x, y = data.batch(dataset, run.seed, run.probe.batch)
    moments = [noise.bias_and_variance(net, x, y, size, 50, run.seed) for size in BIASED_SIZES]
    measured: dict[str, Any] = {
        "biased_size": BIASED_SIZES,
        "norm": moments[0].norm,
        "bias": [m.bias for m in moments],
        "variance": [m.variance for m in moments],
    }
    if run.model.norm == "none":
        G = noise.gram(net, x, y)
        squares = {r: [noise.drawn(G, size, r, 2000, run.seed) for size in NOISE_SIZES] for r in (True, False)}
        measured |= {"size": NOISE_SIZES, "C": noise.constant(G)}
        for replacement, name in ((True, "with_replacement"), (False, "without_replacement")):
            measured[name] = [s.mean() for s in squares[replacement]]
            measured[f"{name}_error"] = [s.std() / len(s) ** 0.5 for s in squares[replacement]]
    return measured


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


STUDIES = {
    study.name: study
    for study in (
        Study("init", "ResNets at initialisation: activations and gradients of one mini-batch", tuple(_init_runs()), _measure_init),
        Study("spectra", "singular values of products of M Gaussian N x N matrices", tuple(_spectra_runs()), _measure_spectra),
        Study(
            "propagation", "a batch sent through M such matrices, re-standardised or not", tuple(_propagation_runs()), _measure_propagation
        ),
        Study("laboratory", "gradient descent on M such matrices, re-standardised or not", tuple(_laboratory_runs()), _measure_laboratory),
        Study("steps", "the loss along the gradients of mini-batches 1, 4 and 7", tuple(_steps_runs()), lines.of_first_mini_batches),
        Study("divergence", "channel moments along the first update of ResNet-110", tuple(_divergence_runs()), lines.of_first_update),
        Study("max-lr", "100 updates at every depth and learning rate", tuple(_max_lr_runs()), refine=_refine_max_lr),
        Study("fig1", "the paper's Fig 1: ResNet-110, four settings", tuple(_fig1_runs("fig1", None, 5))),
        Study("fig1-small", "Fig 1 as far as two cores go: ResNet-32, 10,000 images, 40 epochs", tuple(_fig1_small_runs())),
        Study("fig1-165", "the four settings of Fig 1, 165 epochs each", tuple(_fig1_runs("fig1-165", 165, 2))),
        Study("fig1-plateau", "ResNet-20, the rate divided when learning slows, or at fixed times", tuple(_fig1_plateau_runs())),
        Study("map", "10 epochs at every depth and learning rate", tuple(_map_runs())),
        Study("noise", "bias and variance of mini-batch gradients at initialisation", tuple(_noise_runs()), _measure_noise),
        Study("precision", "fp32, TF32 and bf16 side by side", tuple(_precision_runs())),
        Study("variants", "BN in one place only, other normalisers, Fixup and SkipInit, 165 epochs", tuple(_variants_runs())),
    )
}
