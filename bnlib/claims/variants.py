"""Variants of BN and of the initialisation (paper, appendix).

Each function takes the records of its studies together, as named in its docstring.
Those of `init` were known when the thresholds here were fixed; so they are the ones that earlier claims had on the same quantities.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from bnlib.claims.divergence import explodes_at, step_text
from bnlib.claims.evidence import complete_seeds, held, together
from bnlib.claims.initialisation import beginning, cancellation, growth
from bnlib.claims.ladder import BN_RATE, each_progress, keeps_up, trained
from bnlib.claims.learning import BETTER, about, above, arms, ending, standing, unfinished, without
from bnlib.claims.rates import by_seed, edge_text
from bnlib.claims.statistics import interval
from bnlib.claims.verdict import SEEDS, Verdict, decide, judge, pending, spread
from bnlib.probes.lines import MINI_BATCHES, SIZES
from bnlib.records import Record
from bnlib.studies import NORMAL, STUDIES, largest_that_survives, largest_that_trains

TENFOLD = math.log(10)
PAPERS_RUNG = 0.0316  # the rung of the ladder next to 0.03
WHOLE = (("variants", "fig1", NORMAL["last-features"]), ("variants-small", "fig1-small", PAPERS_RUNG))  # and the rate of BN at the end
OTHERS = {"layer": "layer norm", "group": "group norm", "instance": "instance norm"}


def he_explodes_without_bn(records: Sequence[Record]) -> Verdict:
    """Appendix, as remembered; study `init`, ResNet-110. Without BN sigma grows tenfold or more with Xavier's initialisation, and with
    He's tenfold more than that; with BN it stays within a factor of ten with either.

    Tenfold is what `activations_grow` asks for on the same quantity.
    """
    claim = "He's initialisation gives the same picture: without BN activations explode, faster than with Xavier's; with BN they do not."
    rows = together(*(beginning(records, norm, by) for norm in ("none", "batch") for by in ("xavier", "he")))
    if len(rows[0]) < SEEDS:
        return pending(claim, len(rows[0]))
    xavier, he = (108 * np.array([growth(r) for r in row]) for row in rows[:2])
    within = [np.array([float(np.ptp(r.array("ln_std")[:-1])) for r in row]) for row in rows[2:]]
    return judge(
        claim,
        {
            "more than tenfold growth from Xavier's start": xavier > TENFOLD,
            "tenfold more from He's": he > xavier + TENFOLD,
            "within a factor of ten with BN from Xavier's": within[0] < TENFOLD,
            "within a factor of ten with BN from He's": within[1] < TENFOLD,
        },
        f"over 108 layers σ grows by a factor of {spread(np.exp(xavier), '.0f')} with Xavier's and {spread(np.exp(he), '.1e')} with He's; "
        f"with BN it stays within a factor of {spread(np.exp(within[0]), '.1f')} and {spread(np.exp(within[1]), '.1f')}",
    )


def last_bn_restores_cancellation(records: Sequence[Record]) -> Verdict:
    """Sec 3.1, as remembered; study `init`, ResNet-110. With one BN, after the last block, a / b at layers 18, 54 and 90 is more than ten
    times that without, as `gradients_ignore_the_input` asks of BN everywhere.
    """
    claim = "One BN at the end suffices to make the terms of the gradients cancel in all layers, at initialisation."
    none, last = together(beginning(records, "none"), beginning(records, "last-features"))
    if len(none) < SEEDS:
        return pending(claim, len(none))
    ratio = [np.array([cancellation(r) for r in row]) for row in (none, last)]
    without, with_it = (" / ".join(f"{x:.3g}" for x in np.median(rows, axis=0)) for rows in ratio)
    return Verdict(
        claim,
        decide(np.all(ratio[1] > 10 * ratio[0], axis=1)),
        f"at layers 18 / 54 / 90 a/b is {with_it} with BN at the end, {without} without (medians of seeds)",
    )


def last_bn_bears_larger_steps(records: Sequence[Record]) -> Verdict:
    """Sec 3.1, as remembered; study `steps`, ResNet-110 on mini-batches 1, 4 and 7, each a part of its own. With one BN, after the last
    block, the loss doubles at a step at least ten times that without.

    The paper, as we remember it, trains at up to 0.03 so, and at 0.0001 without: 300 times. Tenfold is a decade, beyond doubt. Where
    the loss has not doubled at a step of 1, the longest measured, no more than 1 is counted.
    """
    claim = "One BN at the end lets the network bear far larger steps than none."
    none, last = together(*(held(records, study="steps", norm=norm, lr=NORMAL[norm], depth=110) for norm in ("none", "last-features")))
    if len(none) < SEEDS:
        return pending(claim, len(none))
    low, high = (np.array([[explodes_at(r, k) for r in row] for k in MINI_BATCHES]) for row in (none, last))
    said = [" / ".join(map(step_text, rows)) for rows in (high, low)]
    longer = np.minimum(high, SIZES[-1]) / low > 9.99  # the steps are rounded
    return judge(
        claim,
        {f"ten times the step on mini-batch {k}": part for k, part in zip(MINI_BATCHES, longer, strict=True)},
        f"on mini-batches 1 / 4 / 7 the loss doubles at a step of {said[0]} with BN at the end, {said[1]} without (medians of seeds)",
    )


def last_bn_bears_larger_rates(records: Sequence[Record]) -> Verdict:
    """Sec 3.1 and the appendix, as remembered; studies `variants-short` and `max-lr`, ResNet-110, 100 updates at a constant rate. With one
    BN, after the last block, the network survives 0.0316, the rung next to the paper's 0.03; it survives a rate at least ten times the
    largest that it survives without; and at some rate it learns: its last 20 losses are below 2.2. A seed counts once all its planned
    rates are measured.
    """
    claim = "One BN at the end lets 110 layers train at rates far above those that they bear without."
    none = by_seed([r for r in records if r.config.study == "max-lr"], "none", 110)
    last = held(records, study="variants-short", norm="last-features", depth=110)
    planned = [run for run in STUDIES["variants-short"].runs if run.model and run.model.norm == "last-features"]
    seeds = [seed for seed in complete_seeds(planned, last) if seed in none]
    if len(seeds) < SEEDS:
        return pending(claim, len(seeds))
    arms = [none[seed] for seed in seeds], [[r for r in last if r.config.seed == seed] for seed in seeds]
    low, high = (np.array([largest_that_survives(runs) or 0.0 for runs in arm]) for arm in arms)
    there = [next((r.status for r in held(last, lr=PAPERS_RUNG) if r.config.seed == seed), "") == "completed" for seed in seeds]
    plain, best = (np.array([largest_that_trains(runs) or 0.0 for runs in arm]) for arm in arms)
    return judge(
        claim,
        {
            f"{PAPERS_RUNG} survived": np.array(there),
            "ten times the rate without": high > 9.99 * low,  # the rates are rounded
            "a rate at which it learns": best > 0,
        },
        f"the largest rate that survives 100 updates is {spread(high, '.3g')} with BN at the end, {spread(low, '.3g')} without; "
        f"{PAPERS_RUNG} is survived on {sum(there)} of {len(seeds)} seeds; the largest rate that brings the loss below 2.2 is "
        f"{edge_text(best)} with BN at the end, {edge_text(plain)} without",
    )


def other_normalisers_train_as_bn(records: Sequence[Record]) -> Verdict:
    """Appendix, as remembered; studies `variants-short` and `ladder`, ResNet-20 at 0.1 for 100 updates. Layer, group and instance
    normalisation do not diverge, and come at least four fifths as far below ln 10 as BN, a part each. Four fifths: see
    `recipes_train_at_bns_rate`. That bearing the rate counts by itself was decided on 2026-11-28, when the records were known.
    """
    claim = "Other normalisers bear BN's rate too, and learn as fast at first."
    arms = [held(records, study="variants-short", norm=norm, depth=20, lr=BN_RATE) for norm in OTHERS]
    batch, *rows = together(trained(records, "batch", BN_RATE), *arms)
    if len(batch) < SEEDS:
        return pending(claim, len(batch))
    others = {name: each_progress(row) for name, row in zip(OTHERS.values(), rows, strict=True)}
    borne = {
        f"{BN_RATE} borne with {name}": np.array([r.status == "completed" for r in row])
        for name, row in zip(OTHERS.values(), rows, strict=True)
    }
    return keeps_up(claim, f" at {BN_RATE}", each_progress(batch), others, borne)


def other_normalisers_do_as_bn(records: Sequence[Record]) -> Verdict:
    """Appendix, as remembered; study `init`, ResNet-110. With layer, group and instance normalisation sigma stays within a factor of ten,
    as `activations_grow` asks of BN; and a / b at layers 18, 54 and 90 is more than ten times that without any, as for Table 1.
    """
    claim = "Layer, group and instance normalisation do at initialisation what BN does: they hold the activations, and gradients cancel."
    none, *rows = together(beginning(records, "none"), *(beginning(records, norm) for norm in OTHERS))
    if len(none) < SEEDS:
        return pending(claim, len(none))
    least = 10 * np.array([cancellation(r) for r in none])
    spans = [np.array([float(np.ptp(r.array("ln_std")[:-1])) for r in row]) for row in rows]
    ratios = [np.array([cancellation(r) for r in row]) for row in rows]
    said = [
        f"{name}: σ within a factor of {np.exp(np.median(span)):.1f}, a/b {np.median(ratio[:, 1]):.3g}"
        for name, span, ratio in zip(OTHERS.values(), spans, ratios, strict=True)
    ]
    return judge(
        claim,
        {f"σ within a factor of ten with {name}": span < TENFOLD for name, span in zip(OTHERS.values(), spans, strict=True)}
        | {f"a/b ten times that without, with {name}": np.all(r > least, axis=1) for name, r in zip(OTHERS.values(), ratios, strict=True)},
        f"{'; '.join(said)} (layer 54, medians of seeds; without any {np.median(least[:, 1]) / 10:.2g})",
    )


# Whole trainings: of ResNet-110, which needs a GPU, or at small scale


def whole(records: Sequence[Record], beside: Sequence[str], variants: Sequence[str]) -> list[list[Record]]:
    """The trainings of the arms `beside` of Fig 1, without BN at its best rate, and of each of the variants, of the seeds that all of them
    have: at the paper's scale (studies `fig1` and `variants`) or the small one (`fig1-small` and `variants-small`), whichever has more; of
    equals, at the paper's.
    """
    scales = []
    for study, fig1, at_the_end in WHOLE:
        found = [r for r in records if r.config.study == fig1]
        known = arms(found) | {"none": without(found)}
        rates = {variant: at_the_end if variant == "last-features" else BN_RATE for variant in variants}
        rows = [held(records, study=study, norm=variant, lr=lr) for variant, lr in rates.items()]
        scales.append(together(*(known.get(arm, []) for arm in beside), *rows))
    return max(scales, key=lambda groups: len(groups[0]))  # the first of equals


def share_of_gain(records: Sequence[Record]) -> Float[np.ndarray, " seeds"]:
    """Of what BN everywhere gains in final test accuracy over the network without, the share that one BN at the end has. NaN where BN
    everywhere gains nothing, or a run diverged.
    """
    none, batch, last = whole(records, ("none", "large"), ("last-features",))
    gained, all_of_it = above(last, none), above(batch, none)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.isfinite(gained) & (all_of_it > 0), gained / all_of_it, np.nan)


def last_bn_captures_most(records: Sequence[Record]) -> Verdict:
    """Sec 3.1, as remembered; ResNet-110 of the studies `variants` and `fig1`, or ResNet-32 of `variants-small` and `fig1-small`. BN at
    the end, at 0.03, ends at least half as far above the network without BN, at the best for it of the rates tried, as BN does at 0.1.

    The paper, as we remember it, speaks of two thirds; half is the least that can be called most of it. At small scale the rate is the
    rung next to the paper's.
    """
    claim = "One BN at the end, at a learning rate of 0.03, captures most of what BN everywhere gains."
    none, batch, last = whole(records, ("none", "large"), ("last-features",))
    if len(last) < SEEDS:
        return pending(claim, len(last))
    low, high, ours = map(standing, (none, batch, last))
    gained, all_of_it = above(last, none), above(batch, none)
    share = share_of_gain(records)
    part = f", so {spread(100 * share, '.0f')} % of the gain" if np.isfinite(share).all() else ""
    return Verdict(
        claim,
        decide((all_of_it > 0) & (gained >= 0.5 * all_of_it)),
        f"{about([*none, *batch])}: test accuracy {ending(ours)}, between {ending(low)} without BN{interval(ours, low)} and "
        f"{ending(high)} with BN everywhere{interval(ours, high)}{part}{unfinished({'none': none, 'large': batch})}",
    )


def other_normalisers_gain(records: Sequence[Record]) -> Verdict:
    """Appendix, as remembered; the studies of `last_bn_captures_most`. At 0.1 layer, group and instance normalisation each end at least 5
    points above the network without any, at the best for it of the rates tried, as `large_rate_wins` asks of BN.
    """
    claim = "Other normalisers bear the large rate too, and gain by it."
    none, *rows = whole(records, ("none",), tuple(OTHERS))
    if len(none) < SEEDS:
        return pending(claim, len(none))
    low, ends = standing(none), [standing(row) for row in rows]
    said = "; ".join(f"{name} {ending(end)}{interval(end, low)}" for name, end in zip(OTHERS.values(), ends, strict=True))
    return judge(
        claim,
        {f"5 points with {name}": above(row, none) >= BETTER for name, row in zip(OTHERS.values(), rows, strict=True)},
        f"{about(none)}: test accuracy: {said}; without any {ending(low)}{unfinished({'none': none})}",
    )
