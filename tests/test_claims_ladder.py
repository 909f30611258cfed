"""The claims about the causal ladder, and its figures, on records with known content."""

import math

import numpy as np
import pytest
from ladder_runs import CHANCE, ENDS, STEPS, initialised, ladder, made
from test_figures_networks import outside

from bnlib import claims, records
from bnlib.figures import ladder as figures
from bnlib.studies import CAUSAL_RATES, RUNGS, get

AT_EQUAL = (claims.recipes_train_at_bns_rate, claims.the_rate_explains_bn)


@pytest.fixture(scope="module")
def init() -> list[records.Record]:
    return initialised()


# Verdicts


@pytest.mark.parametrize("claim", [*AT_EQUAL, claims.recipes_cancel])
def test_without_records_nothing_is_decided(claim):
    assert claim([]).word == "not yet measured"


@pytest.mark.parametrize("claim", AT_EQUAL)
def test_two_seeds_decide_nothing(claim):
    assert claim([r for r in ladder() if r.config.seed < 2]).word == "not yet measured"


@pytest.mark.parametrize(("fixup", "skipinit", "word"), [(1.8, 1.8, "reproduced"), (1.8, 2.2, "partly"), (2.2, 2.2, "not reproduced")])
def test_recipes_against_bn_at_one_rate(fixup, skipinit, word):
    assert claims.recipes_train_at_bns_rate(ladder(fixup={"end": fixup}, skipinit={"end": skipinit})).word == word


def test_a_recipe_that_diverges_does_not_train():
    verdict = claims.recipes_train_at_bns_rate(ladder(fixup={"status": "diverged@5"}, skipinit={"end": 1.7}))
    assert verdict.word == "partly"
    assert "Fixup none in 3 of 3 seeds" in verdict.because


def test_the_rate_explains_bn_where_all_get_as_far_at_its_step():
    even = {name: {"end": 1.75} for name in ("clip", "fixup", "last_features")}
    assert claims.the_rate_explains_bn(ladder(**even, skipinit={"end": 1.75, "step": 0.001})).word == "partly", (
        "SkipInit makes no such step"
    )
    small = {"batch": {"step": 0.0015}}
    assert claims.the_rate_explains_bn(ladder(**even, skipinit={"end": 1.75}, **small)).word == "reproduced"
    assert claims.the_rate_explains_bn(ladder()).word == "not reproduced"


def test_recipes_cancel_after_ten_updates(init):
    assert claims.recipes_cancel([*init, *ladder()]).word == "not reproduced"
    assert claims.recipes_cancel([*init, *ladder(fixup={"ratio": 50.0}, skipinit={"ratio": 50.0})]).word == "reproduced"
    assert claims.recipes_cancel([*init, *ladder(fixup={"ratio": 50.0}, skipinit={"status": "diverged@2"})]).word == "partly"


# What they are made of


def test_progress_at_a_step_is_between_those_of_the_neighbouring_rates():
    found = ladder(clip={"step": None})
    for record in found:
        if claims.trained([record], "clip", record.config.train.lr):
            k = CAUSAL_RATES.index(record.config.train.lr)
            record.measured["step_loss"] = [CHANCE - k] * 100
            record.measured["relative_step"] = [10.0 ** (k - 4)] * 100
    assert claims.progress_at(found, "clip", 0, 10**-3.5) == pytest.approx(0.5)
    assert claims.progress_at(found, "clip", 0, 10**-2.0) == pytest.approx(2.0)
    assert claims.progress_at(found, "clip", 0, 10.0) == -math.inf
    assert claims.progress_at(found, "clip", 7, 1e-3) == -math.inf


def test_no_progress_is_read_across_a_run_that_diverged():
    found = ladder(clip={"status": "diverged@9", "above": 0.1})
    inside = STEPS["clip"] * 0.4**0.7
    assert claims.progress_at(found, "clip", 0, inside) == -math.inf
    assert math.isfinite(claims.progress_at(found, "clip", 0, STEPS["clip"] * 0.2**0.7))


def test_a_run_that_diverged_at_once_has_no_step():
    run = next(r for r in get("ladder").runs if r.probe is None)
    assert math.isnan(claims.relative_step(made(run, status="diverged@0")))


# Figures


@pytest.mark.parametrize("by", figures.BY.values())
def test_at_equal_draws_each_rung_once_a_rate(by):
    fig = figures.at_equal(ladder(none={"status": "diverged@3", "above": 0.3}), by)
    clip = next(trace for trace in fig.data if trace.name == "clipping")
    assert list(clip.y) == pytest.approx([ENDS["clip"] + 0.01] * 5)
    assert list(clip.x) == pytest.approx([lr if by == "rate" else 0.4 * (lr / 0.1) ** 0.7 for lr in CAUSAL_RATES], rel=1e-5)
    assert outside(fig) == []
    assert any("✕ diverged: nothing at 0.316, 1" in note.text for note in fig.layout.annotations)
    assert fig.layout.title.text.endswith("BN 1.76")


def test_losses_names_who_diverged():
    fig = figures.losses(ladder(none={"status": "diverged@3"}, clip={"end": 2.5}), 0.1)
    assert any(note.text == "nothing diverges" for note in fig.layout.annotations)
    assert fig.layout.title.text.startswith("100 updates at 0.1, loss at the end: BN 1.76")
    assert fig.layout.title.text.endswith("clipping 2.50, nothing – (3 of 3 diverged)")
    assert outside(fig) == []


def test_losses_tells_seeds_that_diverged_from_rungs_that_are_not_measured():
    found = [r for r in ladder() if r.config.model.block != "skipinit"]
    lost = next(r for r in found if claims.trained([r], "none", 0.1))
    fig = figures.losses([*(r for r in found if r is not lost), made(lost.config, status="diverged@3")], 0.1)
    assert fig.layout.title.text.endswith("nothing 2.32 (1 of 3 diverged); not yet measured: SkipInit")
    assert figures.losses([], 0.1).layout.title.text == "100 updates at 0.1: not yet measured"


@pytest.mark.parametrize("measure", figures.MEASURES.values())
def test_after_ten_shows_both_times(init, measure):
    fig = figures.after_ten(init, ladder(none={"status": "diverged@2", "above": 0.1}), measure)
    assert outside(fig) == []
    first = next(trace for trace in fig.data if trace.name == "Fixup, at first")
    assert np.isfinite(np.array(first.x, float)).all() == (measure == "growth"), "where gradients are zero, nothing is defined"
    assert len(next(trace for trace in fig.data if trace.name == "BN, after 10 updates").x) == 3


def test_the_table_has_a_row_a_rung():
    rows = figures.table(ladder(none={"status": "diverged@4"})).splitlines()
    assert len(rows) == 2 + len(RUNGS)
    assert rows[2].startswith("| nothing | – in 3 of 3 seeds |")
    assert rows[-1] == "| BN everywhere | 1.76 (1.75 to 1.77) | 0.6 (0.6 to 0.6) | 1.76 (1.75 to 1.77) | 1 |"
    assert "not yet measured" in figures.table([])
    some = [r for r in ladder(fixup={"end": 2.0}) if r.config.train.lr != 0.178 or r.config.seed == 0]
    assert next(row for row in figures.table(some).splitlines() if "Fixup" in row).endswith("| 1 |")
    up_to_a_rate_between = [r for r in some if not (claims.trained([r], "fixup", r.config.train.lr) and r.config.train.lr > 0.2)]
    assert next(row for row in figures.table(up_to_a_rate_between).splitlines() if "Fixup" in row).endswith("| 0.178 |")


@pytest.mark.parametrize(("end", "words"), [(1.76, "so far it is the rate"), (2.2, "so far it is not the rate alone")])
def test_the_answer_follows_from_clipping(end, words):
    assert words in figures.answer(ladder(clip={"end": end}))
    assert words in figures.reading(ladder(clip={"end": end}))


def test_the_ratio_after_ten_updates_is_set_against_who_learns(init):
    said = figures.cancelling(init, ladder(batch={"ratio": 15.0}))
    assert "from 95 (95 to 95) to 15 (15 to 15) with BN, and from 2.1 (2 to 2.2) to 60 (60 to 60) with clipping. " in said
    assert "So clipping ends with 4 times BN's ratio, while at BN's relative step it comes only " in said
    assert "does not tell who learns fast" in said
    assert "does not tell" not in figures.cancelling(init, ladder(clip={"end": 1.76}, batch={"ratio": 15.0}))
    assert figures.cancelling(init, []) == figures.cancelling([], ladder()) == ""


def test_the_six_networks_are_told_apart_without_colour():
    looks = figures.LOOKS.values()
    assert len({look.dash for look in looks}) == len({look.symbol for look in looks}) == len({look.colour for look in looks}) == len(RUNGS)


def test_without_records_there_is_no_answer():
    assert "has not answered yet" in figures.answer([])


@pytest.mark.parametrize("count", [1, 9, 12, 16, 30])
def test_a_study_that_is_being_measured_can_be_shown(init, count):
    found = ladder()[:count]
    for by in figures.BY.values():
        assert outside(figures.at_equal(found, by)) == []
    for lr in CAUSAL_RATES:
        assert outside(figures.losses(found, lr)) == []
    for measure in figures.MEASURES.values():
        assert outside(figures.after_ten(init, found, measure)) == []
    assert "BN or the rate" in figures.reading(found) or "the rate alone" in figures.reading(found)
    assert len(figures.table(found).splitlines()) == 2 + len(RUNGS)
