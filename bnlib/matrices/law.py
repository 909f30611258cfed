"""The limits of a product's singular values: N -> infinity at fixed M (paper, Sec 4, Theorem 1), and M -> infinity at fixed N."""

import math
import warnings
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Float
from scipy.special import digamma

from bnlib.matrices.products import check_sizes


class LimitWarning(UserWarning):
    """The law of N -> infinity at fixed M is asked for where M is not small against N."""


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
