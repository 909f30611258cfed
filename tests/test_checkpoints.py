"""A checkpoint is complete or not there, small, and refused unless it is what it says."""

import io
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bnlib import data, train
from bnlib.config import DataConfig, ModelConfig, RunConfig, TrainConfig
from bnlib.train import checkpoints
from bnlib.train.checkpoints import Checkpoint, CheckpointError

IMAGES = data.synthetic(100, 30)
ABOUT = {"numbers": "abc", "torch": torch.__version__ + "", "device": "cpu"}


def run(seed: int = 0, depth: int = 8, **setting: Any) -> RunConfig:
    setting = {"epochs": 2, "batch": 25, **setting}
    return RunConfig("toy", seed, ModelConfig(depth=depth), DataConfig("synthetic", 100, 30), train=TrainConfig(**setting))


def stop_after(step: int):
    def stop(trainer: train.Trainer) -> None:
        if trainer.step == step:
            raise train.Stopped

    return stop


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "run.ckpt"
    with pytest.raises(train.Stopped):
        train.train(run(), IMAGES, [Checkpoint(path, ABOUT, ["machine A"], every=0.0), stop_after(3)])
    return path


def without_times(result: train.Result) -> Any:
    return result.status, {name: value for name, value in result.measured.items() if name != "seconds"}


@pytest.mark.parametrize("schedule", ["steps", "plateau"])
def test_a_run_goes_on_from_its_file_to_the_bit(tmp_path: Path, schedule: str):
    config, path = run(schedule=schedule), tmp_path / "run.ckpt"
    for step in (1, 4, 7):
        with pytest.raises(train.Stopped):
            train.train(config, IMAGES, [Checkpoint(path, ABOUT, every=0.0), stop_after(step)])
        state, _ = checkpoints.load(path, config, ABOUT)
        assert state["step"] == step
        assert without_times(train.train(config, IMAGES, resume=state)) == without_times(train.train(config, IMAGES))


def test_the_machines_it_has_seen_are_kept(saved: Path):
    assert checkpoints.load(saved, run(), ABOUT)[1] == ["machine A"]


def test_it_is_saved_every_so_often_and_not_after_the_last_update(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clock = iter(range(100))
    monkeypatch.setattr(checkpoints, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    path, steps = tmp_path / "run.ckpt", []

    def look(trainer: train.Trainer) -> None:
        if path.exists():
            steps.append(trainer.step)
            path.unlink()

    train.train(run(), IMAGES, [Checkpoint(path, ABOUT, every=3.0), look])
    assert steps == [3, 6]
    train.train(run(), IMAGES, [Checkpoint(path, ABOUT, every=0.0), look])
    assert steps == [3, 6, 1, 2, 3, 4, 5, 6, 7]


def test_resnet_110_takes_at_most_15_mb(tmp_path: Path):
    trainer = train.Trainer(run(depth=110), IMAGES)
    trainer.advance()
    path = tmp_path / "run.ckpt"
    Checkpoint(path, ABOUT).save(trainer)
    assert 13e6 < path.stat().st_size <= 15e6
    assert not list(tmp_path.glob("*.tmp"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(choice=st.data())
def test_any_damage_is_found(saved: Path, choice: st.DataObject):
    good = saved.read_bytes()
    at = choice.draw(st.integers(0, len(good) - 1))
    bad = choice.draw(st.sampled_from([good[:at], good + b"x", good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]]))
    saved.write_bytes(bad)
    with pytest.raises(CheckpointError, match=r"run\.ckpt: truncated or damaged; remove it to begin that run anew"):
        checkpoints.load(saved, run(), ABOUT)
    saved.write_bytes(good)


class Evil:
    """Does something when it is unpickled."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("evil",)


@pytest.mark.parametrize(
    "content", [Evil(), {"about": {}, "machines": [], "state": Evil()}, {"state": {}}, [1], {"about": {}, "machines": [], "state": {}}]
)
def test_what_is_sealed_but_no_run_in_progress_is_refused_and_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any):
    monkeypatch.chdir(tmp_path)
    text = io.BytesIO()
    torch.save(content, text)
    path = tmp_path / "run.ckpt"
    for body in (text.getvalue(), pickle.dumps(content, protocol=2), b""):
        path.write_bytes(checkpoints._header(body) + body)
        with pytest.raises(CheckpointError, match="not a run in progress; remove it"):
            checkpoints.read(path)
    assert not (tmp_path / "evil").exists()


def test_one_that_is_older_than_a_setting_goes_on(saved: Path):
    content = checkpoints.read(saved)
    del content["state"]["run"]["train"]["clip"]
    text = io.BytesIO()
    torch.save(content, text)
    saved.write_bytes(checkpoints._header(text.getvalue()) + text.getvalue())
    state, _ = checkpoints.load(saved, run(), ABOUT)
    assert without_times(train.train(run(), IMAGES, resume=state)) == without_times(train.train(run(), IMAGES))
    with pytest.raises(CheckpointError, match="it is another run's"):
        checkpoints.load(saved, run(clip=1.0), ABOUT)


def test_another_runs_is_refused(saved: Path):
    with pytest.raises(CheckpointError, match=f"it is another run's than {run(1).run_id}'s; remove it to begin"):
        checkpoints.load(saved, run(1), ABOUT)


@pytest.mark.parametrize("key", ABOUT)
def test_one_of_another_library_is_refused(saved: Path, key: str):
    with pytest.raises(CheckpointError, match=f"saved with {key} .*, now other; remove it to begin that run anew"):
        checkpoints.load(saved, run(), ABOUT | {key: "other"})


def test_one_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"gone\.ckpt: cannot be read: No such file"):
        checkpoints.read(tmp_path / "gone.ckpt")


@contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Like a full disk, on which a file can be begun and not finished."""

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.os, "fsync", full)
        yield


def test_a_full_disk_leaves_the_last_one_as_it_was(saved: Path, monkeypatch: pytest.MonkeyPatch):
    before = saved.read_bytes()
    with full_disk(monkeypatch), pytest.raises(OSError, match="No space left"):
        train.train(run(), IMAGES, [Checkpoint(saved, ABOUT, every=0.0)])
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["run.ckpt"]
