"""The command line, as a user meets it: in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def bnlib(*args: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BNLIB_")} | {"COLUMNS": "200"} | env
    return subprocess.run([sys.executable, "-m", "bnlib", *args], cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    (tmp_path / "results").mkdir()
    return tmp_path / "results"


def test_help_everywhere(tmp_path: Path):
    assert "probe" in bnlib("--help", cwd=tmp_path).stdout
    for command in ("data", "probe", "verify", "status"):
        done = bnlib(command, "--help", cwd=tmp_path)
        assert done.returncode == 0
        assert "Usage" in done.stdout


def test_probe_then_verify_then_status(results: Path):
    pick = ("probe", "spectra", "--only", "N=50", "--only", "M=2", "--only", "seed=0")
    assert bnlib(*pick, "--dry-run", cwd=results.parent).stdout.count("\n") == 1
    assert "0 records were there, 1 made" in bnlib(*pick, cwd=results.parent).stdout
    assert "1 records were there, 0 made" in bnlib(*pick, cwd=results.parent).stdout
    assert json.loads(bnlib("verify", "--json", cwd=results.parent).stdout) == {"records": 1, "problems": []}
    rows = json.loads(bnlib("status", "--json", cwd=results.parent).stdout)
    spectra = next(row for row in rows if row["study"] == "spectra")
    assert (spectra["completed"], spectra["planned"] - spectra["missing"]) == (1, 1)
    assert {"study", "planned", "completed", "diverged", "failed", "missing"} <= set(spectra)
    assert "spectra" in bnlib("status", cwd=results.parent).stdout


def test_verify_says_what_is_wrong_and_fails(results: Path):
    bnlib("probe", "spectra", "--only", "N=50", "--only", "M=2", "--only", "seed=0", cwd=results.parent)
    (path,) = results.rglob("*.json")
    path.write_text(path.read_text().replace("1", "2", 1))
    done = bnlib("verify", cwd=results.parent)
    assert done.returncode == 1
    assert path.name in done.stderr


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (("probe", "nonsense"), 2, "there is no study 'nonsense'; there are init"),
        (("probe", "init", "--only", "depth"), 2, "write it as key=value"),
        (("probe", "init", "--only", "depth=21"), 2, "no run with these settings"),
        (("probe", "init", "--data", "nowhere"), 1, "nowhere"),
        (("verify", "--results", "nowhere"), 1, "there is no results folder nowhere"),
        (("status", "--results", "nowhere"), 1, "there is no results folder nowhere"),
    ],
)
def test_what_a_user_gets_wrong_takes_one_line(results: Path, args: tuple, status: int, message: str):
    done = bnlib(*args, cwd=results.parent)
    assert done.returncode == status
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert list(results.iterdir()) == []


def test_no_results_folder_gets_one_line(tmp_path: Path):
    done = bnlib("verify", cwd=tmp_path, BNLIB_RESULTS=str(tmp_path / "gone"))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
