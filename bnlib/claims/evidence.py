"""The records that a claim rests on: those of a study, of a setting, of the seeds that can be compared."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from bnlib import studies
from bnlib.config import RunConfig
from bnlib.records import NoRecord, Record, load, results_dir, select, settings


def recorded(study: str, root: Path | None = None) -> list[Record]:
    """All records of a study below `root`, none where it has not been measured. Raises RecordError on a damaged one."""
    return [load(path) for path in sorted((results_dir(root) / study).glob("*.json"))]


def complete(study: str, root: Path | None = None) -> list[Record]:
    """The same, none while a run of the study is missing."""
    return [] if studies.STUDIES[study].missing(results_dir(root)) else recorded(study, root)


def held(records: Iterable[Record], **where: Any) -> list[Record]:
    """The records with these settings, by seed; none where there are none, as while a study is being measured."""
    found = [r for r in records if all(settings(r.config).get(key) == value for key, value in where.items())]
    return sorted(found, key=lambda r: r.config.seed)


def together(*groups: Sequence[Record]) -> list[list[Record]]:
    """Of each group the records of the seeds that all groups have, so that they can be compared seed by seed."""
    common = set.intersection(*({r.config.seed for r in group} for group in groups))
    return [[r for r in group if r.config.seed in common] for group in groups]


def of_settings(
    records: Sequence[Record], measure: Callable[[Record], float], *wheres: Mapping[str, Any]
) -> Float[np.ndarray, "settings seeds"]:
    """`measure` of the records with each of these settings, a row a setting; of the seeds that all of them have."""
    return np.array([[measure(record) for record in rows] for rows in together(*(held(records, **where) for where in wheres))])


def complete_seeds(planned: Iterable[RunConfig], found: Iterable[Record]) -> list[int]:
    """The seeds of which every planned run has a record."""
    runs, made = set(planned), {r.config for r in found}
    return sorted({run.seed for run in runs} - {run.seed for run in runs - made})


def in_paper_setting(records: Sequence[Record], norm: str, depth: int = 110) -> list[Record]:
    """The record of each seed of the paper's residual network of this depth, with this normaliser."""
    return select(records, norm=norm, depth=depth, init="xavier", shortcut="projection", block="residual")


def per_seed(records: Sequence[Record], norm: str, measure: Callable[[Record], Any]) -> Float[np.ndarray, "seeds ..."]:
    """`measure` of each seed's record in the paper's setting, of the seeds that are there with BN and without. Raises NoRecord where no
    seed is.
    """
    arms = ("none", "batch")
    rows = dict(zip(arms, together(*(in_paper_setting(records, arm) for arm in arms)), strict=True))
    if not rows[norm]:
        raise NoRecord("no seed is measured both with BN and without")
    return np.array([measure(record) for record in rows[norm]])
