"""The causal ladder: is it BN, or the rate that it permits? (paper, Sec 2; Zhang et al. 2019; De & Smith 2020; study `ladder`)

Only trial runs of a seed that is not among its own had been seen when the thresholds here were fixed, and none was changed after.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float

from bnlib.claims.evidence import held, together
from bnlib.claims.initialisation import beginning, cancellation
from bnlib.claims.statistics import interval
from bnlib.claims.verdict import SEEDS, Verdict, judge, pending, spread
from bnlib.records import Record
from bnlib.studies import RUNGS, rates_of, rung
from bnlib.train import CHANCE, WINDOW

SHARE = 0.8  # of BN's progress that counts as much the same
BN_RATE = 0.1
NAMES = {
    "none": "nothing",
    "clip": "clipping",
    "fixup": "Fixup",
    "skipinit": "SkipInit",
    "last-features": "BN at the end",
    "batch": "BN everywhere",
}
assert set(NAMES) == set(RUNGS)


def trained(records: Sequence[Record], name: str, lr: float) -> list[Record]:
    """The runs of a rung of the ladder at one rate that were trained for a hundred updates, a seed each."""
    return [r for r in held(records, study="ladder", lr=lr) if r.config.probe is None and rung(r.config) == name]


def updated(records: Sequence[Record], name: str, lr: float) -> list[Record]:
    """The runs of a rung at depth 110 that were probed after ten updates, a seed each; those that diverged before among them."""
    return [r for r in held(records, study="ladder", lr=lr) if r.config.probe is not None and rung(r.config) == name]


def progress(record: Record) -> float:
    """ln 10, the loss of knowing nothing, less the mean of the last 20 mini-batch losses; -inf where the run diverged."""
    return CHANCE - float(record.array("step_loss")[-WINDOW:].mean()) if record.status == "completed" else -math.inf


def each_progress(runs: Sequence[Record]) -> Float[np.ndarray, " seeds"]:
    """The progress of each of these runs."""
    return np.array([progress(r) for r in runs])


def relative_step(record: Record) -> float:
    """The median over the updates of |w' - w| / |w|; NaN where none was completed."""
    steps = record.array("relative_step")
    return float(np.median(steps)) if len(steps) else math.nan


def progress_at(records: Sequence[Record], name: str, seed: int, step: float) -> float:
    """The progress of a rung at a relative step: linear in the step's logarithm between the two neighbouring rates whose steps lie on
    either side of it. -inf where no two that survive do.
    """
    runs = [r for lr in rates_of(name) for r in trained(records, name, lr) if r.config.seed == seed]
    points = [(math.log(relative_step(r)), progress(r)) if r.status == "completed" else None for r in runs]
    for one, two in pairwise(points):
        if one and two and one[0] <= math.log(step) <= two[0]:
            share = (math.log(step) - one[0]) / (two[0] - one[0]) if two[0] > one[0] else 0.0
            return one[1] + share * (two[1] - one[1])
    return -math.inf


def keeps_up(
    claim: str,
    when: str,
    own: Float[np.ndarray, " seeds"],
    others: Mapping[str, Float[np.ndarray, " seeds"]],
    more: Mapping[str, Bool[np.ndarray, " seeds"]] | None = None,
) -> Verdict:
    """Whether each of `others`, a part each, comes at least four fifths as far below ln 10 as BN does: their `progress` and BN's own, a
    seed each, after 100 updates of ResNet-20, at the rate or step that `when` says. There may be `more` parts.
    """
    said = "; ".join(f"{name} {_loss(values)}{interval(own, values, '.2f')}" for name, values in others.items())
    return judge(
        claim,
        {f"four fifths of BN's way with {name}": np.isfinite(own) & (values >= SHARE * own) for name, values in others.items()}
        | (dict(more) if more else {}),
        f"ResNet-20 after 100 updates{when}, loss: {said}; BN {_loss(own)}",
    )


def _loss(progress: Float[np.ndarray, " seeds"]) -> str:
    """The losses behind these, such as "1.78 (1.76 to 1.80)"; "none" where a run diverged, or where none that does not makes such steps."""
    return (
        spread(CHANCE - progress, ".2f")
        if np.isfinite(progress).all()
        else f"none in {np.sum(~np.isfinite(progress))} of {len(progress)} seeds"
    )


def recipes_train_at_bns_rate(records: Sequence[Record]) -> Verdict:
    """Zhang et al. (2019), De & Smith (2020); study `ladder`, ResNet-20 at 0.1 for 100 updates. Fixup and SkipInit each come at least four
    fifths as far below ln 10 as BN.

    BN comes about 0.5 below (study `max-lr`), and a mean over 20 mini-batches of 128 is uncertain to 0.02; a fifth is five times that.
    Their papers speak of whole trainings; a hundred updates test the beginning.
    """
    claim = "Without any normaliser, Fixup and SkipInit train at BN's rate as BN does."
    names = ("fixup", "skipinit")
    batch, *rows = together(*(trained(records, name, BN_RATE) for name in ("batch", *names)))
    if len(batch) < SEEDS:
        return pending(claim, len(batch))
    others = {NAMES[name]: each_progress(row) for name, row in zip(names, rows, strict=True)}
    return keeps_up(claim, f" at {BN_RATE}", each_progress(batch), others)


def the_rate_explains_bn(records: Sequence[Record]) -> Verdict:
    """Sec 2 taken at its word; study `ladder`, ResNet-20, 100 updates. At the relative step that BN makes at 0.1, clipping, Fixup, SkipInit
    and BN at the end, a part each, come at least four fifths as far below ln 10 as BN.

    If BN gives no more than large steps, whoever makes them gets as far. Four fifths: see `recipes_train_at_bns_rate`.
    """
    claim = "At equal relative steps, networks without BN in their layers learn as fast as one with BN: it is the rate."
    names = ("clip", "fixup", "skipinit", "last-features")
    groups = [trained(records, name, lr) for name in names for lr in rates_of(name)]
    batch, *_ = together(trained(records, "batch", BN_RATE), *groups)
    if len(batch) < SEEDS:
        return pending(claim, len(batch))
    others = {NAMES[name]: np.array([progress_at(records, name, r.config.seed, relative_step(r)) for r in batch]) for name in names}
    steps = spread([100 * relative_step(r) for r in batch], ".2f")
    return keeps_up(claim, f", at the relative step of {steps} % that BN makes at {BN_RATE}", each_progress(batch), others)


def recipes_cancel(records: Sequence[Record]) -> Verdict:
    """Sec 3.1 turned round; studies `init` and `ladder`, ResNet-110. After ten updates at 0.1 the gradients of Fixup and of SkipInit, made
    to bear that rate, cancel as BN's do: a / b at layers 18, 54 and 90 is more than ten times that without BN at initialisation, as for
    Table 1.

    At initialisation their gradients in the branches are zero, and a / b is undefined.
    """
    claim = "Networks that bear BN's rate without BN have gradients that cancel as BN's do, once their branches have left zero."
    none, *rows = together(beginning(records, "none"), *(updated(records, name, BN_RATE) for name in ("fixup", "skipinit")))
    if len(none) < SEEDS:
        return pending(claim, len(none))
    least = 10 * np.array([cancellation(r) for r in none])
    ratios = [np.array([cancellation(r) if r.status == "completed" else np.full(3, np.nan) for r in row]) for row in rows]
    said = [" / ".join(f"{x:.3g}" for x in np.median(ratio, axis=0)) for ratio in ratios]
    return judge(
        claim,
        {
            f"ten times that without BN, with {name}": np.all(ratio > least, axis=1)
            for name, ratio in zip(("Fixup", "SkipInit"), ratios, strict=True)
        },
        f"after 10 updates at {BN_RATE} a/b at layers 18 / 54 / 90 is {said[0]} with Fixup, {said[1]} with SkipInit (medians of seeds)",
    )
