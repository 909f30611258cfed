"""The claims about Fig 1: which runs they are judged by, and what becomes of them as runs come in, diverge or disagree."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from learning_runs import LIKE_SMALL, LIKE_THE_PAPER, fig1, made, short, small, write

from bnlib import claims
from bnlib.records import RecordError

VERDICTS = (claims.large_rate_wins, claims.no_better_at_equal_rate, claims.between_lies_between)


def settings(runs: list) -> dict[str, tuple[str, float]]:
    return {arm: (seeds[0].config.model.norm, claims.rate(seeds)) for arm, seeds in claims.arms(runs).items()}


# Which runs


def test_the_papers_runs_are_its_arms():
    assert settings(fig1(1)) == claims.PAPER


def test_small_runs_have_arms_of_their_own_and_other_rates_belong_to_none():
    assert settings(small()) == dict(zip(("large", "matched", "none"), LIKE_SMALL, strict=True))
    more = [made("fig1-small", norm, lr, 0, 0.9, 40) for norm, lr in (("batch", 1.0), ("none", 0.1), ("batch", 1e-4))]
    assert settings([*small(), *more]) == settings(small())


def test_runs_without_epochs_are_no_arm():
    assert claims.arms([short("none", 1e-4, 0)]) == {}


@pytest.mark.parametrize(
    ("there", "best"),
    [
        ([], []),
        ([small()], "fig1-small"),
        ([small(), fig1(1, "fig1-165")], "fig1-165"),
        ([small(), fig1(1, "fig1-165"), fig1(1)], "fig1"),
        ([small(), fig1(1)[:2]], "fig1-small"),  # of fig1 only some arms so far
        ([small(3), fig1(3)], "fig1"),
        ([fig1(3, "fig1-165"), fig1(2)], "fig1-165"),  # of fig1 fewer seeds than a verdict takes
    ],
)
def test_the_best_study_there_is(tmp_path: Path, there: list, best: str):
    found = claims.fig1(write([run for runs in there for run in runs], tmp_path))
    assert {run.config.study for run in found} == ({best} if best else set())


def test_the_first_updates_come_from_resnet_110_alone(tmp_path: Path):
    for runs, study in ((fig1(1), "fig1"), (small(), "fig1-small")):
        found = claims.first_updates(write(runs, tmp_path))
        assert list(found) == list(claims.PAPER)
        assert {run.config.model.depth for seeds in found.values() for run in seeds} == {110}
        assert {run.config.study for seeds in found.values() for run in seeds} == {study}


def test_nothing_measured_is_no_error_and_a_damaged_record_is_one(tmp_path: Path):
    assert claims.recorded("fig1", tmp_path) == []
    assert claims.first_updates(tmp_path) == {}
    (tmp_path / "fig1").mkdir()
    (tmp_path / "fig1" / "0123456789ab.json").write_text("{")
    with pytest.raises(RecordError, match="truncated or damaged"):
        claims.fig1(tmp_path)


# What becomes of the claims


@pytest.mark.parametrize("verdict", VERDICTS, ids=lambda f: f.__name__)
def test_runs_like_the_papers_reproduce_it(verdict):
    assert verdict(fig1(3)).word == "reproduced"


@pytest.mark.parametrize(
    ("verdict", "changes", "word"),
    [
        (claims.large_rate_wins, {("batch", 0.1): 0.86}, "not reproduced"),
        (claims.no_better_at_equal_rate, {("batch", 1e-4): 0.85}, "not reproduced"),
        (claims.no_better_at_equal_rate, {("batch", 1e-4): 0.825}, "reproduced"),
        (claims.no_better_at_equal_rate, {("batch", 1e-4): 0.835}, "partly"),  # below the margin, but not beyond doubt
        (claims.between_lies_between, {("batch", 0.003): 0.95}, "partly"),
        (claims.between_lies_between, {("batch", 0.003): 0.95, ("batch", 1e-4): 0.96, ("batch", 0.1): 0.9}, "not reproduced"),
    ],
)
def test_other_runs_do_not(verdict, changes: dict, word: str):
    assert verdict(fig1(3, last=LIKE_THE_PAPER | changes)).word == word


@pytest.mark.parametrize("verdict", VERDICTS, ids=lambda f: f.__name__)
def test_too_few_runs_are_indicative_at_most(verdict):
    assert verdict([]).word == "not yet measured"
    assert verdict([]).because.startswith("not measured: ")
    assert verdict(fig1(2)).word == "indicative"
    text = verdict(small()).because  # small runs have no rate between
    between = verdict is claims.between_lies_between
    assert text.startswith("not measured: " if between else "ResNet-32, 10,000 training images, 40 epochs, 2 seeds a setting: ")
    assert between or text.endswith("; a verdict needs 3 seeds")


@pytest.mark.parametrize(
    ("large", "none", "matched", "word"),
    [
        ([0.5, 0.8, 0.9, 0.9], 0.8, 0.8, "reproduced"),
        ([0.5, 0.8, 0.9, 0.9], 0.8, 0.9, "partly"),  # as far as BN at the small rate it takes three of four epochs
        ([0.5, 0.7, 0.9, 0.9], 0.8, 0.8, "not reproduced"),
        ([0.5, 0.6, 0.7, 0.7], 0.8, 0.8, "not reproduced"),
    ],
)
def test_how_fast_the_larger_rate_is(large: list[float], none: float, matched: float, word: str):
    def run(norm: str, lr: float, seed: int, accuracy: list[float]):
        held = made("fig1", norm, lr, seed, 0.5, 4)
        return dataclasses.replace(held, measured=held.measured | {"test_acc": accuracy})

    small = [("none", none), ("batch", matched)]
    runs = [run(norm, 1e-4, seed, [0.5, 0.6, 0.7, end]) for seed in range(3) for norm, end in small]
    runs += [run("batch", 0.1, seed, large) for seed in range(3)]
    assert claims.larger_rate_is_faster(runs).word == word
    assert claims.larger_rate_is_faster([]).word == "not yet measured"
    diverged = [made("fig1", norm, 1e-4, seed, 0.8, 4, diverged=2) for seed in range(3) for norm in ("none", "batch")]
    diverged += [r for r in runs if claims.rate([r]) == 0.1]
    assert claims.larger_rate_is_faster(diverged).word == "reproduced", "what diverges gets nowhere"
    assert ": the net without BN diverges in 3 of 3 seeds; BN at the small rate diverges in 3 of 3 seeds, seed" in (
        claims.larger_rate_is_faster(diverged).because
    )


def test_the_epochs_to_an_accuracy():
    held = dataclasses.replace(run := made("fig1", "batch", 0.1, 0, 0.5, 3), measured=run.measured | {"test_acc": [0.5, 0.8, 0.7]})
    assert [claims.epochs_to(held, accuracy) for accuracy in (40, 75, 81, np.nan)] == [1, 2, np.inf, np.inf]


def test_the_numbers_are_said_with_their_direction():
    assert "BN at 0.1 ends 11.0 (11.0 to 11.0) points above no BN at 0.0001" in claims.large_rate_wins(fig1(3)).because
    assert "BN at 0.0001 ends 1.0 (1.0 to 1.0) points below no BN at 0.0001" in claims.no_better_at_equal_rate(fig1(3)).because


def test_a_run_that_diverges_wins_nothing():
    runs = [run for run in fig1(3) if claims.rate([run]) != 0.1] + [
        made("fig1", "batch", 0.1, seed, 0.9, 165, diverged=3) for seed in range(3)
    ]
    assert list(claims.gain(runs, "large", "none")) == [-np.inf] * 3
    verdict = claims.large_rate_wins(runs)
    assert verdict.word == "not reproduced"
    assert "BN at 0.1 or no BN at 0.0001 diverges in 3 of 3 seeds" in verdict.because


@pytest.mark.parametrize(
    ("arm", "verdict", "word"),
    [
        (("none", 1e-4), claims.large_rate_wins, "reproduced"),
        (("none", 1e-4), claims.no_better_at_equal_rate, "not reproduced"),
        (("batch", 1e-4), claims.no_better_at_equal_rate, "reproduced"),
        (("batch", 1e-4), claims.between_lies_between, "reproduced"),
        (("batch", 0.1), claims.between_lies_between, "partly"),
        (("none", 1e-4), claims.larger_rate_is_faster, "reproduced"),
        (("batch", 0.1), claims.larger_rate_is_faster, "not reproduced"),
    ],
)
def test_a_run_that_diverges_counts_against_its_own_arm(arm: tuple[str, float], verdict, word: str):
    def runs(diverged: int):
        gone = [made("fig1", *arm, seed, 0.9, 165, diverged=3) for seed in range(diverged)]
        return [*gone, *(run for run in fig1(3) if settings([run]) != settings(gone[:1]) or run.config.seed >= diverged)]

    assert verdict(runs(3)).word == word
    assert not {"nan", "inf"} & set(re.findall(r"\w+", verdict(runs(3)).because))


def better(end: float, seeds: int = 3) -> list:
    """Trainings without BN at another rate, beside those of Fig 1 at small scale."""
    return [made("fig1-small", "none", 0.0316, seed, end, 40, 32, 10_000) for seed in range(seeds)]


@pytest.mark.parametrize(("end", "word"), [(0.55, "reproduced"), (0.70, "reproduced"), (0.75, "partly")])
def test_the_larger_rate_is_to_win_over_none_at_its_best_too(end: float, word: str):
    verdict = claims.large_rate_wins([*small(3), *better(end)])
    assert verdict.word == word
    assert ("no BN at 0.0316, the best for it of the rates tried, ends at" in verdict.because) == (end > 0.60)


def test_the_best_rate_without_bn_has_as_many_seeds_as_the_arm():
    assert claims.rate(claims.without([*small(3), *better(0.70)])) == 0.0316
    assert claims.rate(claims.without([*small(3), *better(0.70, seeds=2)])) == 0.01
    assert claims.without(better(0.70)) == claims.without([]) == []


def test_both_diverged_is_no_gain():
    runs = [made("fig1", *arm, seed, 0.9, 165, diverged=3) for arm in (("batch", 0.1), ("none", 1e-4)) for seed in range(3)]
    assert np.isnan(claims.gain(runs, "large", "none")).all()


def test_what_keeps_it_open_is_told_of_the_runs_that_ended():
    held = claims.arms(small(3))
    gone = {**held, "none": [dataclasses.replace(run, status="diverged@9") for run in held["none"][:1]] + list(held["none"][1:])}
    assert claims.unfinished(held) == claims.unfinished(gone) == "; but no BN at 0.01 has by then only 75 % of its training images right"
    assert claims.unfinished({"none": gone["none"][:1]}) == ""


def test_seeds_are_compared_with_their_like():
    runs = [made("fig1", "none", 1e-4, seed, 0.6 + 0.1 * seed, 2) for seed in range(3)]
    runs += [made("fig1", "batch", 1e-4, seed, 0.65 + 0.1 * seed, 2) for seed in (2, 0)]
    assert claims.gain(runs, "matched", "none") == pytest.approx([5, 5])
