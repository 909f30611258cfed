"""Products of random matrices against mpmath, and against each other where no other arithmetic reaches; the laws against closed forms."""

import itertools
import math
import warnings
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from bnlib import matrices
from bnlib.config import ConfigError
from bnlib.matrices import (
    FussCatalan,
    LimitWarning,
    limit_warning,
    log_condition_limit,
    log_largest_limit,
    log_singular_values,
    log_singular_values_of,
    lyapunov_exponents,
    products,
    running_log_singular_values,
    stable_rank,
    stable_rank_limit,
)


def gaussian(M: int, N: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((M, N, N)) / math.sqrt(N)


def exact(factors: np.ndarray) -> np.ndarray:
    """ln of the singular values of the product, multiplied and decomposed with digits to spare."""
    condition = sum(math.log10(np.linalg.cond(A)) for A in factors)
    with mpmath.workdps(40 + 2 * math.ceil(condition)):
        product = mpmath.eye(factors.shape[-1])
        for A in factors:
            product = mpmath.matrix(A.tolist()) * product
        values = mpmath.svd_r(product, compute_uv=False)
        return np.sort([float(mpmath.log(s)) for s in values])[::-1]


@pytest.fixture
def by_jacobi(monkeypatch):
    """Send every product through the Jacobi SVD."""
    return lambda: monkeypatch.setattr(products, "_bidiagonal", lambda A: np.full(len(A), np.nan))


# Every singular value


@pytest.mark.parametrize(("M", "N"), [(3, 1), (1, 6), (64, 2), (64, 8), (16, 12), (5, 20), (1200, 3)])
def test_every_singular_value_against_mpmath(M, N):
    factors = gaussian(M, N)
    np.testing.assert_allclose(log_singular_values_of(factors), exact(factors), rtol=0, atol=1e-11)


def test_the_range_may_leave_float64():
    values = log_singular_values_of(gaussian(1200, 3))
    assert values[0] - values[-1] > math.log(1e308)


def test_a_plain_product_would_have_lost_them():
    factors = gaussian(64, 8)
    plain = np.log(np.linalg.svd(np.linalg.multi_dot(factors[::-1]), compute_uv=False))
    assert np.abs(plain - exact(factors)).max() > 1


@pytest.mark.parametrize(("M", "N"), [(1, 150), (8, 150), (40, 150)])
def test_large_products_agree_with_their_transpose_inverse_and_determinant(M, N):
    factors = gaussian(M, N)
    values = log_singular_values_of(factors)
    transposed = log_singular_values_of(A.T for A in factors[::-1])
    inverse = log_singular_values_of(np.linalg.inv(A) for A in factors[::-1])
    np.testing.assert_allclose(transposed, values, rtol=0, atol=1e-10)
    np.testing.assert_allclose(-inverse[::-1], values, rtol=0, atol=1e-9)
    assert values.sum() == pytest.approx(sum(np.linalg.slogdet(A)[1] for A in factors), abs=1e-8)


def test_the_sampled_triangles_give_the_values_of_their_product(monkeypatch):
    drawn, multiply = [], products._multiply
    monkeypatch.setattr(products, "_multiply", lambda R, U, e: (drawn.append(R), multiply(R, U, e))[1])
    values = log_singular_values(24, 10, seed=3)
    assert len(drawn) == 24
    assert all((np.tril(R, -1) == 0).all() for R in drawn)
    np.testing.assert_allclose(values, exact(np.array(drawn)), rtol=0, atol=1e-11)


def test_the_jacobi_svd_agrees_where_it_is_not_needed(by_jacobi):
    sizes = [(1, 1), (1, 80), (20, 80), (300, 5)]
    fast = [log_singular_values(M, N, seed=1) for M, N in sizes]
    by_jacobi()
    for (M, N), values in zip(sizes, fast, strict=True):
        np.testing.assert_allclose(log_singular_values(M, N, seed=1), values, rtol=0, atol=1e-11)


def test_the_jacobi_svd_decides_where_the_bidiagonal_one_fails():
    """With exact zeros between them, large and small values get mixed by the reflections and the small ones drown."""
    C = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [-3, 0, -1, 1]])
    factors = np.array([C, np.diag(2.0 ** np.array([-7, -54, -131, -234]))])
    triangle = products._turn(C, np.array([-7, -54, -131, -234], dtype=np.int32))
    with np.errstate(divide="ignore"):
        alone = products._in_windows(triangle, np.array([-7, -54, -131, -234], dtype=np.int32), products._bidiagonal)
    assert not np.abs(alone - exact(factors)).max() < 0.1
    np.testing.assert_allclose(log_singular_values_of(factors), exact(factors), rtol=0, atol=1e-11)


def test_no_failure_of_the_bidiagonal_svd_slips_through(monkeypatch):
    rng, asked, jacobi = np.random.default_rng(0), [], products._jacobi
    monkeypatch.setattr(products, "_jacobi", lambda A: (asked.append(1), jacobi(A))[1])
    for _ in range(400):
        N = int(rng.integers(3, 7))
        e = np.sort(rng.integers(-300, 0, N))[::-1].astype(np.int32)
        C = np.eye(N) + (rng.random((N, N)) < 0.3) * rng.integers(-3, 4, (N, N))
        if np.linalg.cond(C) < 1e3:
            safe = products._in_windows(products._turn(C, e), e, jacobi)
            np.testing.assert_allclose(products._log_values(C, e), safe, rtol=0, atol=1e-10)
    assert asked


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**32), st.data())
def test_rescaling_the_factors_shifts_every_logarithm(M, N, seed, data):
    factors = gaussian(M, N, seed)
    exponents = data.draw(st.lists(st.integers(-900, 900), min_size=M, max_size=M))
    scaled = [np.ldexp(A, k) for A, k in zip(factors, exponents, strict=True)]
    expected = log_singular_values_of(factors) + sum(exponents) * math.log(2)
    np.testing.assert_allclose(log_singular_values_of(scaled), expected, rtol=1e-13, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 8), st.integers(1, 5), st.data())
def test_diagonal_factors_in_any_order_of_size_are_exact(M, N, data):
    exponent = st.floats(-5, 5)
    logs = np.array(data.draw(st.lists(st.lists(exponent, min_size=N, max_size=N), min_size=M, max_size=M)))
    factors = [np.diag(np.exp(row)) for row in logs]
    expected = np.sort(np.array([np.log(A.diagonal()) for A in factors]).sum(axis=0))[::-1]
    np.testing.assert_allclose(log_singular_values_of(factors), expected, rtol=0, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 6), st.integers(2, 6), st.integers(0, 2**32))
def test_orthogonal_matrices_anywhere_change_nothing(M, N, seed):
    factors = gaussian(M, N, seed)
    turned, previous = [], np.eye(N)
    for A, G in zip(factors, gaussian(M, N, seed + 1), strict=True):
        Q = np.linalg.qr(G)[0]
        turned.append(Q @ A @ previous.T)
        previous = Q
    np.testing.assert_allclose(log_singular_values_of(turned), log_singular_values_of(factors), rtol=0, atol=1e-8)


def test_running_values_are_those_of_the_products_so_far():
    factors = gaussian(5, 7)
    running = list(running_log_singular_values(factors))
    for k, values in enumerate(running, 1):
        np.testing.assert_array_equal(values, log_singular_values_of(factors[:k]))
    assert len(running) == 5


def test_a_seed_names_a_product():
    np.testing.assert_array_equal(log_singular_values(3, 9, seed=5), log_singular_values(3, 9, seed=5))
    assert (log_singular_values(3, 9, seed=5) != log_singular_values(3, 9, seed=6)).all()


def test_the_sampled_law_is_that_of_full_gaussian_factors():
    draws = 300
    sampled = np.array([log_singular_values(4, 5, seed) for seed in range(draws)])
    full = np.array([log_singular_values_of(gaussian(4, 5, seed)) for seed in range(draws)])
    assert min(stats.ks_2samp(sampled[:, i], full[:, i]).pvalue for i in range(5)) > 0.01


def test_the_sampled_mean_logarithm_is_exact_at_any_size():
    M, N, draws = 6, 12, 400
    sums = [log_singular_values(M, N, seed).sum() for seed in range(draws)]
    error = math.sqrt(M * sum(float(mpmath.psi(1, mpmath.mpf(n) / 2)) / 4 for n in range(1, N + 1)) / draws)
    assert np.mean(sums) == pytest.approx(M * lyapunov_exponents(N).sum(), abs=3 * error)


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ([], "no factors"),
        ([np.eye(2), np.eye(3)], r"factor 2 has shape \(3, 3\)"),
        ([np.eye(2), np.array([[1.0, np.nan], [0, 1]])], "factor 2 .*not finite"),
        ([np.eye(2), np.zeros((2, 2))], "factor 2 is singular"),
    ],
)
def test_factors_that_have_no_product_are_refused(factors, message):
    with pytest.raises(ConfigError, match=message):
        log_singular_values_of(iter(factors))


@pytest.mark.parametrize("size", [0, -3, True, 2.0, "4", None])
def test_sizes_must_be_positive_whole_numbers(size):
    with pytest.raises(ConfigError, match=r"M is .*; it must be a whole number, at least 1"):
        matrices.check_sizes(M=size)
    matrices.check_sizes(M=1, N=np.int64(3))


@pytest.mark.parametrize(
    "call",
    [
        lambda: log_singular_values(0, 5, 0),
        lambda: log_singular_values(5, -1, 0),
        lambda: FussCatalan(0),
        lambda: FussCatalan(2, 0),
        lambda: limit_warning(0, 5),
        lambda: lyapunov_exponents(0),
        lambda: log_condition_limit(0, 5),
        lambda: log_largest_limit(0),
        lambda: stable_rank_limit(2, 0),
    ],
)
def test_every_function_checks_its_sizes(call):
    with pytest.raises(ConfigError, match="at least 1"):
        call()


# The Fuss-Catalan law

ORDERS = [1, 2, 3, 5, 20, 64]


def precise(M: int, x: float) -> tuple[float, float]:
    """Density and cdf at x by bisection of the parametrisation as the paper has it, with 60 digits."""
    with mpmath.workdps(60):
        sin, target = mpmath.sin, mpmath.log(mpmath.mpf(x))
        low, high = mpmath.mpf(10) ** -40, mpmath.pi / (M + 1) * (1 - mpmath.mpf(10) ** -50)
        for _ in range(180):
            phi = (low + high) / 2
            above = (M + 1) * mpmath.log(sin((M + 1) * phi)) - mpmath.log(sin(phi)) - M * mpmath.log(sin(M * phi)) > target
            low, high = (phi, high) if above else (low, phi)
        density = sin((M + 1) * phi) / sin(M * phi) * sin(phi) / (mpmath.pi * mpmath.mpf(x))
        share = 1 - (M + 1) * phi / mpmath.pi + M * sin((M + 1) * phi) * sin(phi) / (mpmath.pi * sin(M * phi))
        return float(density), float(share)


@pytest.mark.parametrize("M", ORDERS)
def test_density_and_cdf_are_exact_up_to_both_ends(M):
    law = FussCatalan(M)
    inner = law.edge * np.array([0.1, 0.5, 0.9, 0.999, 1 - 1e-6, 1 - 1e-10, 1 - 1e-13, 1 - 1e-15])
    outer = np.array([1e-60, 1e-12, 1e-6, 1e-3])
    for x, relative in [(inner, 0), (outer, 1e-11)]:
        density, share = np.array([precise(M, v) for v in x]).T
        np.testing.assert_allclose(law.pdf(x), density, rtol=relative, atol=1e-8 if relative == 0 else 0)
        np.testing.assert_allclose(law.cdf(x), share, rtol=relative, atol=1e-14)


@pytest.mark.parametrize("M", ORDERS)
def test_ends_and_outside(M):
    law = FussCatalan(M)
    x = np.array([-1.0, 0.0, law.edge, law.edge * 1.01])
    np.testing.assert_allclose(law.pdf(x), [0, np.inf, 0, 0], atol=1e-90)
    np.testing.assert_array_equal(law.cdf(x), [0, 0, 1, 1])
    s = np.array([-1.0, 0.0, math.sqrt(law.edge), math.sqrt(law.edge) * 1.01])
    np.testing.assert_allclose(law.pdf_singular(s), [0, 2 / np.pi if M == 1 else np.inf, 0, 0], atol=1e-90)
    np.testing.assert_array_equal(law.cdf_singular(s), [0, 0, 1, 1])
    assert np.isnan(law.pdf(np.array([np.nan]))).all()
    assert np.isnan(law.cdf(np.array([np.nan]))).all()


@pytest.mark.parametrize("M", ORDERS)
def test_the_cdf_is_the_integral_of_the_density_and_the_moments_are_theirs(M):
    law = FussCatalan(M)

    def integral(f, low: float, high: float) -> float:
        """By x = edge sin^p(u), which takes the singularities out of both ends."""
        p, ends = 2 * (M + 1), [math.asin((v / law.edge) ** (1 / (2 * (M + 1)))) for v in (low, high)]
        value, _ = integrate.quad(
            lambda u: f(law.edge * math.sin(u) ** p) * law.edge * p * math.sin(u) ** (p - 1) * math.cos(u),
            *ends,
            epsabs=1e-12,
            epsrel=1e-11,
            limit=400,
        )
        return value

    def density(x: float) -> float:
        return float(law.pdf(np.array([x]))[0])

    cuts = law.edge * np.array([1e-9, 1e-3, 0.2, 0.7, 0.999, 1.0])
    for low, high in itertools.pairwise(cuts):
        share = float(np.diff(law.cdf(np.array([low, high])))[0])
        assert integral(density, low, high) == pytest.approx(share, abs=1e-9)
    for k in (1, 2, 3):
        assert integral(lambda x, k=k: x**k * density(x), law.edge * 1e-30, law.edge) == pytest.approx(law.moment(k), rel=1e-9)


def test_moments_in_closed_form():
    assert [FussCatalan(1).moment(k) for k in range(6)] == [1, 1, 2, 5, 14, 42]
    assert [FussCatalan(2).moment(k) for k in range(5)] == [1, 1, 3, 12, 55]
    assert [FussCatalan(M).moment(2) for M in ORDERS] == [M + 1 for M in ORDERS]


def test_one_factor_is_marchenko_pastur_and_the_quarter_circle():
    law = FussCatalan(1)
    x = np.concatenate([np.logspace(-300, -1, 50), np.linspace(0.1, 3.999, 200)])
    np.testing.assert_allclose(law.pdf(x), np.sqrt((4 - x) / x) / (2 * np.pi), rtol=1e-12)
    np.testing.assert_allclose(law.cdf(x), np.sqrt(x * (4 - x)) / (2 * np.pi) + 2 * np.arcsin(np.sqrt(x) / 2) / np.pi, rtol=1e-12)
    s = np.linspace(0, 2, 401)
    np.testing.assert_allclose(law.pdf_singular(s), np.sqrt(4 - s**2) / np.pi, atol=1e-9)


def test_two_factors_in_the_closed_form_of_penson_and_zyczkowski():
    x = np.linspace(1e-6, 6.74, 300)
    root = 27 + 3 * np.sqrt(81 - 12 * x)
    expected = 2 ** (1 / 3) * math.sqrt(3) * (2 ** (1 / 3) * root ** (2 / 3) - 6 * x ** (1 / 3))
    np.testing.assert_allclose(FussCatalan(2).pdf(x), expected / (12 * np.pi * x ** (2 / 3) * root ** (1 / 3)), rtol=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200), st.floats(1e-100, 1), st.floats(1e-100, 1))
def test_singular_values_are_the_roots_and_the_cdf_rises(M, a, b):
    law = FussCatalan(M)
    s = np.sort(np.array([a, b])) * math.sqrt(law.edge)
    np.testing.assert_allclose(law.cdf_singular(s), law.cdf(s**2), atol=1e-7)  # s^2 rounds, and the edge magnifies it
    low, high = law.cdf_singular(s)
    assert 0 <= low <= high + 1e-15 <= 1 + 2e-15
    inside = (s**2 > 1e-12) & (s**2 < 0.999 * law.edge)
    np.testing.assert_allclose(law.pdf_singular(s)[inside], (2 * s * law.pdf(s**2))[inside], rtol=1e-9)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 100), st.floats(allow_nan=False))
@example(1, 5e-324)
@example(64, 1e-310)
def test_every_float_has_a_density_and_a_share(M, x):
    law, at = FussCatalan(M), np.array([x])
    for density, share in [(law.pdf(at), law.cdf(at)), (law.pdf_singular(at), law.cdf_singular(at))]:
        assert density[0] >= 0
        assert 0 <= share[0] <= 1 + 1e-15


def test_shapes_pass_through():
    law = FussCatalan(3)
    assert law.pdf(np.ones((2, 3))).shape == law.cdf_singular(np.ones((2, 3))).shape == (2, 3)
    assert law.pdf(np.ones(0)).shape == (0,)
    for share in (law.pdf, law.cdf, law.pdf_singular, law.cdf_singular):
        assert share(np.array(1.0)).shape == ()


@pytest.mark.parametrize("M", [1, 3, 5])
def test_samples_follow_the_law(M):
    s = np.exp(np.concatenate([log_singular_values(M, 300, seed) for seed in range(2)]))
    assert stats.kstest(s, lambda x: FussCatalan(M, 300).cdf_singular(x)).statistic < 0.015


# Limits


def test_the_edges_that_the_paper_shows():
    np.testing.assert_allclose([FussCatalan(M).edge for M in (1, 2, 3, 5)], [4, 6.75, 256 / 27, 46656 / 3125], rtol=1e-15)
    assert FussCatalan(64).edge == float(Fraction(65**65, 64**64))
    assert log_largest_limit(3) == pytest.approx(math.log(256 / 27) / 2)
    assert stable_rank_limit(1, 1000) == 250


def test_few_factors_reach_the_edge_and_the_stable_rank_of_the_law():
    log_s = np.array([log_singular_values(3, 400, seed) for seed in range(3)])
    assert log_s[:, 0].mean() == pytest.approx(log_largest_limit(3), abs=0.03)
    assert stable_rank(log_s).mean() == pytest.approx(stable_rank_limit(3, 400), rel=0.06)


def test_stable_rank():
    assert stable_rank(np.zeros(7)) == pytest.approx(7)
    A = gaussian(1, 9)[0]
    expected = np.linalg.norm(A) ** 2 / np.linalg.norm(A, 2) ** 2
    np.testing.assert_allclose(stable_rank(np.stack([log_singular_values_of([A])] * 2)), [expected] * 2)


def test_a_warning_where_the_limits_do_not_commute():
    assert limit_warning(5, 50) is None
    assert "M = 6 factors are not few against N = 50" in limit_warning(6, 50)
    with pytest.warns(LimitWarning, match="not few"):
        FussCatalan(64, 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FussCatalan(64)
        FussCatalan(10, 100)


def test_one_dimension_has_the_mean_logarithm_of_a_gaussian():
    expected = -(np.euler_gamma + math.log(2)) / 2  # E ln|g|
    np.testing.assert_allclose(lyapunov_exponents(1), [expected], rtol=1e-14)


def test_many_factors_follow_the_lyapunov_exponents():
    N, M = 8, 4000
    error = 4 * math.sqrt(float(mpmath.psi(1, 0.5)) / 4 / M)
    np.testing.assert_allclose(log_singular_values(M, N, seed=0) / M, lyapunov_exponents(N), rtol=0, atol=error)


@pytest.mark.parametrize(("M", "N"), [(1, 4), (4, 4), (32, 4), (3, 30)])
def test_the_condition_number_exceeds_its_limit_on_average(M, N):
    values = np.array([log_singular_values(M, N, seed) for seed in range(60)])
    grown = values[:, 0] - values[:, -1]
    assert log_condition_limit(M, N) < grown.mean() + 3 * grown.std() / math.sqrt(60)
    if M > N:
        assert grown.mean() == pytest.approx(log_condition_limit(M, N), rel=0.15)
