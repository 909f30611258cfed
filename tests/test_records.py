"""A record is written once, loaded strictly, and any changed byte of it shows."""

import datetime
import json
import re
import threading
import tomllib
from dataclasses import replace
from pathlib import Path

import grimp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bnlib import provenance, records, sources
from bnlib.config import DataConfig, ModelConfig, ProbeConfig, ProductConfig, RunConfig
from bnlib.records import RecordError, folder, record

START = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


def spectrum(seed: int = 0, M: int = 3) -> records.Record:
    config = RunConfig("spectra", seed, product=ProductConfig(M=M, N=4))
    return records.new(config, {"log_singular_values": np.array([0.123456789, -1.0, np.inf, np.nan]), "count": 4}, START, 1.2345)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return records.write(spectrum(), tmp_path)


def test_what_is_written_is_what_is_loaded(written: Path):
    record = records.load(written)
    assert record == spectrum()
    assert record.measured == {"log_singular_values": [0.123457, -1.0, None, None], "count": 4}
    np.testing.assert_array_equal(record.array("log_singular_values"), [0.123457, -1, np.nan, np.nan])
    assert record.time == {"start": "2026-01-02T03:04:05Z", "seconds": 1.23}


def test_an_array_takes_one_line(written: Path):
    assert '  "log_singular_values": [0.123457,-1.0,null,null],' in written.read_text().splitlines()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(data=st.data())
def test_any_changed_byte_is_found(written: Path, data: st.DataObject):
    good = written.read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != good[at]))
    written.write_bytes(good[:at] + bytes([byte]) + good[at + 1 :])
    with pytest.raises(RecordError, match=re.escape(str(written))) as caught:
        records.load(written)
    written.write_bytes(good)
    assert "\n" not in str(caught.value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(data=st.data())
def test_a_truncated_or_extended_file_is_found(written: Path, data: st.DataObject):
    good = written.read_bytes()
    bad = data.draw(st.integers(0, len(good) - 1).map(lambda n: good[:n]) | st.binary(min_size=1, max_size=9).map(lambda b: good + b))
    written.write_bytes(bad)
    with pytest.raises(RecordError, match=re.escape(str(written))):
        records.load(written)
    written.write_bytes(good)


def rewritten(path: Path, **changes) -> Path:
    """Edit the record's fields and renew its hash as a careful forger would."""
    import hashlib

    content = json.loads(path.read_text()) | changes
    content.pop("content_sha256")
    digest = hashlib.sha256(record._render(content).encode()).hexdigest()
    path.write_text(record._render(content | {"content_sha256": digest}) + "\n")
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 2}, "schema 2 is not 1"),
        ({"numerics": 0}, "made by numerics 0"),
        ({"run_id": "0" * 12}, "does not follow from its configuration"),
        ({"study": "init"}, "belongs into the folder"),
        ({"status": "done"}, "unknown status 'done'"),
        ({"measured": []}, "must each be an object"),
        ({"extra": 1}, "its keys are"),
        ({"config": {"study": "spectra", "seed": 0, "product": {"M": 0, "N": 4}}}, "M is 0; it must be at least 1"),
        ({"config": {"study": "spectra", "seed": 1, "product": {"M": 3, "N": 4}}}, "does not follow from its configuration"),
    ],
)
def test_a_forged_record_is_refused(written: Path, changes: dict, message: str):
    with pytest.raises(RecordError, match=message):
        records.load(rewritten(written, **changes))


def test_a_renamed_or_moved_record_is_refused(written: Path, tmp_path: Path):
    with pytest.raises(RecordError, match="must be named"):
        records.load(written.rename(written.with_name("000000000000.json")))
    (tmp_path / "init").mkdir()
    moved = written.with_name("000000000000.json").rename(tmp_path / "init" / written.name)
    with pytest.raises(RecordError, match="belongs into the folder spectra"):
        records.load(moved)


def test_a_record_of_unknown_images_is_refused(tmp_path: Path):
    class Unknown:
        fingerprint, variant = "0" * 64, "unknown"

    config = RunConfig("init", 0, ModelConfig(), DataConfig(), ProbeConfig())
    path = records.write(records.new(config, {"loss": 1.0}, START, 1.0, data=Unknown), tmp_path)
    with pytest.raises(RecordError, match="unknown data set"):
        records.load(path)


def test_a_record_is_written_once(written: Path, tmp_path: Path):
    before = written.read_bytes()
    with pytest.raises(RecordError, match="written once"):
        records.write(spectrum(), tmp_path)
    assert written.read_bytes() == before
    assert [p.name for p in written.parent.iterdir()] == [written.name]


def test_of_many_writers_one_wins_and_nothing_is_left_behind(tmp_path: Path):
    outcomes = []

    def write() -> None:
        try:
            records.write(spectrum(), tmp_path)
            outcomes.append("written")
        except RecordError:
            outcomes.append("refused")

    threads = [threading.Thread(target=write) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["refused"] * 15 + ["written"]
    assert records.verify(tmp_path) == []


def test_a_record_too_large_is_not_written(tmp_path: Path):
    config = RunConfig("spectra", product=ProductConfig())
    with pytest.raises(RecordError, match="at most 200000 are allowed"):
        records.write(records.new(config, {"log_singular_values": np.random.default_rng(0).normal(size=40_000)}, START, 1), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_gets_one_line(tmp_path: Path):
    (tmp_path / "spectra").write_text("a file where the folder should be")
    with pytest.raises(RecordError, match="cannot write") as caught:
        records.write(spectrum(), tmp_path)
    assert "\n" not in str(caught.value)


def test_verify_names_what_is_wrong_and_where(written: Path, tmp_path: Path):
    records.write(spectrum(1), tmp_path)
    assert records.verify(tmp_path) == []
    (tmp_path / "spectra" / "notes.txt").write_text("not a record")
    written.write_bytes(written.read_bytes()[:-9])
    problems = records.verify(tmp_path)
    assert [str(written) in p or "notes.txt" in p for p in problems] == [True, True]


def test_nothing_in_a_record_names_the_machine_or_its_user(written: Path):
    import getpass
    import platform

    text = written.read_text()
    assert "/" not in text.replace("2026-01-02", "")
    assert not re.search(rf"\b{re.escape(platform.node())}\b", text)
    assert f'"{getpass.getuser()}"' not in text


def test_a_missing_setting_names_the_nearest_and_the_command(tmp_path: Path):
    for M in (1, 5, 20):
        records.write(spectrum(M=M), tmp_path)
    assert [r.config.product.M for r in records.find("spectra", tmp_path, M=5)] == [5]
    with pytest.raises(RecordError, match=re.escape("with M=6, N=4. The nearest: M=5, N=4; M=1, N=4; M=20, N=4.")) as caught:
        records.find("spectra", tmp_path, M=6, N=4)
    assert str(caught.value).endswith("To make it: bnlib sweep spectra --only M=6 --only N=4")
    with pytest.raises(RecordError, match=re.escape("in a notebook: bnlib.explore.live.TrainYourOwn(depth=14, norm='none')")):
        records.find("max-lr", tmp_path, depth=14, norm="none", seed=7)


def test_a_missing_results_folder_gets_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(RecordError, match="no results folder"):
        records.results_dir(tmp_path / "nowhere")
    monkeypatch.setenv("BNLIB_RESULTS", str(tmp_path / "elsewhere"))
    with pytest.raises(RecordError, match="elsewhere"):
        records.find("spectra")


def test_another_folder_that_is_called_results_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("BNLIB_RESULTS", raising=False)
    ours, inner = tmp_path / "results", tmp_path / "home" / "inner"
    for place in (ours, inner, inner.parent / "results" / "exam"):
        place.mkdir(parents=True)
    (inner.parent / "results" / "exam" / "marks.json").write_text("[]")
    monkeypatch.chdir(inner)
    assert records.results_dir() == ours, "an empty one may be meant to be filled"
    records.write(spectrum(), ours)
    assert records.results_dir() == ours
    (inner / "results").mkdir()
    assert records.results_dir() == inner / "results"


def test_the_records_that_were_installed_are_found_last_and_not_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("BNLIB_RESULTS", raising=False)
    package = tmp_path / "site" / "bnlib"
    (package / "results").mkdir(parents=True)
    monkeypatch.setattr(folder, "__file__", str(package / "records" / "folder.py"))
    monkeypatch.setattr(folder, "INSTALLED", package / "results")
    monkeypatch.chdir(tmp_path)
    assert records.results_dir() == package / "results"
    with pytest.raises(RecordError, match="bnlib export results"):
        records.own(records.results_dir())
    (tmp_path / "results").mkdir()
    assert records.own(records.results_dir()) == tmp_path / "results"


def test_a_source_line_says_seeds_runs_commit_hardware_and_date(tmp_path: Path):
    made = [spectrum(seed) for seed in (0, 1)]
    source = sources.source(made)
    assert source.word == "cached"
    assert source.line.startswith("2 seeds · 2 runs · commit ")
    assert "2026-01-02" in source.line
    assert made[0].hardware["name"] in source.line
    assert source.rerun == "bnlib sweep spectra"
    assert [path for _, path in source.records] == [f"results/spectra/{r.config.run_id}.json" for r in made]


def test_a_source_line_has_commits_in_the_order_of_time_and_a_record_once():
    made = [
        replace(spectrum(seed), code={"commit": commit, "dirty": False}, time={"start": f"2026-01-0{day}T00:00:00Z", "seconds": 1.0})
        for seed, (commit, day) in enumerate((("a" * 40, 2), ("b" * 40, 3), ("c" * 40, 1), ("a" * 40, 4)))
    ]
    source = sources.source([*made, made[0]])
    assert source.line.startswith("4 seeds · 4 runs · commit ccccccc … bbbbbbb · ")
    assert "2026-01-01 … 2026-01-04" in source.line
    assert [name for name, _ in source.records] == [r.config.run_id for r in made]


def test_the_papers_figures_are_at_hand():
    assert sources.paper("fig5")["layers"][-1] == 110
    with pytest.raises(RecordError, match="there are fig1, fig2"):
        sources.paper("fig9")


def test_every_module_that_measures_is_in_the_hash_of_the_code():
    layers = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]
    below = {name.removeprefix("bnlib.") for layer in layers[layers.index("bnlib.probes") :] for name in layer.split(" | ")}
    assert below | {"studies"} == {*provenance.NUMBERS}


def test_all_that_training_imports_is_in_the_hash_of_a_run_in_progress():
    upstream = grimp.build_graph("bnlib", cache_dir=None).find_upstream_modules("bnlib.train", as_package=True)
    assert {name.split(".")[1] for name in upstream} | {"train"} == {*provenance.TRAINING}
