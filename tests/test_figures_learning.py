"""The figures and words of the chapter on learning rates, with any records there may be."""

import numpy as np
import plotly.graph_objects as go
import pytest
from learning_runs import fig1, made, short, small
from test_figures_networks import lines, outside

from bnlib import claims, sources
from bnlib.figures import learning, learning_words, start
from bnlib.records import Record

WHOLE, SMALL = fig1(2), small()
DIVERGING = [*small(1)[1:], *(made("fig1-small", "batch", 0.1, seed, 0.7, 40, 32, 10_000, diverged=3) for seed in range(2))]
RUNS = {"none": [], "like the paper's": WHOLE, "small": SMALL, "one arm": SMALL[:2], "diverging": DIVERGING}


def drawn(fig: go.Figure, arm: str) -> np.ndarray:
    return lines(fig, arm)[0].y


@pytest.mark.parametrize("runs", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("epochs", [False, True])
@pytest.mark.parametrize("part", learning.IMAGES.values())
def test_accuracy_draws_whatever_runs_there_are(runs: list[Record], part: str, epochs: bool):
    for shown in learning.menu(runs).values():
        fig = learning.accuracy(runs, shown, part, epochs)
        assert outside(fig) == []
        assert len([trace for trace in fig.data if trace.name and trace.name.startswith("the paper")]) == (4 if shown == "all" else 1)
        assert len(fig.layout.title.text) <= 136


def test_every_arm_can_be_chosen_even_where_ours_is_at_the_papers_rate():
    runs = [made("fig1-small", norm, 0.01, 0, 0.6, 40, 32, 10_000) for norm in ("none", "batch")]
    assert learning.menu(runs) == {
        "all four": "all",
        "the paper's BN at 0.1": "large",
        "the paper's BN at 0.003": "between",
        "BN at 0.01": "matched",
        "no BN at 0.01": "none",
    }


def test_a_curve_is_the_median_of_its_seeds():
    y = drawn(learning.accuracy(SMALL, "all", "test", False), "BN 0.1")
    runs = claims.arms(SMALL)["large"]
    assert y == pytest.approx(100 * np.median([run.array("test_acc") for run in runs], axis=0), rel=0.005)
    line = lines(learning.accuracy(SMALL, "large", "train", True), "BN 0.1")[0]
    assert list(line.x) == list(range(1, 41))


def test_long_curves_are_thinned_but_keep_their_ends():
    line = lines(learning.accuracy(WHOLE, "all", "test", True), "no BN 0.0001")[0]
    assert len(line.x) <= learning.POINTS
    assert (line.x[0], line.x[-1]) == (1, 2400)
    ends = [claims.final(run) for run in claims.arms(WHOLE)["none"]]
    assert line.y[-1] == pytest.approx(np.mean(ends), rel=0.005)


def test_the_papers_points_are_where_its_figure_has_them():
    line = lines(learning.accuracy([], "large", "test", True), "the paper, digitised: BN at 0.1")[0]
    assert (line.x[-1], line.y[-1]) == (pytest.approx(0.995 * 165, rel=0.005), 93.3)


def test_titles_say_the_finding():
    title = learning.accuracy(WHOLE, "all", "test", False).layout.title.text
    assert title == ("Ours: BN at 0.1 ends 11.0 points above none at 0.0001, and at that same rate 1.0 below (the paper: +11.3 and −0.7)")
    papers = "The paper: BN at 0.1 ends 11.3 points above none at 0.0001, and at that same rate 0.7 below"
    assert learning.accuracy([], "all", "test", False).layout.title.text == papers
    assert learning.accuracy(SMALL, "all", "train", False).layout.title.text == (
        "Ours, training images: BN at 0.1 ends 18.0 points above none at 0.01, and at that same rate 1.0 above (the paper: +0.3 and +0.1)"
    )
    assert (
        learning.accuracy(SMALL, "large", "test", False).layout.title.text
        == "BN at 0.1: 77.8 % after 40 epochs; the paper: 93.3 % after 165"
    )
    assert "the paper at 0.0001: 81.3 %" in learning.accuracy(SMALL, "matched", "test", False).layout.title.text
    assert learning.accuracy(DIVERGING, "large", "test", False).layout.title.text.startswith("BN at 0.1: diverges; ")
    assert "BN at 0.1 ends ? points (diverged) above none at 0.01" in learning.accuracy(DIVERGING, "all", "test", False).layout.title.text


def test_a_run_that_diverged_is_a_red_cross():
    fig = learning.accuracy(DIVERGING, "all", "test", True)
    cross = lines(fig, "BN 0.1 diverges")[0]
    assert (list(cross.x), cross.marker.symbol) == ([3, 3], "x")
    assert lines(fig, "BN 0.1") == []
    assert "BN 0.1 diverges" in [note.text for note in fig.layout.annotations]


def test_a_gain_is_that_of_seeds_which_both_have():
    runs = [run for run in small(3) if (run.config.seed, run.config.model.norm) != (2, "none")]
    assert learning.median_gain(runs, "large", "none") == pytest.approx(18)
    assert np.isnan(learning.median_gain(DIVERGING, "large", "none"))
    assert np.isnan(learning.median_gain([], "large", "none"))


def test_what_keeps_the_comparison_open_is_told():
    tried = [*SMALL, *(made("fig1-small", "none", 0.1, seed, 0.4, 40, 32, 10_000) for seed in range(2))]
    assert learning_words.caveats(tried) == (
        "After 40 epochs neither training has finished: of their training images the network with BN has 76 % right, the one without 75 %. "
        "And without BN no rate between 0.01 and 0.1 was tried: one of them might serve it better."
    )
    better = [*SMALL, *(made("fig1-small", "none", 0.0316, seed, 0.7, 40, 32, 10_000) for seed in range(2))]
    assert learning_words.caveats(better).endswith(
        " Without BN 0.0316 serves better than 0.01: at it the network ends at 69.8 (69.5 to 70.0) %."
    )
    assert learning_words.caveats(SMALL).endswith("the one without 75 %.")
    assert learning_words.caveats(WHOLE) == learning_words.caveats([]) == ""


def test_all_four_settings_are_counted_in_curves():
    assert learning_words.curves(SMALL).endswith("make 7 curves: the paper's 4 and 3 of ours; for BN at 0.003 there is none.")
    assert learning_words.curves(WHOLE).endswith("make 8 curves: the paper's 4 and 4 of ours.")
    assert learning_words.curves([]).endswith("make 4 curves: the paper's 4 and 0 of ours.")


def test_the_table_has_ours_beside_the_papers():
    rows = learning_words.table(SMALL).splitlines()
    assert rows[2] == "| BN, the large rate | **77.8 %** (77.5 to 78.0) at 0.1, 40 epochs, 2 seeds | **93.3 %** at 0.1, 165 epochs |"
    assert learning_words.table([]).count("not measured") == 4
    assert "| **2 of 2 diverged** at 0.1, 40 epochs, 2 seeds |" in learning_words.table(DIVERGING)


@pytest.mark.parametrize("close", [False, True])
def test_first_updates(close: bool):
    held = {arm: [short(*setting, seed) for seed in range(2)] for arm, setting in claims.PAPER.items()}
    fig = start.losses(held, close)
    assert outside(fig) == []
    assert fig.layout.title.text.startswith("Loss from the first mini-batch to the last: 300 → 2.")
    assert fig.layout.xaxis.type == ("linear" if close else "log")
    assert list(lines(fig, "no BN 0.0001")[0].x[[0, -1]]) == [1, 300]
    y, seeds = drawn(fig, "no BN 0.0001"), [run.array("step_loss") for run in held["none"]]
    if close:
        assert np.isnan(y[:5]).all()
        assert y[150] == pytest.approx(np.exp(np.log(seeds).mean(0))[145:156].mean(), rel=0.005)
    else:
        assert y == pytest.approx(np.exp(np.log(seeds).mean(0)), rel=0.005)


def test_first_updates_that_diverge():
    run = short("none", 1e-4, 0)
    loss = [*run.measured["step_loss"][:20], 1e7, None]
    gone = Record(**(vars(run) | {"status": "diverged@21", "measured": run.measured | {"step_loss": loss}}))
    fig = start.losses({"none": [gone], "large": [short("batch", 0.1, 0)]}, True)
    assert outside(fig) == []
    assert list(lines(fig, "no BN 0.0001 diverges")[0].x) == [22]
    assert "300 → 1 diverge (no BN at 0.0001), " in fig.layout.title.text


def test_settings_that_begin_alike_are_told_once():
    held = {arm: [short(*setting, seed) for seed in range(2)] for arm, setting in claims.PAPER.items()}
    assert start.at_start(held) == "2.6 (2.6 to 2.6) with BN; 300 (300 to 300) without"
    assert start.at_start({"large": held["large"], "matched": held["matched"][:1]}) == "2.6 (2.6 to 2.6) with BN"


def test_what_differs_follows_from_the_runs():
    assert "the curves are the paper's alone" in learning_words.differs([], [])
    text = learning_words.differs(SMALL, [])
    assert "32 layers, not 110" in text
    assert "first 10,000 training images" in text
    assert "40 epochs; the paper's settings have 165, 1,320, 2,400." in text
    assert "without BN 0.01, a tenth of the largest that trains a net of this depth for 100 updates; with BN 0.01, 0.1." in text
    assert "2 seeds" in text
    assert "ours get right BN at 0.1 93 %, BN at 0.01 76 %, no BN at 0.01 75 %;" in text
    assert "no BN at 0.01 74 %" in learning_words.differs(DIVERGING, [])
    assert learning_words.differs(fig1(5), []).count("\n") == 0, "only the schedule is left"


def test_the_two_schedules_are_compared_where_they_were_run():
    def record(schedule: str, last: float) -> Record:
        run = made("fig1-plateau", "batch", 0.1, 0, last, 4, 20)
        setting = run.config.train.__class__(lr=0.1, schedule=schedule)
        return Record(**(vars(run) | {"config": run.config.__class__("fig1-plateau", 0, run.config.model, run.config.data, train=setting)}))

    both = learning_words.differs([], [record("plateau", 0.92), record("steps", 0.91)])
    assert "BN at 0.1 91.5 % by the one, 90.5 % by the other." in both
    assert "not compared here yet" in learning_words.differs([], [record("plateau", 0.92)])


def test_the_line_below_says_where_the_numbers_are_from():
    assert learning.provenance([]).word == "from the paper"
    ours, found = sources.source(WHOLE), learning.provenance(WHOLE)
    assert (found.word, found.rerun, found.records) == (ours.word, ours.rerun, ours.records)
    assert found.line == f"in colour · {ours.line} · in grey: the paper's Fig 1, digitised"


def test_what_ended_lower_is_told():
    runs = [*small(), *(made("fig1-small", "batch", 1.0, seed, 0.5, 40, 32, 10_000, diverged=3 * (seed > 0)) for seed in range(2))]
    runs += [made("fig1-small", "none", 0.1, seed, 0.1, 40, 32, 10_000) for seed in range(2)]
    assert learning_words.others(small()) == ""
    said = learning_words.others(runs)
    assert said == "Trained as well: BN at 1: 49.5 (49.5 to 49.5) %, 1 of 2 diverged; no BN at 0.1: 9.8 (9.5 to 10.0) %."
