"""Products of random matrices (studies `spectra`, `relu`, `propagation`)."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from jaxtyping import Float

from bnlib.claims.evidence import of_settings
from bnlib.claims.verdict import SEEDS, Verdict, decide, judge, pending, spread
from bnlib.matrices import FussCatalan, lyapunov_exponents
from bnlib.records import Record, select
from bnlib.sources import paper
from bnlib.studies import FACTORS, WITH_RELU


def of_product(records: Sequence[Record], measure: Callable[[Record], float], **where: int | bool) -> Float[np.ndarray, " seeds"]:
    """`measure` of each seed's record with these settings, such as M=5, N=1000."""
    return np.array([measure(record) for record in select(records, **where)])


def law_distance(record: Record, squared: bool = True) -> float:
    """Largest gap between the share of (squared) singular values below a point and the share the law of Theorem 1 has there."""
    assert record.config.product is not None
    values = np.sort(np.exp((2 if squared else 1) * record.array("log_singular_values")))
    share, n = FussCatalan(record.config.product.M).cdf(values), len(values)
    return float(np.maximum(np.arange(1, n + 1) / n - share, share - np.arange(n) / n).max())


def law_holds(spectra: Sequence[Record]) -> Verdict:
    """Theorem 1 and Fig 8. At N = 1000 and M = 1, 3, 5 the law's share of values below any point is right to 0.01, in each product.

    0.01 is half of what a bin of Fig 8 holds on average: a smaller gap could not be seen there.
    """
    claim = "The squared singular values of a product of M large random matrices follow the law of Theorem 1."
    gaps = of_settings(spectra, law_distance, *({"M": M, "N": 1000} for M in (1, 3, 5)))
    if gaps.shape[1] < SEEDS:
        return pending(claim, gaps.shape[1])
    return judge(
        claim,
        {f"within 1 % with {M} factors": gap < 0.01 for M, gap in zip((1, 3, 5), gaps, strict=True)},
        f"in each of {gaps.size} products of 1, 3 or 5 factors of size 1000, the share of values below any point is at most "
        f"{np.max(gaps):.4f} away from the law's",
    )


def exponent_at_origin(record: Record) -> float:
    """The power of x with which the share of squared singular values below x grows near 0: from the 10th smallest to the 100th."""
    smallest = np.sort(2 * record.array("log_singular_values"))[9:100]
    return float(np.polyfit(smallest, np.log(np.arange(10, 101) - 0.5), 1)[0])


def density_blows_up(spectra: Sequence[Record]) -> Verdict:
    """Sec 4. At N = 1000 and M = 1, 3, 5 the share of squares below x grows as x^(1/(M+1)) near 0, in each product, to a tenth of the
    power: so the density falls as x^(-M/(M+1)).

    A tenth tells each of these M from the next, whose power is a third, a fifth, a seventh smaller. The tenth smallest value is far
    enough from the end to be free of finite N. The records were there when this was fixed.
    """
    claim = "The density of the squares blows up at the origin like x^(−M/(M+1)), the more so the more factors there are."
    powers = of_settings(spectra, exponent_at_origin, *({"M": M, "N": 1000} for M in (1, 3, 5)))
    if powers.shape[1] < SEEDS:
        return pending(claim, powers.shape[1])
    shown = " / ".join(f"{1 - np.median(power):.3f}" for power in powers)
    return judge(
        claim,
        {f"with {M} factors": np.abs(power * (M + 1) - 1) < 0.1 for M, power in zip((1, 3, 5), powers, strict=True)},
        f"with 1 / 3 / 5 factors it falls with the power {shown} of x (medians of ten products); M/(M+1) is 0.500 / 0.750 / 0.833",
    )


def largest_grows_linearly(spectra: Sequence[Record]) -> Verdict:
    """Sec 4, as remembered: "the largest singular value is O(M)". From M = 4 to 64 at N = 1000 the largest square grows with a power of M
    above 3/4, and so does the largest value itself, a part each.

    The law's edge gives 1 for squares and 1/2 for values; 3/4 lies between. The records were known when this was fixed.
    """
    claim = "The largest singular value of the product grows in proportion to the number of factors."
    factors = [M for M in FACTORS if M >= 4]
    largest = of_settings(spectra, lambda r: r.array("log_singular_values")[0], *({"M": M, "N": 1000} for M in factors))
    if largest.shape[1] < SEEDS:
        return pending(claim, largest.shape[1])
    power = np.polyfit(np.log(factors), largest, 1)[0]
    return judge(
        claim,
        {"a power above 3/4 for the square": 2 * power > 0.75, "for the value itself": power > 0.75},
        f"from {factors[0]} to {factors[-1]} factors of size 1000 its square grows like M to the power {spread(2 * power, '.2f')}, "
        f"it itself with half of that",
    )


def fig8_is_the_papers(spectra: Sequence[Record]) -> Verdict:
    """Fig 8 in numbers. Ten products of 1, 3, 5 factors, N = 1000, in 50 bins: the largest value is the digitised one to 2 %, the first bin
    holds as many to 5 %.

    The paper's are read to two or three digits. That there are 50 bins was inferred from this agreement. The records were known when
    this was fixed.
    """
    drawn, ours, near = paper("fig8"), [], []
    for M, edge, count in zip(drawn["factors"], drawn["right_edge"], drawn["first_bin_count"], strict=True):
        values = np.exp([r.array("log_singular_values") for r in select(spectra, M=M, N=1000)])
        first = int((values < values.max() / 50).sum())
        ours.append((values.max(), first))
        near += [np.full(len(values), bool(ok)) for ok in (abs(values.max() / edge - 1) < 0.02, abs(first / count - 1) < 0.05)]
    edges, counts = (" / ".join(form.format(pair[i]) for pair in ours) for i, form in ((0, "{:.2f}"), (1, "{:,}")))
    theirs = (" / ".join(map(form.format, drawn[key])) for key, form in (("right_edge", "{}"), ("first_bin_count", "{:,}")))
    return Verdict(
        "Histograms of the singular values of such products look as the paper's Fig 8 shows them.",
        decide(*near),
        "with 1 / 3 / 5 factors the largest value is {} and the first bin holds {}; the paper's are {} and {}, as digitised".format(
            edges, counts, *theirs
        ),
    )


def log_condition(record: Record) -> float:
    """ln(s_1 / s_N) of the product."""
    values = record.array("log_singular_values")
    return float(values[0] - values[-1])


def products_spread(spectra: Sequence[Record]) -> Verdict:
    """Sec 4. At N = 200 each further factor multiplies the condition number tenfold or more, at the Lyapunov exponents' rate to a fifth.

    Tenfold a factor is drastic beyond doubt. A fifth is four standard deviations of such a slope over 64 factors, as ln s_N moves
    by pi / sqrt(8) a factor at random.
    """
    claim = "The more factors, the wider the singular values spread: the condition number grows exponentially."
    logs = of_settings(spectra, log_condition, *({"M": M, "N": 200} for M in FACTORS))
    if logs.shape[1] < SEEDS:
        return pending(claim, logs.shape[1])
    slopes, exponents = np.polyfit(FACTORS, logs, 1)[0], lyapunov_exponents(200)
    rate = float(exponents[0] - exponents[-1])
    return judge(
        claim,
        {"tenfold a factor": slopes > np.log(10), "the exponents' rate to a fifth": np.abs(slopes / rate - 1) < 0.2},
        f"at N = 200 each factor multiplies it by {spread(np.exp(slopes), '.0f')} up to M = {FACTORS[-1]}; the Lyapunov exponents give "
        f"{np.exp(rate):.0f}",
    )


def relu_products_alike(relu: Sequence[Record]) -> Verdict:
    """Appendix (its H), as remembered; N = 200. With a ReLU after each factor, as without: the largest square grows from M = 4 to 64 with a
    power of M above 3/4; from M = 4 to 32 the logarithm of s_1 over the middle of the values that are left at least doubles; and from
    M = 4 on that logarithm is, as mean over seeds, within a fifth of the plain product's.

    3/4 is what `largest_grows_linearly` asks. That the spread is the same where half of the directions are left follows if a ReLU network
    of size N is like a linear one of size N/2; a fifth leaves room for a finite N.
    """
    claim = "Products of random matrices with ReLUs between them behave like those without: their singular values spread as widely."
    factors = [M for M in WITH_RELU if M >= 4]

    def measured(measure: Callable[[Record], float]) -> Float[np.ndarray, "factors seeds"]:
        return of_settings(relu, measure, *({"M": M} for M in factors))

    largest = measured(lambda r: r.array("log_with")[0])
    if largest.shape[1] < SEEDS:
        return pending(claim, largest.shape[1])
    power = np.polyfit(np.log(factors), 2 * largest, 1)[0]
    width, like = (measured(partial(_width, key=key)) for key in ("log_with", "log_without"))
    near = bool((np.abs(width.mean(1) / like.mean(1) - 1) < 0.2).all())
    deep, first = factors.index(32), factors.index(4)
    return judge(
        claim,
        {
            "a power above 3/4": power > 0.75,
            "a spread that doubles": width[deep] > 2 * width[first],
            "the plain product's spread to a fifth": np.full(largest.shape[1], near),
        },
        f"with ReLUs the largest square grows like M to the power {spread(power, '.2f')}; of the directions that are left, the first is "
        f"stretched {spread(np.exp(width[deep]), '.3g')} times as much as the middle one after 32 factors, without ReLUs "
        f"{spread(np.exp(like[deep]), '.3g')} times",
    )


def _width(record: Record, key: str) -> float:
    """ln of the largest singular value over the middle one of those that are left."""
    return float(np.ptp(record.array(key)))


def restandardising_conditions(propagation: Sequence[Record]) -> Verdict:
    """Sec 4, 64 factors of size 100. Re-standardising keeps the scale and at least doubles the stable rank; it halves ln(s_1 / s_N).

    Twice and half, because a cure is more than a shift by some per cent.
    """
    claim = "Re-standardising between the factors counters the ill-conditioning."

    def last(name: str) -> Float[np.ndarray, "2 seeds"]:
        return of_settings(propagation, lambda r: r.array(name)[-1], *({"M": 64, "N": 100, "restandardise": on} for on in (False, True)))

    (low, high), (plain, standard) = last("stable_rank"), last("log_condition")
    if len(plain) < SEEDS:
        return pending(claim, len(plain))
    digits = [spread(logs / np.log(10), ".0f") for logs in (standard, plain)]
    return judge(
        claim,
        {
            "the scale kept and the stable rank doubled": (np.abs(np.log(last("rms")[1])) < np.log(2)) & (high > 2 * low),
            "half the logarithm of the condition number": standard < plain / 2,
        },
        f"after 64 factors of size 100 the stable rank is {spread(high, '.1f')} with it and {spread(low, '.1f')} without; but the decimal "
        f"logarithm of the condition number is {digits[0]} with it and {digits[1]} without",
    )
