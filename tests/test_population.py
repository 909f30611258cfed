"""BN with held statistics against BN by hand, and what a mini-batch's own statistics change."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bnlib import data, nets
from bnlib.config import ModelConfig, Norm
from bnlib.probes import population

IMAGES = data.synthetic(80, 10)


def some(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    return IMAGES.standardise(IMAGES.x_train[:count]), IMAGES.y_train[:count]


def net(norm: Norm = "batch") -> nets.ResNet:
    return nets.build(ModelConfig(depth=8, norm=norm), 0)


@pytest.mark.parametrize("norm", ["batch", "last-features", "last-logits", "none", "layer"])
def test_a_frozen_net_computes_the_same_on_its_own_mini_batch(norm: Norm):
    x, _ = some(6)
    held = population.frozen(net(norm), x)
    torch.testing.assert_close(held(x), net(norm)(x), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(held(x[:2]), held(x)[:2], atol=1e-4, rtol=1e-4)
    assert not held.training


def test_the_statistics_are_the_biased_moments_of_the_inputs():
    x, _ = some(6)
    of = net()
    out = of.stem[0](x)
    mean, variance = population.statistics(population.frozen(of, x))["stem.1"]
    torch.testing.assert_close(mean, out.mean((0, 2, 3)))
    torch.testing.assert_close(variance, out.var((0, 2, 3), correction=0))
    assert len(population.statistics(population.frozen(of, x))) == 9
    assert population.statistics(population.frozen(net("none"), x)) == {}


def test_a_population_has_no_gap_to_itself_but_in_the_gradient():
    x, y = some(16)
    of = net()
    gap = population.gap(of, population.frozen(of, x), x, y)
    assert gap.mean == pytest.approx(np.zeros(9), abs=1e-5)
    assert gap.spread == pytest.approx(np.zeros(9), abs=1e-5)
    assert gap.logits == pytest.approx(0, abs=1e-4)
    assert gap.loss[0] == pytest.approx(gap.loss[1], abs=1e-4)
    assert gap.loss[0] == pytest.approx(F.cross_entropy(net()(x), y).item(), abs=1e-4)
    assert gap.cosine < 0.99


def test_a_gap_is_measured_in_the_populations_units():
    x, y = some(16)
    of = net()
    pool = population.frozen(of, x)
    bn = pool.stem[1]
    bn.running_mean += 0.5 * bn.running_var.sqrt()
    gap = population.gap(of, pool, x, y)
    assert gap.mean[0] == pytest.approx(0.5, rel=1e-4)
    assert gap.spread[0] == pytest.approx(0, abs=1e-5)
    bn.running_mean -= 0.5 * bn.running_var.sqrt()
    bn.running_var *= 4
    gap = population.gap(of, pool, x, y)
    assert gap.spread[0] == pytest.approx(np.log(2), rel=1e-4)
    assert gap.logits > 0.01


def test_smaller_mini_batches_are_further_from_the_population():
    x, y = some(64)
    of = net()
    pool = population.frozen(of, x)
    small, large = (np.mean([population.gap(of, pool, x[i : i + size], y[i : i + size]).mean[0] for i in (0, 32)]) for size in (4, 32))
    assert small > 1.5 * large


def test_without_bn_there_is_no_gap():
    x, y = some(8)
    of = net("none")
    gap = population.gap(of, population.frozen(of, x), x, y)
    assert (gap.logits, gap.loss[0] - gap.loss[1]) == (0, 0)
    assert gap.cosine == pytest.approx(1)
    assert gap.ratio == pytest.approx(1)


def test_comparing_leaves_both_nets_as_they_were():
    x, y = some(8)
    of = net()
    pool = population.frozen(of, x)
    before = [{name: value.clone() for name, value in which.state_dict().items()} for which in (of, pool)]
    population.gap(of, pool, x[:4], y[:4])
    for which, old in zip((of, pool), before, strict=True):
        assert all(torch.equal(old[name], value) for name, value in which.state_dict().items())
    assert of.training
