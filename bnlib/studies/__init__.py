"""The studies the book needs: named grids of runs, and how a run is measured."""

from bnlib.config import ConfigError
from bnlib.studies.beginning import BEGINNING, BIASED_SIZES, DEPTHS, NOISE_DEPTHS, NOISE_IMAGES, NOISE_SIZES, NORMAL
from bnlib.studies.bridge import BOTH, BRIDGE, SMALL, TOWARDS
from bnlib.studies.causal import CAUSAL, CAUSAL_RATES, FIRST, RUNGS, rates_of, rung
from bnlib.studies.products import CONDITIONED, DESCENDED, FACTORS, PRODUCTS, RATES, WITH_RELU
from bnlib.studies.sharpness import (
    LEVELS,
    SHARPNESS,
    SHARPNESS_EVERY,
    SHARPNESS_FULL,
    SHARPNESS_LOOKS,
    SHARPNESS_RATES,
    SHARPNESS_STEPS,
    full_batch,
)
from bnlib.studies.since import BATCHES, EFFECTIVE, NARROW, SINCE, TRUNKS, WIDTHS
from bnlib.studies.study import Measure, Study, measure
from bnlib.studies.training import BETWEEN, EDGE, FIG1, LADDER, TRAINING, largest_that_survives, largest_that_trains, outcome

STUDIES = {study.name: study for study in (*BEGINNING, *PRODUCTS, *TRAINING, *CAUSAL, *SINCE, *BRIDGE, SHARPNESS)}


def get(name: str) -> Study:
    """The study called `name`. Raises ConfigError on an unknown one."""
    if name not in STUDIES:
        raise ConfigError(f"there is no study {name!r}; there are {', '.join(STUDIES)}")
    return STUDIES[name]


__all__ = [
    "BATCHES",
    "BETWEEN",
    "BIASED_SIZES",
    "BOTH",
    "CAUSAL_RATES",
    "CONDITIONED",
    "DEPTHS",
    "DESCENDED",
    "EDGE",
    "EFFECTIVE",
    "FACTORS",
    "FIG1",
    "FIRST",
    "LADDER",
    "LEVELS",
    "NARROW",
    "NOISE_DEPTHS",
    "NOISE_IMAGES",
    "NOISE_SIZES",
    "NORMAL",
    "RATES",
    "RUNGS",
    "SHARPNESS_EVERY",
    "SHARPNESS_FULL",
    "SHARPNESS_LOOKS",
    "SHARPNESS_RATES",
    "SHARPNESS_STEPS",
    "SMALL",
    "STUDIES",
    "TOWARDS",
    "TRUNKS",
    "WIDTHS",
    "WITH_RELU",
    "Measure",
    "Study",
    "full_batch",
    "get",
    "largest_that_survives",
    "largest_that_trains",
    "measure",
    "outcome",
    "rates_of",
    "rung",
]
