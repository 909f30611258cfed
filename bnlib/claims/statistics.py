"""Two arms compared by independent seeds, through scipy: Welch's interval, and the test for "no better than".

No bootstrap: over five seeds its intervals cover far less than they say.
"""

import numpy as np
from jaxtyping import Float
from scipy import stats

LEVEL = 0.95  # of an interval, and one minus the size of a test


def welch(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " m"]) -> tuple[float, float, float]:
    """The difference of the means, a's minus b's, and the ends of its 95 % t interval by Welch; they are NaN with one seed in an arm."""
    difference = float(np.mean(a) - np.mean(b))
    if min(len(a), len(b)) < 2:
        return difference, float("nan"), float("nan")
    if np.ptp(a) == 0 == np.ptp(b):
        return difference, difference, difference
    interval = stats.ttest_ind(a, b, equal_var=False).confidence_interval(LEVEL)
    return difference, float(interval.low), float(interval.high)


def no_better(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " m"], margin: float) -> bool:
    """Whether a's mean exceeds b's by less than `margin` beyond reasonable doubt: of the two one-sided tests of equivalence, the upper.

    The hypothesis that it exceeds it by `margin` or more is rejected at 5 %; never with one seed in an arm.
    """
    if min(len(a), len(b)) < 2:
        return False
    if np.ptp(a) == 0 == np.ptp(b):
        return bool(a[0] - b[0] < margin)
    return bool(stats.ttest_ind(a, b + margin, equal_var=False, alternative="less").pvalue < 1 - LEVEL)
