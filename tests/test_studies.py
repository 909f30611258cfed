"""Studies are grids without repeats whose runs can be told apart, and each is measured into a record that verifies."""

from dataclasses import replace
from pathlib import Path

import pytest

from bnlib import data, records, studies
from bnlib.config import ConfigError, DataConfig, ModelConfig, ProbeConfig, ProductConfig, RunConfig


@pytest.mark.parametrize("study", studies.STUDIES.values(), ids=lambda s: s.name)
def test_a_study_lists_each_run_once_and_under_its_own_name(study: studies.Study):
    assert len({run.run_id for run in study.runs}) == len(study.runs)
    assert {run.study for run in study.runs} == {study.name}


def test_init_holds_the_grid_of_the_book():
    runs = studies.get("init").runs
    full = [run for run in runs if run.probe.full]
    assert len(full) == 7 * 2 * 5
    assert {run.model.depth for run in full} == {8, 14, 20, 32, 44, 56, 110}
    assert {(run.model.norm, run.seed) for run in full} == {(norm, seed) for norm in ("batch", "none") for seed in range(5)}
    summary = [run for run in runs if not run.probe.full]
    assert {run.model.depth for run in summary} == {20, 110}
    assert {run.seed for run in summary} == {0, 1, 2}
    assert {run.model.block for run in summary} == {"residual", "plain", "fixup", "skipinit"}
    assert [run.model.depth for run in runs if run.probe.powerlaw] == [110] * 10


def test_the_papers_own_setting_comes_first():
    first = studies.get("init").runs[0]
    assert (first.model, first.seed) == (ModelConfig(), 0)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"dpeth": 20}, "no setting 'dpeth'; it has batch, block, depth"),
        ({"depth": 26}, "no run with these settings together; it has depth: 110, 14, 20"),
    ],
)
def test_an_unknown_setting_gets_one_line(where: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        studies.get("init").only(where)
    with pytest.raises(ConfigError, match="there is no study 'inti'; there are init"):
        studies.get("inti")


def test_what_records_call_for_can_be_chosen_too_and_does_not_hang_on_the_choice(tmp_path: Path):
    """Seed 1 follows where the whole row of seed 0 is there, also for a choice that leaves most of the row out."""
    row = tuple(RunConfig("toy", 0, product=ProductConfig(M=M, N=50)) for M in (1, 2))
    called = replace(row[1], seed=1)
    study = studies.Study("toy", "", row, lambda run, images: {"loss": 1.0}, lambda found: [called] if len(found) == 2 else [])
    second = study.only({"seed": 1})
    with pytest.raises(ConfigError, match="study toy has no run with these settings together; it has seed: 0"):
        second.missing(tmp_path)
    for run in row:
        studies.measure(study, run, None, tmp_path)
    assert second.missing(tmp_path) == study.only({"M": 2}).missing(tmp_path) == [called]
    with pytest.raises(ConfigError, match="it has M: 1, 2"):
        study.only({"M": 3}).missing(tmp_path)


def test_measuring_writes_records_that_verify_and_are_then_not_missing(tmp_path: Path):
    images = data.load(DataConfig(source="synthetic"))
    runs = (
        RunConfig("init", 0, ModelConfig(depth=8), DataConfig(source="synthetic"), ProbeConfig(batch=8)),
        RunConfig("init", 1, ModelConfig(depth=8, norm="none"), DataConfig(source="synthetic"), ProbeConfig(batch=8, full=False)),
    )
    study = studies.Study("init", "a small one", runs, studies.get("init").measure)
    for run in study.missing(tmp_path):
        studies.measure(study, run, images, tmp_path)
    assert study.missing(tmp_path) == []
    assert records.verify(tmp_path) == []
    full, summary = (records.load(records.path_of(run, tmp_path)) for run in runs)
    assert full.data["variant"] == "synthetic"
    assert full.array("ln_std").shape == (8,)
    assert "gradient_histogram" in full.measured
    assert "gradient_histogram" not in summary.measured


def test_a_spectrum_is_measured_the_same_each_time(tmp_path: Path):
    study = studies.get("spectra").only({"M": 2, "N": 50, "seed": 1})
    (run,) = study.runs
    assert run.product == ProductConfig(M=2, N=50)
    one = records.load(studies.measure(study, run, None, tmp_path / "one"))
    two = records.load(studies.measure(study, run, None, tmp_path / "two"))
    assert one.measured == two.measured
    assert one.array("log_singular_values").shape == (50,)
