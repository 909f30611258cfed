"""From matrix products to networks, to mini-batches and to their pixels (studies `bridge`, `population`, `inputs`).

The thresholds were fixed before the seeds of these studies were measured; trial runs on seeds 100 to 102 had been seen.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.stats import spearmanr

from bnlib.claims.evidence import held, together
from bnlib.claims.rates import edges
from bnlib.claims.verdict import SEEDS, Verdict, judge, pending, spread
from bnlib.config import ModelConfig
from bnlib.probes.jacobian import flattened, pace
from bnlib.records import Record
from bnlib.studies import DEPTHS, TOWARDS

Seeds = Float[np.ndarray, " seeds"]

SHORTCUTS = {"residual": "with shortcuts", "plain": "without shortcuts"}


def rung(
    bridge: Sequence[Record], name: str, depth: int, directions: str = "random", batch: int = 128, constant: bool = True
) -> list[Record]:
    """The records of a rung between the toy and the network, by seed; `constant` statistics are not differentiated."""
    changes, linear = TOWARDS[name]
    where = {"block": ModelConfig().block} | changes
    return held(bridge, **where, depth=depth, linear=linear, directions=directions, batch=batch, held=constant, k=64)


def at_end(records: Sequence[Record], key: str) -> Seeds:
    """A measurement at the end of the last block, an entry a seed."""
    return np.array([record.array(key)[-1] for record in records])


def ln_condition(records: Sequence[Record]) -> Seeds:
    """ln of the largest over the smallest singular value at the end of the last block."""
    return np.array(at_end(records, "ln_largest") - at_end(records, "ln_smallest"))


def paces(records: Sequence[Record]) -> Seeds:
    """How many times as fast as by the law for flattened matrices the directions spread, from the input to the last block."""
    depth = {r.config.model.depth for r in records if r.config.model}
    return np.array([pace(n, flattened(*depth)[-1], 64) for n in at_end(records, "participation")])


def toy_explains_plain(bridge: Sequence[Record]) -> Verdict:
    """Sec 4, 110 layers without shortcuts. Network and toy spread 64 directions at the same pace to a factor of two: with ReLU and without
    BN, and with BN, measured against the product of the same convolutions; and that product against the law for flattened matrices.

    A factor of two in the pace is what doubling the depth does: a toy that is off by more has the wrong depth.
    """
    claim = "A product of random matrices, one for each layer, explains how deep networks stretch some directions more than others."
    groups = together(*(rung(bridge, name, 110) for name in ("convolutions", "plain", "plain-bn")))
    if len(groups[0]) < SEEDS:
        return pending(claim, len(groups[0]))
    toy, plain, normalised = (paces(group) for group in groups)
    return judge(
        claim,
        {
            f"the same pace to a factor of two, {name}": np.abs(np.log(ratio)) < np.log(2)
            for name, ratio in (("without BN", plain / toy), ("with BN", normalised / toy), ("of that product by the law", toy))
        },
        f"without shortcuts 110 layers spread directions {spread(plain / toy, '.2g')} times as fast as the product of their convolutions, "
        f"with BN {spread(normalised / toy, '.2g')} times; that product is {spread(toy, '.2g')} times as fast as flattened matrices",
    )


def depth_spreads(bridge: Sequence[Record]) -> Verdict:
    """Sec 4. Without BN the largest of 64 singular values over the smallest is at least ten times larger at 110 layers than at 8, both
    in the residual network and in the plain one.

    The paper says that it grows drastically. Ten times, as for products of matrices a factor.
    """
    claim = "The deeper the network without BN, the larger the ratio of its largest to its smallest singular values."
    names = ("residual", "plain")
    groups = [together(rung(bridge, name, 8), rung(bridge, name, 110)) for name in names]
    if (least := min(len(pair[0]) for pair in groups)) < SEEDS:
        return pending(claim, least)
    grown = {name: np.exp(ln_condition(deep) - ln_condition(shallow)) for name, (shallow, deep) in zip(names, groups, strict=True)}
    return judge(
        claim,
        {f"ten times larger {SHORTCUTS[block]}": values >= 10 for block, values in grown.items()},
        f"from 8 to 110 layers the ratio over 64 random directions grows by {spread(grown['residual'], '.2g')} in the residual network and "
        f"by {spread(grown['plain'], '.2g')} without shortcuts",
    )


def bn_conditions(bridge: Sequence[Record]) -> Verdict:
    """Sec 4, 110 layers. With BN at least twice as many of 64 directions share the energy as without, with shortcuts and without them.

    Twice, as for re-standardised products: a cure is more than a shift by some per cent.
    """
    claim = "Batch normalisation counters the ill-conditioning of deep random networks."
    names = ("residual", "residual-bn", "plain", "plain-bn")
    groups = together(*(rung(bridge, name, 110) for name in names))
    if len(groups[0]) < SEEDS:
        return pending(claim, len(groups[0]))
    n = {name: at_end(group, "participation") for name, group in zip(names, groups, strict=True)}
    return judge(
        claim,
        {f"twice as many {name}": n[f"{block}-bn"] >= 2 * n[block] for block, name in SHORTCUTS.items()},
        f"in the residual network {spread(n['residual-bn'], '.1f')} of 64 directions share the energy with BN, "
        f"{spread(n['residual'], '.1f')} without; without shortcuts {spread(n['plain-bn'], '.1f')} with BN, "
        f"{spread(n['plain'], '.1f')} without",
    )


def product_explodes(bridge: Sequence[Record]) -> Verdict:
    """Sec 4, 110 layers, Xavier, no BN. A change of the image comes out at least ten times as large (root mean square over 64 random
    directions): in the residual network; and in the toy, the product of the plain network's convolutions.

    Tenfold is growth beyond doubt; variance 1/N is meant to keep lengths.
    """
    claim = "The explosion without BN follows from random initialisation, as it does in a product of random matrices."
    groups = together(rung(bridge, "residual", 110), rung(bridge, "convolutions", 110))
    if len(groups[0]) < SEEDS:
        return pending(claim, len(groups[0]))
    network, toy = (np.exp(at_end(group, "ln_rms")) for group in groups)
    return judge(
        claim,
        {"tenfold in the network": network >= 10, "tenfold in the product": toy >= 10},
        f"a change of the image leaves the residual network {spread(network, '.2g')} times as large as it enters, and the product of 109 "
        f"convolutions {spread(toy, '.2g')} times",
    )


def rates_and_conditions(records: Sequence[Record], norms: Sequence[str], by: str = "condition") -> dict[int, Float[np.ndarray, "2 point"]]:
    """By seed: ln of the condition number, or of the gain, and the largest rate that trains, of residual networks at the depths where
    both are measured; 0 where no rate trains.
    """
    found: dict[int, list[tuple[float, float]]] = {}
    bridge, trained = ([r for r in records if r.config.study == study] for study in ("bridge", "max-lr"))
    for norm in norms:
        for depth in DEPTHS:
            rates = edges(trained, norm, depth)
            for record in rung(bridge, "residual-bn" if norm == "batch" else "residual", depth):
                if record.config.seed in rates:
                    (x,) = ln_condition([record]) if by == "condition" else at_end([record], "ln_rms")
                    found.setdefault(record.config.seed, []).append((float(x), rates[record.config.seed]))
    return {seed: np.array(points).T for seed, points in sorted(found.items())}


def conditioning_costs_rate(records: Sequence[Record]) -> Verdict:
    """Sec 4, studies `bridge` and `max-lr` together. Spearman's correlation between a residual network's condition number (64 random
    directions, at initialisation) and the largest rate at which 100 updates train it is at most -0.8: over the depths without BN; and
    over both kinds of network at once, as it must be if conditioning is what BN changes. It takes five depths or more of a seed.

    With seven depths -0.8 has a probability of 2 % by chance.
    """
    claim = "The larger the condition number, the smaller the learning rates that can be used."
    kinds = [{s: p for s, p in rates_and_conditions(records, norms).items() if p.shape[1] >= 5} for norms in (("none",), ("none", "batch"))]
    seeds = sorted(set(kinds[0]) & set(kinds[1]))
    if len(seeds) < SEEDS:
        return pending(claim, len(seeds))
    none, both = (np.array([float(spearmanr(*kind[seed]).statistic) for seed in seeds]) for kind in kinds)
    return judge(
        claim,
        {"−0.8 or less without BN": none <= -0.8, "with BN and without it together": both <= -0.8},
        f"over the depths the rank correlation is {spread(none, '.2f')} without BN, and {spread(both, '.2f')} for networks with BN and "
        "without it together".replace("-", "−"),
    )


def usable_step(record: Record) -> float:
    """The largest step along the first gradient up to which the loss has not doubled."""
    loss, steps = record.array("loss"), record.array("step")
    doubled = ~(loss <= 2 * loss[0])  # or is not finite
    return float(steps[max(1, int(np.argmax(doubled)) - 1)] if doubled.any() else steps[-1])


def raw_pixels_cost_rate(inputs: Sequence[Record]) -> Verdict:
    """Sec 1, ResNet-20. Pixels of 0 to 255 instead of standardised ones cut the step at which the loss doubles tenfold or more without BN,
    and by less than a factor of two with it.

    The pixels are some 60 times as large; tenfold is beyond what seeds do. Two is more than the steps' resolution, five a decade.
    """
    claim = "Normalising the input permits larger steps; batch normalisation inside the network makes it unnecessary."
    arms = [(norm, scale) for norm in ("none", "batch") for scale in ("standardised", "bytes")]
    groups = together(*(held(inputs, norm=norm, scale=scale, depth=20) for norm, scale in arms))
    if len(groups[0]) < SEEDS:
        return pending(claim, len(groups[0]))
    step = {arm: np.array([usable_step(r) for r in group]) for arm, group in zip(arms, groups, strict=True)}
    ratio = {norm: step[norm, "standardised"] / step[norm, "bytes"] for norm in ("none", "batch")}
    return judge(
        claim,
        {"tenfold without BN": ratio["none"] >= 10, "less than twofold with it": np.abs(np.log(ratio["batch"])) < np.log(2)},
        f"on standardised images the loss doubles at a step {spread(ratio['none'], '.2g')} times as long as on bytes without BN, and "
        f"{spread(ratio['batch'], '.2g')} times with it",
    )


def mini_batch_stands_for_all(population: Sequence[Record]) -> Verdict:
    """Sec 1.1, ResNet-110 with BN at initialisation, 128 images. Every layer's means and spreads are within 10 % of a standard deviation
    of those of 1024 images (root mean square over channels), and so are the logits.

    10 % is an error that a reader would call small; the two parts show whether small errors stay small.
    """
    claim = "The statistics of a mini-batch stand in for those of the whole training set."
    rows = held(population, depth=110)
    if len(rows) < SEEDS:
        return pending(claim, len(rows))
    at = [r.measured["size"].index(128) for r in rows]
    layer = np.array([max(r.array("mean")[i].max(), r.array("spread")[i].max()) for r, i in zip(rows, at, strict=True)])
    logits = np.array([np.mean(r.measured["logits"][i]) for r, i in zip(rows, at, strict=True)])  # fewer mini-batches of more images
    return judge(
        claim,
        {"within 10 % in every layer": layer < 0.1, "within 10 % at the logits": logits < 0.1},
        f"in the worst layer they are {spread(100 * layer, '.2g')} % of a standard deviation off, but the logits "
        f"{spread(100 * logits, '.2g')} %",
    )
