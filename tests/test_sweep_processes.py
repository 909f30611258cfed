"""Sweeps in processes of their own: all executors, several sweeps at once, and processes that are killed or interrupted."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import toys
from filelock import FileLock

from bnlib import records, studies
from bnlib.sweep import sweep, worker
from bnlib.sweep.worker import Outcome, begun
from bnlib.train import checkpoints

TESTS = Path(__file__).parent


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "results").mkdir()
    return tmp_path / "results"


@pytest.fixture(scope="module")
def peace(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The records of two toy runs that nothing interrupted."""
    return toys.uninterrupted(toys.training(2), tmp_path_factory.mktemp("peace") / "results")


def environment() -> dict[str, str]:
    paths = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
    return {k: v for k, v in os.environ.items() if not k.startswith("BNLIB_")} | {"PYTHONPATH": paths, "COLUMNS": "200"}


@pytest.mark.parametrize(("executor", "address"), [("local", None), ("submitit", "local"), ("dask", None)])
def test_every_executor_makes_the_same_records(root: Path, executor: str, address: str | None, peace: dict[str, str]):
    study = toys.training(1 if executor == "submitit" else 2)  # it starts a process for each
    assert sweep(study, root, executor=executor, address=address).refused is None
    text = toys.texts(root)
    assert len(text) == len(study.runs)
    assert text == {name: peace[name] for name in text}
    assert not [path for path in (root / records.UNFINISHED).rglob("*") if path.is_file()]


def test_a_worker_that_is_lost_costs_no_record(root: Path):
    study = toys.probing(toys.second_dies, 3)
    summary = sweep(study, root)
    lost = Outcome("lost", "a worker was lost (BrokenProcessPool), but nothing that was measured: run the same command again")
    assert [summary.outcomes[run.run_id] for run in study.runs] == [Outcome("made", "completed"), lost, Outcome("made", "completed")]
    assert (summary.refused, summary.remaining) == (None, [study.runs[1]])
    assert records.verify(root / "toy") == []
    lock = begun(summary.remaining[0], root, "lock")
    with FileLock(lock, timeout=0):
        assert lock.exists()


FORKS = """
import itertools, os, random, sys, time
from pathlib import Path
import toys
from bnlib.sweep import worker

killed, shared, warm = map(Path, sys.argv[1:])
killed.mkdir()
shared.mkdir()
toys.uninterrupted(toys.training(), warm)  # so that each process that is forked has the images
random.seed(0)

def fork(child):
    pid = os.fork()
    if pid == 0:
        try:
            child()
            os._exit(0)
        finally:
            os._exit(1)
    return pid

kills = 0
for seed in itertools.count():
    study = toys.training(seed + 1)
    job = toys.job(toys.Study("toy", "", study.runs[-1:]), killed)
    longest = 0.5
    while not (killed / "toy" / f"{job.run.run_id}.json").exists():
        pid = fork(lambda: worker.work(job))
        time.sleep(random.uniform(0, longest))
        os.kill(pid, 9)
        kills += os.waitpid(pid, 0)[1] == 9
        longest *= 1.1  # on a slow machine too a run ends
    if kills >= 20:
        break
print(seed + 1, kills, flush=True)

def every_run():
    for run in toys.training(3).runs:
        print(worker.work(toys.job(toys.Study("toy", "", (run,)), shared)).kind, flush=True)

for pid in [fork(every_run) for _ in range(2)]:
    assert os.waitpid(pid, 0)[1] == 0
"""


@pytest.fixture(scope="module")
def forked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder with `killed`, whose runs were killed time and again, and `shared`, where two processes did the same runs at once."""
    folder = tmp_path_factory.mktemp("forked")
    command = [sys.executable, "-c", FORKS, *(str(folder / name) for name in ("killed", "shared", "warm"))]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout.split()


def test_runs_that_are_killed_at_random_moments_give_the_records_of_runs_left_in_peace(forked: tuple[Path, list[str]], tmp_path: Path):
    folder, (runs, kills, *_) = forked
    assert int(kills) >= 20
    assert toys.texts(folder / "killed") == toys.uninterrupted(toys.training(int(runs)), tmp_path / "peace")
    assert records.verify(folder / "killed" / "toy") == []


def test_two_processes_share_the_runs(forked: tuple[Path, list[str]], tmp_path: Path):
    folder, (_, _, *said) = forked
    assert said.count("made") == 3
    assert set(said) <= {"made", "there", "busy"}
    assert toys.texts(folder / "shared") == toys.uninterrupted(toys.training(3), tmp_path / "peace")


def start(*args: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(TESTS / "toys.py"), *args]
    return subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def test_ctrl_c_in_a_terminal_ends_a_sweep_cleanly_and_says_what_remains(root: Path):
    first = toys.training(2, epochs=1000).runs[0]
    sweeping = start("sweep", "toy", "--results", str(root), "--workers", "1")
    toys.until(lambda: worker.progress(first, root) is not None)
    os.killpg(sweeping.pid, signal.SIGINT)
    said, problems = sweeping.communicate()
    assert sweeping.returncode == 130
    assert "toy: 0 records were there, 0 made; 2 remain, 1 of them begun: run the same command again to go on" in said
    assert problems == ""
    assert checkpoints.load(begun(first, root, "ckpt"), first, checkpoints.read(begun(first, root, "ckpt"))["about"])
    # And a sweep that dies takes its workers with it, which save first.
    begun(first, root, "progress").unlink(missing_ok=True)
    before = checkpoints.read(begun(first, root, "ckpt"))["state"]["step"]
    sweeping = start("sweep", "toy", "--results", str(root), "--workers", "1")
    toys.until(lambda: worker.progress(first, root) is not None)
    sweeping.kill()
    sweeping.communicate()
    with FileLock(begun(first, root, "lock"), timeout=60):
        assert checkpoints.read(begun(first, root, "ckpt"))["state"]["step"] > before


def test_two_sweeps_at_once_do_no_run_twice(root: Path):
    command = [sys.executable, "-m", "bnlib", "sweep", "spectra", "--only", "N=50", "--results", str(root), "--workers", "1"]
    both = [subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [(*sweeping.communicate(), sweeping.returncode) for sweeping in both]
    assert [(problems, status) for _, problems, status in said] == [("", 0)] * 2
    study = studies.get("spectra").only({"N": 50})
    assert sum(lines.count(" made: completed") for lines, _, _ in said) == len(study.runs)
    assert records.verify(root) == []
    assert study.missing(root) == []
