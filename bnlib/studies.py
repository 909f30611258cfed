"""The studies the book needs: named grids of runs, and how a run is measured."""

import datetime
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np

from bnlib import data, linear, matrices, nets, probes, records
from bnlib.config import ConfigError, DataConfig, Init, LinearConfig, ModelConfig, Norm, ProbeConfig, ProductConfig, RunConfig

DEPTHS = (8, 14, 20, 32, 44, 56, 110)
FACTORS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64)
DESCENDED = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # numbers of factors that gradient descent is run on
RATES = tuple(float(f"{rate:.3g}") for rate in np.geomspace(1e-4, 10, 21))  # four a decade

Measure = Callable[[RunConfig, data.Dataset | None], dict[str, Any]]


@dataclass(frozen=True)
class Study:
    """A named grid of runs, most valuable first, and the function that measures one of them."""

    name: str
    about: str
    runs: tuple[RunConfig, ...]
    measure: Measure

    @property
    def needs_data(self) -> bool:
        """Whether its runs see images."""
        return any(run.data is not None for run in self.runs)

    def missing(self, root: Path) -> list[RunConfig]:
        """The runs without a record below `root`."""
        return [run for run in self.runs if not records.path_of(run, root).exists()]

    def only(self, where: dict[str, Any]) -> "Study":
        """The study with just the runs whose settings match. Raises ConfigError on an unknown key, or where none is left."""
        known = sorted({key for run in self.runs for key in records.settings(run)} - {"study"})
        if unknown := sorted(set(where) - set(known)):
            raise ConfigError(f"study {self.name} has no setting {unknown[0]!r}; it has {', '.join(known)}")
        kept = tuple(run for run in self.runs if all(records.settings(run).get(key) == value for key, value in where.items()))
        if not kept:
            values = {key: sorted({str(records.settings(run).get(key)) for run in self.runs}) for key in where}
            offered = "; ".join(f"{key}: {', '.join(options)}" for key, options in values.items())
            raise ConfigError(f"study {self.name} has no run with these settings together; it has {offered}")
        return Study(self.name, self.about, kept, self.measure)


def get(name: str) -> Study:
    """The study called `name`. Raises ConfigError on an unknown one."""
    if name not in STUDIES:
        raise ConfigError(f"there is no study {name!r}; there are {', '.join(STUDIES)}")
    return STUDIES[name]


def measure(study: Study, run: RunConfig, dataset: data.Dataset | None, root: Path) -> Path:
    """Measure one run of `study` and write its record below `root`."""
    started, clock = datetime.datetime.now(datetime.UTC), time.perf_counter()
    measured = study.measure(run, dataset)
    return records.write(records.new(run, measured, started, time.perf_counter() - clock, data=dataset), root)


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


STUDIES = {
    study.name: study
    for study in (
        Study("init", "ResNets at initialisation: activations and gradients of one mini-batch", tuple(_init_runs()), _measure_init),
        Study("spectra", "singular values of products of M Gaussian N x N matrices", tuple(_spectra_runs()), _measure_spectra),
        Study(
            "propagation", "a batch sent through M such matrices, re-standardised or not", tuple(_propagation_runs()), _measure_propagation
        ),
        Study("laboratory", "gradient descent on M such matrices, re-standardised or not", tuple(_laboratory_runs()), _measure_laboratory),
    )
}
