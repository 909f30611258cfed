"""Gradient descent on products of random matrices (studies `laboratory`, `directions`)."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from scipy import stats

from bnlib.claims.evidence import of_settings
from bnlib.claims.verdict import SEEDS, Verdict, judge, pending, spread
from bnlib.matrices.linear import CONVERGED
from bnlib.records import Record
from bnlib.studies import CONDITIONED


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
    rate, loss = of_settings(laboratory, usable_rate, *settings)[[0, 2]], of_settings(laboratory, best_loss, *settings)[1:]
    if rate.shape[1] < SEEDS:
        return pending(claim, rate.shape[1])
    return judge(
        claim,
        {
            "a rate ten times smaller": 10 * rate[1] < 1.01 * rate[0],  # the rates are rounded, to 1 in 500
            "convergence with 2 factors and not with 32": (loss[0] <= CONVERGED) & (loss[1] > CONVERGED),
        },
        f"the largest usable rate is {spread(rate[0])} at M = 1 and {spread(rate[1], '.2g')} at M = 32; at best {np.max(loss[0]):.0%} of "
        f"the loss is left with 2 factors, {spread(loss[1], '.0%')} with 32",
    )


def restandardising_gives_rate_back(laboratory: Sequence[Record]) -> Verdict:
    """Sec 4. At M = 32 the usable rate is at least three times the plain one, and descent at its best rate converges.

    Three times is two rungs of the ladder of rates, of which one is its resolution.
    """
    claim = "Re-standardising gives back the large learning rates, and with them the convergence."
    settings = [{"M": 32, "restandardise": on} for on in (False, True)]
    rate, loss = (of_settings(laboratory, measure, *settings) for measure in (usable_rate, best_loss))
    if rate.shape[1] < SEEDS:
        return pending(claim, rate.shape[1])
    return judge(
        claim,
        {"three times the rate": rate[1] > 3 * rate[0], "convergence": loss[1] <= CONVERGED},
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
    settings = [{"M": M} for M in CONDITIONED]
    condition, ratio = (of_settings(directions, partial(_first_over_last, key=key), *settings) for key in ("singular_value", "gradient"))
    if ratio.shape[1] < SEEDS:
        return pending(claim, ratio.shape[1])
    alike = np.array([stats.spearmanr(*of_seed).statistic for of_seed in zip(condition.T, ratio.T, strict=True)])
    return judge(
        claim,
        {"tenfold growth of the ratio": ratio[-1] > 10 * ratio[0], "a rank correlation above 0.9": alike > 0.9},
        f"the gradient in the direction that the later factors stretch most is {spread(ratio[0], '.2g')} times that in the one they "
        f"stretch least with {CONDITIONED[0]} factors, {spread(ratio[-1], '.2g')} times with {CONDITIONED[-1]}",
    )


def _first_over_last(record: Record, key: str) -> float:
    values = record.array(key)
    return float(values[0] / values[-1])
