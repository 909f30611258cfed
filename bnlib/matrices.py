"""Products of M independent Gaussian N x N matrices with entries of variance 1/N: every singular value, and the limiting laws.

Multiplying first and decomposing then loses every singular value below 1e-16 of the largest. Here the product is kept as
Q diag(2^e) U, with Q orthogonal and U well conditioned, so that each logarithm is right to 1e-9 at any M (bench/matrices.py).
Source: the paper's Sec 4, Theorem 1 and Fig 8.
"""

import math
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from numbers import Integral

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import lapack
from scipy.special import digamma

from bnlib.config import ConfigError

Square = Float[np.ndarray, "n n"]
Values = Float[np.ndarray, "n"]
Graded = tuple[Square, Int[np.ndarray, "n"]]  # (U, e) stands for diag(2^e) U


class LimitWarning(UserWarning):
    """The law of N -> infinity at fixed M is asked for where M is not small against N."""


def check_sizes(**sizes: object) -> None:
    """Raise ConfigError unless every size is a whole number of at least 1."""
    for name, value in sizes.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
            raise ConfigError(f"{name} is {value!r}; it must be a whole number, at least 1")


# The singular values of a product


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


# The law of N -> infinity at fixed M


@dataclass(frozen=True)
class FussCatalan:
    """The law of the squared singular values of A_M ... A_1 for N -> infinity at fixed M (paper, Theorem 1).

    x = sin^{M+1}((M+1)phi) / (sin(phi) sin^M(M phi)) for 0 < phi < pi/(M+1), x falling from the edge (M+1)^{M+1}/M^M to 0.
    Positive arguments below 1e-300 are taken as 1e-300.
    The theorem's density is that of the squares: `pdf_singular` and `cdf_singular` are for the singular values themselves.
    Give N to be warned (LimitWarning) where M is not small against it. Raises ConfigError if M or N is not a positive integer.
    """

    M: int
    N: int | None = None

    def __post_init__(self) -> None:
        check_sizes(M=self.M, N=1 if self.N is None else self.N)
        if self.N is not None and (text := limit_warning(self.M, self.N)):
            warnings.warn(text, LimitWarning, stacklevel=3)

    @property
    def edge(self) -> float:
        """(M+1)^{M+1} / M^M, the largest squared singular value."""
        M = int(self.M)  # exact, whatever kind of integer it came as
        return float(Fraction((M + 1) ** (M + 1), M**M))

    def moment(self, k: int) -> float:
        """E x^k = binom((M+1)k, k) / (Mk + 1), for whole k >= 0."""
        return math.comb((int(self.M) + 1) * k, k) / (self.M * k + 1)

    def pdf(self, x: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """sin^2(phi) sin^{M-1}(M phi) / (pi sin^M((M+1)phi)) on [0, edge]; it is infinite at 0, as x^{-M/(M+1)}."""
        _, a, b, c = self._solve(x, self.edge, 1)
        with np.errstate(divide="ignore", over="ignore"):
            density = a * (a / c) * (b / c) ** (self.M - 1) / np.pi
        return np.where((x < 0) | (x > self.edge), 0.0, density)

    def cdf(self, x: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """1 - (M+1) phi / pi + M sin((M+1)phi) sin(phi) / (pi sin(M phi)).

        The density is Im B / (pi x) for the root B = e^{i phi} sin((M+1)phi) / sin(M phi) of x (B - 1) = B^{M+1}, with the
        integral Im[M B - ln(B - 1)] / pi.
        """
        return self._cdf(*self._solve(x, self.edge, 1))

    def pdf_singular(self, s: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """The density 2 s pdf(s^2) of the singular values on [0, sqrt(edge)]: 2/pi at 0 for M = 1, else infinite there."""
        edge = math.sqrt(self.edge)
        _, a, b, c = self._solve(s, edge, 2)
        with np.errstate(divide="ignore", over="ignore"):
            density = 2 * a * np.sqrt(a / b) * (b / c) ** ((self.M - 1) / 2) / np.pi
        return np.where((s < 0) | (s > edge), 0.0, density)

    def cdf_singular(self, s: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """The share cdf(s^2) of singular values below s."""
        return self._cdf(*self._solve(s, math.sqrt(self.edge), 2))

    def _cdf(self, t: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        return np.asarray((t + self.M * c * (a / b)) / np.pi)

    def _solve(self, x: np.ndarray, edge: float, power: int) -> tuple[np.ndarray, ...]:
        """t = pi - (M+1) phi and the sines of phi, M phi and (M+1) phi at x^power, x clipped to [0, edge].

        Newton's method for ln x as a function of ln t, which is concave: from a start below the root it rises to it. The unknown
        is t and not phi since the density near 0 asks for t to full relative precision.
        """
        M, shape, x = self.M, np.shape(x), np.reshape(x, -1)
        inside = np.where(x <= 0, edge, np.clip(x, 1e-300, edge))  # below, ratios would leave float64's range
        target = power * np.where(2 * inside > edge, np.log1p(np.maximum((inside - edge) / edge, -0.5)), np.log(inside / edge))
        near_edge = np.pi - np.sqrt(-2 * target * (M + 1) / M)
        near_zero = np.exp(power / (M + 1) * np.log(inside)) * math.sin(math.pi / (M + 1))
        t = np.maximum(near_edge, near_zero)
        for _ in range(100):  # five are enough at M = 20, twelve at M = 10,000
            phi, a, b, c = self._sines(t)
            value = (M + 1) * _log_sinc((M + 1) * phi, c) - _log_sinc(phi, a) - M * _log_sinc(M * phi, b)
            with np.errstate(over="ignore"):  # at subnormal t, where the start is exact and the step 0
                slope = ((M * a - b) ** 2 / (a * b * c) + 2 * M / np.tan(t / 2)) / (M + 1)
            step = (target - value) / (t * slope)
            t = t * np.exp(step)
            if not np.abs(step).max(initial=0.0) > 1e-8:
                break
        t = np.where(x <= 0, 0.0, t)
        return tuple(v.reshape(shape) for v in (t, *self._sines(t)[1:]))

    def _sines(self, t: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        phi = np.maximum((np.pi - t) / (self.M + 1), 1e-100)  # not 0, so that ratios of sines have their limits at the edge
        return phi, np.sin(phi), np.sin(self.M * phi), np.where(t < 1, np.sin(t), np.sin((self.M + 1) * phi))


def _log_sinc(angle: np.ndarray, sine: np.ndarray) -> np.ndarray:
    """ln(sin(angle) / angle), by its series where the logarithm would lose digits."""
    y = angle**2
    series = -y * (1 / 6 + y * (1 / 180 + y * (1 / 2835 + y * (1 / 37800 + y / 467775))))
    return np.where(angle < 0.1, series, np.log(sine / angle))


def limit_warning(M: int, N: int) -> str | None:
    """One line where N is below 10 M, so that the law of N -> infinity at fixed M misleads, else None.

    Measured: at M / N = 0.1, 0.2, 0.5 and 1, ln s_1 lies 0.1, 0.2, 0.4 and 0.8 below ln(edge) / 2, alike at N = 50, 100, 200 and 400.
    """
    check_sizes(M=M, N=N)
    if 10 * M <= N:
        return None
    return (
        f"M = {M} factors are not few against N = {N}: the largest singular value falls short of the law's edge by 10 % at "
        "M / N = 0.1 and by half at 1, and at larger M the logarithms follow the Lyapunov exponents instead; take N >= 10 M"
    )


# The law of M -> infinity at fixed N, and summaries


def lyapunov_exponents(N: int) -> Float[np.ndarray, "N"]:
    """lambda_i = (psi((N-i+1)/2) + ln(2/N)) / 2, descending: ln(s_i) / M for M -> infinity at fixed N (Newman 1986)."""
    check_sizes(N=N)
    exponents: np.ndarray = (digamma(np.arange(N, 0, -1) / 2) + math.log(2 / N)) / 2
    return exponents


def log_condition_limit(M: int, N: int) -> float:
    """M (lambda_1 - lambda_N), the growth of ln(s_1 / s_N) for M -> infinity and a lower bound on its mean for every M and N.

    The bound: E ln|P v| = M lambda_1 for each unit v, and |P v| <= s_1; likewise E ln(1/|P^-T v|) = M lambda_N >= E ln s_N.
    """
    check_sizes(M=M)
    exponents = lyapunov_exponents(N)
    return float(M * (exponents[0] - exponents[-1]))


def log_largest_limit(M: int) -> float:
    """ln(edge) / 2 = ((M+1) ln(M+1) - M ln M) / 2, ln of the largest singular value for N -> infinity at fixed M."""
    return math.log(FussCatalan(M).edge) / 2


def stable_rank_limit(M: int, N: int) -> float:
    """N / edge, the stable rank for N -> infinity at fixed M, where s_1^2 -> edge and ||P||_F^2 -> N."""
    check_sizes(N=N)
    return N / FussCatalan(M).edge


def stable_rank(log_s: Float[np.ndarray, "*products N"]) -> Float[np.ndarray, "*products"]:
    """||P||_F^2 / ||P||_2^2 = sum_i s_i^2 / s_1^2 from ln s, descending."""
    return np.asarray(np.exp(2 * (log_s - log_s[..., :1])).sum(axis=-1))
