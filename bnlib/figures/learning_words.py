"""What the runs of Fig 1 came to and how they depart from the paper's, in words and tables."""

import math
from collections.abc import Sequence

import numpy as np

from bnlib.claims import PAPER as PAPERS
from bnlib.claims import arms, ending, final, rate, standing, trainings, without
from bnlib.claims.learning import FITTED
from bnlib.figures.learning import digitised, epochs_of, setting
from bnlib.records import Record


def table(runs: Sequence[Record]) -> str:
    """Final test accuracy in Markdown: ours, the median and the range of the seeds, beside the paper's."""
    held = arms(runs)
    rows = ["| | ours | the paper, digitised |", "|---|---|---|"]
    words = {"large": "BN, the large rate", "between": "BN, between", "matched": "BN, the same rate", "none": "no BN"}
    for arm, (_, lr) in PAPERS.items():
        total, _, values = digitised(arm, "test")
        seeds, cell = held.get(arm, []), "not measured"
        if seeds:
            ended = [value for run in seeds if math.isfinite(value := final(run))]
            reach = f" ({min(ended):.1f} to {max(ended):.1f})" if len(ended) > 1 else ""
            parts = [f"**{np.median(ended):.1f} %**{reach}"] if ended else []
            parts += [f"**{len(seeds) - len(ended)} of {len(seeds)} diverged**"] if len(ended) < len(seeds) else []
            cell = f"{', '.join(parts)} at {rate(seeds):g}, {epochs_of(seeds[0]):,} epochs, {len(seeds)} seed{'s' * (len(seeds) > 1)}"
        rows.append(f"| {words[arm]} | {cell} | **{values[-1]:.1f} %** at {lr:g}, {total:,} epochs |")
    return "\n".join(rows)


def others(runs: Sequence[Record]) -> str:
    """In words, what became of the settings at other rates than those of the arms."""
    chosen = {run.config.run_id for seeds in arms(runs).values() for run in seeds}
    rest: dict[tuple[str, float], list[float]] = {}
    for run in trainings(runs):
        if run.config.model and run.config.train and run.config.run_id not in chosen:
            rest.setdefault((run.config.model.norm, run.config.train.lr), []).append(final(run))
    said = [f"{setting(*key)}: {ending(np.array(ends))}" for key, ends in rest.items()]
    return f"Trained as well: {'; '.join(said)}." if said else ""


def caveats(runs: Sequence[Record]) -> str:
    """In words, what keeps the comparison at equal rates open: trainings that have not come to their end, and rates that were not tried."""
    held = arms(runs)
    if not {"matched", "none"} <= held.keys():
        return ""
    fits = {arm: float(np.median([final(run, "train") for run in held[arm]])) for arm in ("matched", "none")}
    said, epochs, own, best = [], epochs_of(held["none"][0]), rate(held["none"]), without(runs)
    if all(fit < FITTED for fit in fits.values()):
        said.append(
            f"After {epochs:,} epochs neither training has finished: of their training images the network with BN has "
            f"{fits['matched']:.0f} % right, the one without {fits['none']:.0f} %."
        )
    whole = [run.config for run in trainings(runs)]
    tried = sorted({c.train.lr for c in whole if c.train and c.model and c.model.norm == "none"})
    if rate(best) != own:
        said.append(f"Without BN {rate(best):g} serves better than {own:g}: at it the network ends at {ending(standing(best))}.")
    if higher := [lr for lr in tried if lr > rate(best)]:
        said.append(f"And without BN no rate between {rate(best):g} and {higher[0]:g} was tried: one of them might serve it better.")
    return " ".join(said)


def curves(runs: Sequence[Record]) -> str:
    """In words, how many curves there are, and which of the paper's settings have none of ours."""
    held = arms(runs)
    without = [setting(*PAPERS[arm]) for arm in PAPERS if arm not in held]
    only = f"; for {' and '.join(without)} there is none" if held and without else ""
    return f"*All four* settings make {len(PAPERS) + len(held)} curves: the paper's {len(PAPERS)} and {len(held)} of ours{only}."


def differs(runs: Sequence[Record], plateau: Sequence[Record]) -> str:
    """Markdown: how the runs shown depart from the paper's, and what two schedules make of ResNet-20."""
    held = arms(runs)
    shown = [run.config for seeds in held.values() for run in seeds]
    rates, lengths = {arm: rate(seeds) for arm, seeds in held.items()}, {arm: epochs_of(seeds[0]) for arm, seeds in held.items()}
    parts = [f"{depth} layers, not 110." for depth in {c.model.depth for c in shown if c.model} - {110}]
    parts += [f"The first {size:,} training images, not 50,000." for size in {c.data.train_size for c in shown if c.data} - {50_000}]
    if any(length != digitised(arm, "test")[0] for arm, length in lengths.items()):
        own, papers = (", ".join(f"{n:,}" for n in sorted(set(ns))) for ns in (lengths.values(), [digitised(a, "test")[0] for a in PAPERS]))
        parts.append(f"{own} epochs; the paper's settings have {papers}.")
    if "none" in rates and any(lr != PAPERS[arm][1] for arm, lr in rates.items()):
        others = ", ".join(f"{lr:g}" for arm, lr in sorted(rates.items(), key=lambda item: item[1]) if arm != "none")
        parts.append(
            f"Other rates: without BN {rates['none']:g}, a tenth of the largest that trains a net of this depth for 100 updates; with BN "
            f"{others}."
        )
    fits = {arm: [share for run in seeds if math.isfinite(share := final(run, "train"))] for arm, seeds in held.items()}
    if short := {arm: np.median(shares) for arm, shares in fits.items() if shares and np.median(shares) < FITTED}:
        shares = ", ".join(f"{setting(PAPERS[arm][0], rate(held[arm]))} {share:.0f} %" for arm, share in short.items())
        parts.append(
            f"Trainings that end early: of their own training images ours get right {shares}; the paper's, all but one per cent or less. "
            "So a gap between our curves says which network is faster, not yet which would end higher."
        )
    if 0 < (fewest := min((len(seeds) for seeds in held.values()), default=0)) < 5:
        parts.append(f"{fewest} seed{'s' * (fewest > 1)}; the paper, as we remember it, has five.")
    if not held:
        parts.append("No run of ours is recorded yet; the curves are the paper's alone.")
    parts.append(
        "Our rate falls tenfold at 50 % and at 75 % of training. That is what the paper's curves show; its text, according to a summary, "
        f"says: when learning slows. {_schedules(plateau)}"
    )
    return "\n".join(f"- {part}" for part in parts)


def _schedules(plateau: Sequence[Record]) -> str:
    """What the two ways to divide the rate come to, per normaliser."""
    ends: dict[tuple[str, float], dict[str, list[float]]] = {}
    for run in plateau:
        if run.config.model and run.config.train:
            arm = ends.setdefault((run.config.model.norm, run.config.train.lr), {})
            arm.setdefault(run.config.train.schedule, []).append(final(run))
    words = [
        f"{setting(*arm)} {np.mean(of['plateau']):.1f} % by the one, {np.mean(of['steps']):.1f} % by the other"
        for arm, of in ends.items()
        if len(of) == 2
    ]
    if not words:
        return "The two schedules are not compared here yet."
    return f"Dividing it when learning slows, or at fixed times, gives ResNet-20 {'; '.join(words)}."
