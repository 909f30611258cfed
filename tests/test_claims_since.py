"""What later work found: verdicts and figures on made-up records with known content."""

import datetime
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from test_figures_networks import lines, outside

from bnlib import claims, records
from bnlib.config import DataConfig, LinearConfig, ModelConfig, ProbeConfig, ProductConfig, RunConfig, TrainConfig
from bnlib.figures import catapult, since
from bnlib.matrices import mlp
from bnlib.probes import trunk
from bnlib.probes.catapult import MULTIPLES
from bnlib.probes.rescale import FACTORS
from bnlib.records import Record
from bnlib.studies import BATCHES, EFFECTIVE, NARROW, TRUNKS, WIDTHS

SEEDS = range(3)
LAW = mlp.EXPLOSION


def record(run: RunConfig, **measured: Any) -> Record:
    return records.new(run, measured, datetime.datetime.now(datetime.UTC), 1.0)


def networks(slope: float = LAW, drift: float = 0.0, left: float = 1.0, power: float = 0.5) -> list[Record]:
    """With BN `slope` nats a layer and a rank of N^power; without, `drift` and `left`."""
    made = []
    for seed in SEEDS:
        for N in WIDTHS:
            for norm, batch in ((False, 256), *((True, batch) for batch in BATCHES)):
                layer = mlp.recorded(64)
                run = RunConfig("mlp", seed, product=ProductConfig(64, N), linear=LinearConfig(norm, batch, relu=True))
                ln = (64 - layer) * (slope if norm else drift) + 5
                made.append(record(run, layer=layer, ln_gradient=ln, rank=np.ones(len(layer))))
        for N in NARROW:
            for relu in (False, True):
                for norm in (False, True):
                    layer = mlp.recorded(512)
                    run = RunConfig("mlp", seed, product=ProductConfig(512, N), linear=LinearConfig(norm, 256, relu=relu))
                    rank = np.full(len(layer), N**power if norm else left)
                    made.append(record(run, layer=layer, ln_gradient=-layer.astype(float), rank=rank))
    return made


def trunks(plain: float = LAW, residual: float = 0.0, power: float = 0.5, branch: float = 0.25, none: float = 0.6) -> list[Record]:
    """`plain` and `residual` nats of |gradient|^2 a layer with BN; the trunk grows with a power of the block, the branch is a share."""
    made = []
    for seed in SEEDS:
        for depth in TRUNKS:
            n, count = (depth - 2) // 6, (depth - 2) // 2
            k = np.tile(np.arange(1.0, n + 1), 3)
            for norm, block in (("batch", "residual"), ("batch", "plain"), ("none", "residual")):
                rate = 0.0 if norm == "none" else plain if block == "plain" else residual
                rms = 0.7 * 1.1 ** np.arange(count) if norm == "none" else k**power
                share = none if norm == "none" else branch
                run = RunConfig("trunk", seed, ModelConfig(depth=depth, norm=norm, block=block), DataConfig(), ProbeConfig())  # type: ignore[arg-type]
                ln = -2 * rate * np.arange(count + 1)
                made.append(record(run, rms=rms, sum=np.full(count, 2.0), branch=np.full(count, 2.0 * share), ln_gradient=ln))
    return made


def thrown(two: float = 2.0, end: float = 0.01, curvature: float = 0.4, deep: float = 1.2) -> list[Record]:
    """At 1.5 times 2 / lambda the loss rises to `two` or `deep` times its start, then ends at `end` of it; from 3 times on it diverges."""
    made = []
    for seed in SEEDS:
        for kind in ("two", "batch", "none"):
            steps = 100 if kind == "two" else 60
            start, rise = (3.0, two) if kind == "two" else (2.4, deep if kind == "batch" else 1.5)
            loss = np.full((len(MULTIPLES), steps + 1), start)
            loss[:, -1] = end * start
            loss[MULTIPLES.index(1.5), 3] = rise * start
            gone = np.array(MULTIPLES) >= 3
            loss[gone, 5:] = np.nan
            measured = {"multiple": MULTIPLES, "start": 50.0, "loss": loss, "end": np.where(gone, np.nan, 50.0 * curvature)}
            if kind == "two":
                sections: dict[str, Any] = {"product": ProductConfig(2, 512), "linear": LinearConfig(steps=100, relu=True)}
            else:
                sections = {"model": ModelConfig(depth=8, norm=kind), "train": TrainConfig(steps=60, batch=32)}  # type: ignore[arg-type]
            made.append(record(RunConfig("catapult", seed, data=DataConfig(), probe=ProbeConfig(32), **sections), **measured))
    return made


def scaled(same: float = 1e-14, other: float = 0.5) -> list[Record]:
    """The largest difference that scaling makes, with BN and without; without BN a factor of 10 overflows."""
    made = []
    for seed in SEEDS:
        for norm in ("batch", "none"):
            differ = same if norm == "batch" else other
            losses = np.array([np.geomspace(2.4, 0.5, 20) * (1 if c == 1 else 1 + differ) for c in FACTORS])
            gap = np.array([0.0 if c == 1 else differ for c in FACTORS])
            if norm == "none":
                losses[-1, 3:], gap[-1] = np.nan, np.nan
            run = RunConfig("rescaling", seed, ModelConfig(depth=8, norm=norm), DataConfig(), train=TrainConfig(steps=20))  # type: ignore[arg-type]
            made.append(record(run, factor=FACTORS, losses=losses, alone_losses=losses * 1.3, gap=gap))
    return made


def tuned(grown: float = 6.0) -> list[Record]:
    """At the rate 1 the kernels' squared length grows by a factor; at smaller rates it stays."""
    made = []
    for seed in SEEDS:
        for lr in EFFECTIVE:
            norm2 = np.linspace(16.0, 16.0 * (grown if lr == 1 else 1.0), 41)[None] * np.ones((7, 1))
            run = RunConfig("effective", seed, ModelConfig(depth=8), DataConfig(), train=TrainConfig(lr=lr, steps=200, batch=64))
            made.append(record(run, update=[0, *range(5, 201, 5)], norm2=norm2, status="completed", step_loss=np.ones(200)))
    return made


CASES: list[tuple[Callable, Callable, str]] = [
    (claims.gradients_explode, networks, "reproduced"),
    (claims.gradients_explode, lambda: networks(slope=1.2 * LAW), "partly"),
    (claims.gradients_explode, lambda: networks(slope=0.0, drift=LAW), "not reproduced"),
    (claims.bn_keeps_rank, networks, "reproduced"),
    (claims.bn_keeps_rank, lambda: networks(power=0.3), "partly"),
    (claims.bn_keeps_rank, lambda: networks(power=0.3, left=2.5), "not reproduced"),
    (claims.skips_tame_gradients, trunks, "reproduced"),
    (claims.skips_tame_gradients, lambda: trunks(residual=0.3), "partly"),
    (claims.skips_tame_gradients, lambda: trunks(plain=0.1, residual=0.3), "not reproduced"),
    (claims.trunk_grows_as_root, trunks, "reproduced"),
    (claims.trunk_grows_as_root, lambda: trunks(none=0.3), "partly"),
    (claims.trunk_grows_as_root, lambda: trunks(power=0.2, branch=0.5, none=0.3), "not reproduced"),
    (claims.rise_is_not_divergence, thrown, "reproduced"),
    (claims.rise_is_not_divergence, lambda: thrown(curvature=0.7), "partly"),
    (claims.rise_is_not_divergence, lambda: thrown(two=1.05, deep=1.0), "not reproduced"),
    (claims.rise_is_not_divergence, lambda: thrown(end=0.9), "not reproduced"),
    (claims.size_has_no_say, scaled, "reproduced"),
    (claims.size_has_no_say, lambda: scaled(same=1e-6), "partly"),
    (claims.size_has_no_say, lambda: scaled(same=0.2, other=0.01), "not reproduced"),
    (claims.rates_tune_themselves, tuned, "reproduced"),
    (claims.rates_tune_themselves, lambda: tuned(2.0), "not reproduced"),
]


@pytest.mark.parametrize(("verdict", "made", "word"), CASES)
def test_a_verdict_follows_from_its_records(verdict: Callable, made: Callable, word: str):
    assert verdict(made()).word == word


@pytest.mark.parametrize(("verdict", "made"), {verdict: made for verdict, made, _ in reversed(CASES)}.items())
def test_two_seeds_and_none_are_too_few(verdict: Callable, made: Callable):
    two = [r for r in made() if r.config.seed < 2]
    assert verdict(two).word == "not yet measured"
    assert "so far there are 2" in verdict(two).because
    assert "so far there are 0" in verdict([]).because


def test_what_the_verdicts_read_off():
    made = networks(slope=0.25, power=0.7)
    assert claims.explosion(claims.held(made, M=64, restandardise=True)[0]) == pytest.approx(0.25)
    assert claims.rank_power(claims.held(made, M=512, relu=True, restandardise=True, seed=0)) == pytest.approx(0.7, rel=1e-5)
    assert claims.per_further_layer(trunks(plain=0.3), "plain") == pytest.approx(np.full(3, 0.3))
    assert claims.branch_share(trunks()[0]) == pytest.approx(np.full(3, 0.25))
    assert claims.catapulted(thrown()[0]).tolist() == [1.5]
    assert claims.closing(tuned(4.0)) == pytest.approx(np.full(3, 2.5))
    gone = [replace(r, status="diverged@8") if (r.config.seed, r.config.train.lr) == (1, 0.1) else r for r in tuned(4.0)]
    assert np.isnan(claims.closing(gone)).tolist() == [False, True, False]
    assert claims.rates_tune_themselves(gone).word == "partly"
    assert "none in 1 of 3 seeds" in claims.rates_tune_themselves(gone).because
    assert np.isinf(claims.scaling_gap(scaled()[1])[-1])


# The figures


def ranges(fig: go.Figure) -> list:
    return [axis.range for axis in (*fig.select_xaxes(), *fig.select_yaxes())]


def drawings(made: Sequence[Sequence[Record]]) -> list[list[go.Figure]]:
    """Every figure of the chapter at every stop, from records of the five studies in the order of the page."""
    networks_, trunks_, thrown_, scaled_, tuned_ = made
    stages = [(d, stage, q) for d in (14, 110) for stage in (1, 2, 3) for q in since.QUANTITIES.values()]
    return [
        [since.gradients(networks_, N, batch) for N in WIDTHS for batch in BATCHES],
        [since.rank(networks_, N, relu) for N in NARROW for relu in (False, True)],
        [since.blocks(trunks_, depth) for depth in TRUNKS],
        *([since.growth(trunks_, d, s, q) for d, s, q in stages if q == shown] for shown in since.QUANTITIES.values()),
        [catapult.descent(thrown_, network, m) for network in catapult.NETWORKS.values() for m in MULTIPLES],
        [catapult.scaled(scaled_, norm, c) for norm in ("batch", "none") for c in FACTORS],
        *([catapult.effective(tuned_, kernel, shown) for kernel in range(1, 8)] for shown in catapult.SHOWN.values()),
    ]


def test_nothing_lies_beyond_its_axes_which_stay_where_they_are():
    for kind in drawings([networks(), trunks(), thrown(), scaled(), tuned()]):
        assert [found for fig in kind for found in outside(fig)] == []
        assert all(ranges(fig) == ranges(kind[0]) for fig in kind)


def test_without_records_a_figure_says_so():
    for kind in drawings([[]] * 5):
        assert all("not yet measured" in fig.layout.title.text for fig in kind)


def test_titles_say_what_the_records_say():
    assert since.gradients(networks(), 1000, 256).layout.title.text.endswith("gradient by 1.47 with BN, 1.00 without")
    assert (
        since.rank(networks(), 64, True).layout.title.text == "Width 64, ReLU: directions left after 512 layers: 8.0 with BN, 1.0 without"
    )
    assert "without shortcuts, 1-fold with shortcuts" in since.blocks(trunks(), 56).layout.title.text
    title = since.growth(trunks(), 110, 2, "rms").layout.title.text
    assert title == "Stage 2 of 110 layers: the trunk grows with the power 0.50 of the block with BN, 5.1-fold without"
    assert since.growth(trunks(), 20, 1, "share").layout.title.text.endswith("the branch is 25% of the last block with BN, 60% without")
    title = catapult.descent(thrown(), "two", 1.5).layout.title.text
    assert title == "Two layers at 1.5 times 2/λ: the loss rises 2-fold, then ends at 0.01 of its start"
    assert catapult.descent(thrown(), "batch", 0.5).layout.title.text.endswith("the loss never rises; ends at 0.01 of its start")
    assert catapult.descent(thrown(), "none", 4.0).layout.title.text.endswith("diverges in 3 of 3 runs")
    assert "rate × 100 makes the same network" in catapult.scaled(scaled(), "batch", 10.0).layout.title.text
    assert catapult.scaled(scaled(), "none", 2.0).layout.title.text.endswith("not the same network")
    title = catapult.effective(tuned(5.0), 3, "rate").layout.title.text
    assert title == "Kernel 3: effective rates 100-fold apart at the start are 20-fold apart after 200 updates"
    title = catapult.effective(tuned(), 3, "length").layout.title.text
    assert title == "Kernel 3: in 200 updates |w|² is multiplied by 1 at 0.01, 1 at 0.1, 6 at 1"
    assert catapult.descent(thrown(two=1.02), "two", 1.5).layout.title.text.startswith(
        "Two layers at 1.5 times 2/λ: the loss rises 1.02-fold,"
    )
    title = catapult.scaled(scaled(), "batch", 10.0).layout.title.text
    assert title == "Kernels × 10, with BN: rate × 100 makes the same network, to 1.0×10⁻¹⁴ of the loss"
    assert catapult.scaled(scaled(same=0.0), "batch", 10.0).layout.title.text.endswith(" same network, to the last digit of the loss")


def test_verdicts_are_sentences_with_proper_minus_signs():
    because = claims.bn_keeps_rank(networks()).because
    assert because == (
        "after 512 layers without BN the rank, the number of directions left, is at any width at most 1.00 (1.00 to 1.00) in the linear "
        "network and 1.00 (1.00 to 1.00) with ReLUs; with BN it goes as the width to the power 0.50 (0.50 to 0.50) in the linear network "
        "and 0.50 (0.50 to 0.50) with ReLUs"
    )
    assert "by −0.0300 (−0.0300 to −0.0300) without" in claims.gradients_explode(networks(drift=-0.03)).because


def test_the_thin_lines_are_the_laws():
    law = lines(since.gradients(networks(), 64, 16), "π/(π−1) a layer")[0]
    assert law.y[0] / law.y[1] == pytest.approx(np.pi / (np.pi - 1))
    walk = lines(since.growth(trunks(), 110, 2, "rms"), "random walk")[0]
    assert list(walk.y) == pytest.approx(list(trunk.walk(18, projected=True)))
    share = lines(since.growth(trunks(), 110, 1, "share"), "random walk")[0]
    assert share.y[0] == pytest.approx(1 / np.sqrt(1.5))
    assert share.y[1] == pytest.approx(1 / np.sqrt(1 + trunk.walk(1, projected=False)[0] ** 2))


def test_diverged_seeds_are_crosses():
    fig = catapult.descent(thrown(), "two", 3.0)
    above, below = lines(fig, "diverged")
    assert list(above.x) == [5.0] * 3
    assert list(below.x) == [m for m in MULTIPLES if m >= 3]
