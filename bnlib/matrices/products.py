"""Products of M independent Gaussian N x N matrices with entries of variance 1/N: every singular value.

Multiplying first and decomposing then loses every singular value below 1e-16 of the largest. Here the product is kept as
Q diag(2^e) U, with Q orthogonal and U well conditioned, so that each logarithm is right to 1e-9 at any M (bench/matrices.py).
Source: the paper's Sec 4.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from numbers import Integral

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import lapack

from bnlib.config import ConfigError

Square = Float[np.ndarray, "n n"]
Values = Float[np.ndarray, "n"]
Graded = tuple[Square, Int[np.ndarray, "n"]]  # (U, e) stands for diag(2^e) U


def check_sizes(**sizes: object) -> None:
    """Raise ConfigError unless every size is a whole number of at least 1."""
    for name, value in sizes.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
            raise ConfigError(f"{name} is {value!r}; it must be a whole number, at least 1")


def log_singular_values(M: int, N: int, seed: int) -> Float[np.ndarray, "N"]:
    """ln of the singular values, descending, of A_M ... A_1 with independent entries A_k,ij ~ N(0, 1/N) (paper, Sec 4).

    A Gaussian matrix times an orthogonal one is Gaussian again, so each factor is drawn as the triangle of its QR decomposition:
    the singular values have the law of the product's, the factors themselves are never made.
    Raises ConfigError if M or N is not a positive integer.
    """
    check_sizes(M=M, N=N)
    rng = np.random.default_rng(seed)
    above = np.triu(np.ones((N, N), dtype=bool), 1)
    U, e = np.eye(N), np.zeros(N, dtype=np.int32)
    for _ in range(M):
        R = np.diag(np.sqrt(rng.chisquare(np.arange(N, 0, -1))))
        R[above] = rng.standard_normal(N * (N - 1) // 2)
        U, e = _multiply(R / math.sqrt(N), U, e)
    return _log_values(U, e)


def log_singular_values_of(factors: Iterable[Square]) -> Values:
    """ln of the singular values, descending, of A_M ... A_1 for the factors A_1, ..., A_M, A_1 acting first.

    The error is a few roundings times the sum of the factors' condition numbers; the product's own does not enter.
    Raises ConfigError on no factor, or one that is not square, not of the others' size, not finite or singular.
    """
    last = deque(_accumulate(factors), maxlen=1)
    if not last:
        raise ConfigError("there are no factors; a product needs at least one")
    return _log_values(*last[0])


def running_log_singular_values(factors: Iterable[Square]) -> Iterator[Values]:
    """`log_singular_values_of` A_1, A_2 A_1, ..., A_M ... A_1, one after each factor."""
    return (_log_values(*state) for state in _accumulate(factors))


def _accumulate(factors: Iterable[Square]) -> Iterator[Graded]:
    """A_k ... A_1 = Q diag(2^e) U after each factor, columns sorted by size before each QR so that 2^e descends."""
    for k, A in enumerate(factors, 1):
        if k == 1:
            N = len(A)
            Q, U, e = np.eye(N), np.eye(N), np.zeros(N, dtype=np.int32)
        if A.shape != (N, N):
            raise ConfigError(f"factor {k} has shape {A.shape}; all must be square and of one size, here {(N, N)}")
        if not np.isfinite(A).all():
            raise ConfigError(f"factor {k} has entries that are not finite")
        size = np.frexp(np.abs(A).max())[1]
        C = np.ldexp(A, -size) @ Q
        order = np.argsort(-(e + np.frexp(np.abs(C).max(axis=0))[1]), kind="stable")
        Q, R = np.linalg.qr(C[:, order])
        if not R.diagonal().all():
            raise ConfigError(f"factor {k} is singular; ln of a singular value 0 is not a number")
        U, e = _multiply(R, U[order], e[order] + size)
        yield U, e


def _multiply(R: Square, U: Square, e: Int[np.ndarray, "n"], block: int = 256) -> Graded:
    """R diag(2^e) U for an upper triangular R, again as (U, e) with the largest entry of each row of U in [1/2, 1)."""
    product = np.empty_like(U)
    for i in range(0, len(e), block):
        rows = slice(i, i + block)
        product[rows] = np.ldexp(R[rows, i:], e[i:] - e[rows, None]) @ U[i:]
    shift = np.frexp(np.abs(product).max(axis=1))[1]
    return np.ldexp(product, -shift[:, None]), e + shift


def _log_values(U: Square, e: Int[np.ndarray, "n"]) -> Values:
    """ln of the singular values, descending, of diag(2^e) U for a well-conditioned U.

    LAPACK's bidiagonal SVD keeps every small value of a matrix graded like this one in practice, but by no theorem. So it has
    to find the same values, to 1e-11, in two different triangles. Where it does not, one-sided Jacobi decides, which has the
    theorem (Drmac and Veselic 2008) and takes up to ten times as long; no product of Gaussian matrices has needed it yet.
    """
    order = np.argsort(-e, kind="stable")
    U, e = U[order], e[order]
    U = _turn(U, e)
    with np.errstate(divide="ignore", invalid="ignore"):
        first = _in_windows(U, e, _bidiagonal)
        U = _turn(U, e)
        second = _in_windows(U, e, _bidiagonal)
        agree = np.abs(first - second).max() < 1e-11
    return second if agree else _in_windows(U, e, _jacobi)


def _turn(U: Square, e: Int[np.ndarray, "n"]) -> Square:
    """The upper triangle V for which diag(2^e) V has the singular values of diag(2^e) U, e descending: one QR of the transpose."""
    triangle: Square = np.ldexp(np.linalg.qr(U.T, mode="r"), e - e[:, None])
    return triangle


def _in_windows(U: Square, e: Int[np.ndarray, "n"], svd: Callable[[Square], Values]) -> Values:
    """Apply `svd` to diag(2^e) U, e descending, in windows of indices that fit float64.

    For V from `_turn`, cutting off the rows and columns on the far side of a gap of 2^50 changes a singular value by 2^-100 of
    itself, times the condition numbers of V's blocks: 50 is the margin on both sides of a window.
    """
    values, start = np.empty(len(e)), 0
    while start < len(e):
        stop = np.searchsorted(-e, 800 - e[start], side="right")
        near = slice(np.searchsorted(-e, -50 - e[start]), np.searchsorted(-e, 50 - e[stop - 1], side="right"))
        centre = (e[near][0] + e[near][-1]) // 2
        found = np.log(svd(np.ldexp(U[near, near], (e[near] - centre)[:, None]))) + centre * math.log(2)
        values[start:stop] = found[start - near.start : stop - near.start]
        start = stop
    return np.sort(values)[::-1]


def _bidiagonal(A: Square) -> Values:
    return np.linalg.svd(A.T, compute_uv=False)


def _jacobi(A: Square) -> Values:
    """One-sided Jacobi SVD of the column-graded A^T, small columns kept (JOBR = N), nothing perturbed (JOBP = N)."""
    s, _, _, work, _, info = lapack.dgejsv(A.T, joba=0, jobu=3, jobv=3, jobr=0, jobt=0, jobp=0)
    if info:
        raise np.linalg.LinAlgError(f"the Jacobi SVD did not converge (dgejsv info = {info})")
    values: Values = s * (work[0] / work[1])
    return values


def stable_rank(log_s: Float[np.ndarray, "*products N"]) -> Float[np.ndarray, "*products"]:
    """||P||_F^2 / ||P||_2^2 = sum_i s_i^2 / s_1^2 from ln s, descending."""
    return np.asarray(np.exp(2 * (log_s - log_s[..., :1])).sum(axis=-1))
