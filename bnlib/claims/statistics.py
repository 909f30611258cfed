"""Two arms compared by independent seeds, through scipy: Welch's interval, and the test for "no better than".

No bootstrap: over five seeds its intervals cover far less than they say.
"""

import warnings
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats

LEVEL = 0.95  # of an interval, and one minus the size of a test


def welch(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " m"]) -> tuple[float, float, float]:
    """The difference of the means, a's minus b's, and the ends of its 95 % t interval by Welch; they are NaN with one seed in an arm."""
    difference = float(np.mean(a) - np.mean(b))
    if min(len(a), len(b)) < 2:
        return difference, float("nan"), float("nan")
    if _alike(a) and _alike(b):
        return difference, difference, difference
    ends = _test(a, b).confidence_interval(LEVEL)
    return difference, float(ends.low), float(ends.high)


def interval(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " m"], form: str = ".1f", ratio: bool = False) -> str:
    """In words, Welch's interval for a's mean minus b's, or for the ratio of their geometric means.

    Such as " (difference of the means: 95 % interval 1.2 to 5.0)"; empty with one seed in an arm, or where not all is finite.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b = (np.log(a), np.log(b)) if ratio else (a, b)
    _, low, high = welch(a, b) if np.isfinite([*a, *b]).all() else (np.nan, np.nan, np.nan)
    if not np.isfinite(low):
        return ""
    low, high = (np.exp(low), np.exp(high)) if ratio else (low, high)
    what = "ratio of the geometric means" if ratio else "difference of the means"
    return f" ({what}: 95 % interval {_plain(low, form)} to {_plain(high, form)})".replace("-", "−")


def _plain(value: float, form: str) -> str:
    """A number as `form` has it, but 130 where that is 1.3e+02."""
    text = format(value, form)
    return f"{float(text):,.0f}" if "e+" in text else text


def no_better(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " m"], margin: float) -> bool:
    """Whether a's mean exceeds b's by less than `margin` beyond reasonable doubt: of the two one-sided tests of equivalence, the upper.

    The hypothesis that it exceeds it by `margin` or more is rejected at 5 %; never with one seed in an arm.
    """
    if min(len(a), len(b)) < 2:
        return False
    if _alike(a) and _alike(b):
        return bool(a[0] - b[0] < margin)
    return bool(_test(a, b + margin, alternative="less").pvalue < 1 - LEVEL)


def _test(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " m"], **how: str) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)  # of an arm that is one number: its variance is zero, as found
        return stats.ttest_ind(a, b, equal_var=False, **how)


def _alike(values: Float[np.ndarray, " n"]) -> bool:
    """Whether the seeds of an arm are one number, but for rounding: nothing can be said of their spread."""
    return bool(np.ptp(values) <= 1e-12 * np.max(np.abs(values)))
