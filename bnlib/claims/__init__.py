"""Records in, verdicts out: what each claim of the paper came to. A verdict is computed, never typed.

Every threshold was fixed, with its reason, before the committed records were measured, though not in ignorance: trial
measurements of the same quantities came before, and those of the laboratory were chosen on other seeds.
"""

from bnlib.claims.initialisation import (
    activations_grow,
    gradients_are_heavy_tailed,
    gradients_ignore_the_input,
    growth,
    one_class_takes_all,
    slope,
)
from bnlib.claims.products import (
    best_loss,
    factors_cost_rate,
    law_distance,
    law_holds,
    log_condition,
    of_product,
    products_spread,
    restandardising_conditions,
    restandardising_gives_rate_back,
    usable_rate,
)
from bnlib.claims.verdict import Verdict, decide, in_paper_setting, per_seed, spread

__all__ = [
    "Verdict",
    "activations_grow",
    "best_loss",
    "decide",
    "factors_cost_rate",
    "gradients_are_heavy_tailed",
    "gradients_ignore_the_input",
    "growth",
    "in_paper_setting",
    "law_distance",
    "law_holds",
    "log_condition",
    "of_product",
    "one_class_takes_all",
    "per_seed",
    "products_spread",
    "restandardising_conditions",
    "restandardising_gives_rate_back",
    "slope",
    "spread",
    "usable_rate",
]
