"""Claims about the rates that train, and about how training breaks down at the others, on records with known content."""

import datetime

import pytest

from bnlib import claims, records
from bnlib.config import DataConfig, ModelConfig, RunConfig, TrainConfig
from bnlib.studies import LADDER, STUDIES


def made(study: str, norm: str, seed: int, measured: dict, depth: int = 110, status: str = "completed", **setting) -> records.Record:
    run = RunConfig(study, seed, ModelConfig(depth=depth, norm=norm), DataConfig(), train=TrainConfig(**setting))  # type: ignore[arg-type]
    return records.new(run, measured, datetime.datetime.now(datetime.UTC), 1.0, status=status)


def short(norm: str, seed: int, lr: float = 0.1, end: float = 2.0, at: int = 0, above: int | None = None, depth: int = 110):
    """A run of 100 updates that ends at a loss of `end`, or diverges `at` an update."""
    measured = {"step_loss": [end] * (at or 100), "logit_spread": 1.0, "steps": at or 100, "above_1e3": above}
    status = f"diverged@{at}" if at else "completed"
    return made("max-lr", norm, seed, measured, depth, status, lr=lr, steps=100, schedule="constant")


# How it breaks down


@pytest.mark.parametrize(
    ("at", "word"),
    [((3, 5, 60), "reproduced"), ((3, 50, 60), "not reproduced"), ((10, 10, 10), "reproduced"), ((11, 11, 3), "not reproduced")],
)
def test_diverges_at_once(at: tuple, word: str):
    runs = [short("none", seed, lr, at=updates) for seed in range(3) for lr, updates in zip((0.1, 1.0, 10.0), at, strict=True)]
    others = [short("batch", 0, at=90), short("none", 0, 1.0, at=90, depth=8), *(short("none", seed, 1e-4) for seed in range(3))]
    assert claims.diverges_at_once([*runs, *others]).word == word


def test_seeds_in_which_nothing_diverges_do_not_count():
    assert claims.diverges_at_once([short("none", 0, at=3), short("none", 1, at=3), short("none", 2)]).word == "not yet measured"
    assert claims.diverges_at_once([]).word == "not yet measured"


def rises(norm: str, seed: int, end: float = 2.3, at: int = 0, above: int | None = 5, depth: int = 8) -> records.Record:
    measured = {"step_loss": [end] * (at or 300), "logit_spread": 0.0, "steps": at or 300, "above_1e3": above}
    setting = {"lr": 1.0, "steps": 300, "schedule": "constant", "limit": 0.0}
    return made("recovery", norm, seed, measured, depth, f"diverged@{at}" if at else "completed", **setting)


DEAD, LOST = [rises("none", seed) for seed in range(3)], [rises("none", seed, at=7) for seed in range(3)]


@pytest.mark.parametrize(
    ("runs", "word"),
    [
        (DEAD, "reproduced"),
        (LOST, "reproduced"),  # a loss that is not finite is lost for good
        ([*DEAD, rises("batch", 0)], "reproduced"),
        ([*DEAD, rises("batch", 0, end=2.0)], "not reproduced"),
        ([rises("batch", 0, end=2.0)], "not reproduced"),  # one is enough
        ([*DEAD, rises("none", 0, end=2.0, depth=20)], "not reproduced"),
        ([*DEAD, rises("none", 3, end=2.0, above=0)], "reproduced"),  # begins above, so does not rise
        ([rises("none", seed, above=None) for seed in range(3)], "not yet measured"),
        (DEAD[:2], "not yet measured"),
        ([*DEAD[:2], rises("batch", 2)], "not yet measured"),  # three seeds, but not of one kind
    ],
)
def test_none_recovers(runs: list, word: str):
    assert claims.none_recovers(runs).word == word


def test_none_recovers_counts_what_became_of_the_runs():
    because = claims.none_recovers([*DEAD, *LOST, rises("none", 0, end=50.0, depth=20), rises("batch", 1)]).because
    for said in ("without BN 7 runs pass 1000, of which 3 end", "with BN 1 run passes 1000, of which 0 end"):
        assert f"{said} in a loss that is not finite and 0 learn" in because


@pytest.mark.parametrize(
    ("batch", "none", "seeds", "word"),
    [
        (2.0, 2.3, 3, "reproduced"),
        (2.0, 2.0, 3, "partly"),
        (2.3, 2.0, 3, "not reproduced"),
        (2.0, 2.3, 1, "indicative"),
        (2.0, 2.3, 0, "not yet measured"),
    ],
)
def test_paper_rate_needs_bn(batch: float, none: float, seeds: int, word: str):
    runs = [short(norm, seed, end=end) for seed in range(seeds) for norm, end in (("batch", batch), ("none", none))]
    assert claims.paper_rate_needs_bn([*runs, short("none", 4), short("none", 0, 1e-4)]).word == word


def test_the_longer_run_decides_which_rate_needs_bn():
    def long(norm: str, end: float) -> records.Record:
        return made("map", norm, 0, {"train_loss": [3.0] * 9 + [end], "logit_spread": 1.0}, epochs=10, schedule="constant")

    found = claims.paper_rate_needs_bn([long("batch", 1.0), long("none", 2.3), short("batch", 0, end=2.5), short("none", 0, end=2.0)])
    assert found.word == "indicative"
    assert found.because == "of 1 seed measured at 0.1 with BN and without, 1 train with BN and 0 without; a verdict needs 3"


def test_three_hundred_updates_count_before_a_hundred():
    runs = [short(norm, seed, end=2.3) for seed in range(3) for norm in ("batch", "none")]
    longer = {"step_loss": [2.3] * 280 + [2.1] * 20, "logit_spread": 1.0}
    runs += [made("fig1-small", "batch", seed, longer, lr=0.1, steps=300, schedule="constant") for seed in range(3)]
    assert claims.paper_rate_needs_bn(runs).word == claims.paper_rate_needs_bn(runs[::-1]).word == "reproduced"


@pytest.mark.parametrize(
    ("trains", "word"),
    [((1e-4, 3.16e-4), "reproduced"), ((1e-4, 1e-3), "partly"), ((3.16e-4,), "partly"), ((1e-2,), "not reproduced")],
)
def test_unnormalised_needs_a_small_rate(trains: tuple, word: str):
    def epochs(seed: int, lr: float):
        measured = {"train_loss": [2.3] * 9 + [1.9 if lr in trains else 2.3], "logit_spread": 1.0}
        return made("map", "none", seed, measured, lr=lr, epochs=10, schedule="constant")

    runs = [epochs(seed, lr) for seed in range(3) for lr in LADDER]
    assert claims.unnormalised_needs_a_small_rate(runs).word == word
    assert claims.unnormalised_needs_a_small_rate(runs[:-1]).word == "not yet measured", "at the largest rate it might yet train"


# The largest rate that trains


def row(norm: str, depth: int, edge: float, seeds: tuple[int, ...] = (0, 1, 2)) -> list[records.Record]:
    """Runs that train up to a learning rate and diverge beyond; the later seeds only within two stops of it, as planned."""
    near = LADDER[max(0, LADDER.index(edge) - 2) : LADDER.index(edge) + 3]
    return [
        made("max-lr", norm, seed, {"step_loss": [1.0 if lr <= edge else 9.0] * 100, "logit_spread": 1.0}, depth,
             "completed" if lr <= edge else "diverged@9", lr=lr, steps=100, schedule="constant")
        for seed in seeds for lr in (near if seed else LADDER)
    ]  # fmt: skip


def grid(deep: float, shallow: float, normalised: float) -> list[records.Record]:
    return [*row("none", 110, deep), *row("none", 8, shallow), *row("batch", 110, normalised)]


@pytest.mark.parametrize(
    ("edges", "word"),
    [
        ((1e-3, 1e-2, 0.1), "reproduced"),
        ((1e-3, 3.16e-3, 0.1), "partly"),
        ((1e-3, 1e-2, 3.16e-3), "partly"),
        ((1e-3, 1e-3, 1e-3), "not reproduced"),
    ],
)
def test_depth_costs_rate(edges, word):
    assert claims.depth_costs_rate(grid(*edges)).word == word


def test_a_network_that_no_rate_trains_is_judged_by_what_it_survives():
    def idle(edge: float) -> list[records.Record]:
        """At 110 layers without BN nothing learns; beyond `edge` it diverges."""
        stays = {"step_loss": [2.3] * 100, "logit_spread": 1.0}
        ends = {lr: "completed" if lr <= edge else "diverged@9" for lr in LADDER}
        setting = {"steps": 100, "schedule": "constant"}
        return [made("max-lr", "none", seed, stays, 110, ends[lr], lr=lr, **setting) for seed in range(3) for lr in LADDER]

    others = [*row("none", 8, 0.1), *row("batch", 110, 0.1)]
    assert claims.depth_costs_rate([*idle(1e-3), *others]).word == "reproduced"
    assert claims.depth_costs_rate([*idle(0.1), *others]).word == "not reproduced"
    assert claims.edges(idle(0.1), "none", 110) == {0: 0.0, 1: 0.0, 2: 0.0}


def test_a_seed_counts_once_its_row_is_complete():
    whole = row("none", 8, 0.1)
    assert claims.edges(whole, "none", 8) == {0: 0.1, 1: 0.1, 2: 0.1}
    assert claims.edges([r for r in whole if r.config.seed < 2], "none", 8) == {0: 0.1, 1: 0.1}
    assert claims.edges([r for r in whole if (r.config.seed, r.config.train.lr) != (2, 1.0)], "none", 8) == {0: 0.1, 1: 0.1}
    assert claims.edges(whole[1:], "none", 8) == {}
    assert claims.edges(whole, "batch", 8) == {}
    assert (
        claims.depth_costs_rate([*row("none", 110, 1e-3), *row("none", 8, 0.1), *row("batch", 110, 1.0, (0, 1))]).word == "not yet measured"
    )


def test_where_nothing_trains_the_edge_is_none():
    dead = [
        made("max-lr", "none", 0, {"step_loss": [2.3] * 100, "logit_spread": 0.0}, 8, lr=lr, steps=100, schedule="constant")
        for lr in LADDER
    ]
    assert claims.edges(dead, "none", 8) == {0: 0.0}
    assert claims.edges([], "none", 8) == {}


def test_a_row_in_which_nothing_trains_is_told_as_such():
    dead = [
        made("max-lr", "none", 0, {"step_loss": [2.3] * 100, "logit_spread": 0.0}, 110, lr=lr, steps=100, schedule="constant")
        for lr in LADDER
    ]
    found = claims.depth_costs_rate([*dead, *row("none", 8, 0.1), *row("batch", 110, 1.0)])
    assert (found.word, found.because) == ("not yet measured", "it takes 3 seeds; so far there are 1")


def test_further_seeds_are_planned_about_both_edges():
    """Of what trains and of what survives: their places on the ladder are 4 and 9."""
    first = [short("batch", 0, lr, end=2.0 if place <= 4 else 2.3, at=0 if place <= 9 else 5) for place, lr in enumerate(LADDER)]
    planned = {(run.train.lr, run.seed) for run in STUDIES["max-lr"].refine(first)}
    assert planned == {(lr, seed) for lr in (*LADDER[2:7], *LADDER[7:12]) for seed in (1, 2)}
    dead = [short("batch", 0, lr, end=2.3, at=0 if place <= 9 else 5) for place, lr in enumerate(LADDER)]
    assert {run.train.lr for run in STUDIES["max-lr"].refine(dead)} == set(LADDER[7:12])
    assert list(STUDIES["max-lr"].refine(first[:-1])) == [], "while the row is incomplete"
