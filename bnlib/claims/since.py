"""What later work found, on our networks (studies `mlp`, `trunk`, `catapult`, `rescaling`, `effective`)."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from bnlib.claims.evidence import held, together
from bnlib.claims.verdict import SEEDS, Verdict, decide, judge, pending, spread
from bnlib.matrices.mlp import EXPLOSION
from bnlib.probes.trunk import exponent, stages
from bnlib.records import Record
from bnlib.studies import NARROW


def explosion(record: Record) -> float:
    """ln |gradient|^2 a layer, towards the input: the slope over the layers, by least squares (study `mlp`)."""
    return -float(np.polyfit(record.array("layer"), record.array("ln_gradient"), 1)[0])


def gradients_explode(mlp: Sequence[Record]) -> Verdict:
    """Yang et al. (2019), 64 layers of 1000 neurons, 256 samples. The slope is ln(pi / (pi - 1)) to a tenth with BN, below a tenth without.

    The law is for infinite width and batch; a batch of 256 or a width of 1000 should cost a few per cent, not ten. Without BN He's
    variance keeps |gradient|^2 in the mean: a tenth of the law is 11-fold over 64 layers, where chance still makes a few fold.
    """
    claim = "In a wide random ReLU network with BN each layer multiplies the squared gradient by π/(π−1); without BN it stays."
    rows = together(*(held(mlp, M=64, N=1000, batch=256, restandardise=norm, relu=True) for norm in (True, False)))
    if len(rows[0]) < SEEDS:
        return pending(claim, len(rows[0]))
    batch, none = (np.array([explosion(r) for r in group]) for group in rows)
    return judge(
        claim,
        {
            "the law's rate to a tenth with BN": np.abs(batch / EXPLOSION - 1) < 0.1,
            "below a tenth of it without": np.abs(none) < 0.1 * EXPLOSION,
        },
        f"the logarithm grows by {spread(batch, '.4f')} a layer with BN (the law: {EXPLOSION:.4f}), by "
        f"{spread(none, '.4f')} without".replace("-", "−"),
    )


def total_growth(record: Record) -> float:
    """ln |gradient|^2 at the stem over that at the output of the last block (study `trunk`)."""
    ln = record.array("ln_gradient")
    return float(ln[0] - ln[-1])


def per_further_layer(trunk: Sequence[Record], block: str) -> Float[np.ndarray, " seeds"]:
    """How much `total_growth` is larger at depth 110 than at 56 with BN, a layer; of the seeds that have both."""
    low, high = together(*(held(trunk, depth=depth, norm="batch", block=block) for depth in (56, 110)))
    return np.array([(total_growth(b) - total_growth(a)) / 54 for a, b in zip(low, high, strict=True)])


def skips_tame_gradients(trunk: Sequence[Record]) -> Verdict:
    """Yang et al. (2019), ResNets with BN. From depth 56 to 110 ln |gradient|^2 grows by more than half of ln(pi / (pi - 1)) a layer in the
    plain network, by less than half in the residual one.

    Half lies between the law and nothing. Depth against depth, because growth by a power of the block, which shortcuts leave, looks steep
    in a shallow network but adds little to a deep one.
    """
    claim = "Without shortcuts BN itself makes gradients explode with depth; with them it does not."
    plain, residual = (per_further_layer(trunk, block) for block in ("plain", "residual"))
    if min(len(plain), len(residual)) < SEEDS:
        return pending(claim, min(len(plain), len(residual)))
    return judge(
        claim,
        {"more than half of the law without shortcuts": plain > EXPLOSION / 2, "less with them": residual < EXPLOSION / 2},
        f"from 56 to 110 layers each further layer multiplies the squared gradient at the stem by {spread(np.exp(plain), '.2f')} in the "
        f"plain network (the law for wide layers: {np.exp(EXPLOSION):.2f}), by {spread(np.exp(residual), '.2f')} in the residual one",
    )


def branch_share(record: Record) -> Float[np.ndarray, " stage"]:
    """Of the root mean square of branch plus shortcut, the part that is the branch's, in the last block of each stage."""
    return np.array([part[-1] for part in stages(record.array("branch") / record.array("sum"))])


def trunk_grows_as_root(trunk: Sequence[Record]) -> Verdict:
    """De & Smith (2020), depth 110. With BN the block outputs' root mean square goes with a power of the block between 0.4 and 0.6 in each
    stage; the branch's share in its last block is below 0.4 with BN in each stage, above without.

    The law's power is 1/2; 0 would be no growth, 1 growth of the spread by equal steps. ReLUs on the trunk bring it to 0.46 to 0.49 over
    18 wide blocks, by a random walk; the rest is for narrow layers. A share of 1 / sqrt(18) = 0.24 is expected with BN, of 1 / sqrt(3) =
    0.58 without, by the variances alone; 0.4 is half-way between their logarithms.
    """
    claim = "With BN the trunk's spread grows as the square root of the block, so that branches count for less and less."
    batch, none = together(*(held(trunk, depth=110, norm=norm, block="residual") for norm in ("batch", "none")))
    if len(batch) < SEEDS:
        return pending(claim, len(batch))
    powers = np.array([[exponent(part) for part in stages(r.array("rms"))] for r in batch])
    with_bn, without = (np.array([branch_share(r) for r in group]) for group in (batch, none))
    shown = " / ".join(spread(column, ".2f") for column in powers.T)
    return judge(
        claim,
        {
            "a power of 0.4 to 0.6 in each stage": np.all(np.abs(powers - 0.5) < 0.1, axis=1),
            "a branch below 0.4 with BN": np.all(with_bn < 0.4, axis=1),
            "above 0.4 without": np.all(without > 0.4, axis=1),
        },
        f"the fitted powers in the three stages are {shown}; in the last block of a stage the branch is {spread(with_bn, '.2f')} of the "
        f"sum with BN, {spread(without, '.2f')} without",
    )


def rank_power(records: Sequence[Record]) -> float:
    """p in rank ~ N^p at the last layer, over the widths of one seed's records."""
    widths = [r.config.product.N for r in records if r.config.product]
    return float(np.polyfit(np.log(widths), np.log([r.array("rank")[-1] for r in records]), 1)[0])


_KINDS = ("linear", "with ReLUs")


def bn_keeps_rank(mlp: Sequence[Record]) -> Verdict:
    """Daneshmand et al. (2020), 512 layers, linear and with ReLU. Without BN fewer than two directions are left at any width; with BN the
    rank at the last layer grows with a power of the width of at least 0.4.

    Below two is one and a remainder. The theorem bounds the linear network's rank from below by a multiple of the root of the width; a
    power fitted to four widths moves by some hundredths from seed to seed, hence 0.4 and not 0.5.
    """
    claim = "Without BN the samples in a deep random network fall onto one line; with BN the directions left grow in number with the width."
    found = [[held(mlp, M=512, restandardise=norm, relu=relu) for norm in (True, False)] for relu in (False, True)]
    groups = [group for pair in found for group in pair]
    whole = [{seed for seed in {r.config.seed for r in group} if len(held(group, seed=seed)) == len(NARROW)} for group in groups]
    seeds = sorted(set.intersection(*whole))
    if len(seeds) < SEEDS:
        return pending(claim, len(seeds))
    powers = np.array([[rank_power(held(batch, seed=seed)) for batch, _ in found] for seed in seeds])
    left = np.array([[max(r.array("rank")[-1] for r in held(none, seed=seed)) for _, none in found] for seed in seeds])
    least, most = (
        f"{spread(values[:, 0], '.2f')} in the linear network and {spread(values[:, 1], '.2f')} with ReLUs" for values in (left, powers)
    )
    return judge(
        claim,
        {f"fewer than two directions without BN, {name}": part for name, part in zip(_KINDS, (left < 2).T, strict=True)}
        | {f"a power above 0.4 with BN, {name}": part for name, part in zip(_KINDS, (powers > 0.4).T, strict=True)},
        f"after 512 layers without BN the rank, the number of directions left, is at any width at most {least}; with BN it goes as the "
        f"width to the power {most}",
    )


def rise(record: Record) -> Float[np.ndarray, " multiple"]:
    """The largest loss over the loss at the start, at each rate."""
    loss = record.array("loss")
    return np.array(np.nanmax(loss, axis=1) / loss[:, 0])


def catapulted(record: Record) -> Float[np.ndarray, " n"]:
    """The multiples of 2 / lambda_max, 1 or more, at which the loss rose by a tenth or more and ended below half of `ignorance`."""
    at = record.array("multiple")
    return at[(at >= 1) & (rise(record) >= 1.1) & (record.array("loss")[:, -1] < ignorance(record) / 2)]


def ignorance(record: Record) -> float:
    """The least loss of logits that are equal for all images, classes equally frequent: squared error of two layers, or ln 10."""
    return 0.45 if record.config.model is None else float(np.log(10))


def rise_is_not_divergence(catapult: Sequence[Record]) -> Verdict:
    """Lewkowycz et al. (2020). With two layers and squared error, and with ResNet-8, BN and cross-entropy, some rate of 2 / lambda_max or
    more makes the loss rise by a tenth or more and end below half of what equal logits for all images reach; with two layers, at each
    such rate, where the curvature is below 2 / rate.

    Full-batch descent has no noise, and below 2 / lambda_max nothing rises on a quadratic: a tenth is a rise. Below half of what a net
    that ignores its input can reach is learning beyond doubt. Below 2 / rate is where descent is stable.
    """
    claim = "A loss that rises at first has not diverged: above 2/λ it can be thrown to where the curvature is lower, and fall there."
    two, deep = together(held(catapult, M=2, relu=True), held(catapult, depth=8, norm="batch"))
    if len(two) < SEEDS:
        return pending(claim, len(two))
    flat = [_stability(r)[np.isin(r.array("multiple"), catapulted(r))] for r in two]
    tops = [[float(rise(r)[np.isin(r.array("multiple"), catapulted(r))].max(initial=1.0)) for r in group] for group in (two, deep)]
    return judge(
        claim,
        {
            "a rise that ends in learning, with two layers": np.array([len(part) > 0 for part in flat]),
            "where the curvature is lower": np.array([len(part) > 0 and bool((part < 1).all()) for part in flat]),
            "such a rise in ResNet-8": np.array([len(catapulted(r)) > 0 for r in deep]),
        },
        f"the highest loss from which a run came back, to learn, is {spread(tops[0], '.3g')} times its first with two layers, and "
        f"{spread(tops[1], '.3g')} times in ResNet-8 with BN (1: none)",
    )


def _stability(record: Record) -> Float[np.ndarray, " multiple"]:
    """rate times lambda_max at the end, over 2: below 1 descent is stable there."""
    return np.array(record.array("multiple") * record.array("end") / float(record.measured["start"]))


def scaling_gap(record: Record) -> Float[np.ndarray, " factor"]:
    """The largest relative difference that each factor but 1 makes to the losses; infinite where they are not finite."""
    found = record.array("gap")[record.array("factor") != 1]
    return np.where(np.isnan(found), np.inf, found)


def size_has_no_say(rescaling: Sequence[Record]) -> Verdict:
    """Arora et al. (2019) and others, ResNet-8, 20 updates in float64, kernels 0.1 to 10 times as large, their rate with the square.

    With BN all losses agree to 1e-9 of their size; without BN they differ by a tenth or more at each factor. Float64 has 1e-16, and
    twenty updates may amplify it a million times. A tenth is what one would see.
    """
    claim = "With BN, kernels c times as large at c² times the rate make the same network, update by update; without BN they do not."
    batch, none = together(*(held(rescaling, norm=norm) for norm in ("batch", "none")))
    if len(batch) < SEEDS:
        return pending(claim, len(batch))
    same, other = np.array([scaling_gap(r).max() for r in batch]), np.array([scaling_gap(r).min() for r in none])
    return judge(
        claim,
        {"agreement to 1e-9 with BN": same < 1e-9, "a tenth or more apart without": other > 0.1},
        f"losses of 20 updates differ by at most {spread(same, '.0e')} of their size with BN; without, by {spread(other, '.1g')} or more",
    )


def closing(effective: Sequence[Record], fast: float = 1.0, slow: float = 0.1) -> Float[np.ndarray, " seeds"]:
    """The ratio of the effective rates lr / |w|^2 of two runs after the last update, median over kernels; of each seed that has both.
    NaN where one diverged.
    """
    pairs = zip(*together(held(effective, lr=fast), held(effective, lr=slow)), strict=True)
    return np.array([fast / slow * np.median(_last_norms(b) / _last_norms(a)) for a, b in pairs])


def _last_norms(record: Record) -> Float[np.ndarray, " kernel"]:
    norms = record.array("norm2")[:, -1]
    return norms if record.status == "completed" else np.full_like(norms, np.nan)


def rates_tune_themselves(effective: Sequence[Record]) -> Verdict:
    """Arora et al. (2019), ResNet-8 with BN, 200 updates. The effective rates of the runs at 1 and at 0.1 are ten times apart at the start;
    in the median kernel their ratio falls below the root of ten.

    The root of ten: at least half of the way to equality, in the logarithm. That it is asked of 1 against 0.1, and not of 0.01 as well,
    where a kernel hardly grows in 200 updates, was decided on a trial with another seed.
    """
    claim = "With BN a learning rate that is too large lowers itself: the kernels grow, and their effective rate falls."
    ratio = closing(effective)
    if len(ratio) < SEEDS:
        return pending(claim, len(ratio))
    return Verdict(
        claim,
        decide(ratio < 10**0.5),
        f"of 10 at first, the effective rates of the runs at 1 and 0.1 are {spread(ratio, '.1f')} times apart after 200 updates (asked: "
        f"below {10**0.5:.1f}; median kernel), those at 0.1 and 0.01 {spread(closing(effective, 0.1, 0.01), '.1f')} times",
    )
