"""The verdicts on what is remembered of the paper's appendix, and on Figs 3 and 4 in detail: each word from made-up records."""

import datetime
from typing import Any

import numpy as np
import pytest
from test_claims_divergence import STEPS, made

from bnlib import claims, records
from bnlib.config import DataConfig, LinearConfig, ModelConfig, ProbeConfig, ProductConfig, RunConfig
from bnlib.probes.channels import LAYERS
from bnlib.probes.lines import MINI_BATCHES
from bnlib.studies import CONDITIONED, NORMAL, WITH_RELU


class Images:
    fingerprint, variant = "0" * 64, "synthetic"


def record(run: RunConfig, measured: dict[str, Any], data: Any = None) -> records.Record:
    return records.new(run, measured, datetime.datetime.now(datetime.UTC), 1.0, data=data)


def channels(rank: float, none: tuple[float, ...], batch: tuple[float, ...], seeds: int = 3) -> list[records.Record]:
    """Gradients in the order of the means (1), against it (-1); and the quantiles of the single parameters' ratios."""
    found = []
    for seed in range(seeds):
        for norm, ratio in (("none", none), ("batch", batch)):
            measured = {}
            for layer in LAYERS:
                mean = np.arange(1.0, 17.0)
                order = mean if norm == "none" and rank > 0 else mean[::-1]
                measured |= {
                    f"channel_mean_{layer}": -mean,
                    f"channel_gradient_{layer}": order**2,
                    f"parameter_ratio_{layer}": np.array(ratio),
                }
            run = RunConfig("channels", seed, ModelConfig(norm=norm), DataConfig(), ProbeConfig())  # type: ignore[arg-type]
            found.append(record(run, measured, Images))
    return found


FEW, MANY = (1, 1.5, 2, 4, 30), (50, 80, 120, 250, 2000)


@pytest.mark.parametrize(("rank", "seeds", "word"), [(1, 3, "reproduced"), (-1, 3, "not reproduced"), (1, 2, "not yet measured")])
def test_channel_means_drive_gradients(rank, seeds, word):
    assert claims.channel_means_drive_gradients(channels(rank, FEW, MANY, seeds)).word == word
    assert claims.channel_means_drive_gradients([]).word == "not yet measured"


def test_the_size_of_a_mean_counts_and_not_its_sign():
    assert claims.mean_and_gradient(channels(1, FEW, MANY)[0], 18) == pytest.approx(1)


@pytest.mark.parametrize(
    ("none", "batch", "word"),
    [
        (FEW, MANY, "reproduced"),
        ((1, 1.5, 2, 11, 30), MANY, "partly"),  # a quarter is not below 10
        (FEW, (10, 15, 19, 40, 90), "partly"),  # not ten times
        (FEW, (1, 3, 120, 250, 2000), "partly"),  # the halves overlap
        ((9, 15, 20, 30, 50), (9, 15, 20, 30, 50), "not reproduced"),
    ],
)
def test_single_parameters_agree(none, batch, word):
    assert claims.single_parameters_agree(channels(1, none, batch)).word == word


def products(power: float, width: float, plain: float, seeds: int = 3) -> list[records.Record]:
    """The largest square like M^power; the middle direction behind the first by `width` nats a factor with ReLUs, by `plain` without."""
    found = []
    for seed in range(seeds):
        for M in WITH_RELU:
            first = power / 2 * np.log(M)
            run = RunConfig("relu", seed, product=ProductConfig(M, 200), linear=LinearConfig(relu=True))
            found.append(record(run, {"log_without": [first, first - plain * M], "log_with": [first, first - width * M]}))
    return found


@pytest.mark.parametrize(
    ("found", "word"),
    [
        (products(1.0, 0.35, 0.34), "reproduced"),
        (products(0.5, 0.35, 0.34), "partly"),
        (products(1.0, 0.35, 0.25), "partly"),
        (products(0.5, 0.0, 0.34), "not reproduced"),
        (products(1.0, 0.35, 0.34, seeds=2), "not yet measured"),
        ([], "not yet measured"),
    ],
)
def test_relu_products_alike(found, word):
    assert claims.relu_products_alike(found).word == word


def descents(unequal: float, seeds: int = 3) -> list[records.Record]:
    """The ratio of the gradients goes with this power of the condition number."""
    found = []
    for seed in range(seeds):
        for M in CONDITIONED:
            run = RunConfig("directions", seed, product=ProductConfig(M, 10), linear=LinearConfig())
            condition = 5.0**M
            found.append(record(run, {"singular_value": [condition, 1.0], "gradient": [condition**unequal, 1.0]}))
    return found


@pytest.mark.parametrize(
    ("found", "word"),
    [
        (descents(1.0), "reproduced"),
        (descents(0.1), "partly"),
        (descents(-1.0), "not reproduced"),
        (descents(1.0, 2), "not yet measured"),
        ([], "not yet measured"),
    ],
)
def test_conditioning_splits_gradients(found, word):
    assert claims.conditioning_splits_gradients(found).word == word


@pytest.mark.parametrize(
    ("at", "word"),
    [((1.4, 1.0, 0.8), "reproduced"), ((0.9, 1.0, 0.8), "partly"), ((1.4, 1.0, 1.1), "partly"), ((0.9, 1.0, 1.1), "not reproduced")],
)
def test_a_bn_step_raises_the_loss(at, word):
    loss = [2.0 + 2.0 * (factor - 1) * STEPS / 0.1 for factor in at]
    found = [
        made("steps", "batch", seed, {"mini_batch": MINI_BATCHES, "step": STEPS, "loss": loss}, lr=NORMAL["batch"]) for seed in range(3)
    ]
    assert claims.a_bn_step_raises_the_loss(found).word == word
    assert claims.a_bn_step_raises_the_loss(found[:2]).word == "not yet measured"


@pytest.mark.parametrize(
    ("calm", "power", "word"), [(-1, 6, "reproduced"), (1, 6, "partly"), (-1, 1, "partly"), (1, 1, "not reproduced")]
)  # 0.6^6 is 0.05, 0.6^1 above a half
def test_explosion_is_late(calm, power, word):
    share = np.minimum(STEPS / 0.01, 1)
    eighth = np.outer(1 + 0.5 * calm * share, np.ones(16))
    deep = np.outer(1e-6 + share**power, np.ones(16))
    measured = {"step": STEPS, "variance_8": eighth, "variance_44": deep, "variance_80": deep}
    found = [made("divergence", "none", seed, measured, lr=NORMAL["none"]) for seed in range(3)]
    assert claims.explosion_is_late(found).word == word


def test_a_variance_that_is_beyond_numbers_by_then_is_not_late():
    deep = np.outer(np.where(STEPS > 0.005, np.inf, 1.0), np.ones(16))
    measured = {"step": STEPS, "variance_8": np.ones((len(STEPS), 16)), "variance_44": deep, "variance_80": deep}
    assert claims.explosion_is_late([made("divergence", "none", seed, measured, lr=1e-4) for seed in range(3)]).word == "not reproduced"
