"""The verdicts of the bridge: thresholds, seeds compared with their like, and what is not measured yet."""

import datetime
from typing import Any

import numpy as np
import pytest

from bnlib import claims, records
from bnlib.config import DataConfig, InputConfig, JacobianConfig, ModelConfig, ProbeConfig, RunConfig, TrainConfig
from bnlib.probes import jacobian
from bnlib.studies import LADDER, TOWARDS

SEEDS = range(3)
LAW = jacobian.flattened(110)[-1]


def record(run: RunConfig, **measured: Any) -> records.Record:
    return records.new(run, measured, datetime.datetime.now(datetime.UTC), 1.0)


def seen(name: str, seed: int, n: float = 30.0, ln_condition: float = 1.0, ln_gain: float = 0.0, depth: int = 110) -> records.Record:
    """A Jacobian whose measurements end as given."""
    changes, linear = TOWARDS[name]
    run = RunConfig(
        "bridge", seed, ModelConfig(depth=depth, **changes), DataConfig(), ProbeConfig(), jacobian=JacobianConfig(linear=linear)
    )
    ends = {"participation": n, "ln_largest": ln_condition + 2, "ln_smallest": 2.0, "ln_rms": ln_gain}
    return record(run, **{key: [99.0, value] for key, value in ends.items()})


def paced(*paces: float) -> list[records.Record]:
    """Convolutions, plain, plain with BN at so many times the law's pace."""
    names = ("convolutions", "plain", "plain-bn")
    return [seen(name, seed, 1 / (1 / 64 + p * LAW)) for name, p in zip(names, paces, strict=True) for seed in SEEDS]


@pytest.mark.parametrize(
    ("found", "word"),
    [
        (paced(1.5, 2.5, 0.8), "reproduced"),
        (paced(3, 5, 2), "partly"),  # of the convolutions' pace, but not of the law's
        (paced(1.5, 3.5, 2), "partly"),
        (paced(3, 10, 1), "not reproduced"),
        (paced(1, 1, 1)[:-1], "not yet measured"),
        ([], "not yet measured"),
    ],
)
def test_toy_explains_plain(found, word):
    assert claims.toy_explains_plain(found).word == word


def test_the_pace_is_that_of_the_law():
    assert claims.paces(paced(1, 3, 7)) == pytest.approx([1, 1, 1, 3, 3, 3, 7, 7, 7], rel=1e-4)


@pytest.mark.parametrize(
    ("residual", "plain", "word"), [(11, 11, "reproduced"), (11, 9, "partly"), (9, 11, "partly"), (9, 9, "not reproduced")]
)
def test_depth_spreads(residual, plain, word):
    grown = {"residual": residual, "plain": plain}
    shallow = [seen(name, seed, ln_condition=0.5, depth=8) for name in grown for seed in SEEDS]
    deep = [seen(name, seed, ln_condition=0.5 + np.log(g)) for name, g in grown.items() for seed in SEEDS]
    assert claims.depth_spreads(shallow + deep).word == word
    assert claims.depth_spreads(shallow).word == "not yet measured"


@pytest.mark.parametrize(("residual", "plain", "word"), [(2.1, 2.1, "reproduced"), (2.1, 1.9, "partly"), (1.9, 1.0, "not reproduced")])
def test_bn_conditions(residual, plain, word):
    n = {"residual": 10.0, "residual-bn": 10 * residual, "plain": 10.0, "plain-bn": 10 * plain}
    found = [seen(name, seed, value) for name, value in n.items() for seed in SEEDS]
    assert claims.bn_conditions(found).word == word
    assert claims.bn_conditions(found[:-1]).word == "not yet measured", "the third seed lacks an arm"


@pytest.mark.parametrize(("network", "toy", "word"), [(11, 11, "reproduced"), (11, 0.1, "partly"), (5, 0.1, "not reproduced")])
def test_product_explodes(network, toy, word):
    gains = {"residual": network, "convolutions": toy}
    found = [seen(name, seed, ln_gain=np.log(gain)) for name, gain in gains.items() for seed in SEEDS]
    assert claims.product_explodes(found).word == word
    assert claims.product_explodes(found[1:]).word == "not yet measured"


DEEPER = (8, 14, 20, 32, 44)


def trained(norm: str, depth: int, edge: int) -> list[records.Record]:
    """The whole ladder of rates on three seeds; the largest that trains is number `edge`."""
    rows = []
    for seed, (i, lr) in ((seed, rung) for seed in SEEDS for rung in enumerate(LADDER)):
        setting = TrainConfig(lr=lr, steps=100, schedule="constant")
        run = RunConfig("max-lr", seed, ModelConfig(depth=depth, norm=norm), DataConfig(), train=setting)  # type: ignore[arg-type]
        loss = [2.3] * 50 + [1.0 if i <= edge else 2.3] * 50
        rows.append(record(run, step_loss=loss, logit_spread=1.0))
    return rows


def both(falls: int, shift: int) -> list[records.Record]:
    """Rates fall by `falls` rungs a depth while the condition number grows; with BN they are `shift` rungs higher, at equal condition."""
    found = []
    for i, depth in enumerate(DEEPER):
        for norm, name, higher in (("none", "residual", 0), ("batch", "residual-bn", shift)):
            found += trained(norm, depth, 8 - falls * i + higher)
            found += [seen(name, seed, ln_condition=1.0 + i + 0.1 * (norm == "batch"), depth=depth) for seed in SEEDS]
    return found


@pytest.mark.parametrize(("falls", "shift", "word"), [(1, 0, "reproduced"), (1, 4, "partly"), (-1, 0, "not reproduced")])
def test_conditioning_costs_rate(falls, shift, word):
    found = both(falls, shift)
    assert claims.conditioning_costs_rate(found).word == word
    assert claims.conditioning_costs_rate([r for r in found if r.config.model.depth != 8]).word == "not yet measured"


def test_rates_and_conditions_pairs_each_seed_with_its_own():
    found = claims.rates_and_conditions(both(1, 0), ("none",))
    assert list(found) == [0, 1, 2]
    assert found[1][0] == pytest.approx([1, 2, 3, 4, 5])
    assert found[1][1] == pytest.approx([LADDER[8 - i] for i in range(5)])
    assert claims.rates_and_conditions(both(1, 0), ("none",), "gain")[0][0] == pytest.approx(np.zeros(5))


def line(norm: str, scale: str, seed: int, doubles: float) -> records.Record:
    steps = np.array([0.0, *np.geomspace(1e-5, 10, 31)])
    run = RunConfig("inputs", seed, ModelConfig(depth=20, norm=norm), DataConfig(), ProbeConfig(), inputs=InputConfig(scale))  # type: ignore[arg-type]
    return record(run, step=steps, loss=np.where(steps > 5, np.nan, 1 + (steps / doubles) ** 3))


@pytest.mark.parametrize(
    ("none", "batch", "word"), [(100, 1, "reproduced"), (100, 8, "partly"), (4, 1, "partly"), (4, 8, "not reproduced")]
)
def test_raw_pixels_cost_rate(none, batch, word):
    ratio = {"none": none, "batch": batch}
    found = [line(norm, "bytes", seed, 0.1 / r) for norm, r in ratio.items() for seed in SEEDS]
    found += [line(norm, "standardised", seed, 0.1) for norm in ratio for seed in SEEDS]
    assert claims.raw_pixels_cost_rate(found).word == word
    assert claims.raw_pixels_cost_rate(found[1:]).word == "not yet measured"


def test_the_usable_step_is_the_last_before_the_loss_has_doubled():
    record = line("none", "bytes", 0, 0.01)
    assert record.array("step")[-1] == 10
    assert claims.usable_step(record) == pytest.approx(0.01, rel=1e-6)
    assert claims.usable_step(line("none", "bytes", 0, 0.011)) == pytest.approx(0.01, rel=1e-6)
    assert claims.usable_step(line("none", "bytes", 0, 1e3)) == pytest.approx(10**0.6, rel=1e-3), "not finite beyond"
    assert claims.usable_step(line("none", "bytes", 0, 1e-9)) == pytest.approx(1e-5), "the smallest there is"


@pytest.mark.parametrize(("layer", "logits", "word"), [(0.05, 0.05, "reproduced"), (0.05, 0.3, "partly"), (0.2, 0.3, "not reproduced")])
def test_mini_batch_stands_for_all(layer, logits, word):
    found = []
    for seed in SEEDS:
        run = RunConfig("population", seed, ModelConfig(), DataConfig(), ProbeConfig(batch=1024))
        mean, off = [[0.9, 0.9], [0.01, layer]], [[0.9, 0.9, 0.9], [logits, logits]]
        found.append(record(run, size=[2, 128], mean=mean, spread=[[0.9, 0.9], [0.01, 0.01]], logits=off))
    assert claims.mini_batch_stands_for_all(found).word == word
    assert claims.mini_batch_stands_for_all(found[:2]).word == "not yet measured"
