"""A sweep does each missing run once, whatever happens to it on the way, and its records are those of runs left in peace."""

import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import toys
from filelock import FileLock

from bnlib import data, records, train
from bnlib.config import ConfigError, DataConfig, ModelConfig, RunConfig
from bnlib.records import RecordError
from bnlib.studies import Study
from bnlib.sweep import Listener, estimate, executors, report, seconds, sweep, worker
from bnlib.sweep.worker import Outcome, begun, work
from bnlib.train import checkpoints

TESTS = Path(__file__).parent


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "results").mkdir()
    return tmp_path / "results"


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs of a sweep in a thread of this process, which has the images already."""
    monkeypatch.setitem(executors._START, "local", lambda workers, *_: ThreadPoolExecutor(workers))


@pytest.fixture(scope="module")
def peace(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The records of two toy runs that nothing interrupted."""
    return toys.uninterrupted(toys.training(2), tmp_path_factory.mktemp("peace") / "results")


def unfinished(root: Path) -> list[str]:
    """What a sweep has left beside the records."""
    return sorted(path.name for path in (root / records.UNFINISHED).rglob("*") if path.is_file())


# One run


def test_a_run_is_done_once_and_nothing_is_left_beside_its_record(root: Path):
    job = toys.job(toys.training(), root)
    assert work(job) == Outcome("made", "completed")
    assert work(job) == Outcome("there")
    assert unfinished(root) == []
    assert records.verify(root / "toy") == []


def test_a_run_that_another_process_does_is_left_to_it(root: Path):
    job = toys.job(toys.training(), root)
    lock = begun(job.run, root, "lock")
    lock.parent.mkdir(parents=True)
    with FileLock(lock):
        assert work(job).kind == "busy"
    assert work(job).kind == "made"


def test_a_run_whose_record_is_brought_in_meanwhile_is_there(root: Path):
    def imported(run: RunConfig, dataset: data.Dataset | None) -> dict[str, Any]:
        records.write(records.new(run, {"seed": 7}, datetime.now(UTC), 1.0), root)
        return {"seed": run.seed}

    study = toys.probing(imported)
    assert work(toys.job(study, root)) == Outcome("there")
    assert study.done(root)[0].measured == {"seed": 7}
    assert unfinished(root) == []


def stop_at(step: int, job: worker.Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the sweep end when the run has made so many updates."""
    monkeypatch.setattr(worker, "LOOK", 0.0)
    report = worker._Report.__call__

    def call(self: Any, trainer: train.Trainer) -> None:
        report(self, trainer)
        if trainer.step == step:
            job.going.unlink()

    monkeypatch.setattr(worker._Report, "__call__", call)


def test_a_run_that_is_stopped_is_resumed_and_its_record_is_that_of_an_uninterrupted_one(
    root: Path, monkeypatch: pytest.MonkeyPatch, peace: dict[str, str]
):
    job = toys.job(toys.training(), root, every=60.0)
    stop_at(3, job, monkeypatch)
    assert work(job).kind == "stopped"
    saved = begun(job.run, root, "ckpt")
    assert checkpoints.read(saved)["state"]["step"] == 4
    assert worker.progress(job.run, root) is not None
    assert records.verify(root / "toy") == []
    job.going.touch()
    assert work(job).kind == "made"
    assert not saved.exists()
    text = toys.texts(root)
    assert text == {name: peace[name] for name in text}


def test_a_resumed_run_counts_from_its_beginning_and_the_time_of_all_its_pieces(root: Path, monkeypatch: pytest.MonkeyPatch):
    job = toys.job(toys.training(), root)
    stop_at(3, job, monkeypatch)
    work(job)
    saved = begun(job.run, root, "ckpt")
    content = checkpoints.read(saved)
    content["state"]["seconds"] += 1000
    content["state"]["began"] = 1e9
    text = checkpoints.io.BytesIO()
    torch.save(content, text)
    saved.write_bytes(checkpoints._header(text.getvalue()) + text.getvalue())
    job.going.touch()
    work(job)
    spent = records.load(records.path_of(job.run, root)).time
    assert 1000 <= spent["seconds"] < 1100
    assert spent["start"] == "2001-09-09T01:46:40Z"


def test_a_run_that_moved_names_both_machines(root: Path, monkeypatch: pytest.MonkeyPatch):
    job = toys.job(toys.training(), root)
    with monkeypatch.context() as patch:
        stop_at(3, job, patch)
        patch.setattr(worker.provenance, "hardware", lambda device: {"name": "Machine A", "cores": 3})
        work(job)
    job.going.touch()
    work(job)
    here = worker.provenance.hardware()["name"]
    assert records.load(records.path_of(job.run, root)).hardware["name"] == f"Machine A, then {here}"


def test_nothing_is_begun_after_the_deadline_and_what_was_begun_is_saved(root: Path, monkeypatch: pytest.MonkeyPatch):
    job = toys.job(toys.training(), root, deadline=100.0)
    assert work(job).kind == "stopped"
    assert not begun(job.run, root, "ckpt").exists()
    monkeypatch.setattr(worker, "LOOK", 0.0)
    clock = iter([0, 10, 20, 30, 100, 200])
    monkeypatch.setattr(worker, "time", SimpleNamespace(time=lambda: next(clock), monotonic=time.monotonic))
    assert work(job).kind == "stopped"
    assert checkpoints.read(begun(job.run, root, "ckpt"))["state"]["step"] == 4


def test_a_damaged_checkpoint_gets_one_line_that_names_it(root: Path, monkeypatch: pytest.MonkeyPatch):
    job = toys.job(toys.training(), root)
    saved = begun(job.run, root, "ckpt")
    saved.parent.mkdir(parents=True)
    saved.write_bytes(b"bnlib checkpoint 1 abc")
    assert work(job) == Outcome("failed", f"{saved}: truncated or damaged; remove it to begin that run anew")
    assert saved.read_bytes() == b"bnlib checkpoint 1 abc"
    assert not (root / "toy").exists()


def test_on_a_full_disk_the_last_checkpoint_and_the_records_stand(root: Path, monkeypatch: pytest.MonkeyPatch):
    work(toys.job(toys.training(2).only({"seed": 1}), root))
    job = toys.job(toys.training(), root)
    stop_at(3, job, monkeypatch)
    work(job)
    saved, before = begun(job.run, root, "ckpt"), begun(job.run, root, "ckpt").read_bytes()
    job.going.touch()

    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.os, "fsync", full)
        assert work(job) == Outcome("refused", f"cannot write {saved}: No space left on device")
        patch.setattr(checkpoints.Checkpoint, "__call__", lambda self, trainer: None)  # so that only the record is written
        record = records.path_of(job.run, root)
        assert work(job) == Outcome("refused", f"cannot write {record}: No space left on device")
    assert saved.read_bytes() == before
    assert records.verify(root / "toy") == []
    assert work(job).kind == "made"


def test_the_file_that_a_killed_process_was_writing_is_removed(root: Path):
    job = toys.job(toys.training(), root)
    (root / "toy").mkdir()
    half = root / "toy" / f".{job.run.run_id}.abc.tmp"
    half.write_text("{")
    other = root / "toy" / ".0123456789ab.abc.tmp"
    other.write_text("{")
    work(job)
    assert not half.exists()
    assert other.exists()


def test_images_that_no_record_can_be_made_of_are_refused_before_training(root: Path, tmp_path: Path):
    study = Study("toy", "", (RunConfig("toy", 0, ModelConfig(depth=8), DataConfig(), train=toys.training().runs[0].train),))
    small = data.synthetic(20, 10)
    data.save(small, tmp_path / "small.npz")
    outcome = work(toys.job(study, root, data=tmp_path / "small.npz"))
    assert outcome.kind == "refused"
    assert "no record is made of images that are not CIFAR-10's" in outcome.text


def test_a_device_that_is_not_there_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert work(toys.job(toys.training(), root, device="cuda")).text == "there is no GPU here that torch can use; choose --device cpu"
    assert worker.resolve("auto") == "cpu"


# Many runs


def test_a_sweep_does_what_is_missing_and_counts_it(root: Path, in_process: None):
    study, ended = toys.probing(toys.one, 5), []
    work(toys.job(Study("toy", "", study.runs[3:4], study.measure), root))
    summary = sweep(study, root, workers=2, listener=Listener(ended=lambda run, outcome: ended.append((run.seed, outcome.kind))))
    assert (summary.there, summary.count("made"), summary.remaining) == (1, 4, [])
    assert sorted(ended) == [(seed, "made") for seed in (0, 1, 2, 4)]
    assert unfinished(root) == []
    again = sweep(study, root)
    assert (again.there, again.outcomes) == (5, {})


def test_the_most_valuable_runs_come_first_and_those_that_records_call_for_follow(root: Path, in_process: None):
    plain, ended = toys.probing(toys.one, 5), []

    def refine(found: Any) -> Iterator[RunConfig]:
        if len(found) == 3:
            yield from plain.runs[:2]

    study = Study("toy", "", plain.runs[:1:-1], toys.one, refine)
    summary = sweep(study, root, listener=Listener(ended=lambda run, outcome: ended.append(run.seed)))
    assert ended == [4, 3, 2, 0, 1]
    assert summary.count("made") == 5


def test_no_more_runs_than_workers_are_at_work(root: Path, in_process: None):
    at_work: list[int] = []
    sweep(toys.probing(toys.one, 6), root, workers=2, listener=Listener(lambda running, remaining: at_work.append(len(running))))
    assert set(at_work) <= {1, 2}
    assert 2 in at_work


def test_a_run_that_raises_is_named_and_the_others_are_done(root: Path, in_process: None):
    summary = sweep(toys.probing(toys.odd_ones_fail, 4), root)
    assert (summary.count("made"), summary.count("failed")) == (2, 2)
    assert {outcome.text for outcome in summary.outcomes.values()} == {"completed", "Local: seed is odd"}
    assert [run.seed for run in summary.remaining] == [1, 3]


def test_a_record_that_is_too_large_and_a_precision_that_is_not_there_concern_their_runs_alone(
    root: Path, in_process: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    summary = sweep(toys.probing(toys.first_is_large, 3), root)
    assert [outcome.kind for outcome in summary.outcomes.values()] == ["failed", "made", "made"]
    runs = (toys.training(precision="tf32").runs[0], *toys.training(precision="bf16").runs)
    summary = sweep(Study("toy", "", runs), root)
    assert summary.outcomes[runs[0].run_id] == Outcome("failed", "precision tf32 needs a GPU; choose fp32 or bf16")
    assert [outcome.kind for outcome in summary.outcomes.values()] == ["failed", "made"]
    assert summary.refused is None


def test_what_would_befall_every_run_ends_the_sweep(root: Path, in_process: None, tmp_path: Path):
    study = Study("toy", "", tuple(RunConfig("toy", seed, ModelConfig(depth=8), DataConfig()) for seed in range(9)), toys.one)
    summary = sweep(study, root, data=tmp_path / "nowhere")
    assert summary.count("refused") == 1 == len(summary.outcomes)
    assert summary.refused is not None
    assert "nowhere does not exist" in summary.refused


def test_a_sweep_ends_with_its_budget_and_the_next_one_goes_on(
    root: Path, in_process: None, monkeypatch: pytest.MonkeyPatch, peace: dict[str, str]
):
    study = toys.training(2)
    monkeypatch.setattr(worker, "LOOK", 0.0)
    now = [0.0]
    for module in (worker, sys.modules["bnlib.sweep.run"]):
        monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: now[0], monotonic=time.monotonic))
    report = worker._Report.__call__

    def a_second_each(self: Any, trainer: train.Trainer) -> None:
        report(self, trainer)
        now[0] += 1

    monkeypatch.setattr(worker._Report, "__call__", a_second_each)
    counts = []
    while len(counts) < 20 and (not counts or counts[-1][0] < 2):
        summary = sweep(study, root, budget=2.0)
        counts.append((summary.there + summary.count("made"), summary.begun))
    assert counts == [(0, 1), (0, 1), (1, 0), (1, 1), (1, 1), (2, 0)]
    assert toys.texts(root) == peace


def test_a_probe_that_would_overrun_is_not_begun(root: Path, in_process: None, monkeypatch: pytest.MonkeyPatch):
    study = toys.probing(toys.one, 3)
    monkeypatch.setattr(sys.modules["bnlib.sweep.run"], "estimate", lambda study, run, known: 100.0 if run.seed == 1 else 0.1)
    summary = sweep(study, root, budget=50.0)
    assert [run.seed for run in summary.remaining] == [1]


class Interrupting(ThreadPoolExecutor):
    """As a user does, presses Ctrl-C once a run is under way."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = super().submit(fn, *args, **kwargs)

        def press() -> None:
            while worker.progress(args[0].run, args[0].root) is None:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=press, daemon=True).start()
        return future


def test_ctrl_c_saves_what_is_begun(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(executors._START, "local", lambda workers, *_: Interrupting(workers))
    summary = sweep(toys.training(3, epochs=1000), root)
    assert summary.interrupted
    assert [outcome.kind for outcome in summary.outcomes.values()] == ["stopped"]
    assert (len(summary.remaining), summary.begun) == (3, 1)
    assert not list(root.rglob("*.going"))


def test_an_engine_that_takes_no_job_ends_the_sweep(root: Path, monkeypatch: pytest.MonkeyPatch):
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    monkeypatch.setitem(executors._START, "local", lambda *_: pool)
    summary = sweep(toys.probing(toys.one, 3), root)
    assert summary.refused is not None
    assert len(summary.remaining) == 3


class Breaking(ThreadPoolExecutor):
    """A pool that a run with one of `seeds` breaks; it takes none from then on."""

    def __init__(self, workers: int, seeds: range) -> None:
        super().__init__(workers)
        self.seeds, self.broken = seeds, not seeds

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self.broken:
            raise BrokenProcessPool
        self.broken = args[0].run.seed in self.seeds
        return super().submit(self.breaks if self.broken else fn, *args)

    def breaks(self, job: worker.Job) -> None:
        raise BrokenProcessPool


@pytest.mark.parametrize("workers", [1, 2])
def test_runs_that_break_their_engine_are_lost_and_fresh_ones_do_the_others(root: Path, monkeypatch: pytest.MonkeyPatch, workers: int):
    monkeypatch.setitem(executors._START, "local", lambda workers, *_: Breaking(workers, range(2)))
    summary = sweep(toys.probing(toys.one, 3), root, workers=workers)
    assert [outcome.kind for outcome in summary.outcomes.values()] == ["lost", "lost", "made"]
    assert (summary.refused, unfinished(root)) == (None, [])


@pytest.mark.parametrize(("seeds", "lost"), [(range(9), 3), (range(0), 0)])
def test_where_every_engine_breaks_the_sweep_gives_up(root: Path, monkeypatch: pytest.MonkeyPatch, seeds: range, lost: int):
    monkeypatch.setitem(executors._START, "local", lambda workers, *_: Breaking(workers, seeds))
    summary = sweep(toys.probing(toys.one, 9), root)
    assert summary.refused == "a worker was lost (BrokenProcessPool), but nothing that was measured: run the same command again"
    assert [outcome.kind for outcome in summary.outcomes.values()] == ["lost"] * lost


def test_a_record_that_was_made_on_another_disk_is_missed(root: Path, monkeypatch: pytest.MonkeyPatch):
    class Elsewhere(ThreadPoolExecutor):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            return super().submit(lambda: Outcome("made", "completed"))

    monkeypatch.setitem(executors._START, "local", lambda workers, *_: Elsewhere(workers))
    (root / "toy").mkdir()
    summary = sweep(toys.probing(toys.one, 3), root)
    assert summary.refused is not None
    assert "the workers must share the folder" in summary.refused
    assert len(summary.outcomes) == 1


class Queued:
    """A job of a cluster that is full."""

    state, job_id = "PENDING", "17"

    def __init__(self) -> None:
        self.given_up = threading.Event()

    def done(self) -> bool:
        return False

    def cancel(self) -> None:
        self.given_up.set()


def test_a_job_that_queues_is_given_up_when_the_sweep_ends(root: Path, monkeypatch: pytest.MonkeyPatch):
    job = Queued()
    monkeypatch.setitem(executors._START, "local", lambda *_: executors._Jobs(lambda *args: job))
    summary = sweep(toys.training(), root, budget=0.2)
    assert [outcome.kind for outcome in summary.outcomes.values()] == ["stopped"]
    assert job.given_up.wait(60)


def test_a_job_that_runs_is_waited_for(root: Path):
    class Running(Queued):
        state = "RUNNING"

        def result(self) -> str:
            assert released.wait(60)
            raise KeyError("lost")

    released = threading.Event()
    future = executors._Jobs(lambda *args: Running()).submit(print)
    toys.until(future.running)
    assert not future.cancel()
    released.set()
    assert isinstance(future.exception(60), KeyError)


def test_a_job_that_cannot_be_asked_whether_it_queues_is_lost():
    class Unknown(Queued):
        def done(self) -> bool:
            raise OSError("no answer")

        def result(self) -> bool:
            return self.done()

    future = executors._Jobs(lambda *args: Unknown()).submit(print)
    assert str(future.exception(10)) == "no answer"


@pytest.mark.parametrize(
    ("executor", "address", "device", "message"),
    [
        ("slurm", None, "cpu", "there is no executor 'slurm'; there are local, submitit, dask"),
        ("local", "tcp://x", "cpu", "the local executor has none; choose submitit or dask"),
        ("local", None, "tpu", "there is no device 'tpu'; there are cpu, cuda, auto"),
        ("submitit", None, "cpu", "submitit: .*slurm"),
        ("submitit", "nonsense", "cpu", "submitit: .*nonsense"),
    ],
)
def test_an_executor_that_cannot_be_gets_one_line(root: Path, executor: str, address: str | None, device: str, message: str):
    with pytest.raises(ConfigError, match=message) as caught:
        sweep(toys.probing(toys.one), root, executor=executor, address=address, device=device)
    assert "\n" not in str(caught.value)
    assert unfinished(root) == []


@pytest.mark.parametrize(("name", "module"), [("submitit", "submitit"), ("dask", "distributed")])
def test_an_executor_that_is_not_installed_says_what_to_install(root: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"the executor {name} is not installed: pip install 'bnlib\[cluster\]'"):
        sweep(toys.probing(toys.one), root, executor=name)


def test_a_folder_that_cannot_be_written_gets_one_line(root: Path):
    (root / records.UNFINISHED).write_text("in the way")
    with pytest.raises(RecordError, match=r"cannot write .*; name another results folder with --results"):
        sweep(toys.probing(toys.one), root)


def test_a_stale_record_stops_a_sweep_before_it_begins(root: Path, in_process: None):
    study = toys.probing(toys.one, 2)
    sweep(study, root)
    path = records.path_of(study.runs[0], root)
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 0'))
    with pytest.raises(RecordError, match=f"{path.name}: schema 0 is not 1: it needs another version of bnlib"):
        sweep(study, root)


@pytest.mark.parametrize(("text", "value"), [("90s", 90), ("9m", 540), ("1.5h", 5400)])
def test_budgets(text: str, value: float):
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "9", "m", "-9m", "0s", "1e3s", "9 m", "nan h", "9d"])
def test_a_bad_budget_gets_one_line(text: str):
    with pytest.raises(ConfigError, match=r"write a time above zero with its unit, such as 90s, 9m or 1\.5h"):
        seconds(text)


def test_the_estimate_counts_updates_where_a_run_is_trained(root: Path):
    study = toys.training(1)
    work(toys.job(study, root))
    done = study.done(root)
    done[0].time["seconds"] = 4.0
    longer = toys.training(1, epochs=400).runs[0]
    assert estimate(study, study.runs[0], done) == 4
    assert estimate(study, longer, done) == 400
    assert estimate(Study("toy", "", study.runs, toys.one), longer, done) == 4
    assert estimate(study, RunConfig("toy", 0, ModelConfig(depth=32), longer.data, train=longer.train), done) == 1600
    assert estimate(study, longer, []) is None


def test_what_is_left_is_told_by_runs_that_were_made_here_and_where_no_gpu_is_used_by_any(root: Path, monkeypatch: pytest.MonkeyPatch):
    trained, probed = toys.training(1), toys.probing(toys.one, 2)
    further = Study("further", "", (replace(trained.runs[0], study="further"),))
    monkeypatch.setattr(report, "STUDIES", {"toy": trained, "further": further})

    def known() -> list[bool]:
        return [report.of_study(study, root)["hours_left"] is not None for study in (trained, further, probed)]

    assert known() == [False, False, False]
    work(toys.job(trained, root))
    work(toys.job(probed, root))
    assert known() == [True, True, True]
    monkeypatch.setattr(report.provenance, "hardware", lambda device: {"name": "another machine", "cores": 1})
    assert known() == [True, False, True]  # nothing is left of the first


def test_on_a_gpu_runs_go_side_by_side_as_many_as_it_holds(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(worker, "resolve", lambda device: "cuda")
    monkeypatch.setattr(executors.torch.cuda, "mem_get_info", lambda: (20 * 2**30, 80 * 2**30))
    assert [executors.at_a_time("cuda", asked) for asked in ("1", "5", "auto")] == [1, 5, 2]
    with executors.engine("local", 2, None, Path("logs"), "cuda") as engine:
        both = threading.Barrier(2)
        assert [future.result() for future in [engine.submit(both.wait), engine.submit(both.wait)]] in ([0, 1], [1, 0])


def test_more_runs_on_a_gpu_than_it_has_streams_for_are_refused_before_any_begins(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(worker, "resolve", lambda device: "cuda")
    with pytest.raises(ConfigError, match="a GPU has streams for 32 runs at once, not 33: ask for fewer"):
        sweep(toys.training(), root, workers=33, device="cuda")
    assert unfinished(root) == []


@pytest.mark.parametrize("asked", ["0", "-1", "many", "1.5"])
def test_a_number_of_runs_on_a_gpu_that_cannot_be_gets_one_line(asked: str):
    with pytest.raises(ConfigError, match=f"--per-gpu {asked}: give a number of runs above zero, or auto"):
        executors.at_a_time("cpu", asked)
