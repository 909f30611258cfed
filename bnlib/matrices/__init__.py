"""Products of random matrices, and networks that are little more."""

from bnlib.matrices.law import (
    FussCatalan,
    LimitWarning,
    limit_warning,
    log_condition_limit,
    log_largest_limit,
    lyapunov_exponents,
    stable_rank_limit,
)
from bnlib.matrices.products import check_sizes, log_singular_values, log_singular_values_of, running_log_singular_values, stable_rank

__all__ = [
    "FussCatalan",
    "LimitWarning",
    "check_sizes",
    "limit_warning",
    "log_condition_limit",
    "log_largest_limit",
    "log_singular_values",
    "log_singular_values_of",
    "lyapunov_exponents",
    "running_log_singular_values",
    "stable_rank",
    "stable_rank_limit",
]
