"""What every singular value of a product of M Gaussian N x N matrices costs, and what the two usual ways lose.

    OMP_NUM_THREADS=1 python bench/matrices.py [--sizes 100 300 1000] [--factors 1 4 16 64] [--repeats 5]

plain: multiply, then SVD. rescaled: the same with the product brought back to norm 1 after each factor, the logarithm kept.
Times: sampling included, the three by turns, medians; clock and processor, since a shared machine tells them apart.
Lost: the share of values whose logarithm is off by more than 0.01. Checks, as differences in ln s of one product given by its
factors: the largest to its transpose, multiplied from the other end, and to the Jacobi SVD; the mean one to its determinant.
Prints the section of bench/README.md, writes nothing.
"""

import argparse
import math
import os
import time
from collections.abc import Callable, Iterator
from unittest import mock

import numpy as np
from rich.box import MARKDOWN
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bnlib import provenance
from bnlib.matrices import log_singular_values, log_singular_values_of, products


def factors(M: int, N: int, seed: int) -> Iterator[np.ndarray]:
    """A_1, ..., A_M, one at a time."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((N, N)) / math.sqrt(N) for _ in range(M))


def plain(M: int, N: int, seed: int) -> np.ndarray:
    """Multiply, then decompose."""
    product = np.eye(N)
    for A in factors(M, N, seed):
        product = A @ product
    return logs(product)


def rescaled(M: int, N: int, seed: int) -> np.ndarray:
    """Multiply, dividing by the norm after each factor, then decompose."""
    product, scale = np.eye(N), 0.0
    for A in factors(M, N, seed):
        product = A @ product
        norm = np.linalg.norm(product)
        product, scale = product / norm, scale + math.log(norm)
    return logs(product) + scale


def logs(product: np.ndarray) -> np.ndarray:
    """ln of the singular values."""
    with np.errstate(divide="ignore"):
        return np.log(np.linalg.svd(product, compute_uv=False))


def seconds(M: int, N: int, repeats: int) -> np.ndarray:
    """Median wall and processor times (rows) of the library, the plain and the rescaled way (columns), after a round to warm up."""
    ways: list[Callable[[int, int, int], np.ndarray]] = [log_singular_values, plain, rescaled]
    times = np.empty((repeats + 1, 2, len(ways)))
    for seed in range(repeats + 1):
        for column, way in enumerate(ways):
            start = time.perf_counter(), time.process_time()
            way(M, N, seed)
            times[seed, :, column] = time.perf_counter() - start[0], time.process_time() - start[1]
    return np.median(times[1:], axis=0)


def disagreements(M: int, N: int) -> tuple[np.ndarray, list[float]]:
    """ln s of one product, and how far its transpose, the Jacobi SVD and the determinant are from it."""
    values = log_singular_values_of(factors(M, N, 0))
    transposed = log_singular_values_of([A.T for A in factors(M, N, 0)][::-1])
    with mock.patch.object(products, "_bidiagonal", lambda A: np.full(len(A), np.nan)):
        jacobi = log_singular_values_of(factors(M, N, 0))
    determinant = sum(float(np.linalg.slogdet(A)[1]) for A in factors(M, N, 0))
    return values, [np.abs(transposed - values).max(), np.abs(jacobi - values).max(), abs(values.sum() - determinant) / N]


def main() -> None:
    """Print the table, with date, hardware and versions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--factors", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()

    times = ("library, s", "plain, s", "rescaled, s", "clock ratio", "processor ratio")
    checks = ("transpose", "Jacobi", "determinant")
    table = Table("N", "M", "log10 cond", *times, "lost, plain", "lost, rescaled", *checks, box=MARKDOWN)
    for N, M in track([(N, M) for N in given.sizes for M in given.factors], transient=True):
        wall, processor = seconds(M, N, given.repeats)
        values, apart = disagreements(M, N)
        lost = [np.mean(~(np.abs(way(M, N, 0) - values) <= 0.01)) for way in (plain, rescaled)]
        table.add_row(
            *[str(N), str(M), f"{(values[0] - values[-1]) / math.log(10):.1f}", *[f"{t:.3g}" for t in wall]],
            *[f"{wall[0] / wall[1]:.2f}", f"{processor[0] / processor[1]:.2f}"],
            *[*[f"{share:.0%}" for share in lost], *[f"{difference:.0e}" for difference in apart]],
        )
    env, hardware = provenance.env(), provenance.hardware()
    console = Console(width=200, highlight=False)
    console.print("## Matrices: every singular value of a product of M Gaussian N x N matrices, float64\n")
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    console.print(f"{time.strftime('%Y-%m-%d')}; {hardware['name']}, {hardware['cores']} cores, OMP_NUM_THREADS {threads}; ", end="")
    console.print(f"numpy {env['numpy']}, scipy {env['scipy']}, python {env['python']}; medians of {given.repeats}, by turns.")
    console.print("Ratios are library / plain. Allowed: 3 at N = 1000, M = 16.\n")
    console.print(table)


if __name__ == "__main__":
    main()
