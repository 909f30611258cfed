"""A verdict follows from its numbers, needs three seeds, and says *reproduced* only if every part holds on every seed."""

import datetime

import numpy as np
import pytest

from bnlib import claims, records
from bnlib.config import DataConfig, ModelConfig, ProbeConfig, RunConfig

YES, NO, SOME = np.array([True] * 3), np.array([False] * 3), np.array([True, False, True])


@pytest.mark.parametrize(
    ("holds", "word"),
    [((YES, YES), "reproduced"), ((YES, NO), "partly"), ((SOME, YES), "partly"), ((SOME,), "partly"), ((NO, NO), "not reproduced")],
)
def test_the_word_follows_from_the_parts(holds: tuple, word: str):
    assert claims.decide(*holds) == word


def test_a_claim_that_holds_in_part_says_what_does_not():
    partly = claims.judge("Claimed.", {"one": YES, "another": SOME, "a third": NO}, "measured")
    assert partly.markdown() == "> **Verdict: partly.** Claimed. Measured. Not met: another (on 1 of 3 seeds); a third."
    for parts, word in (
        ({"one": YES}, "reproduced"),
        ({"one": NO, "another": NO}, "not reproduced"),
        ({"one": NO[:2]}, "not yet measured"),
    ):
        assert claims.judge("Claimed.", parts, "measured").markdown() == f"> **Verdict: {word}.** Claimed. Measured."


def test_two_seeds_are_too_few():
    assert claims.decide(YES[:2], YES) == "indicative"
    assert claims.decide(YES[:2], NO) == "not yet measured"
    assert claims.decide(YES[:0], YES) == "not yet measured"
    assert claims.pending("Claimed.", 2).markdown() == "> **Verdict: not yet measured.** Claimed. It takes 3 seeds; so far there are 2."


def test_spread_is_written_as_a_sentence_has_it():
    assert claims.spread([1.0, 2.0, 30.0]) == "2 (1 to 30)"
    assert claims.spread([1.0, 123.0, 45_678.0], ".2g") == "120 (1 to 46,000)"
    assert claims.spread([1.2e-7, 3.4e12, np.inf], ".2g") == "3.4×10¹² (1.2×10⁻⁷ to overflow)"
    assert claims.spread([1.0, np.nan, 2.0]) == "1.5 (1 to 2), none in 1 of 3 seeds"
    assert claims.spread([np.nan] * 2) == "none in 2 of 2 seeds"


def initialised(growth: dict[str, float], kurtosis: dict[str, float], ratio: dict[str, float], share: dict[str, float]) -> list:
    """Records of three seeds, made up."""

    class Images:
        fingerprint, variant = "0" * 64, "synthetic"

    def record(norm: str, seed: int) -> records.Record:
        config = RunConfig("init", seed, ModelConfig(norm=norm), DataConfig(), ProbeConfig())
        measured = {
            "ln_std": growth[norm] * np.arange(1, 111),
            "gradient_std": np.full(109, 1.0 if norm == "none" else 0.01),
            "gradient_kurtosis": np.full(109, kurtosis[norm]),
            "coherence_ratio": np.full(109, ratio[norm]),
            "one_class": share[norm],
        }
        return records.new(config, measured, datetime.datetime.now(datetime.UTC), 1.0, data=Images)

    return [record(norm, seed) for norm in ("batch", "none") for seed in range(3)]


def paper_like(**changes: dict[str, float]) -> list:
    as_paper = {
        "growth": {"none": 0.04, "batch": 0.0},
        "kurtosis": {"none": 20.0, "batch": 3.1},
        "ratio": {"none": 2.0, "batch": 100.0},
        "share": {"none": 1.0, "batch": 0.3},
    }
    return initialised(**(as_paper | changes))


VERDICTS = (claims.activations_grow, claims.gradients_are_heavy_tailed, claims.gradients_ignore_the_input, claims.one_class_takes_all)


@pytest.mark.parametrize("verdict", VERDICTS, ids=lambda f: f.__name__)
def test_networks_like_the_papers_reproduce_it(verdict):
    assert verdict(paper_like()).word == "reproduced"


@pytest.mark.parametrize(
    ("verdict", "changes", "word"),
    [
        (claims.activations_grow, {"growth": {"none": 0.01, "batch": 0.0}}, "partly"),
        (claims.activations_grow, {"growth": {"none": 0.01, "batch": 0.03}}, "not reproduced"),
        (claims.gradients_are_heavy_tailed, {"kurtosis": {"none": 3.0, "batch": 3.0}}, "partly"),
        (claims.gradients_ignore_the_input, {"ratio": {"none": 100.0, "batch": 100.0}}, "not reproduced"),
        (claims.one_class_takes_all, {"share": {"none": 1.0, "batch": 1.0}}, "partly"),
    ],
)
def test_other_networks_do_not(verdict, changes: dict, word: str):
    assert verdict(paper_like(**changes)).word == word


def test_growth_is_the_slope_of_the_logarithm():
    assert claims.growth(paper_like()[-1]) == pytest.approx(0.04)


def test_seeds_are_compared_with_themselves():
    """One seed is missing with BN, another without: what is left is seed 1 of both."""
    found = paper_like()
    kept = [r for r in found if (r.config.model.norm, r.config.seed) not in {("none", 0), ("batch", 2)}]
    assert claims.activations_grow(kept).word == "indicative"
    assert claims.activations_grow([r for r in found if (r.config.model.norm, r.config.seed) != ("none", 0)]).word == "indicative"
