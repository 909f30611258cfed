"""Products of Gaussian matrices, and the deep linear network made of them (paper, Sec 4)."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from bnlib import data, matrices
from bnlib.config import LinearConfig, ProductConfig, RunConfig
from bnlib.matrices import linear, relu
from bnlib.studies.study import Study

FACTORS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64)
DESCENDED = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # numbers of factors that gradient descent is run on
WITH_RELU = (1, 2, 4, 8, 16, 32, 64)
CONDITIONED = (2, 3, 4, 6, 8)  # numbers of factors whose condition numbers fit double precision
RATES = tuple(float(f"{rate:.3g}") for rate in np.geomspace(1e-4, 10, 21))  # four a decade


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


def _relu_runs() -> Iterator[RunConfig]:
    for seed, M in product(range(5), WITH_RELU):
        yield RunConfig("relu", seed, product=ProductConfig(M, 200), linear=LinearConfig(relu=True))


def _measure_relu(run: RunConfig, dataset: data.Dataset | None) -> dict[str, Any]:
    """The larger half of what is left of each, see `relu.log_singular_values`."""
    assert run.product is not None
    plain, passed = relu.log_singular_values(run.product.M, run.product.N, run.seed)
    return {"log_without": plain, "log_with": passed}


def _directions_runs() -> Iterator[RunConfig]:
    """The products on which `laboratory` descends, where it starts."""
    for seed, M in product(range(5, 10), CONDITIONED):
        yield RunConfig("directions", seed, product=ProductConfig(M, 10), linear=LinearConfig())


def _measure_directions(run: RunConfig, dataset: data.Dataset | None) -> dict[str, Any]:
    assert run.product is not None
    values, gradient = linear.gradient_by_direction(run.product.M, run.product.N, run.seed)
    return {"singular_value": values, "gradient": gradient}


PRODUCTS = (
    Study("spectra", "singular values of products of M Gaussian N x N matrices", tuple(_spectra_runs()), _measure_spectra),
    Study("propagation", "a batch sent through M such matrices, re-standardised or not", tuple(_propagation_runs()), _measure_propagation),
    Study("laboratory", "gradient descent on M such matrices, re-standardised or not", tuple(_laboratory_runs()), _measure_laboratory),
    Study("relu", "singular values of such products with a ReLU after each factor, and without", tuple(_relu_runs()), _measure_relu),
    Study(
        "directions",
        "the gradient of the first factor along the singular vectors of the others",
        tuple(_directions_runs()),
        _measure_directions,
    ),
)
