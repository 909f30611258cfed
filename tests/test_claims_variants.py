"""The claims of the chapter on variants, and its figures, on records with known content."""

import datetime
from dataclasses import replace

import numpy as np
import pytest
from ladder_runs import RATIOS, initialised, ladder
from test_figures_networks import outside

from bnlib import claims, records
from bnlib.config import DataConfig, ModelConfig, RunConfig, TrainConfig
from bnlib.figures import variants
from bnlib.probes import lines
from bnlib.studies import LADDER, NORMAL

ALL = (
    claims.he_explodes_without_bn,
    claims.last_bn_restores_cancellation,
    claims.last_bn_bears_larger_steps,
    claims.last_bn_bears_larger_rates,
    claims.other_normalisers_do_as_bn,
    claims.other_normalisers_train_as_bn,
    claims.last_bn_captures_most,
    claims.other_normalisers_gain,
)
NOW = datetime.datetime.now(datetime.UTC)


@pytest.fixture(scope="module")
def init() -> list[records.Record]:
    return initialised()


def stepped(doubles: dict[str, float]) -> list[records.Record]:
    """Records of `steps` whose loss doubles at these steps, at two depths."""
    found = []
    t = np.array([0.0, *lines.SIZES])
    for norm, at in doubles.items():
        for depth, seed in ((110, 0), (110, 1), (110, 2), (8, 0)):
            train = TrainConfig(lr=NORMAL[norm])
            run = RunConfig("steps", seed, ModelConfig(depth=depth, norm=norm), DataConfig(), train=train)
            loss = 2.3 * (1 + (t / at) ** 8 * 1.001)
            measured = {"mini_batch": lines.MINI_BATCHES, "step": t, "loss": [loss] * 3, "gradient_norm": [1.0] * 3}
            found.append(records.new(run, measured, NOW, 1.0))
    return found


def whole(study: str, lr: float, accuracy: float | None, depth: int = 110, **model: str) -> list[records.Record]:
    """Three trainings that end at this test accuracy, or diverge; ResNet-110 for 165 epochs, another for 40 on a fifth of the images."""
    images, epochs = (50_000, 165) if depth == 110 else (10_000, 40)
    setting, status = TrainConfig(lr=lr, epochs=epochs), "diverged@9" if accuracy is None else "completed"
    seen = {"test_acc": [0.1, accuracy], "train_acc": [0.1, 0.97]}
    runs = [RunConfig(study, seed, ModelConfig(depth, **model), DataConfig(train_size=images), train=setting) for seed in range(3)]  # type: ignore[arg-type]
    return [records.new(run, seen, NOW, 1.0, status=status) for run in runs]


def small(low: float, high: float) -> list[records.Record]:
    """The arms of Fig 1 at small scale beside which the variants are set."""
    return [*whole("fig1-small", 0.01, low, 32, norm="none"), *whole("fig1-small", 0.1, high, 32, norm="batch")]


def brief(study: str, norm: str, depth: int, lr: float, end: float | None, seed: int = 0) -> records.Record:
    """A run of 100 updates whose last losses are `end`, or that diverges at once."""
    train = TrainConfig(lr=lr, steps=100, schedule="constant")
    run = RunConfig(study, seed, ModelConfig(depth=depth, norm=norm), DataConfig(), train=train)
    losses = [2.4, 1e9] if end is None else [2.4] * 80 + [end] * 20
    status = "diverged@2" if end is None else "completed"
    return records.new(run, {"step_loss": losses, "logit_spread": 1.0}, NOW, 1.0, status=status)


def rates(bears: float, end: float = 2.0, none: float = 3.16e-4) -> list[records.Record]:
    """ResNet-110: with BN at the end it survives up to `bears` and ends at `end`, without BN up to `none`."""
    arms = (("variants-short", "last-features", bears), ("max-lr", "none", none))
    return [
        brief(study, norm, 110, lr, end if lr <= most else None, seed) for study, norm, most in arms for lr in LADDER for seed in range(3)
    ]


# Verdicts


@pytest.mark.parametrize("claim", ALL)
def test_without_records_nothing_is_decided(claim):
    assert claim([]).word == "not yet measured"


def test_he_explodes_where_nothing_normalises(init):
    assert claims.he_explodes_without_bn(init).word == "reproduced"
    assert "3.2×10⁷" in claims.he_explodes_without_bn(init).because


def test_one_bn_at_the_end_is_compared_with_none(init):
    assert claims.last_bn_restores_cancellation(init).word == "reproduced"
    poorer = [r for r in init if r.config.model.norm != "last-features"]
    poorer += [records.new(r.config, r.measured | {"coherence_ratio": [19.0] * 109}, NOW, 1.0) for r in init if r not in poorer]
    assert claims.last_bn_restores_cancellation(poorer).word == "not reproduced"


def test_each_other_normaliser_is_a_part(init):
    verdict = claims.other_normalisers_do_as_bn(init)
    assert verdict.word == "partly"
    assert "layer norm: σ within a factor of 1.1, a/b 9.1" in verdict.because


@pytest.mark.parametrize(("last", "word"), [(0.03, "reproduced"), (0.003, "not reproduced")])
def test_the_step_that_one_bn_bears(last, word):
    assert claims.last_bn_bears_larger_steps(stepped({"none": 1e-3, "last-features": last})).word == word


@pytest.mark.parametrize(
    ("bears", "end", "word"),
    [
        (0.1, 2.0, "reproduced"),
        (0.0316, 2.0, "reproduced"),
        (0.01, 2.0, "partly"),  # not at the paper's rate
        (0.1, 2.3, "partly"),  # survives, but learns nothing
        (0.001, 2.3, "not reproduced"),
    ],
)
def test_the_rates_that_one_bn_bears(bears, end, word):
    assert claims.last_bn_bears_larger_rates(rates(bears, end)).word == word


def test_a_seed_counts_once_all_its_rates_are_measured():
    runs = [r for r in rates(0.1) if (r.config.study, r.config.seed, r.config.train.lr) != ("variants-short", 2, 0.001)]
    assert claims.last_bn_bears_larger_rates(runs).word == "not yet measured"


def test_seeds_that_survive_without_bn_count():
    assert claims.last_bn_bears_larger_rates(rates(0.1, none=0.0316)).word == "partly"
    assert "0.1 (0.1 to 0.1) with BN at the end, 0.000316" in claims.last_bn_bears_larger_rates(rates(0.1)).because


@pytest.mark.parametrize(
    ("ends", "word"),
    [((1.8, 1.8, 1.8), "reproduced"), ((1.8, 2.29, 1.8), "partly"), ((2.29, None, 2.29), "partly"), ((None,) * 3, "not reproduced")],
)
def test_other_normalisers_against_bn_at_one_rate(ends, word):
    norms = zip(("layer", "group", "instance"), ends, strict=True)
    others = [brief("variants-short", norm, 20, 0.1, end, seed) for norm, end in norms for seed in range(3)]
    assert claims.other_normalisers_train_as_bn([*ladder(), *others]).word == word


def test_the_table_of_rates_has_the_seeds_of_each_arm():
    runs = rates(0.1)
    table = variants.rates_table([r for r in runs if r.config.study == "max-lr"], [r for r in runs if r.config.study != "max-lr"])
    lines_of = {line.split(" | ")[0].strip("| "): line for line in table.splitlines()[2:]}
    assert lines_of["0.1"] == "| 0.1 | diverges at update 2 | trains (loss 2.0) | not yet measured |"


@pytest.mark.parametrize(("end", "word"), [(0.90, "reproduced"), (0.86, "not reproduced"), (None, "not reproduced")])
def test_one_bn_at_the_end_is_to_gain_half(end, word):
    ends = [*whole("fig1", 1e-4, 0.82, norm="none"), *whole("fig1", 0.1, 0.93, norm="batch")]
    verdict = claims.last_bn_captures_most([*ends, *whole("variants", 0.03, end, norm="last-features")])
    assert verdict.word == word
    assert ("3 of 3 diverged" if end is None else f"so {(end - 0.82) / 0.11:.0%}".rstrip("%")) in verdict.because


def test_one_bn_at_the_end_is_judged_at_small_scale_until_there_is_another():
    ends = [*small(0.60, 0.80), *whole("variants-small", 0.0316, 0.75, 32, norm="last-features")]
    verdict = claims.last_bn_captures_most(ends)
    assert verdict.word == "reproduced"
    assert verdict.because.startswith("ResNet-32, 10,000 training images, 40 epochs, 3 seeds a setting: test accuracy 75.0 ")
    ends += [*whole("fig1", 1e-4, 0.82, norm="none"), *whole("fig1", 0.1, 0.93, norm="batch")]
    assert claims.last_bn_captures_most(ends) == verdict, "as long as BN at the end is not trained there"
    ends += whole("variants", 0.03, 0.86, norm="last-features")
    assert claims.last_bn_captures_most(ends).word == "not reproduced"


@pytest.mark.parametrize(
    ("low", "high", "end", "word"),
    [
        (0.5, 0.4, 0.46, "not reproduced"),
        (None, 0.8, 0.7, "reproduced"),
        (0.6, None, 0.7, "not reproduced"),
        (None, None, None, "not reproduced"),
    ],
)
def test_there_is_no_part_of_a_gain_that_there_is_not(low, high, end, word):
    verdict = claims.last_bn_captures_most([*small(low, high), *whole("variants-small", 0.0316, end, 32, norm="last-features")])
    assert verdict.word == word
    assert "nan" not in verdict.because


def test_the_gain_is_counted_from_none_at_its_best():
    runs = [*small(0.60, 0.80), *whole("variants-small", 0.0316, 0.75, 32, norm="last-features")]
    runs += whole("fig1-small", 0.0316, 0.72, 32, norm="none")
    assert claims.share_of_gain(runs) == pytest.approx([3 / 8] * 3)
    assert claims.last_bn_captures_most(runs).word == "not reproduced"


def test_at_small_scale_bn_at_the_end_counts_at_the_rung_beside_the_papers_rate():
    other = whole("variants-small", 0.1, 0.75, 32, norm="last-features")
    assert claims.last_bn_captures_most([*small(0.60, 0.80), *other]).word == "not yet measured"


def test_a_reference_that_has_not_learned_its_images_is_named():
    unlearned = [
        records.new(r.config, {**r.measured, "train_acc": [0.1, 0.61]}, NOW, 1.0) if r.config.model.norm == "none" else r
        for r in small(0.60, 0.80)
    ]
    last = whole("variants-small", 0.0316, 0.75, 32, norm="last-features")
    assert claims.last_bn_captures_most([*unlearned, *last]).because.endswith(
        "no BN at 0.01 has by then only 61 % of its training images right"
    )


@pytest.mark.parametrize(("instance", "word"), [(0.85, "partly"), (None, "partly"), (0.9, "reproduced")])
@pytest.mark.parametrize("study", ["variants", "variants-small"])
def test_other_normalisers_are_to_gain_five_points(study, instance, word):
    depth, ends = (110, whole("fig1", 1e-4, 0.82, norm="none")) if study == "variants" else (32, small(0.82, 0.93))
    reached = {"layer": 0.88, "group": 0.9, "instance": instance}
    others = [r for norm, end in reached.items() for r in whole(study, 0.1, end, depth, norm=norm)]
    assert claims.other_normalisers_gain([*ends, *others]).word == word


# Figures


@pytest.mark.parametrize("measure", variants.MEASURES.values())
@pytest.mark.parametrize("depth", [20, 110])
def test_at_start_shows_every_normaliser(init, measure, depth):
    fig = variants.at_start(init, measure, depth)
    assert outside(fig) == []
    assert len(fig.layout.yaxis.ticktext) == len(RATIOS)
    assert "with BN" in fig.layout.title.text


def test_what_grows_less_than_onefold_shrinks():
    assert variants._grow(0.47, 5.5) == ("shrinks to 0.47", "grows 5.5-fold")
    assert variants._grow(0.47, 0.5) == ("shrinks to 0.47", "to 0.5")
    assert variants._grow(180.0, 5.7) == ("grows 180-fold", "5.7-fold")


def test_at_start_says_how_far_he_and_xavier_lie_apart(init):
    title = variants.at_start(init, "growth", 110).layout.title.text
    assert (
        title == "110 layers, without: σ grows 220-fold from Xavier's start, 3.2×10⁷-fold from He's; with BN it grows 1.1-fold and 1.1-fold"
    )


@pytest.mark.parametrize("mini_batch", lines.MINI_BATCHES)
def test_last_layer_draws_what_is_measured(mini_batch):
    fig = variants.last_layer(stepped({"none": 1e-3, "last-features": 0.03}), mini_batch)
    assert fig.layout.title.text.endswith("a step of 0.001 without BN, 0.03 with BN at the end, (not measured) with BN")
    assert outside(fig) == []


def test_whole_trainings_beside_each_other():
    lasts = [*whole("variants-small", 0.0316, 0.75, 32, norm="last-features"), *whole("variants-small", 0.1, None, 32, norm="layer")]
    runs = [records.new(r.config, {"test_acc": list(np.linspace(0.1, r.measured["test_acc"][-1] or np.nan, 40))}, NOW, 1.0, status=r.status)
            for r in (*small(0.60, 0.80), *lasts)]  # fmt: skip
    fig = variants.trained(runs, "test", 100)
    assert fig.layout.title.text == "Test images right after 100 % of training: 60 % without BN, 75 % with BN at the end, 80 % with BN"
    assert list(fig.layout.yaxis.ticktext) == ["without", "layer norm", "BN at the end", "with BN"]
    assert [list(trace.x) for trace in fig.data] == [[60.0] * 3, [2.0] * 3, [75.0] * 3, [80.0] * 3, [70.0, 70.0]]
    assert set(fig.data[1].marker.symbol) == {"x"}
    assert variants.trained(runs, "test", 5).data[0].x[0] == pytest.approx(10 + 50 / 39, abs=0.05), "after the second of 40 epochs"


def test_of_a_row_with_a_diverged_seed_the_others_are_shown():
    lasts = whole("variants-small", 0.0316, 0.75, 32, norm="last-features")
    lasts[1] = whole("variants-small", 0.0316, None, 32, norm="last-features")[1]
    runs = [*small(0.60, 0.80), *lasts]
    runs = [records.new(r.config, {"test_acc": [r.measured["test_acc"][-1] or np.nan] * 40}, NOW, 1.0, status=r.status) for r in runs]
    fig = variants.trained(runs, "test", 100)
    assert fig.layout.title.text.endswith(": 60 % without BN, 75 % (1 of 3 diverged) with BN at the end, 80 % with BN")
    assert list(fig.data[1].x) == [75.0, 2.0, 75.0]
    assert list(fig.data[1].marker.symbol) == ["square", "x", "square"]
    gone = [replace(r, measured={"test_acc": [np.nan] * 40}) if r.config.model.norm == "none" else r for r in runs]
    assert ": diverged without BN, " in variants.trained(gone, "test", 100).layout.title.text


def test_without_one_bn_at_the_end_no_whole_training_is_drawn():
    assert variants.whole_trainings(small(0.60, 0.80)) == {}


def test_the_table_of_whole_trainings_says_what_is_missing():
    rows = variants.trained_table(whole("variants", 0.03, 0.9, norm="last-features"), []).splitlines()
    assert "| BN on the last features, 0.03 | 90.0 (90.0 to 90.0) % | 3 |" in rows
    assert "| Fixup, 0.1 | not yet measured | 0 |" in rows
