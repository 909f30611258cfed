"""bnlib in a checkout that cannot be written, below a name to stumble over: it reads, and says what to do where it would write."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chapters import ROOT
from test_cli import ONE
from test_package import RUN_ALL

from bnlib import records

ATTEMPTS = """
import json, sys
from bnlib.__main__ import main
print(main.__code__.co_filename)
for command in json.loads(sys.argv[1]):
    sys.argv = ["bnlib", *command]
    try:
        main()
    except SystemExit as left:
        for stream in (sys.stdout, sys.stderr):
            print(f"{command[0]}: {left.code or 0}", file=stream, flush=True)
from bnlib.explore import live
live.TRAIN, live.TEST, live.EPOCHS = 20, 10, 1
bench = live.Bench()
bench.train.click()
bench.running.join()
print(bench.message.value)
"""
Python = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of this checkout that lacks one record."""
    folder = tmp_path_factory.mktemp("places") / "Bücher und Läufe"
    for name in ("bnlib", "book", "results"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    (one,) = records.find("spectra", folder / "results", N=50, M=2, seed=0)
    records.path_of(one.config, folder / "results").unlink()
    paths = [folder, *folder.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield folder
    for path in paths:
        path.chmod(0o755)


def can_write(folder: Path, *before: str) -> bool:
    try:
        return subprocess.run([*before, "touch", folder / "x"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
    finally:
        (folder / "x").unlink(missing_ok=True)


@pytest.fixture
def python(checkout: Path, tmp_path: Path) -> Python:
    """Runs Python in the checkout's book, with its bnlib, as one who heeds the modes of files: root has to be made to."""
    heeding = ["setpriv", "--bounding-set=-dac_override"] if can_write(checkout) else []
    if can_write(checkout, *heeding) or not can_write(tmp_path, *heeding):
        pytest.skip("root writes anywhere, and util-linux's setpriv, which takes that right away, is missing or not allowed here")
    env = {key: value for key, value in os.environ.items() if not key.startswith("BNLIB_")} | {"PYTHONPATH": str(checkout)}
    env |= {name: str(tmp_path / "home") for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")}

    def run(code: str, *args: str | Path) -> subprocess.CompletedProcess[str]:
        command = [*heeding, sys.executable, "-c", code, *args]
        return subprocess.run(command, cwd=checkout / "book", env=env, capture_output=True, text=True, check=False)

    return run


def test_it_reads_there_and_says_what_to_do_where_it_would_write(checkout: Path, python: Python, tmp_path: Path):
    elsewhere = tmp_path / "Ergebnisse für später"
    elsewhere.mkdir()
    commands = [
        ("verify",),
        ("status",),
        ("claims", "--write"),
        ("sweep", *ONE),
        ("export", "copy"),
        ("sweep", *ONE, "--results", str(elsewhere)),
        ("verify", "--results", str(elsewhere)),
    ]
    done = python(ATTEMPTS, json.dumps(commands))
    count = len(list((checkout / "results").glob("*/*.json")))
    assert done.stdout.startswith(f"{checkout / 'bnlib' / '__main__.py'}\n{count} records, 0 problems\nverify: 0\n"), done.stderr
    assert "spectra: 0 records were there, 1 made\nsweep: 0\n1 records, 0 problems\nverify: 0\n" in done.stdout
    assert done.stderr.splitlines() == [
        "verify: 0",
        "status: 0",
        f"bnlib: cannot write {checkout}/book/verdicts.json: Permission denied",
        "claims: 1",
        f"bnlib: cannot write {checkout}/results/.unfinished: Permission denied; name another results folder with --results",
        "sweep: 1",
        f"bnlib: cannot write copy/{min((checkout / 'results').glob('*/*.json')).relative_to(checkout / 'results')}: Permission denied",
        "export: 1",
        "sweep: 0",
        "verify: 0",
    ]
    (said,) = done.stdout.splitlines()[-1:]
    assert "</b> of the test images right" in said
    assert "Permission denied.</span> Another folder: TrainYourOwn(folder=…)." in said


def test_a_chapter_runs_there(python: Python):
    done = python(RUN_ALL, "setting.ipynb")
    assert (done.returncode, done.stderr) == (0, "")


def test_make_lab_finds_its_way_below_such_a_name(tmp_path: Path):
    """Up to the command that it gives, which test_lab.py follows from there."""
    folder = tmp_path / "Bücher und Läufe"
    lab = folder / ".venv" / "bin" / "jupyter-lab"
    lab.parent.mkdir(parents=True)
    lab.write_text('#!/bin/sh\necho "$PWD" "$@"\n')
    lab.chmod(0o755)
    for name in ("Makefile", "requirements.txt", "pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, folder)
    (folder / ".venv" / ".ready").touch()
    done = subprocess.run(["make", "--silent", "lab"], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"{folder} book/index.ipynb\n", "")
