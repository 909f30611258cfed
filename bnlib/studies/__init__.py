"""The studies the book needs: named grids of runs, and how a run is measured."""

from bnlib.config import ConfigError
from bnlib.studies.beginning import BEGINNING, DEPTHS, NORMAL
from bnlib.studies.bridge import BOTH, BRIDGE, SMALL, TOWARDS
from bnlib.studies.causal import CAUSAL, CAUSAL_RATES, FIRST, RUNGS, rung
from bnlib.studies.products import DESCENDED, FACTORS, PRODUCTS, RATES
from bnlib.studies.since import BATCHES, EFFECTIVE, NARROW, SINCE, TRUNKS, WIDTHS
from bnlib.studies.study import Measure, Study, measure
from bnlib.studies.training import EDGE, FIG1, LADDER, TRAINING, largest_that_trains, outcome

STUDIES = {study.name: study for study in (*BEGINNING, *PRODUCTS, *TRAINING, *CAUSAL, *SINCE, *BRIDGE)}


def get(name: str) -> Study:
    """The study called `name`. Raises ConfigError on an unknown one."""
    if name not in STUDIES:
        raise ConfigError(f"there is no study {name!r}; there are {', '.join(STUDIES)}")
    return STUDIES[name]


__all__ = [
    "BATCHES",
    "BOTH",
    "CAUSAL_RATES",
    "DEPTHS",
    "DESCENDED",
    "EDGE",
    "EFFECTIVE",
    "FACTORS",
    "FIG1",
    "FIRST",
    "LADDER",
    "NARROW",
    "NORMAL",
    "RATES",
    "RUNGS",
    "SMALL",
    "STUDIES",
    "TOWARDS",
    "TRUNKS",
    "WIDTHS",
    "Measure",
    "Study",
    "get",
    "largest_that_trains",
    "measure",
    "outcome",
    "rung",
]
