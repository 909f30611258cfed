"""Larger learning rates (paper, Fig 1): accuracy while training, and the first updates.

Records of one of the studies that `claims.fig1` chooses from in, figures out; beside them the paper's curves, as digitised.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from bnlib import sources, train
from bnlib.claims import PAPER as PAPERS
from bnlib.claims import arms, final, gain, rate, spread
from bnlib.claims.learning import FITTED
from bnlib.figures.marks import Curve, faint, labels_apart
from bnlib.figures.style import PAPER, RED, SERIES, Axis, Series, coarse, figure, powers
from bnlib.records import Record

POINTS = 120  # of a curve, at most
IMAGES = {"test images": "test", "training images": "train"}
LOOKS = {
    "large": SERIES["batch"],
    "between": Series("", "#2a86c4", "longdash", "square"),
    "matched": Series("", "#5fa8da", "dot", "triangle-up"),
    "none": SERIES["none"],
}


GLYPHS = {"large": "○", "between": "□", "matched": "△", "none": "◇"}  # the paper's marks


def setting(norm: str, lr: float, at: str = " at ") -> str:
    """Such as "BN at 0.1"."""
    return f"{'BN' if norm == 'batch' else 'no BN'}{at}{lr:g}"


def epochs_of(run: Record) -> int:
    """How long the run was to last."""
    assert run.config.train is not None
    return run.config.train.epochs


def names(runs: Sequence[Record]) -> dict[str, str]:
    """Each arm by its setting: ours, or the paper's where there is no run."""
    held = arms(runs)
    return {a: setting(norm, rate(held[a])) if a in held else f"the paper's {setting(norm, lr)}" for a, (norm, lr) in PAPERS.items()}


def menu(runs: Sequence[Record]) -> dict[str, str]:
    """What to show, for a figure's control: all arms, or one of them."""
    return {"all four": "all"} | {name: arm for arm, name in names(runs).items()}


def digitised(arm: str, part: str) -> tuple[int, Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
    """The paper's curve of an arm: its epochs, per cent of them done, and accuracy in per cent."""
    norm, lr = PAPERS[arm]
    found, key = sources.paper("fig1"), f"{'bn' if norm == 'batch' else norm}_{lr:g}"
    return found["epochs"][key], np.array(found["percent"], float), np.array(found[part][key], float)


def accuracy(runs: Sequence[Record], shown: str, part: str, epochs: bool) -> go.Figure:
    """Fig 1: accuracy on the test or the training images, against the share of training done or the epochs (logarithmic).

    Seeds faint, their median strong, a red cross where one diverged; grey and hollow, the paper.
    """
    held, chosen = arms(runs), list(PAPERS) if shown == "all" else [shown]
    x = Axis("epochs", 0.9, 90_000, log=True, ticks=powers(1, 1000)) if epochs else Axis("% of training", 0, 150, ticks=range(0, 101, 25))
    fig = figure(_finding(runs, shown, part), (x, Axis(f"{part} accuracy, %", _lowest(runs), 101)), height=420)
    labels = []
    for arm in chosen:
        total, percent, values = digitised(arm, part)
        look, at = LOOKS[arm], percent * total / 100 if epochs else percent
        marker = {"symbol": f"{look.symbol}-open", "size": 8, "color": PAPER, "line": {"width": 1.6}}
        name, line = f"the paper, digitised: {setting(*PAPERS[arm])}", {"color": PAPER, "width": 1}
        fig.add_scatter(x=coarse(at), y=values, mode="lines+markers", marker=marker, line=line, name=name)
        labels.append((float(at[-1]), float(values[-1]), f"{GLYPHS[arm]} {setting(*PAPERS[arm], ' ')}", PAPER))
    for arm in chosen:
        if arm in held:
            labels.append(_draw(fig, held[arm], arm, part, epochs, setting(PAPERS[arm][0], rate(held[arm]), " ")))
    labels_apart(fig, labels)
    return fig


def _draw(fig: go.Figure, seeds: Sequence[Record], arm: str, part: str, epochs: bool, name: str) -> tuple[float, float, str, str]:
    """Draw the runs of an arm; returns the label at their end."""
    look, low = LOOKS[arm], float(fig.layout.yaxis.range[0])
    curves = [_curve(run, part, epochs, low) for run in seeds]
    if len(curves) > 1:
        faint(fig, curves, replace(look, label=name))
    gone = [float(x[-1]) for (x, _), run in zip(curves, seeds, strict=True) if run.status != "completed"]
    if gone:
        marker = {"symbol": "x", "size": 9, "color": RED}
        fig.add_scatter(x=gone, y=[low + 1.5] * len(gone), mode="markers", marker=marker, name=f"{name} diverges")
    ended = [curve for curve, run in zip(curves, seeds, strict=True) if run.status == "completed"]
    if not ended:
        return gone[0], low + 1.5, f"{name} diverges", RED
    x, middle = ended[0][0], np.median([y for _, y in ended], axis=0)
    line = {"color": look.colour, "width": 2.5, "dash": look.dash}
    fig.add_scatter(x=x, y=coarse(middle), mode="lines", line=line, name=name)
    return float(x[-1]), float(middle[-1]), name, _ink(arm)


def _ink(arm: str) -> str:
    """The colour of an arm's label, darker than its line may be."""
    return SERIES[PAPERS[arm][0]].colour


def _curve(run: Record, part: str, epochs: bool, low: float) -> Curve:
    """At most POINTS of a run's curve, the first and the last among them; not finite below `low`, or where it diverged."""
    epoch, y = run.array("epoch"), 100 * run.array(f"{part}_acc")
    kept = _spread(len(epoch))
    x = epoch if epochs else 100 * epoch / epochs_of(run)
    return coarse(x[kept]), coarse(np.where(y >= low, y, np.nan)[kept])


def _spread(count: int) -> np.ndarray:
    """At most POINTS of the numbers 0 ... count - 1, half of them evenly, half evenly over their logarithm."""
    if count <= POINTS:
        return np.arange(count)
    even, logarithmic = np.linspace(0, count - 1, POINTS // 2), np.geomspace(1, count, POINTS // 2) - 1
    return np.unique(np.concatenate([even, logarithmic]).round().astype(int))


def _lowest(runs: Sequence[Record]) -> int:
    """Where the axis of accuracy begins: the tens below all that is shown of the last 95 % of training."""
    shown = [digitised(arm, part)[2] for arm in PAPERS for part in IMAGES.values()]
    for seeds in arms(runs).values():
        for run in seeds:
            late = run.array("epoch") >= 0.05 * epochs_of(run)
            shown += [100 * run.array(f"{part}_acc")[late] for part in IMAGES.values()]
    return int(np.nanmin(np.concatenate(shown)) // 10) * 10


def _finding(runs: Sequence[Record], shown: str, part: str) -> str:
    """How far above the net without BN those with it end, ours beside the paper's: medians over seeds."""
    held = arms(runs)
    if shown != "all":
        return _one_arm(held.get(shown, []), shown, part)
    with_bn = ("large", "matched")
    papers = [float(digitised(arm, part)[2][-1] - digitised("none", part)[2][-1]) for arm in with_bn]
    on = ", training images" * (part == "train")
    if not {"large", "none"} <= held.keys():
        return f"The paper{on}: {_above(papers, PAPERS['large'][1], PAPERS['none'][1])}"
    ours = _above([median_gain(runs, arm, "none", part) for arm in with_bn if arm in held], rate(held["large"]), rate(held["none"]))
    return f"Ours{on}: {ours} (the paper: {' and '.join(f'{points:+.1f}' for points in papers)})".replace("-", "−")


def _above(points: Sequence[float], large: float, own: float) -> str:
    """Such as "BN at 0.1 ends 20.2 points above none at 0.01, and at that same rate 15.2 above"."""
    same = f", and at that same rate {_apart(points[1], '')}" if len(points) == 2 else ""
    return f"BN at {large:g} ends {_apart(points[0], ' points')} none at {own:g}{same}"


def _apart(points: float, unit: str) -> str:
    """Such as "0.7 points below"; a question mark where a run diverged."""
    if not math.isfinite(points):
        return f"?{unit} (diverged) above"
    return f"{abs(points):.1f}{unit} {'above' if points >= 0 else 'below'}"


def median_gain(runs: Sequence[Record], better: str, worse: str, part: str = "test") -> float:
    """Points of final accuracy between two arms, the median over the seeds that both have; NaN where one of them diverged."""
    points = gain(runs, better, worse, part)
    return float(np.median(points)) if len(points) else math.nan


def _one_arm(seeds: Sequence[Record], arm: str, part: str) -> str:
    total, _, values = digitised(arm, part)
    if not seeds:
        return f"The paper's {setting(*PAPERS[arm])}: {values[-1]:.1f} % after {total:,} epochs; not measured here yet"
    ended = [value for run in seeds if math.isfinite(value := final(run, part))]
    ours = f"{np.median(ended):.1f} % after {epochs_of(seeds[0]):,} epochs" if ended else "diverges"
    papers = f" at {PAPERS[arm][1]:g}" if rate(seeds) != PAPERS[arm][1] else ""
    return f"{setting(PAPERS[arm][0], rate(seeds))}: {ours}; the paper{papers}: {values[-1]:.1f} % after {total:,}"


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
    for run in runs:
        if run.config.model and run.config.train and not run.config.train.steps and run.config.run_id not in chosen:
            rest.setdefault((run.config.model.norm, run.config.train.lr), []).append(final(run))
    said = []
    for key, ends in rest.items():
        kept = [end for end in ends if math.isfinite(end)]
        parts = [f"{spread(kept, '.1f')} %"] * bool(kept) + [f"{len(ends) - len(kept)} of {len(ends)} diverged"] * (len(kept) < len(ends))
        said.append(f"{setting(*key)} {', '.join(parts)}")
    return f"Trained as well: {'; '.join(said)}." if said else ""


def caveats(runs: Sequence[Record]) -> str:
    """In words, what keeps the comparison at equal rates open: trainings that have not come to their end, and rates that were not tried."""
    held = arms(runs)
    if not {"matched", "none"} <= held.keys():
        return ""
    fits = {arm: float(np.median([final(run, "train") for run in held[arm]])) for arm in ("matched", "none")}
    said, epochs, own = [], epochs_of(held["none"][0]), rate(held["none"])
    if all(fit < FITTED for fit in fits.values()):
        said.append(
            f"After {epochs:,} epochs neither training has finished: of their training images the network with BN has "
            f"{fits['matched']:.0f} % right, the one without {fits['none']:.0f} %."
        )
    whole = [run.config for run in runs if run.config.train and not run.config.train.steps]
    tried = sorted({c.train.lr for c in whole if c.train and c.model and c.model.norm == "none"})
    if higher := [lr for lr in tried if lr > own]:
        said.append(f"And without BN no rate between {own:g} and {higher[0]:g} was tried: one of them might serve it better.")
    return " ".join(said)


def curves(runs: Sequence[Record]) -> str:
    """In words, how many curves there are, and which of the paper's settings have none of ours."""
    held = arms(runs)
    without = [setting(*PAPERS[arm]) for arm in PAPERS if arm not in held]
    only = f"; for {' and '.join(without)} there is none" if held and without else ""
    return f"*All four* settings make {len(PAPERS) + len(held)} curves: the paper's {len(PAPERS)} and {len(held)} of ours{only}."


def first_updates(held: Mapping[str, Sequence[Record]], close: bool) -> go.Figure:
    """The loss of each of the first mini-batches before its update, in the paper's settings; both axes are logarithmic.

    Seeds faint, their geometric mean strong; in the close-up the axes are linear and the mean is over 11 updates, too.
    """
    losses = {arm: [run.array("step_loss") for run in seeds] for arm, seeds in held.items()}
    count, top = max(len(loss) for seeds in losses.values() for loss in seeds), 4.0
    ends = np.concatenate([(np.nanmin(loss), np.max(loss[np.isfinite(loss)])) for seeds in losses.values() for loss in seeds])
    whole = Axis("mini-batch loss", float(ends.min()) / 1.5, max(10.0, float(ends.max())) * 1.5, log=True)
    y = Axis("mini-batch loss", min(math.floor(2 * ends.min()) / 2, 2.0), top) if close else whole
    x = Axis("mini-batch", 0, 1.5 * count, ticks=range(0, count + 1, 100)) if close else Axis("mini-batch", 0.9, 12 * count, log=True)
    if not close:
        x = replace(x, ticks=[tick for tick in (1, 3, 10, 30, 100, 300) if tick <= count])
    fig = figure(_from_to(held, losses), (x, y))
    labels = []
    for arm, seeds in losses.items():
        look, name = LOOKS[arm], setting(*PAPERS[arm], " ")
        if len(seeds) > 1:
            shown = [np.where(loss <= top, loss, np.nan) if close else loss for loss in seeds]
            faint(fig, [(np.arange(1.0, len(loss) + 1), loss) for loss in shown], replace(look, label=name))
        gone = [loss for loss, run in zip(seeds, held[arm], strict=True) if run.status != "completed"]
        if gone:
            marker, last = {"symbol": "x", "size": 9, "color": RED}, [min(float(loss[np.isfinite(loss)][-1]), y.high) for loss in gone]
            fig.add_scatter(x=[len(loss) for loss in gone], y=last, mode="markers", marker=marker, name=f"{name} diverges")
        if survived := [loss for loss, run in zip(seeds, held[arm], strict=True) if run.status == "completed"]:
            mean = np.exp(np.mean([np.log(loss) for loss in survived], axis=0))
            end = float(np.exp(np.log(mean[-train.WINDOW :]).mean()))
            if close:
                mean = np.convolve(np.pad(mean, 5, mode="edge"), np.full(11, 1 / 11), mode="valid")
                mean = np.where(mean <= top, mean, np.nan)
            line = {"color": look.colour, "width": 2.5, "dash": look.dash}
            fig.add_scatter(x=np.arange(1.0, len(mean) + 1), y=coarse(mean), mode="lines", line=line, name=name)
            labels.append((count, min(end, y.high), name, _ink(arm)))
    labels_apart(fig, labels)
    return fig


def _from_to(held: Mapping[str, Sequence[Record]], losses: Mapping[str, Sequence[np.ndarray]]) -> str:
    """The loss of the first mini-batch and of the last 20 without BN and at the large rate, medians over seeds."""
    words = []
    for arm in [arm for arm in ("none", "large") if arm in held]:
        gone = sum(run.status != "completed" for run in held[arm])
        last = f"{np.median([loss[-train.WINDOW :].mean() for loss in losses[arm]]):.3g}" if not gone else f"{gone} diverge"
        words.append(f"{np.median([loss[0] for loss in losses[arm]]):.3g} → {last} ({setting(*PAPERS[arm])})")
    return f"Loss from the first mini-batch to the last: {', '.join(words)}"


def at_start(held: Mapping[str, Sequence[Record]]) -> str:
    """In words, the loss before the first update, which no rate has changed yet: medians and ranges of the seeds, with BN and without."""
    losses: dict[str, dict[int, float]] = {}
    for arm, seeds in held.items():
        losses.setdefault(PAPERS[arm][0], {}).update({run.config.seed: run.measured["initial_loss"] for run in seeds})
    names = {"batch": "with BN", "none": "without"}
    return "; ".join(f"{spread(list(of_seed.values()), '.3g')} {names[norm]}" for norm, of_seed in losses.items())


def provenance(runs: Sequence[Record]) -> sources.Source:
    """The line below a figure of these runs; of the paper's curves alone where there are none."""
    if runs:
        ours = sources.source(runs)
        return replace(ours, line=f"in colour · {ours.line} · in grey: the paper's Fig 1, digitised")
    return sources.Source("from the paper", "Fig 1, digitised; no run of ours is recorded yet", None, [])


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
