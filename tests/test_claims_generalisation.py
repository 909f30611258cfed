"""The verdicts of the chapter on generalisation, on records that are made to hold or not to hold."""

import numpy as np
import pytest
from generalisation_runs import changed, noise, sharpness

from bnlib import claims
from bnlib.studies import NOISE_DEPTHS

OF_NOISE = (claims.noise_follows_the_bound, claims.bn_biases)
OF_SHARPNESS = (
    claims.small_rates_end_sharper,
    claims.small_rates_generalise_worse,
    claims.small_rates_are_slower,
    claims.full_batch_finds_the_edge,
)


@pytest.mark.parametrize("claim", [*OF_NOISE, *OF_SHARPNESS])
@pytest.mark.parametrize("seeds", [0, 2])
def test_without_three_seeds_nothing_is_decided(claim, seeds: int):
    verdict = claim(noise(seeds) if claim in OF_NOISE else sharpness(seeds))
    assert verdict.word == "not yet measured"
    assert verdict.because == f"it takes 3 seeds; so far there are {seeds}"


@pytest.mark.parametrize("claim", [*OF_NOISE, *OF_SHARPNESS])
def test_a_claim_holds_where_it_is_made_to(claim):
    assert claim(noise() if claim in OF_NOISE else sharpness()).word == "reproduced"


def test_noise_beside_the_bound_is_noticed():
    assert claims.noise_follows_the_bound(noise(excess=1.2)).word == "not reproduced"
    assert claims.noise_follows_the_bound(noise()).because.startswith("at 10 sizes, at 8 and 20 layers, ")


def test_the_exact_factor():
    (record, *_) = [r for r in noise(1) if r.config.model.norm == "none"]
    ratio, error, exact = claims.noise_ratio(record, "without_replacement")
    assert exact[[0, -1]] == pytest.approx([1, 0])
    assert exact[-2] == pytest.approx(256 / 511)
    assert (np.abs(ratio - exact) <= error + 1e-5).all()


def test_bias_that_chance_explains_is_none():
    assert claims.bn_biases(noise(bias=0.0)).word == "partly"
    assert claims.bn_biases(noise()).because.startswith("with 8 of 512 images the squared bias is 50.0 (50.0 to 50.0) and ")
    assert len(NOISE_DEPTHS) == 2


def test_rates_that_do_not_matter_are_noticed():
    assert claims.small_rates_end_sharper(sharpness(power=0.1)).word == "not reproduced"
    assert claims.small_rates_generalise_worse(sharpness(gain=0.01)).word == "not reproduced"


def test_seeds_that_differ_both_ways_do_not_show_that_small_rates_generalise_worse():
    def accuracy(value: float, record):
        return changed(record, test_acc=np.full(len(record.measured["step"]), value))

    def runs(small: list[float]) -> list:
        made = [r for r in sharpness() if r.config.train.lr in (0.01, 0.1)]
        return [accuracy(small[r.config.seed] if r.config.train.lr == 0.01 else 0.35, r) for r in made]

    either = claims.small_rates_generalise_worse(runs([0.32, 0.32, 0.40]))
    assert either.word == "not reproduced"
    assert either.because.count(": no difference can be seen (difference of the means: 95 % interval −") == 2
    better = claims.small_rates_generalise_worse(runs([0.39, 0.40, 0.41]))
    assert better.word == "not reproduced"
    assert better.because.count(": the small rate generalises better (") == 2
    worse = claims.small_rates_generalise_worse(runs([0.29, 0.30, 0.31]))
    assert worse.word == "reproduced"
    assert worse.because.count(": the small rate generalises worse (") == 2
    steady = claims.small_rates_generalise_worse(runs([0.32, 0.32, 0.32]))
    assert steady.word == "reproduced"


def test_a_loss_that_only_the_large_rate_reaches_makes_the_small_one_slow():
    def reaches(small: int | None, large: int | None) -> list:
        return [changed(r, reached=[1, large if r.config.train.lr == 0.1 else small, None, None]) for r in sharpness()]

    verdict = claims.small_rates_are_slower(reaches(None, 600))
    assert verdict.word == "reproduced"
    assert "with BN never, never, never at 0.003 and 600, 600, 600 at 0.1; without never" in verdict.because
    assert claims.small_rates_are_slower(reaches(None, None)).word == "not reproduced"
    assert claims.small_rates_are_slower(reaches(600, None)).word == "not reproduced"
    twice = claims.small_rates_are_slower(reaches(800, 400))
    assert twice.word == "not reproduced"
    assert "with BN 800, 800, 800 at 0.003 and 400, 400, 400 at 0.1, 2.0 (2.0 to 2.0) times as many; " in twice.because
    assert claims.small_rates_are_slower(reaches(1200, 400)).word == "reproduced"


def test_networks_are_compared_at_a_loss_that_all_have_reached():
    small, large = (claims.of_sgd(sharpness(), "none", lr) for lr in (0.01, 0.1))
    assert claims.lowest_common(large) == 0.2
    assert claims.lowest_common(small, large) == 2.0
    assert claims.updates_to(small[0], 2.0) == 1500
    assert claims.at_loss(small[0], 2.0) == pytest.approx(50)
    assert np.isnan(claims.at_loss(small[0], 0.2))
    assert claims.lowest_common([changed(r, reached=[None] * 4) for r in small]) is None


def test_runs_without_a_common_loss_do_not_hold():
    runs = [changed(r, reached=[None] * 4) if r.config.train.batch == 32 and r.config.model.norm == "none" else r for r in sharpness()]
    verdict = claims.small_rates_end_sharper(runs)
    assert verdict.word == "partly"
    assert verdict.because.endswith("; without they share no loss")
    slower = claims.small_rates_are_slower(runs)
    assert slower.word == "partly"
    assert "without never, never, never at 0.003 and never, never, never at 0.1" in slower.because


@pytest.mark.parametrize(("edge", "word"), [(1.0, "reproduced"), (1.6, "reproduced"), (1.9, "not reproduced"), (0.4, "not reproduced")])
def test_the_edge_is_told_from_another_rates_edge(edge: float, word: str):
    assert claims.full_batch_finds_the_edge(sharpness(edge=edge)).word == word


def test_the_limit_is_that_of_heavy_ball_on_a_quadratic():
    def stays(curvature: float) -> bool:
        weight, velocity = 1.0, 0.0
        for _ in range(3000):
            velocity = 0.9 * velocity + curvature * weight
            weight -= 0.1 * velocity
        return abs(weight) < 1

    assert stays(0.99 * claims.limit(0.1))
    assert not stays(1.01 * claims.limit(0.1))
