"""The chapters take the records of the studies that need a GPU as they come: made-up ones, beside those that are committed."""

import datetime
import shutil
from pathlib import Path

import chapters
import numpy as np
import pytest
from learning_runs import Images

from bnlib import records, studies
from bnlib.claims import ledger
from bnlib.config import RunConfig

RESULTS = Path(__file__).parents[1] / "results"
STUDIES = ("fig1", "fig1-165", "fig1-plateau", "map", "variants", "precision")
ENDS = {("batch", 0.1): 0.93, ("batch", 0.003): 0.90, ("batch", 1e-4): 0.81, ("none", 1e-4): 0.82}


def trained(run: RunConfig) -> records.Record:
    """What training would record: curves that rise to an end of their own; without BN it diverges in the first epoch from 0.001 on."""
    assert run.train is not None
    assert run.model is not None
    rng, lr, norm = np.random.default_rng(run.seed), run.train.lr, run.model.norm
    recipe = run.model.block != "residual" or (norm == "none" and run.study == "fig1-plateau")
    gone = (norm == "none" and lr >= 1e-3 and not recipe) or lr > 4
    epochs = 0 if gone else run.train.epochs
    end = ENDS.get((norm, lr), 0.85) + 0.003 * rng.normal()
    epoch = np.arange(1.0, epochs + 1)
    acc = end * (1 - 0.7 * np.exp(-12 * epoch / run.train.epochs))
    loss = np.geomspace(2.5, 1e6, 5) if gone else np.linspace(2.5, 2.0, 100)
    by_epoch = {"train_acc": acc, "test_acc": acc, "train_loss": 2.4 * (1 - acc), "test_loss": 2.4 * (1 - acc), "epoch": epoch}
    by_epoch |= {"lr": np.full(epochs, lr), "gradient_norm": np.ones(epochs), "seconds": np.ones(epochs)}
    whole = {"initial_loss": 2.5, "step_loss": loss, "logit_spread": 1.0, "steps": len(loss) if gone else 391 * epochs, "above_1e3": None}
    status = f"diverged@{len(loss)}" if gone else "completed"
    return records.new(run, by_epoch | whole, datetime.datetime.now(datetime.UTC), 1.0, data=Images, status=status)


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = shutil.copytree(RESULTS, tmp_path_factory.mktemp("ready") / "results", ignore=shutil.ignore_patterns(".*"))
    for study in STUDIES:
        for run in studies.get(study).runs:
            records.write(trained(run), root)
    return root


def test_what_is_made_up_has_what_training_records(ready: Path):
    assert records.verify(ready) == []
    real = records.find("fig1-small", RESULTS, depth=32)[0]
    assert records.find("fig1", ready)[0].measured.keys() == real.measured.keys()
    for study in STUDIES:
        assert studies.get(study).missing(ready) == []


def test_no_claim_waits_for_a_gpu_any_longer(ready: Path):
    needs = {entry.id for entry in ledger.entries(RESULTS) if set(entry.studies) & set(STUDIES)}
    assert {"fig1-is-the-papers", "unnormalised-needs-a-small-rate", "last-bn-captures-most", "other-normalisers-gain"} <= needs
    waiting = {one.entry.id for one in ledger.judge_all(ready) if one.verdict.word == "not yet measured"}
    assert not needs & waiting


@pytest.mark.parametrize("page", ["book/index", "book/learning-rates", "book/depth", "book/variants", "book/verdicts", "book/how-made"])
def test_the_chapter_shows_them(page: str, ready: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BNLIB_RESULTS", str(ready))
    figures = chapters.explorers(page)
    for figure in figures.values():
        assert figure.html
    if page in ("book/index", "book/depth"):
        assert "10 epochs" in [text for control in figures["map"].controls for text in control.texts]
        assert "map" in figures["map"].source.rerun
    if page == "book/learning-rates":
        assert "fig1" in figures["accuracy"].source.rerun.split()
