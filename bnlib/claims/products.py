"""Random products and the deep linear network (studies `spectra`, `relu`, `propagation`, `laboratory`, `directions`)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats

from bnlib.claims.evidence import held, together
from bnlib.claims.verdict import SEEDS, Verdict, decide, pending, spread
from bnlib.linear import CONVERGED
from bnlib.matrices import FussCatalan, lyapunov_exponents
from bnlib.records import Record, select
from bnlib.sources import paper


def of_products(
    records: Sequence[Record], measure: Callable[[Record], float], *settings: Mapping[str, Any]
) -> Float[np.ndarray, "settings seeds"]:
    """`measure` of the records with each of these settings, a row a setting; of the seeds that all of them have."""
    return np.array([[measure(record) for record in rows] for rows in together(*(held(records, **where) for where in settings))])


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
    gaps = of_products(spectra, law_distance, *({"M": M, "N": 1000} for M in (1, 3, 5)))
    if gaps.shape[1] < SEEDS:
        return pending(claim, gaps.shape[1])
    return Verdict(
        claim,
        decide(*(gap < 0.01 for gap in gaps)),
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
    powers = of_products(spectra, exponent_at_origin, *({"M": M, "N": 1000} for M in (1, 3, 5)))
    if powers.shape[1] < SEEDS:
        return pending(claim, powers.shape[1])
    shown = " / ".join(f"{1 - np.median(power):.3f}" for power in powers)
    return Verdict(
        claim,
        decide(*(np.abs(power * (M + 1) - 1) < 0.1 for M, power in zip((1, 3, 5), powers, strict=True))),
        f"with 1 / 3 / 5 factors it falls with the power {shown} of x (medians of ten products); M/(M+1) is 0.500 / 0.750 / 0.833",
    )


def largest_grows_linearly(spectra: Sequence[Record]) -> Verdict:
    """Sec 4, as remembered: "the largest singular value is O(M)". From M = 4 to 64 at N = 1000 the largest square grows with a power of M
    above 3/4, and so does the largest value itself, a part each.

    The law's edge gives 1 for squares and 1/2 for values; 3/4 lies between. The records were known when this was fixed.
    """
    factors = sorted({r.config.product.M for r in select(spectra, N=1000) if r.config.product and r.config.product.M >= 4})
    rows = [{r.config.seed: r for r in select(spectra, N=1000, M=M)} for M in factors]
    seeds = sorted(set.intersection(*(set(row) for row in rows)))
    power = np.polyfit(np.log(factors), np.array([[row[seed].array("log_singular_values")[0] for seed in seeds] for row in rows]), 1)[0]
    return Verdict(
        "The largest singular value of the product grows in proportion to the number of factors.",
        decide(2 * power > 0.75, power > 0.75),
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
    factors = sorted({r.config.product.M for r in select(spectra, N=200) if r.config.product})
    claim = "The more factors, the wider the singular values spread: the condition number grows exponentially."
    logs = of_products(spectra, log_condition, *({"M": M, "N": 200} for M in factors))
    if logs.shape[-1] < SEEDS:
        return pending(claim, logs.shape[-1])
    slopes, exponents = np.polyfit(factors, logs, 1)[0], lyapunov_exponents(200)
    rate = float(exponents[0] - exponents[-1])
    return Verdict(
        claim,
        decide(slopes > np.log(10), np.abs(slopes / rate - 1) < 0.2),
        f"at N = 200 each factor multiplies it by {spread(np.exp(slopes), '.0f')} up to M = {factors[-1]}; the Lyapunov exponents give "
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
    factors = sorted({r.config.product.M for r in relu if r.config.product and r.config.product.M >= 4})
    rows = [{r.config.seed: r for r in select(relu, M=M)} for M in factors]
    seeds = sorted(set.intersection(*map(set, rows))) if rows else []
    if len(seeds) < SEEDS:
        return pending(claim, len(seeds))
    plain, passed = (np.array([[row[seed].array(key)[[0, -1]] for seed in seeds] for row in rows]) for key in ("log_without", "log_with"))
    power = np.polyfit(np.log(factors), 2 * passed[:, :, 0], 1)[0]
    width, like = (x[:, :, 0] - x[:, :, 1] for x in (passed, plain))
    near = bool((np.abs(width.mean(1) / like.mean(1) - 1) < 0.2).all())
    deep, first = factors.index(32), factors.index(4)
    return Verdict(
        claim,
        decide(power > 0.75, width[deep] > 2 * width[first], np.full(len(seeds), near)),
        f"with ReLUs the largest square grows like M to the power {spread(power, '.2f')}; of the directions that are left, the first is "
        f"stretched {spread(np.exp(width[deep]), '.3g')} times as much as the middle one after 32 factors, without ReLUs "
        f"{spread(np.exp(like[deep]), '.3g')} times",
    )


def restandardising_conditions(propagation: Sequence[Record]) -> Verdict:
    """Sec 4, 64 factors of size 100. Re-standardising keeps the scale and at least doubles the stable rank; it halves ln(s_1 / s_N).

    Twice and half, because a cure is more than a shift by some per cent.
    """
    claim = "Re-standardising between the factors counters the ill-conditioning."

    def last(name: str) -> Float[np.ndarray, "2 seeds"]:
        return of_products(propagation, lambda r: r.array(name)[-1], *({"M": 64, "N": 100, "restandardise": on} for on in (False, True)))

    (low, high), (plain, standard) = last("stable_rank"), last("log_condition")
    if len(plain) < SEEDS:
        return pending(claim, len(plain))
    digits = [spread(logs / np.log(10), ".0f") for logs in (standard, plain)]
    return Verdict(
        claim,
        decide((np.abs(np.log(last("rms")[1])) < np.log(2)) & (high > 2 * low), standard < plain / 2),
        f"after 64 factors of size 100 the stable rank is {spread(high, '.1f')} with it and {spread(low, '.1f')} without; but the decimal "
        f"logarithm of the condition number is {digits[0]} with it and {digits[1]} without",
    )


def usable_rate(record: Record) -> float:
    """The learning rate below the smallest one that diverges; 0 if all diverge."""
    rates, status = [0.0, *record.measured["rate"]], [*record.measured["status"], "diverges"]
    return float(rates[status.index("diverges")])


def best_loss(record: Record) -> float:
    """The loss after the last step over the loss at the start, at the learning rate where it is smallest."""
    return float(np.nanmin(record.array("loss")[:, -1]))


def factors_cost_rate(laboratory: Sequence[Record]) -> Verdict:
    """Sec 4, plain. The usable rate falls tenfold or more from M = 1 to 32; descent converges at M = 2 and does not at 32.

    Tenfold is four rungs of the ladder of rates, of which one is its resolution.
    """
    claim = "A product of more factors tolerates only smaller learning rates, and learns more slowly."
    settings = [{"M": M, "restandardise": False} for M in (1, 2, 32)]
    rate, loss = of_products(laboratory, usable_rate, *settings)[[0, 2]], of_products(laboratory, best_loss, *settings)[1:]
    if rate.shape[1] < SEEDS:
        return pending(claim, rate.shape[1])
    return Verdict(
        claim,
        decide(10 * rate[1] < 1.01 * rate[0], (loss[0] <= CONVERGED) & (loss[1] > CONVERGED)),  # the rates are rounded, to 1 in 500
        f"the largest usable rate is {spread(rate[0])} at M = 1 and {spread(rate[1], '.2g')} at M = 32; at best {np.max(loss[0]):.0%} of "
        f"the loss is left with 2 factors, {spread(loss[1], '.0%')} with 32",
    )


def restandardising_gives_rate_back(laboratory: Sequence[Record]) -> Verdict:
    """Sec 4. At M = 32 the usable rate is at least three times the plain one, and descent at its best rate converges.

    Three times is two rungs of the ladder of rates, of which one is its resolution.
    """
    claim = "Re-standardising gives back the large learning rates, and with them the convergence."
    settings = [{"M": 32, "restandardise": on} for on in (False, True)]
    rate, loss = (of_products(laboratory, measure, *settings) for measure in (usable_rate, best_loss))
    if rate.shape[1] < SEEDS:
        return pending(claim, rate.shape[1])
    return Verdict(
        claim,
        decide(rate[1] > 3 * rate[0], loss[1] <= CONVERGED),
        f"at M = 32 the largest usable rate is {spread(rate[1] / rate[0], '.2g')} times the plain one; but at best "
        f"{spread(loss[1], '.0%')} of the loss is left, plain {spread(loss[0], '.0%')}",
    )


def conditioning_splits_gradients(directions: Sequence[Record]) -> Verdict:
    """Sec 4, as remembered: a larger condition number means a larger ratio between the gradients in different subspaces.

    Study `directions`: the gradient of the first of M factors of size 10, along the singular vectors of the others. From M = 2 to 8 the
    ratio of the first direction's to the last's grows tenfold or more; and over M its rank correlation with the condition number of the
    others is above 0.9.

    Tenfold is what `factors_cost_rate` asks of the rate.
    """
    claim = "The worse the conditioning, the more unequal the gradients in different directions."
    factors = sorted({r.config.product.M for r in directions if r.config.product})
    rows = [{r.config.seed: r for r in select(directions, M=M)} for M in factors]
    seeds = sorted(set.intersection(*map(set, rows))) if rows else []
    if len(seeds) < SEEDS:
        return pending(claim, len(seeds))
    condition, ratio = (
        np.array([[(values := row[seed].array(key))[0] / values[-1] for seed in seeds] for row in rows])
        for key in ("singular_value", "gradient")
    )
    alike = np.array([stats.spearmanr(condition[:, i], ratio[:, i]).statistic for i in range(len(seeds))])
    return Verdict(
        claim,
        decide(ratio[-1] > 10 * ratio[0], alike > 0.9),
        f"the gradient in the direction that the later factors stretch most is {spread(ratio[0], '.2g')} times that in the one they "
        f"stretch least with {factors[0]} factors, {spread(ratio[-1], '.2g')} times with {factors[-1]}",
    )
