"""Networks at initialisation and in their first updates (paper, Secs 2.1 and 3)."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any, get_args

from torch import Tensor

from bnlib import data, nets, probes
from bnlib.config import DataConfig, Init, ModelConfig, Norm, ProbeConfig, RunConfig, TrainConfig
from bnlib.probes import channels, lines, noise
from bnlib.studies.study import Study

DEPTHS = (8, 14, 20, 32, 44, 56, 110)
NORMAL = {"batch": 0.1, "none": 1e-4, "last-features": 0.03}  # learning rates of the paper's normal schedules; the last as remembered
NOISE_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)  # of mini-batches out of 512 images
BIASED_SIZES = (8, 32, 128)
NOISE_DEPTHS, NOISE_IMAGES = (8, 20), 512
DRAWN = 6400  # images drawn at each of these sizes

Probe = Callable[[nets.ResNet, Tensor, Tensor], dict[str, Any]]  # a network and a mini-batch in, numbers and arrays by name out


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


def of_probe(name: str, about: str, probe: Probe) -> Study:
    """The study that gives the networks and mini-batches of `init` to another probe. `CONTRIBUTING.md` makes one."""
    runs = tuple(replace(run, study=name, probe=ProbeConfig()) for run in _init_runs())
    return Study(name, about, runs, partial(_measure_by, probe))


def _measure_by(probe: Probe, run: RunConfig, dataset: data.Dataset | None) -> dict[str, Any]:
    assert run.model is not None
    assert run.probe is not None
    assert dataset is not None
    return probe(nets.build(run.model, run.seed), *data.batch(dataset, run.seed, run.probe.batch))


def _channels_runs() -> Iterator[RunConfig]:
    """The networks and mini-batches of Table 1 and Fig 7."""
    for seed, norm in product(range(5), ("batch", "none")):
        yield RunConfig("channels", seed, ModelConfig(norm=norm), DataConfig(), ProbeConfig())  # type: ignore[arg-type]


def _steps_runs() -> Iterator[RunConfig]:
    """The normal schedules at every depth, the deepest first; then BN at the paper's other rates."""
    for depth, seed, (norm, lr) in product(reversed(DEPTHS), range(5), NORMAL.items()):
        yield RunConfig("steps", seed, ModelConfig(depth=depth, norm=norm), DataConfig(), train=TrainConfig(lr=lr))  # type: ignore[arg-type]
    for seed, lr in product(range(5), (1e-4, 0.003)):
        yield RunConfig("steps", seed, ModelConfig(), DataConfig(), train=TrainConfig(lr=lr))


def _divergence_runs() -> Iterator[RunConfig]:
    for seed, norm in product(range(5), ("none", "batch")):
        yield RunConfig("divergence", seed, ModelConfig(norm=norm), DataConfig(), train=TrainConfig(lr=NORMAL[norm]))  # type: ignore[arg-type]


def _noise_runs() -> Iterator[RunConfig]:
    for seed, depth, norm in product(range(5), NOISE_DEPTHS, ("none", "batch")):
        yield RunConfig("noise", seed, ModelConfig(depth=depth, norm=norm), DataConfig(), ProbeConfig(batch=NOISE_IMAGES))  # type: ignore[arg-type]


def _measure_noise(run: RunConfig, dataset: data.Dataset | None) -> dict[str, Any]:
    """Without BN C and |g_B - g|^2 of 2000 mini-batches a size; with and without it bias and variance, from 6400 images a size."""
    assert run.model is not None
    assert run.probe is not None
    assert dataset is not None
    net = nets.build(run.model, run.seed)
    x, y = data.batch(dataset, run.seed, run.probe.batch)
    moments = [noise.bias_and_variance(net, x, y, size, DRAWN // size, run.seed) for size in BIASED_SIZES]
    measured: dict[str, Any] = {
        "biased_size": BIASED_SIZES,
        "norm": moments[0].norm,
        "bias": [m.bias for m in moments],
        "bias_error": [m.error for m in moments],
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


_OF_CHANNELS = "single channels and parameters of four convolutions of ResNet-110 at initialisation"

BEGINNING = (
    Study("init", "ResNets at initialisation: activations and gradients of one mini-batch", tuple(_init_runs()), _measure_init),
    Study("channels", _OF_CHANNELS, tuple(_channels_runs()), partial(_measure_by, channels.at_layers)),
    Study("steps", "the loss along the gradients of mini-batches 1, 4 and 7", tuple(_steps_runs()), lines.of_first_mini_batches),
    Study("divergence", "channel moments along the first update of ResNet-110", tuple(_divergence_runs()), lines.of_first_update),
    Study("noise", "bias and variance of mini-batch gradients at initialisation", tuple(_noise_runs()), _measure_noise),
)
