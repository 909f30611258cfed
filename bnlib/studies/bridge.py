"""The bridge from matrix products to networks: Jacobians; mini-batch and population statistics; standardised and raw images (Secs 1, 4)."""

from collections.abc import Iterator
from itertools import product
from typing import Any, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from bnlib import data, nets
from bnlib.config import DataConfig, Directions, InputConfig, JacobianConfig, ModelConfig, ProbeConfig, RunConfig, Scale
from bnlib.matrices import stable_rank
from bnlib.probes import jacobian, lines, population
from bnlib.studies.beginning import DEPTHS
from bnlib.studies.study import Study

TOWARDS: dict[str, tuple[dict[str, Any], bool]] = {  # from the toy to the paper's network: the changes to its model, and whether linear
    "convolutions": ({"norm": "none", "block": "plain"}, True),
    "plain": ({"norm": "none", "block": "plain"}, False),
    "plain-bn": ({"norm": "batch", "block": "plain"}, False),
    "residual": ({"norm": "none"}, False),
    "residual-bn": ({"norm": "batch"}, False),
}
SEEN = (20, 56, 110)  # depths at which differences between images are looked at, too
BOTH = (20, 32)  # depths at which statistics are constants, and differentiated
SMALL = 8  # images in the mini-batch whose statistics are differentiated: with few, each matters most
SIZES = {2: 8, 8: 4, 32: 4, 128: 2}  # images in a mini-batch, and how many are drawn
POPULATION = 1024  # images that stand for all
POOLED = (8, 20, 56, 110)
RAW_DEPTHS = (8, 20)
STEPS = tuple(float(f"{t:.3g}") for t in np.geomspace(1e-7, 1e2, 46))  # five a decade


def _bridge_runs() -> Iterator[RunConfig]:
    """Random directions at every depth, differences between images at three; statistics differentiated at two, with 8 images."""

    def run(seed: int, depth: int, rung: str, batch: int = 128, **setting: Any) -> RunConfig:
        changes, linear = TOWARDS[rung]
        section = JacobianConfig(linear=linear, **setting)
        return RunConfig("bridge", seed, ModelConfig(depth=depth, **changes), DataConfig(), ProbeConfig(batch=batch), jacobian=section)

    for seed, depth, rung in product(range(5), reversed(DEPTHS), TOWARDS):
        yield run(seed, depth, rung)
    for seed, depth, rung in product(range(3), SEEN, TOWARDS):
        yield run(seed, depth, rung, directions="images")
    for seed, depth, directions in product(range(3), BOTH, get_args(Directions)):
        for rung, held in product(("plain-bn", "residual-bn"), (True, False)):
            yield run(seed, depth, rung, SMALL, directions=directions, held=held)


def _measure_bridge(run: RunConfig, dataset: data.Dataset | None) -> dict[str, Any]:
    """After each of `jacobian.layers`, over the k singular values s: the number of directions that share the energy, the stable rank,
    and ln of the largest, of the root mean square and of the smallest; and ln s of all at the ends of the three stages.
    """
    assert run.model is not None
    assert run.probe is not None
    assert run.jacobian is not None
    assert dataset is not None
    setting = run.jacobian
    net = nets.build(run.model, run.seed)
    x, _ = data.batch(dataset, run.seed, max(run.probe.batch, setting.k + 1))
    chosen = setting.directions == "images"
    V = jacobian.image_directions(x[: setting.k + 1]) if chosen else jacobian.random_directions(setting.k, x.shape[1:], run.seed)
    log_s = jacobian.of_convolutions(net, V) if setting.linear else jacobian.of_network(net, x[: run.probe.batch], V, setting.held)
    n = (run.model.depth - 2) // 6
    return {
        "participation": jacobian.participation(log_s),
        "stable_rank": stable_rank(log_s),
        "ln_largest": log_s[:, 0],
        "ln_rms": log_s[:, 0] + np.log(np.mean(np.exp(2 * (log_s - log_s[:, :1])), axis=1)) / 2,
        "ln_smallest": log_s[:, -1],
        "log_singular_values": log_s[[n, 2 * n, 3 * n]],
    }


def _population_runs() -> Iterator[RunConfig]:
    for seed, depth in product(range(5), reversed(POOLED)):
        yield RunConfig("population", seed, ModelConfig(depth=depth), DataConfig(), ProbeConfig(batch=POPULATION))


def _measure_population(run: RunConfig, dataset: data.Dataset | None) -> dict[str, Any]:
    """`population.Gap` of the first mini-batches of each size out of 1024 images, whose statistics are the population's.

    `mean` and `spread` [size, normaliser] are root mean squares over the mini-batches, the others [size, mini-batch].
    """
    assert run.model is not None
    assert run.probe is not None
    assert dataset is not None
    net = nets.build(run.model, run.seed)
    x, y = data.batch(dataset, run.seed, run.probe.batch)
    pool = population.frozen(net, x)
    gaps = {
        size: [population.gap(net, pool, x[i : i + size], y[i : i + size]) for i in range(0, count * size, size)]
        for size, count in SIZES.items()
    }
    squares = {key: [np.mean([getattr(g, key) ** 2 for g in row], axis=0) for row in gaps.values()] for key in ("mean", "spread")}
    return {
        "size": list(gaps),
        **{key: np.sqrt(rows) for key, rows in squares.items()},
        **{key: [[getattr(g, key) for g in row] for row in gaps.values()] for key in ("logits", "loss", "cosine", "ratio")},
    }


def _inputs_runs() -> Iterator[RunConfig]:
    for seed, depth, norm, scale in product(range(5), RAW_DEPTHS, ("none", "batch"), get_args(Scale)):
        model = ModelConfig(depth=depth, norm=norm)  # type: ignore[arg-type]
        yield RunConfig("inputs", seed, model, DataConfig(), ProbeConfig(), inputs=InputConfig(scale))


def rescaled(dataset: data.Dataset, x: Float[Tensor, "batch 3 height width"], scale: Scale) -> Float[Tensor, "batch 3 height width"]:
    """Standardised images as they are, or back at their bytes, 0 to 255, or at these over 255."""
    if scale == "standardised":
        return x
    unit = x * dataset.std[:, None, None] + dataset.mean[:, None, None]
    return unit if scale == "unit" else 255 * unit


def patch_moments(x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "27"]:
    """Eigenvalues, ascending, of E[p p^T] for the 27 numbers p under a 3 x 3 kernel: the curvature of a linear layer with squared loss."""
    patches = F.unfold(x, 3, padding=1).double()
    moments = torch.einsum("bpl,bql->pq", patches, patches) / (patches.shape[0] * patches.shape[2])
    eigenvalues: Tensor = torch.linalg.eigvalsh(moments)
    return eigenvalues


def _measure_inputs(run: RunConfig, dataset: data.Dataset | None) -> dict[str, Any]:
    """The loss along the first gradient, and the eigenvalues of the input's second moments, for images at one of three scales."""
    assert run.model is not None
    assert run.probe is not None
    assert run.inputs is not None
    assert dataset is not None
    x, y = data.batch(dataset, run.seed, run.probe.batch)
    x = rescaled(dataset, x, run.inputs.scale)
    line = lines.along_gradient(nets.build(run.model, run.seed), x, y, STEPS)
    return line | {"patch_moments": patch_moments(x)}


BRIDGE = (
    Study(
        "bridge",
        "singular values of networks' Jacobians at initialisation, step by step from the toy",
        tuple(_bridge_runs()),
        _measure_bridge,
    ),
    Study("population", "BN with a mini-batch's statistics and with the population's", tuple(_population_runs()), _measure_population),
    Study("inputs", "the loss along the first gradient on standardised and on raw images", tuple(_inputs_runs()), _measure_inputs),
)
