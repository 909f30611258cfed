"""Larger learning rates, with batch normalisation and without (paper, Sec 2 and Fig 1)."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from bnlib import studies
from bnlib.claims.evidence import recorded, together
from bnlib.claims.statistics import no_better, welch
from bnlib.claims.verdict import SEEDS, Verdict, judge, spread
from bnlib.records import Record
from bnlib.sources import paper

PAPER = {"large": ("batch", 0.1), "between": ("batch", 0.003), "matched": ("batch", 1e-4), "none": ("none", 1e-4)}
_SMALL = {
    "large": ("batch", studies.EDGE),
    "between": ("batch", studies.BETWEEN),
    "matched": ("batch", studies.EDGE / 10),
    "none": ("none", studies.EDGE / 10),
}
ARMS = {"fig1": PAPER, "fig1-165": PAPER, "fig1-small": _SMALL}  # the best first, each with its arms
BETTER, NO_BETTER = 5.0, 2.0  # points of test accuracy
FITTED = 95.0  # per cent of the training images right, of a training that has come to its end; the paper's four are above 99


def fig1(root: Path | None = None) -> list[Record]:
    """The runs to show Fig 1 with: the `best` of all that are recorded."""
    return best([run for study in ARMS for run in recorded(study, root)])


def best(runs: Sequence[Record]) -> list[Record]:
    """Of runs of several studies those of the one that has most arms of Fig 1, then of the one that has more seeds of each, as far as a
    verdict takes them; of equals, of the one nearest the paper.
    """

    def worth(held: Sequence[Record]) -> tuple[int, int]:
        found = arms(held)
        return len(found), min([SEEDS, *map(len, found.values())])

    of_study = [[run for run in runs if run.config.study == study] for study in ARMS]
    return max(of_study, key=worth)  # the first of equals


def arms(runs: Sequence[Record]) -> dict[str, list[Record]]:
    """The arms of Fig 1 that are among `runs`, each a list of seeds. Runs at another rate, or of a few updates, belong to none.

    none      without BN, at the rate that it needs
    matched   with BN, at that rate
    between   with BN, at a rate between that and the
    large     rate that BN permits
    """
    found = {arm: [run for run in trainings(runs) if _setting(run) == ARMS.get(run.config.study, {}).get(arm, ())] for arm in PAPER}
    return {arm: sorted(seeds, key=lambda r: r.config.seed) for arm, seeds in found.items() if seeds}


def trainings(runs: Iterable[Record]) -> list[Record]:
    """The runs of whole epochs, without those of a few updates."""
    return [run for run in runs if run.config.train is not None and not run.config.train.steps]


def without(runs: Sequence[Record]) -> list[Record]:
    """The whole trainings without BN at that of the rates tried at which they end highest, in the median; of the rates that have at least
    as many seeds as the arm `none`.
    """
    by_rate: dict[float, list[Record]] = {}
    for run in sorted(trainings(runs), key=lambda r: r.config.seed):
        norm, lr = _setting(run) or ("", 0.0)
        if norm == "none":
            by_rate.setdefault(lr, []).append(run)
    least = len(arms(runs).get("none", ()))
    tried = [seeds for seeds in by_rate.values() if len(seeds) >= least > 0]
    return max(tried, key=lambda seeds: float(np.median(standing(seeds))), default=[])


def first_updates(root: Path | None = None) -> dict[str, list[Record]]:
    """The runs of ResNet-110 in the paper's settings, by arm, from the study that follows the first updates longest."""
    for study in ("fig1-small", "fig1", "fig1-165"):
        deep = [run for run in recorded(study, root) if run.config.model is not None and run.config.model.depth == 110]
        found = {arm: [run for run in deep if _setting(run) == setting] for arm, setting in PAPER.items()}
        if any(found.values()):
            return {arm: sorted(seeds, key=lambda r: r.config.seed) for arm, seeds in found.items() if seeds}
    return {}


def _setting(run: Record) -> tuple[str, float] | None:
    model, setting = run.config.model, run.config.train
    return (model.norm, setting.lr) if model is not None and setting is not None and run.status != "failed" else None


def rate(runs: Sequence[Record]) -> float:
    """The initial learning rate of an arm."""
    assert runs[0].config.train is not None
    return runs[0].config.train.lr


def final(run: Record, part: str = "test") -> float:
    """Accuracy after the last epoch on the test or the training images, in per cent; NaN where the run diverged."""
    return float(100 * run.array(f"{part}_acc")[-1]) if run.status == "completed" else float("nan")


def standing(runs: Iterable[Record], part: str = "test") -> Float[np.ndarray, " seeds"]:
    """The final accuracy of each, to compare by: a run that diverged stands below every other."""
    return np.array([final(run, part) if run.status == "completed" else -np.inf for run in runs])


def ending(accuracies: Float[np.ndarray, " seeds"]) -> str:
    """Such as "78.1 (77.6 to 78.9) %, 1 of 4 diverged": final accuracies, not finite of a run that diverged."""
    there = accuracies[np.isfinite(accuracies)]
    gone = f"{len(accuracies) - len(there)} of {len(accuracies)} diverged"
    if len(there) == len(accuracies):
        return f"{spread(there, '.1f')} %"
    return f"{spread(there, '.1f')} %, {gone}" if len(there) else gone


def gain(runs: Sequence[Record], better: str, worse: str, part: str = "test") -> Float[np.ndarray, " seeds"]:
    """Points of final accuracy between two arms, for each seed that both have; not finite where one diverged, NaN where both did."""
    one, other = together(*(arms(runs).get(arm, []) for arm in (better, worse)))
    return above(one, other, part)


def above(better: Sequence[Record], worse: Sequence[Record], part: str = "test") -> Float[np.ndarray, " seeds"]:
    """Points of final accuracy by which each run stands above its like; not finite where one diverged, NaN where both did."""
    with np.errstate(invalid="ignore"):
        points: Float[np.ndarray, " seeds"] = standing(better, part) - standing(worse, part)
    return points


def large_rate_wins(runs: Sequence[Record]) -> Verdict:
    """Fig 1, on the `best` of the runs. BN at the large rate ends at least 5 points above the unnormalised network, at its rate and at the
    best for it of those that were tried, a part each.

    The paper's curves end 11.3 points apart, as digitised; its widest band is one point to either side. Half the effect leaves room for
    a smaller network and fewer images, and is beyond what seeds do. The second part was added when it was known that there is a better.
    """
    runs = best(runs)
    points, over, other = gain(runs, "large", "none"), *over_best(runs)
    return judge(
        "A network with BN at a larger learning rate ends well above one without BN at the rate that it needs.",
        {"5 points above none at its rate": points >= BETTER, "5 points above none at its best": over >= BETTER},
        _because(runs, ("large", "none")) + other,
    )


def over_best(runs: Sequence[Record]) -> tuple[Float[np.ndarray, " seeds"], str]:
    """Points of final accuracy of BN at the large rate over the network `without` BN at its best, for each seed that both have; and in
    words, where that rate is not that of the arm `none`.
    """
    large, none = together(arms(runs).get("large", []), without(runs))
    points = above(large, none)
    if not none or rate(none) == rate(arms(runs)["none"]):
        return points, ""
    return points, f"; no BN at {rate(none):g}, the best for it of the rates tried, ends at {ending(standing(none))}"


def fig1_is_the_papers(runs: Sequence[Record]) -> Verdict:
    """Fig 1 in numbers, study `fig1`. Each of the four arms, a part each, ends within 1.5 points of test accuracy of the digitised curve,
    as mean over seeds.

    The paper's widest band is one point to either side, and half a point is what reading it off may err. Fixed before any run.
    """
    claim, drawn = "Each of the four trainings ends where the paper's Fig 1 shows it.", paper("fig1")
    held = arms([run for run in runs if run.config.study == "fig1"])
    if missing := len(PAPER) - len(held):
        return Verdict(claim, "not yet measured", f"{missing} of the {len(PAPER)} trainings have not been run to their end")
    last = {arm: np.array([final(run) for run in seeds]) for arm, seeds in held.items()}
    theirs = {arm: drawn["test"][f"{'bn' if norm == 'batch' else norm}_{lr:g}"][-1] for arm, (norm, lr) in PAPER.items()}
    names = {arm: f"{'BN' if norm == 'batch' else 'none'} at {lr:g}" for arm, (norm, lr) in PAPER.items()}
    said = "; ".join(f"{names[arm]} {ending(values)}, the paper's {theirs[arm]}" for arm, values in last.items())
    near = {
        f"within 1.5 points, {names[arm]}": np.full(len(values), abs(values.mean() - theirs[arm]) <= 1.5) for arm, values in last.items()
    }
    return judge(claim, near, f"{said}, as digitised")


def no_better_at_equal_rate(runs: Sequence[Record]) -> Verdict:
    """Fig 1, on the `best` of the runs. At the unnormalised network's own rate, BN ends at most 2 points above it.

    The paper's ends 0.7 points below it, as digitised. The margin is the full width of its widest band. With three seeds or more their
    means are tested, too: that BN's is above by 2 points or more must be rejected at 5 %; of runs that diverge there is no mean.
    """
    runs = best(runs)
    points, held = gain(runs, "matched", "none"), ends(runs)
    tested = len(points) < SEEDS or not len(held["matched"]) or no_better(held["matched"], held["none"], NO_BETTER)
    return judge(
        "At the rate of the network without BN, one with BN is no better.",
        {"at most 2 points above": points <= NO_BETTER, "2 points or more rejected": np.full(len(points), tested)},
        _because(runs, ("matched", "none")),
    )


def between_lies_between(runs: Sequence[Record]) -> Verdict:
    """Fig 1, on the `best` of the runs. BN at the rate between ends above BN at the small rate and below BN at the large one.

    The paper's are 9.1 and 2.9 apart.
    """
    runs = best(runs)
    up, down = gain(runs, "between", "matched"), gain(runs, "large", "between")
    return judge(
        "With BN, the larger the learning rate, the higher the network ends.",
        {"above the small rate": up > 0, "below the large one": down > 0},
        _because(runs, ("between", "matched"), ("large", "between")),
    )


def small_rates_overfit(runs: Sequence[Record]) -> Verdict:
    """Fig 1, on the `best` of the runs. At the unnormalised network's rate, with BN and without, training and test accuracy end at least 5
    points further apart than with BN at the large rate.

    The paper's gaps are 18.5, 17.7 and 6.7 points, as digitised. As for `large_rate_wins`, half of the effect.
    """
    runs = best(runs)
    held, names = arms(runs), ("large", "matched", "none")
    shared = zip(names, together(*(held.get(arm, []) for arm in names)), strict=True)
    gap = {arm: np.array([final(run, "train") - final(run) for run in seeds]) for arm, seeds in shared}
    wider = [gap[arm] - gap["large"] for arm in names[1:]]
    claim = "At a small learning rate, with BN or without, a network fits the training images but does not generalise as well."
    if not len(gap["large"]):
        return Verdict(claim, "not yet measured", _because(runs, ("large", "matched"), ("large", "none")))
    shown = {arm: spread(values, ".1f") for arm, values in gap.items()}
    return judge(
        claim,
        {f"5 points wider {name}": points >= BETTER for name, points in zip(("with BN", "without"), wider, strict=True)},
        f"{about(runs)}: training accuracy ends {shown['large']} points above test accuracy with BN at the larger rate, {shown['matched']} "
        f"with BN at the smaller one and {shown['none']} without BN{unfinished(arms(runs))}",
    )


def larger_rate_is_faster(runs: Sequence[Record]) -> Verdict:
    """Fig 1, on the `best` of the runs. BN at the large rate reaches the test accuracy at which the unnormalised network of the same seed
    ends, and that at which BN at the small rate ends, a part each, in at most half as many epochs as these take to get there.

    The paper's curves are some fifty times apart in epochs, as digitised; but its rates are a thousand times apart, and with fewer
    images they are nearer. Half is more than the waiting for a lucky epoch can give. The second part, without which BN and not its rate
    might be what is faster, was added on 2026-11-28, when the runs were known. Of a run that diverges any other is ahead.
    """
    runs = best(runs)
    claim = "With BN a larger learning rate gets as far in fewer epochs: as far as the network without BN, and as BN at its small rate."
    names = {"none": "the net without BN", "matched": "BN at the small rate"}
    held = dict(zip(("large", *names), together(*(arms(runs).get(arm, []) for arm in ("large", *names))), strict=True))
    if not held["large"]:
        return Verdict(claim, "not yet measured", _because(runs, ("large", "none"), ("large", "matched")))
    parts, words = {}, []
    for arm, name in names.items():
        pairs = zip(held["large"], held[arm], strict=True)
        epochs = np.array([[epochs_to(run, standing([other])[0]) for run in (large, other)] for large, other in pairs])
        parts[f"half the epochs of {name}"] = np.isfinite(epochs[:, 0]) & (2 * epochs[:, 0] <= epochs[:, 1])
        gone = np.isinf(epochs[:, 1]).sum()
        reached = [f"{'never' if np.isinf(one) else f'{one:.0f}'} against {other:.0f}" for one, other in epochs if np.isfinite(other)]
        words += [f"to the accuracy at which {name} ends it takes {', '.join(reached)} epochs"] * bool(reached)
        words += [f"{name} diverges in {gone} of {len(epochs)} seeds"] * bool(gone)
    few = f"; a verdict needs {SEEDS} seeds" * (len(held["large"]) < SEEDS)
    return judge(claim, parts, f"{about(runs)}: {'; '.join(words)}, seed by seed{few}")


def epochs_to(run: Record, accuracy: float) -> float:
    """The first epoch after which the test accuracy, in per cent, is at least so high; infinite where none is, or the run diverged."""
    there = np.flatnonzero(100 * run.array("test_acc") >= accuracy)
    return float(run.array("epoch")[there[0]]) if len(there) and run.status == "completed" else float("inf")


def ends(runs: Sequence[Record]) -> dict[str, Float[np.ndarray, " seeds"]]:
    """The final test accuracies of each arm, in per cent, of the runs that did not diverge."""
    return {arm: np.array([final(run) for run in seeds if run.status == "completed"]) for arm, seeds in arms(runs).items()}


def about(runs: Sequence[Record]) -> str:
    """Such as "ResNet-32, 10,000 training images, 40 epochs, 2 seeds a setting": what the arms have in common, and where they differ."""
    kept = [run.config for seeds in arms(runs).values() for run in seeds]
    depths, sizes, lengths = (
        sorted(values)
        for values in (
            {c.model.depth for c in kept if c.model},
            {c.data.train_size for c in kept if c.data},
            {c.train.epochs for c in kept if c.train},
        )
    )
    counts = sorted({len(seeds) for seeds in arms(runs).values()})
    return (
        f"ResNet-{_to(depths)}, {_to(sizes)} training images, {_to(lengths)} epochs, {_to(counts)} seed{'s' * (counts[-1] > 1)} a setting"
    )


def _to(numbers: Sequence[int]) -> str:
    return f"{numbers[0]:,}" if len(numbers) == 1 else f"{numbers[0]:,} to {numbers[-1]:,}"


_NAME = {"large": "BN at a larger rate", "between": "BN at a rate between", "matched": "BN at that rate", "none": "the net without BN"}


def _because(runs: Sequence[Record], *pairs: tuple[str, str]) -> str:
    held = arms(runs)
    if missing := [_NAME[arm] for arm in PAPER if arm in sum(pairs, ()) and arm not in held]:
        return f"not measured: {', '.join(missing)}"
    few = min(len(gain(runs, *pair)) for pair in pairs) < SEEDS
    held = {arm: seeds for arm, seeds in held.items() if arm in sum(pairs, ())}
    return f"{about(runs)}: {'; '.join(_apart(runs, *pair) for pair in pairs)}{unfinished(held)}" + f"; a verdict needs {SEEDS} seeds" * few


def unfinished(held: Mapping[str, Sequence[Record]]) -> str:
    """A warning where an arm has not learned its training images: then it shows who is faster, not yet who would end higher."""
    ended = {arm: [final(run, "train") for run in seeds if run.status == "completed"] for arm, seeds in held.items()}
    fit = {arm: float(np.median(values)) for arm, values in ended.items() if values}
    if not fit:
        return ""
    least = min(fit, key=fit.__getitem__)
    name = f"{'no BN' if least == 'none' else 'BN'} at {rate(held[least]):g}"
    return f"; but {name} has by then only {fit[least]:.0f} % of its training images right" if fit[least] < FITTED else ""


def _apart(runs: Sequence[Record], better: str, worse: str) -> str:
    """How far one arm ends above the other, or below it, and how many runs have no end."""
    held, points = arms(runs), gain(runs, better, worse)
    first, second = (f"{'no BN' if arm == 'none' else 'BN'} at {rate(held[arm]):g}" for arm in (better, worse))
    ended = points[np.isfinite(points)]
    gone = f"{first} or {second} diverges in {len(points) - len(ended)} of {len(points)} seeds"
    if not len(ended):
        return gone
    below = ended.max() < 0
    text = f"{first} ends {spread(-ended if below else ended, '.1f')} points {'below' if below else 'above'} {second}"
    _, low, high = welch(*(ends(runs)[arm] for arm in (better, worse)))
    low, high = (-high, -low) if below else (low, high)
    if np.isfinite(low):
        text += f" (means: 95 % interval {low:.1f} to {high:.1f})"
    return text + f", but {gone}" * (len(ended) < len(points))
